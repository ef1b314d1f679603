"""Flax NNX: live models, planned instead of drawn one operation at a time."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding

from ._compat import is_traced
from .model.plan import Plan, Progress
from .model.rules import Rules, as_rules, redraw
from .model.structure import FromTree

M = TypeVar("M")


def create(
    make: Callable[[nnx.Rngs], M],
    rngs: nnx.Rngs,
    *,
    mesh: Mesh | None = None,
    rules: Rules | Any = None,
    progress: Progress | None = None,
) -> M:
    """The model that ``make(rngs)`` builds, with the same values, faster.

    Args:
        make: Builds the model from its random streams, as
            ``lambda rngs: GPT(config, rngs=rngs)``.
        rngs: Random streams; they advance as ``make`` would advance them.
        mesh: Mesh to place the variables on, by the names that
            ``nnx.with_partitioning`` gave them; others are replicated.
        rules: `Rules`, or what they are built of, for all variables but the random
            streams; their base key is what ``rngs.params()`` would give now.
        progress: Called as progress(done, total, what) while compiling.

    Returns:
        A live model.

    Example:
        >>> model = create(lambda rngs: nnx.Linear(3, 4, rngs=rngs), nnx.Rngs(0))
        >>> model.kernel.shape
        (3, 4)
    """
    graph: list[Any] = []
    stream_graph, counts, streams = nnx.split(rngs, nnx.RngCount, ...)

    def build(streams: Any) -> Any:
        own = jax.tree.map(lambda count: count, counts)  # variables of this trace
        inside = nnx.merge(stream_graph, own, streams)
        key = nnx.clone(inside).params() if rules is not None else None
        _count_on_host(inside)
        model = make(inside)
        _count_as_flax((model, inside))
        graphdef, state = nnx.split(model)
        if key is not None:
            kept, governed = nnx.split_state(state, nnx.RngState, ...)
            governed = redraw(key, governed, as_rules(rules))
            state = nnx.merge_state(kept, governed)
        graph[:] = [graphdef]
        return state, nnx.state(inside)

    def shardings(result: Any) -> Any:
        if mesh is None:
            return None
        specs = nnx.get_partition_spec(result[0])
        placed = jax.tree.map(functools.partial(NamedSharding, mesh), specs)
        return placed, None

    with contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh):
        planned = Plan(
            build,
            (streams,),
            {},
            out_shardings=FromTree(shardings),
            progress=progress,
        )
        state, advanced = planned(streams)
    nnx.update(rngs, advanced)
    return nnx.merge(graph[0], state)


def _count_on_host(rngs: nnx.Rngs) -> None:
    """Streams count their keys in Python where the count is known.

    Each key adds one to the count of its stream. Traced, that is an operation a
    key, and Flax asks tracers for a sharding, which JAX refuses with a message
    made from all operations so far: quadratic in the number of parameters.
    """
    for count in _counts(rngs):
        if jax.numpy.ndim(count.get_value()) == 0:
            count.set_metadata(on_get_value=_to_number, on_set_value=_to_array)


def _count_as_flax(node: Any) -> None:
    for count in _counts(node):
        if count.get_metadata("on_get_value", None) is _to_number:
            count.del_metadata("on_get_value")
            count.del_metadata("on_set_value")


def _counts(node: Any) -> list[nnx.RngCount]:
    return [x for _, x in nnx.iter_graph(node) if isinstance(x, nnx.RngCount)]


def _to_number(variable: Any, value: Any) -> Any:
    return value if is_traced(value) else np.asarray(value)[()]


def _to_array(variable: Any, value: Any) -> Any:
    if not isinstance(value, np.generic):
        return value
    with jax.ensure_compile_time_eval():
        return jax.numpy.asarray(value)
