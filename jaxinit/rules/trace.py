"""Traces a function for the shapes of its result and the draw of each leaf."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._compat import explicit_sharding
from .._paths import check_tree
from ..planning.arguments import is_array
from ..planning.flatten import flatten
from ..planning.ir import Program, Value
from .draws import Draw, find_draws

_COMPUTED: Any = object()  # stands for an array of a result


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A traced function and its arguments.

    Attributes:
        call: Function from the arrays in the arguments to the arrays in the result.
        arguments: The arrays in the arguments, or structs in place of them.
    """

    call: Callable[[Sequence[Any]], list[jax.Array]]
    arguments: list[Any]

    def stand_in(self) -> list[jax.Array]:
        """Returns the arguments, with zeros (or keys of zeros) in place of structs."""
        return [
            jnp.zeros(x.shape, x.dtype) if isinstance(x, jax.ShapeDtypeStruct) else x
            for x in self.arguments
        ]


class Drawn(jax.ShapeDtypeStruct):
    """Shape and dtype of a leaf, with its draw and its function.

    Attributes:
        draw: The calls of an initializer that make the leaf.
        source: The function that draws the leaf.
        index: Position of the leaf among the arrays of the result.
        is_independent: False if the leaf depends on data for which there is a struct.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: Any,
        draw: Draw,
        source: Source,
        index: int,
        is_independent: bool,
        sharding: Any = None,
    ):
        """Stores the attributes."""
        super().__init__(shape, dtype, sharding=sharding)
        self.draw, self.source, self.index = draw, source, index
        self.is_independent = is_independent

    def update(self, **changes: Any) -> jax.ShapeDtypeStruct:
        """Returns the leaf with other attributes.

        It stays known how the function draws it, unless the shape is another one.
        """
        made = super().update(**changes)
        if made.shape != self.shape:
            return made
        known = self.draw, self.source, self.index, self.is_independent
        return Drawn(made.shape, made.dtype, *known, made.sharding)


def trace(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[Any, Source]:
    """Traces ``fn``; nothing is computed.

    Args:
        fn: Function from arrays and other values to a pytree.
        args: Arguments of ``fn``. Arrays may be ``jax.ShapeDtypeStruct``.
        kwargs: Keyword arguments of ``fn``.

    Returns:
        The result of ``fn`` with a `Drawn` in place of each array, and the `Source`
        that `values` evaluates.
    """
    leaves, structure = jax.tree.flatten((tuple(args), dict(kwargs)))
    places = [i for i, x in enumerate(leaves) if is_array(x)]
    results: list[Any] = []  # with _COMPUTED for arrays: tracers must not leave a trace

    def call(arrays: Sequence[Any]) -> list[jax.Array]:
        filled = dict(enumerate(leaves)) | dict(zip(places, arrays, strict=True))
        args, kwargs = jax.tree.unflatten(structure, filled.values())
        result = fn(*args, **kwargs)
        check_tree(result)
        results[:] = [
            jax.tree.map(lambda x: _COMPUTED if _is_computed(x) else x, result)
        ]
        return list(filter(_is_computed, jax.tree.leaves(result)))

    source = Source(jax.jit(call), [leaves[i] for i in places])
    closed = source.call.trace(source.arguments).jaxpr  # pyright: ignore
    program = flatten(closed)
    unknown = {i for i, x in enumerate(source.arguments) if _is_unknown(x)}
    found = zip(closed.out_avals, find_draws(program), _needs(program), strict=True)

    def describe(index: int, aval: Any, draw: Draw, needs: frozenset[int]) -> Drawn:
        is_independent, sharding = unknown.isdisjoint(needs), explicit_sharding(aval)
        return Drawn(
            aval.shape, aval.dtype, draw, source, index, is_independent, sharding
        )

    drawn = iter([describe(i, *parts) for i, parts in enumerate(found)])
    (shapes,) = jax.tree.map(lambda x: next(drawn) if x is _COMPUTED else x, results)
    results.clear()
    return shapes, source


def values(shapes: Any, source: Source) -> Any:
    """Evaluates the result of a traced function, also inside a transformation."""
    made = source.call(source.arguments)
    return jax.tree.map(lambda x: made[x.index] if isinstance(x, Drawn) else x, shapes)


def _needs(program: Program) -> list[frozenset[int]]:
    """Returns the positions of the arguments on which each result depends."""
    found = {v: frozenset([i]) for i, v in enumerate(program.inputs)}
    none = frozenset[int]()
    for node in program.nodes:
        values = [v for v in node.inputs if isinstance(v, Value)]
        needs = none.union(*(found.get(v, none) for v in values))
        if needs:
            found.update(dict.fromkeys(node.outputs, needs))
    return [
        found.get(v, none) if isinstance(v, Value) else none for v in program.outputs
    ]


def _is_unknown(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct) and jnp.issubdtype(x.dtype, jnp.inexact)


def _is_computed(x: Any) -> bool:
    return is_array(x) and not isinstance(x, jax.ShapeDtypeStruct)
