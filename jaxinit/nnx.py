"""Flax NNX: live models, planned instead of drawn one operation at a time."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding

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
    stream_graph, streams = nnx.split(rngs)

    def build(streams: Any) -> Any:
        inside = nnx.merge(stream_graph, streams)
        key = nnx.clone(inside).params() if rules is not None else None
        graphdef, state = nnx.split(make(inside))
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
