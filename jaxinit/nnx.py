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


class ModelPlan(Plan):
    """A `Plan` that is called with random streams and gives live models."""

    def __init__(
        self,
        make: Callable[[nnx.Rngs], Any],
        rngs: nnx.Rngs,
        mesh: Mesh | None,
        rules: Rules | None,
        progress: Progress | None,
    ):
        """Traces ``make``; see `plan`."""
        self._mesh = mesh
        self._graph: Any = None
        self._streams, counts, streams = nnx.split(rngs, nnx.RngCount, ...)
        counts = jax.tree.map(lambda count: count, counts)  # those of rngs go on
        self._stand = _stand(counts)

        def build(streams: Any) -> Any:
            own = jax.tree.map(lambda count: count, counts)  # of this trace
            inside = nnx.merge(self._streams, own, streams)
            key: Any = nnx.clone(inside).params() if rules is not None else None
            _count_on_host(inside)
            model = make(inside)
            _count_as_flax((model, inside))
            self._graph, state = nnx.split(model)
            if rules is not None:
                kept, governed = nnx.split_state(state, nnx.RngState, ...)
                governed = redraw(key, governed, rules)
                state = nnx.merge_state(kept, governed)
            return state, nnx.state(inside)

        def shardings(result: Any) -> Any:
            if mesh is None:
                return None
            specs = nnx.get_partition_spec(result[0])
            placed = jax.tree.map(functools.partial(NamedSharding, mesh), specs)
            return placed, None

        with self._on_mesh():
            place = FromTree(shardings)
            super().__init__(
                build, (streams,), {}, out_shardings=place, progress=progress
            )

    def __call__(self, rngs: nnx.Rngs) -> Any:
        """The model of these random streams, which advance as ``make`` advances them.

        Compiles what is not compiled yet.

        Raises:
            ValueError: If the streams have other names than the planned ones, or
                have given another number of keys.
            TypeError: If their keys are of another implementation.
        """
        graph, counts, streams = nnx.split(rngs, nnx.RngCount, ...)
        given = _stand(counts)
        if graph != self._streams or given != self._stand:
            raise ValueError(
                "plan(rngs): rngs must have the streams of the planned ones, at the "
                f"same counts {self._stand}; got {given}. Make new nnx.Rngs for each "
                "model, or plan again."
            )
        with self._on_mesh():
            state, advanced = super().__call__(streams)
        nnx.update(rngs, advanced)
        return nnx.merge(self._graph, state)

    def _on_mesh(self) -> contextlib.AbstractContextManager[Any]:
        return (
            contextlib.nullcontext() if self._mesh is None else jax.set_mesh(self._mesh)
        )


def plan(
    make: Callable[[nnx.Rngs], Any],
    rngs: nnx.Rngs,
    *,
    mesh: Mesh | None = None,
    rules: Rules | Any = None,
    progress: Progress | None = None,
) -> ModelPlan:
    """Plans the model that ``make(rngs)`` builds; see `jaxinit.plan`.

    Args:
        make: Builds the model from its random streams, as
            ``lambda rngs: GPT(config, rngs=rngs)``.
        rngs: Random streams, which stay as they are.
        mesh: Mesh to place the variables on, by the names that
            ``nnx.with_partitioning`` gave them; others are replicated.
        rules: `Rules`, or what they are built of, for all variables but the random
            streams; their base key is what ``rngs.params()`` would give now.
        progress: Called as progress(done, total, what) while compiling.

    Returns:
        A plan to call as ``plan(rngs)``, with random streams of the same names.

    Example:
        >>> planned = plan(lambda rngs: nnx.Linear(3, 4, rngs=rngs), nnx.Rngs(0))
        >>> first, second = planned(nnx.Rngs(0)), planned(nnx.Rngs(1))
        >>> bool((first.kernel[...] == second.kernel[...]).any())
        False
    """
    rules = None if rules is None else as_rules(rules)
    return ModelPlan(make, rngs, mesh, rules, progress)


def create(make: Callable[[nnx.Rngs], M], rngs: nnx.Rngs, **options: Any) -> M:
    """The model that ``make(rngs)`` builds, with the same values, faster.

    Planned and made in one call; arguments of `plan`. The streams advance as
    ``make`` would advance them.

    Returns:
        A live model.

    Example:
        >>> model = create(lambda rngs: nnx.Linear(3, 4, rngs=rngs), nnx.Rngs(0))
        >>> model.kernel.shape
        (3, 4)
    """
    return plan(make, rngs, **options)(rngs)


def _stand(counts: Any) -> dict[str, Any]:
    """How many keys each stream has given."""
    pairs = jax.tree_util.tree_leaves_with_path(counts)
    return {
        jax.tree_util.keystr(path[:-2], simple=True, separator="/"): x.tolist()
        for path, x in pairs
    }


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
