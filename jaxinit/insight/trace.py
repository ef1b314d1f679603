"""A function of parameters and inputs, traced once, with its sites."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import error
from .._compat import is_key
from .._paths import join, parts_of
from ..planning.arguments import is_array
from ..planning.ir import Value, values
from ..rules.parameters import guards_of
from .places import DATA, NEUTRAL, PARAMETER, Info, Inner, Level
from .sites import find_sites


@dataclasses.dataclass(frozen=True, eq=False)
class Traced:
    """A traced function.

    Attributes:
        level: Its program and sites.
        arrays: The arrays among its parameters and inputs.
        parameters: Positions of the floating parameters in ``arrays``.
        inputs: Positions of the floating inputs in ``arrays``.
        paths: Path of each array among the parameters.
        shapes: Shapes and dtypes of the result.
        tree: Structure of the parameters and inputs.
        fixed: The leaves that are not arrays, by position.
        used: For each array, True if the result depends on it.
    """

    level: Level
    arrays: list[Any]
    parameters: list[int]
    inputs: list[int]
    paths: list[str]
    shapes: Any
    tree: Any
    fixed: dict[int, Any]
    used: list[bool]

    def with_arrays(self, arrays: Sequence[Any]) -> tuple[Any, tuple[Any, ...]]:
        """Returns the parameters and the inputs with other arrays."""
        return _unflatten(self.tree, self.fixed, arrays)

    def of(self, params: Any) -> "Traced":
        """Returns this function with other parameters of the same shapes."""
        ours = [x for x in jax.tree.leaves(params) if is_array(x)]
        return dataclasses.replace(self, arrays=[*ours, *self.arrays[len(ours) :]])


def trace(
    where: str, fn: Callable[..., Any], params: Any, inputs: tuple[Any, ...]
) -> Traced:
    """Traces ``fn(params, *inputs)``.

    Raises:
        TypeError: If ``fn`` is no function.
        ValueError: If there is no floating parameter or no input.
    """
    if not callable(fn):
        raise error(TypeError, where, "fn", "a function fn(params, *inputs)", fn)
    leaves, tree = jax.tree.flatten((params, inputs))
    count = len(jax.tree.leaves(params))
    fixed = {i: x for i, x in enumerate(leaves) if not is_array(x)}
    arrays = [x for x in leaves if is_array(x)]
    owned = [i < count for i in range(len(leaves)) if i not in fixed]
    guards = dict(enumerate(guards_of(params)))
    is_free = [guards.get(i) is None for i in range(len(leaves)) if i not in fixed]
    all_paths = map(join, parts_of(params))
    paths = [path for i, path in enumerate(all_paths) if i not in fixed]
    infos: list[Info] = []
    for i, (x, is_parameter, free) in enumerate(
        zip(arrays, owned, is_free, strict=True)
    ):
        size = math.prod(x.shape)
        trained = free and _is_float(x)
        if is_parameter:
            leaves_of = frozenset([i]) if trained else frozenset[int]()
            infos.append(Info(PARAMETER if trained else NEUTRAL, leaves_of, size))
        else:
            infos.append(Info(NEUTRAL if is_key(x) else DATA, size=size))

    def call(arrays: list[Any]) -> Any:
        params, inputs = _unflatten(tree, fixed, arrays)
        return fn(params, *inputs)

    closed, shapes = jax.make_jaxpr(call, return_shape=True)(arrays)
    level = find_sites(closed, infos)
    parameters = [i for i, x in enumerate(infos) if x.kind == PARAMETER]
    if not parameters:
        cure = "Pass the parameters first, as in probe(model.apply, params, x)."
        rule = "a tree with floating parameters"
        raise error(ValueError, where, "params", rule, params, cure)
    if all(owned) and any(_is_float(x) for x in jax.tree.leaves(shapes)):
        cure = "Data that fn does not take as an argument counts as a constant."
        raise error(ValueError, where, "*inputs", "at least one array", inputs, cure)
    read = _read(level)
    return Traced(
        level=level,
        arrays=arrays,
        parameters=parameters,
        inputs=[
            i
            for i, (x, own) in enumerate(zip(arrays, owned, strict=True))
            if not own and _is_float(x)
        ],
        paths=paths,
        shapes=shapes,
        tree=tree,
        fixed=fixed,
        used=[v in read for v in level.program.inputs],
    )


def _read(level: Level) -> set[Value]:
    """The values of a program on which its results depend."""
    inner = {p.node: p.level for p in level.places if isinstance(p, Inner)}
    read = set(values(level.program.outputs))
    for node in reversed(level.program.nodes):
        if read.isdisjoint(node.outputs):
            continue
        inputs = node.inputs
        if node in inner:
            body, known = _read(inner[node]), inner[node].program.inputs
            inputs = [a for a, v in zip(inputs, known, strict=True) if v in body]
        read.update(values(inputs))
    return read


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)


def _unflatten(tree: Any, fixed: dict[int, Any], arrays: Sequence[Any]) -> Any:
    rest = iter(arrays)
    count = tree.num_leaves
    return jax.tree.unflatten(
        tree, [fixed[i] if i in fixed else next(rest) for i in range(count)]
    )
