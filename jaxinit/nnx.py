"""Flax NNX: plans and probes of live models."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, Sharding

from ._checks import check_function, error
from ._compat import bypasses_plan, is_traced, may_transfer
from ._paths import join, parts_of
from ._processes import errors_told
from .insight import probe as insight
from .insight.report import Report
from .planning.plan import Plan, Progress
from .planning.result import FromTree
from .rules.leaf_keys import is_key_like
from .rules.models import eval_shape, redraw
from .rules.rules import Rules, as_rules
from .rules.trace import trace, values

M = TypeVar("M")


class ModelPlan:
    """A `Plan` that takes random streams and returns live models.

    Attributes:
        leaves: The arrays of the model and of its streams, in order.
        groups: The distinct programs, each with the leaves that it makes.
        reason: The reason why ``make`` is compiled as one program, or None.
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
        self._counts = _keys_given(counts)
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
        """Compiles every group before the first call; see `Plan.compile`."""
        with self._on_mesh():
            self._plan.compile()
        return self

    def texts(self) -> list[str]:
        """Returns the texts of all programs compiled so far; see `Plan.texts`."""
        with self._on_mesh():
            return self._plan.texts()

    def memory(self) -> dict[str, int]:
        """Returns the expected bytes on the fullest device; see `Plan.memory`."""
        with self._on_mesh():
            return self._plan.memory()

    def __str__(self) -> str:
        """Returns a table of the groups with their leaves, and the expected memory."""
        with self._on_mesh():
            return str(self._plan)

    def __call__(self, rngs: nnx.Rngs | int | jax.Array) -> Any:
        """Returns the model of these random streams.

        The streams advance as under ``make``. Groups that are not compiled yet are
        compiled. Inside a transformation ``make`` itself is evaluated.

        Raises:
            TypeError: If ``rngs`` is not ``nnx.Rngs``, or its keys have another
                implementation.
            ValueError: If the streams have other names or other counts than the planned
                streams.
        """
        rngs = _as_rngs(rngs)
        _, counts, streams = _split(rngs)
        with self._on_mesh():
            if jax.tree.leaves(counts) and bypasses_plan(counts, streams):
                built = self._build(counts, streams)
            else:
                with errors_told("plan(rngs)"):
                    self._check(rngs, counts)
                    built = self._plan(streams)
        nnx.update(rngs, built.rngs["rngs"])
        return nnx.merge(built.graph, built.state)

    def _check(self, rngs: Any, counts: Any) -> None:
        given = _keys_given(counts)
        if not given:
            raise TypeError(f"plan(rngs): rngs must be nnx.Rngs; got {rngs!r}.")
        if given != self._counts:
            raise ValueError(
                "plan(rngs=...) must have the planned streams at the same counts "
                f"{self._counts}; got {given}. Make new nnx.Rngs for each model, or "
                "plan again."
            )

    def _on_mesh(self) -> contextlib.AbstractContextManager[Any]:
        mesh = self._mesh
        return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


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
        make: Function that builds the model from random streams, as
            ``lambda rngs: GPT(config, rngs=rngs)``.
        rngs: Random streams, which do not advance; or a seed or key for ``nnx.Rngs``.
        mesh: Mesh for the variables. They are sharded by the axis names that
            ``nnx.with_partitioning`` gave them; others are replicated.
        out_shardings: Shardings of the variables, in place of ``mesh``, as for
            `jaxinit.plan`: a sharding, a function from (path, ShapeDtypeStruct) to a
            sharding, or a tree prefix of the model's state.
        rules: `Rules` for the parameters, or the argument to build them. Their base key
            is the next key of the stream, ``rngs.params()``.
        progress: As for `jaxinit.plan`.

    Returns:
        A plan to call as ``plan(rngs)``, with random streams of the same names. Its
        models share all objects that are not arrays.

    Raises:
        ValueError: If both ``mesh`` and ``out_shardings`` are given.

    Example:
        >>> planned = plan(lambda rngs: nnx.Linear(3, 4, rngs=rngs), nnx.Rngs(0))
        >>> first, second = planned(nnx.Rngs(0)), planned(nnx.Rngs(1))
        >>> bool((first.kernel[...] == second.kernel[...]).any())
        False
    """
    with errors_told("nnx.plan(...)"):
        if mesh is not None and out_shardings is not None:
            raise ValueError(
                "nnx.plan(mesh=..., out_shardings=...): pass only one of them. A mesh "
                "uses the axis names of the variables; out_shardings replaces them."
            )
        check_function("nnx.plan", "make", make, "a function of nnx.Rngs")
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
    """Returns the model that ``make(rngs)`` builds, planned and drawn in one call.

    Values are the same, and the streams advance as under ``make``.

    Args:
        make: Function that builds the model from random streams.
        rngs: Random streams, which advance; or a seed or key for ``nnx.Rngs``.
        mesh: Mesh for the variables, as for `plan`.
        out_shardings: Shardings of the variables, in place of ``mesh``, as for `plan`.
        rules: `Rules` for the parameters, as for `plan`.
        progress: As for `jaxinit.plan`.

    Returns:
        A live model.

    Raises:
        ValueError: If both ``mesh`` and ``out_shardings`` are given.

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
    """Prints the rule of each variable of a model; see `Rules.explain`.

    Args:
        make: As for `plan`.
        rngs: As for `plan`.
        rules: As for `plan`.

    Example:
        >>> explain(lambda rngs: nnx.Linear(3, 4, rngs=rngs), 0, {"bias": "zeros"})
        leaf   array         drawn as rule   initializer     fan_in fan_out std
        bias   float32[4]    (4,)     1 bias Zeros()                        0, own 0
        kernel float32[3, 4] (3, 4)   -      the model's own 3      4       own 0.628
    """
    check_function("nnx.explain", "make", make, "a function of nnx.Rngs")
    graph, streams = nnx.split(_as_rngs(rngs))

    def build(streams: Any) -> Any:
        return nnx.state(make(nnx.merge(graph, _copied(streams))))

    as_rules(rules).explain(eval_shape(build, streams))


