"""Flax NNX: live models, planned instead of drawn one operation at a time."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, Sharding

from ._compat import bypasses_plan, is_traced
from ._paths import join, parts_of
from .planning.plan import Plan, Progress
from .planning.result import FromTree
from .rules.leaf_keys import is_key_like
from .rules.models import eval_shape, redraw
from .rules.rules import Rules, as_rules
from .rules.trace import trace, values

M = TypeVar("M")


class ModelPlan:
    """A `Plan` that is called with random streams and gives live models.

    Attributes:
        leaves: The arrays of the model and of its streams, in order.
        groups: The distinct programs, each with the leaves it makes.
        reason: Why ``make`` is compiled as it stands, or None.
    """

    def __init__(
        self,
        make: Callable[[nnx.Rngs], Any],
        rngs: nnx.Rngs,
        mesh: Mesh | None,
        out_shardings: Any,
        rules: Rules | None,
        progress: Progress | None,
    ):
        """Traces ``make``; see `plan`."""
        self._mesh = mesh
        graph, counts, streams = _split(rngs)
        self._counts = _stand(counts)
        self._build = functools.partial(_build, make, rules, graph)
        with self._on_mesh():
            self._plan = Plan(
                functools.partial(self._build, counts),
                (streams,),
                {},
                out_shardings=_wanted(out_shardings, mesh),
                progress=progress,
            )
        self.leaves = self._plan.leaves
        self.groups = self._plan.groups
        self.reason = self._plan.reason

    def compile(self) -> "ModelPlan":
        """Compiles every group ahead of time; see `Plan.compile`."""
        with self._on_mesh():
            self._plan.compile()
        return self

    def texts(self) -> list[str]:
        """The compiled text of every program so far; see `Plan.texts`."""
        with self._on_mesh():
            return self._plan.texts()

    def memory(self) -> dict[str, int]:
        """Bytes on the device that holds most; see `Plan.memory`."""
        with self._on_mesh():
            return self._plan.memory()

    def __str__(self) -> str:
        """A table of groups with what they make, and the memory expected."""
        with self._on_mesh():
            return str(self._plan)

    def __call__(self, rngs: nnx.Rngs | int | jax.Array) -> Any:
        """The model of these random streams, which advance as ``make`` advances them.

        Compiles what is not compiled yet. Inside a transformation ``make`` itself
        is evaluated.

        Raises:
            TypeError: If ``rngs`` is no ``nnx.Rngs``, or its keys are of another
                implementation.
            ValueError: If the streams have other names than the planned ones, or
                have given another number of keys.
        """
        rngs = _as_rngs(rngs)
        _, counts, streams = _split(rngs)
        if not jax.tree.leaves(counts):
            raise TypeError(f"plan(rngs): rngs must be nnx.Rngs; got {rngs!r}.")
        with self._on_mesh():
            if bypasses_plan(counts, streams):
                built = self._build(counts, streams)
            else:
                self._check_counts(_stand(counts))
                built = self._plan(streams)
        nnx.update(rngs, built.rngs["rngs"])
        return nnx.merge(built.graph, built.state)

    def _check_counts(self, given: dict[str, Any]) -> None:
        if given != self._counts:
            raise ValueError(
                "plan(rngs): rngs must have the streams of the planned ones, at the "
                f"same counts {self._counts}; got {given}. Make new nnx.Rngs for each "
                "model, or plan again."
            )

    def _on_mesh(self) -> contextlib.AbstractContextManager[Any]:
        return (
            contextlib.nullcontext() if self._mesh is None else jax.set_mesh(self._mesh)
        )


def plan(
    make: Callable[[nnx.Rngs], Any],
    rngs: nnx.Rngs | int | jax.Array,
    *,
    mesh: Mesh | None = None,
    out_shardings: Any = None,
    rules: Rules | Any = None,
    progress: Progress | None = None,
) -> ModelPlan:
    """Plans the model that ``make(rngs)`` builds; see `jaxinit.plan`.

    Args:
        make: Builds the model from its random streams, as
            ``lambda rngs: GPT(config, rngs=rngs)``.
        rngs: Random streams, which stay as they are; or the seed or key of
            ``nnx.Rngs(seed)``.
        mesh: Mesh to place the variables on, by the names that
            ``nnx.with_partitioning`` gave them; others are replicated.
        out_shardings: Where the variables go instead, as for `jaxinit.plan`: a
            sharding, a function of (path, ShapeDtypeStruct) to one, or a tree prefix
            of the model's state.
        rules: `Rules`, or what they are built of, for the parameters; their base key
            is what ``rngs.params()`` would give now.
        progress: Called as progress(done, total, what) while compiling.

    Returns:
        A plan to call as ``plan(rngs)``, with random streams of the same names. Its
        models share what is no array.

    Raises:
        ValueError: If both ``mesh`` and ``out_shardings`` are given.

    Example:
        >>> planned = plan(lambda rngs: nnx.Linear(3, 4, rngs=rngs), nnx.Rngs(0))
        >>> first, second = planned(nnx.Rngs(0)), planned(nnx.Rngs(1))
        >>> bool((first.kernel[...] == second.kernel[...]).any())
        False
    """
    if mesh is not None and out_shardings is not None:
        raise ValueError(
            "nnx.plan(mesh=..., out_shardings=...): give one of them. A mesh places "
            "the variables by their own names, out_shardings by yours."
        )
    rules = None if rules is None else as_rules(rules)
    return ModelPlan(make, _as_rngs(rngs), mesh, out_shardings, rules, progress)


def create(
    make: Callable[[nnx.Rngs], M],
    rngs: nnx.Rngs | int | jax.Array,
    *,
    mesh: Mesh | None = None,
    out_shardings: Any = None,
    rules: Rules | Any = None,
    progress: Progress | None = None,
) -> M:
    """The model that ``make(rngs)`` builds, with the same values, faster.

    Planned and made in one call; arguments of `plan`. The streams advance as
    ``make`` would advance them.

    Returns:
        A live model.

    Example:
        >>> model = create(lambda rngs: nnx.Linear(3, 4, rngs=rngs), 0)
        >>> model.kernel.shape
        (3, 4)
    """
    rngs = _as_rngs(rngs)
    options: Any = {"mesh": mesh, "out_shardings": out_shardings, "progress": progress}
    return plan(make, rngs, rules=rules, **options)(rngs)


def explain(
    make: Callable[[nnx.Rngs], Any],
    rngs: nnx.Rngs | int | jax.Array,
    rules: Rules | Any,
) -> None:
    """Prints which rule makes which variable of a model, and how; nothing is made.

    Args:
        make: As for `plan`.
        rngs: As for `plan`.
        rules: `Rules`, or what they are built of.
    """
    graph, streams = nnx.split(_as_rngs(rngs))

    def build(streams: Any) -> Any:
        return nnx.state(make(nnx.merge(graph, _own(streams))))

    as_rules(rules).explain(eval_shape(build, streams))


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Built:
    """What a plan makes: the state of a model, its graph, and its streams after it.

    It is no level of a path, so that a plan and rules name a variable alike.
    """

    state: Any
    rngs: dict[str, Any]
    graph: Any

    def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], None]:
        """The fields; the graph holds no arrays."""
        names = [field.name for field in dataclasses.fields(self)]
        keys = map(jax.tree_util.GetAttrKey, names)
        return tuple((key, getattr(self, key.name)) for key in keys), None

    @classmethod
    def tree_unflatten(cls, _: None, fields: Any) -> "Built":
        """From the fields."""
        return cls(*fields)


def _as_rngs(rngs: Any) -> nnx.Rngs:
    """Random streams, or those of a seed or a key."""
    if isinstance(rngs, np.integer):
        rngs = int(rngs)
    return nnx.Rngs(rngs) if isinstance(rngs, int) or is_key_like(rngs) else rngs


def _wanted(out_shardings: Any, mesh: Mesh | None) -> FromTree:
    """The shardings of what a plan makes."""

    def shardings(built: Built) -> Any:
        wanted = out_shardings
        if mesh is not None:
            specs = nnx.get_partition_spec(built.state)
            wanted = jax.tree.map(functools.partial(NamedSharding, mesh), specs)
        elif callable(wanted) and not isinstance(wanted, Sharding):
            paths, leaves = parts_of(built.state), jax.tree.leaves(built.state)
            found = [wanted(join(p), x) for p, x in zip(paths, leaves, strict=True)]
            wanted = jax.tree.unflatten(jax.tree.structure(built.state), found)
        return None if wanted is None else Built(wanted, {"rngs": None}, None)

    return FromTree(shardings)


def _build(
    make: Callable[[nnx.Rngs], Any],
    rules: Rules | None,
    stream_graph: Any,
    counts: Any,
    streams: Any,
) -> Built:
    """State and graph of the model, and the state of its streams after it."""

    def build(streams: Any) -> Built:
        inside = nnx.merge(stream_graph, _own(counts), streams)
        _count_on_host(inside)
        model = make(inside)
        _count_as_flax((model, inside))
        model_graph, state = nnx.split(model)
        return Built(state, {"rngs": nnx.state(inside)}, model_graph)

    if rules is None:
        return build(streams)
    key = nnx.merge(stream_graph, _own(counts), streams).params()
    shapes, source = trace(build, (streams,), {})
    built = values(shapes, source)
    state = redraw(key, shapes.state, built.state, rules)
    return Built(state, built.rngs, built.graph)


def _split(rngs: nnx.Rngs) -> tuple[Any, Any, Any]:
    """Graph, counts and the other state of streams, none of which goes on with them."""
    graph, counts, streams = nnx.split(rngs, nnx.RngCount, ...)
    return graph, _own(counts), _own(streams)


def _own(state: Any) -> Any:
    """The same values in variables of their own."""
    return jax.tree.map(lambda x: x, state)


def _stand(counts: Any) -> dict[str, Any]:
    """How many keys each stream has given."""
    found: dict[str, Any] = {}
    for path, count in jax.tree_util.tree_leaves_with_path(counts):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        name = name.removesuffix("/value").removesuffix("/count")
        found[name] = count if is_traced(count) else count.tolist()
    return found


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