def probe(
    model: Any,
    *inputs: Any,
    key: jax.Array,
    loss: Callable[[Any], jax.Array] | None = None,
    **kwargs: Any,
) -> Report:
    """Measures the signal of a live model without changes to it; see `jaxinit.probe`.

    Args:
        model: The model.
        *inputs: A batch.
        key: As for `jaxinit.probe`.
        loss: As for `jaxinit.probe`.
        **kwargs: Keyword inputs of the model.

    Returns:
        The report.

    Example:
        >>> model = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
        >>> report = probe(model, jax.numpy.ones((2, 3)), key=jax.random.key(0))
        >>> [parameter.path for parameter in report.parameters]
        ['bias', 'kernel']
    """
    check_function("nnx.probe", "model", model, "a live model")

    def call(model: Any, *inputs: Any) -> Any:
        return model(*inputs, **kwargs)

    return insight.probe(call, model, *inputs, key=key, loss=loss)


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Built:
    """The result of a plan: state and graph of the model, and its streams after it.

    It adds no level to paths. So a plan and rules use the same path for a variable.
    """

    state: Any
    rngs: dict[str, Any]
    graph: Any

    def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], None]:
        """Returns the fields as children; the graph contains no arrays."""
        names = [field.name for field in dataclasses.fields(self)]
        keys = map(jax.tree_util.GetAttrKey, names)
        return tuple((key, getattr(self, key.name)) for key in keys), None

    @classmethod
    def tree_unflatten(cls, _: None, fields: Any) -> "Built":
        """Builds it from the fields."""
        return cls(*fields)


def _as_rngs(rngs: Any) -> nnx.Rngs:
    """Returns random streams; a seed or key becomes ``nnx.Rngs``."""
    with may_transfer():
        rngs = int(rngs) if isinstance(rngs, np.integer) else rngs
        rngs = nnx.Rngs(rngs) if isinstance(rngs, int) or is_key_like(rngs) else rngs
    if not isinstance(rngs, nnx.Rngs):
        raise error(TypeError, "nnx", "rngs", "nnx.Rngs, a seed or one key", rngs)
    return rngs


def _wanted(out_shardings: Any, mesh: Mesh | None) -> FromTree:
    """Returns the shardings of the result of a plan."""

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
    """Builds the model, and splits it and its streams."""

    def build(streams: Any) -> Built:
        inside = nnx.merge(stream_graph, _copied(counts), streams)
        _count_on_host(inside)
        model = make(inside)
        _count_as_flax((model, inside))
        model_graph, state = nnx.split(model)
        return Built(state, {"rngs": nnx.state(inside)}, model_graph)

    if rules is None:
        return build(streams)
    key = nnx.merge(stream_graph, _copied(counts), streams).params()
    shapes, source = trace(build, (streams,), {})
    built = values(shapes, source)
    state = redraw(key, shapes.state, built.state, rules)
    return Built(state, built.rngs, built.graph)


def _split(rngs: nnx.Rngs) -> tuple[Any, Any, Any]:
    """Returns graph, counts and other state of streams, copied from them."""
    graph, counts, streams = nnx.split(rngs, nnx.RngCount, ...)
    return graph, _copied(counts), _copied(streams)


def _copied(state: Any) -> Any:
    """Returns the same values in new variables."""
    return jax.tree.map(lambda x: x, state)


def _keys_given(counts: Any) -> dict[str, Any]:
    """Returns the number of keys that each stream has given."""
    found: dict[str, Any] = {}
    with may_transfer():
        for path, count in jax.tree_util.tree_leaves_with_path(counts):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            name = name.removesuffix("/value").removesuffix("/count")
            found[name] = count if is_traced(count) else count.tolist()
    return found


def _count_on_host(rngs: nnx.Rngs) -> None:
    """Makes streams count their keys in Python, if their counts are known.

    Flax asks a traced count for its sharding for each key. JAX refuses with a message
    that holds all operations so far, and their number grows with the parameters.
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
    with may_transfer(), jax.ensure_compile_time_eval():
        return jax.numpy.asarray(value)
