"""Suggest: finds rules that give a model a steady signal."""

import collections
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_key
from ..initializers.activation_scaled import ActivationScaled
from ..initializers.constant import Constant, Ones, Zeros
from ..initializers.presets import LecunNormal
from ..initializers.random import RandomNormal
from ..initializers.scaled import DepthScaled
from ..initializers.variance_scaling import VarianceScaling
from ..rules.readings import ambiguity, fans_of
from ..rules.rules import Rules
from ..rules.shortest import exact_glob, shortest, starred
from ..rules.table import columns
from ..rules.tree import reinit
from .activation import gain
from .places import Inner, Level, Site
from .probe import probe_traced
from .recognition import recognize
from .report import Report
from .rows import walk
from .scaling import Found, over_layers, scale
from .sources import Source, biases_of, sources_of
from .tasks import PRODUCTS, Task, branch_ends, count_residuals
from .trace import Traced, trace

_ALIKE = 0.1  # second moments within this relative distance share a rule
_PASSES = 4  # only weights that several places share need more than one
_MOVING = {"convert_element_type", "copy", "reshape", "squeeze", "transpose"}


@dataclasses.dataclass(frozen=True)
class Suggested:
    """A place of the model under the suggested rules.

    Attributes:
        path: Path of its parameter.
        kind: "dot", "conv", "lookup" or "scale".
        layer: Number of the layer in a scan over layers, or None.
        initializer: The initializer of its parameter, or None if the model makes it.
        gain: Root mean square of the weights times sqrt(fan_in). For a lookup or a
            scale, the root mean square alone.
        expected: Target second moment of the result, or None if the rules set none.
        measured: Second moment of the result after an initialization by the rules.
    """

    path: str
    kind: str
    layer: int | tuple[int, ...] | None
    initializer: Any
    gain: float
    expected: float | None
    measured: float


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Rules for a model, and their second moments; ``print`` shows both.

    Attributes:
        rules: The rules.
        rows: The places, in order, with expected and measured second moments.
        report: Probe of the model after an initialization by the rules.
        kept: Paths of the parameters that the model itself makes.
    """

    rules: Rules
    rows: tuple[Suggested, ...]
    report: Report
    kept: tuple[str, ...]

    @property
    def deviation(self) -> float:
        """Largest factor between measured and expected second moments, 1 if equal."""
        known = [(r.measured, r.expected) for r in self.rows if r.expected is not None]
        ratios = [a / b if a > 0 else 0.0 for a, b in known]
        return max([max(x, 1 / x if x else math.inf) for x in ratios], default=1.0)

    def __str__(self) -> str:
        """The rules, a row for each place, and the verdicts of the probe."""
        rules = [(str(pattern), repr(x)) for pattern, x in self.rules.rules]
        rules = [(p, "the model's own" if x == "None" else x) for p, x in rules]
        head = ("place", "kind", "gain", "expected", "measured", "initializer")
        rows = [
            (
                row.path if row.layer is None else f"{row.path}[{row.layer}]",
                row.kind,
                f"{row.gain:.3g}",
                "" if row.expected is None else f"{row.expected:.3g}",
                f"{row.measured:.3g}",
                "" if row.initializer is None else repr(row.initializer),
            )
            for row in self.rows
        ]
        found = [str(verdict) for verdict in self.report.verdicts]
        return "\n".join(
            [
                *columns([("rule", "initializer"), *rules]),
                "",
                *columns([head, *rows]),
                *([""] if found else []),
                *found,
            ]
        )


def suggest(
    fn: Callable[..., Any],
    params: Any,
    *inputs: Any,
    key: jax.Array,
    like: Any = None,
) -> Suggestion:
    """Returns rules that give the second moment 1 to the result of every product.

    The graph shows the activation before each product, and the products that end
    residual branches. A product gets the gain of its activation (`jaxinit.gain`), if
    its input has the second moment of the theory. Otherwise it gets the gain measured
    on these inputs. Each of L residual branches gets the second moment 1 / L. Biases
    are zeros and scales are ones; a scale that ends a branch is 1 / sqrt(L). Embeddings
    are normal with variance 1, or 1 / width if the embedding is also the head.

    The model itself makes the other parameters: added parameters that are not biases,
    biases larger than usual defaults (such as the bias of a forget gate), factors that
    are not 1 and end no branch (such as the slope of PReLU), weights that are computed
    from several parameters, and weights that only a ``jax.custom_vjp`` reads.

    Args:
        fn: Any function of parameters and inputs, as for `jaxinit.probe`.
        params: The parameters, a pytree. Their values matter only where the model makes
            them.
        *inputs: A batch.
        key: PRNG key of the parameters that test the rules.
        like: The result of `jaxinit.eval_shape` for ``params``, as for
            `jaxinit.reinit`. Linen modules with attention or scanned layers need it.

    Returns:
        The rules, and a probe of the model with these rules.

    Raises:
        TypeError: If ``fn`` is not callable or ``key`` is not a key.
        ValueError: If there is no floating parameter or result.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> x, *params = [jax.random.normal(key, (64, 64)) for key in keys]
        >>> def fn(params, x):
        ...     a, b, c = params
        ...     return jax.nn.relu(jax.nn.relu(x @ a) @ b) @ c
        >>> suggest(fn, params, x, key=keys[0]).rules
        Rules([('0', LecunNormal()), ('**/*', ActivationScaled(activation='relu'))])

    References:
        Mishkin and Matas, "All you need is a good init", 2016.
    """
    key = check_key("suggest", key)
    traced = trace("suggest", fn, params, inputs)
    roles = _roles(traced)
    tasks = {role.site.index: role for role in roles.values() if role.kind == "product"}
    by_paths = {exact_glob(traced.paths[i]): role.start for i, role in roles.items()}
    start = reinit(key, params, by_paths, like=like)
    tasks = {
        i: Task(x.site, x.source, x.target, not x.is_tied) for i, x in tasks.items()
    }
    _, _, found = scale(traced.of(start), tasks, 0.01, _PASSES, with_inputs=True)
    readings = _Readings(params if like is None else like)
    made = _initializers(traced, roles, found, readings)
    rules = Rules(shortest({traced.paths[i]: x for i, x in made.items()}))
    drawn = reinit(key, params, rules, like=like)
    report = probe_traced(traced.of(drawn), None, key)
    kept = tuple(traced.paths[i] for i, x in made.items() if x is None)
    return Suggestion(rules, tuple(_rows(traced, roles, made, report)), report, kept)


@dataclasses.dataclass(frozen=True, eq=False)
class _Role:
    """The role of a parameter in the model.

    Attributes:
        kind: "product", "lookup", "scale", "bias" or "kept".
        start: Initializer before any gain is known; None keeps the parameter.
        site: The first site that reads the parameter, or None.
        source: The parameter as the source of the weight of this site, or None.
        target: Second moment that the result of the site should have.
        is_end: True if the site ends a residual branch.
        is_tied: True for a product with an embedding, whose start holds for both.
    """

    kind: str
    start: Any
    site: Any = None
    source: Any = None
    target: float = 1.0
    is_end: bool = False
    is_tied: bool = False


def _roles(traced: Traced) -> dict[int, _Role]:
    """The role of every parameter, by its position."""
    level = traced.level
    ends, share = branch_ends(level), 1 / max(1, count_residuals(level))
    first: dict[str, dict[int, tuple[Site, Source]]] = {
        kind: {} for kind in ("product", "lookup", "scale", "bias")
    }
    for site, source in sources_of(level):
        kind = "product" if site.kind in PRODUCTS else site.kind
        if isinstance(source, Source) and source.is_whole and kind in first:
            first[kind].setdefault(source.leaf, (site, source))
    for site, source in biases_of(level):
        if isinstance(source, Source) and source.is_whole:
            first["bias"].setdefault(source.leaf, (site, source))
    tied = [first["product"][i][0] for i in first["lookup"] if i in first["product"]]
    embedding = 1 / (tied[0].fan_in or 1) if tied else 1.0
    roles: dict[int, _Role] = {}
    for leaf in traced.parameters:
        kind = next((kind for kind, known in first.items() if leaf in known), None)
        if kind is None:
            roles[leaf] = _Role("kept", None)
            continue
        site, source = first[kind][leaf]
        is_end = site.index in ends and kind != "bias"
        target = share if is_end else 1.0
        if kind == "product":
            start: Any = RandomNormal(stddev=(site.fan_in or 1) ** -0.5)
        elif kind == "lookup":
            target = embedding
            start = RandomNormal(stddev=embedding**0.5)
        elif kind == "scale":
            is_one = bool(jnp.all(traced.arrays[leaf] == 1))
            start = Constant(target**0.5) if is_end else Ones() if is_one else None
        else:
            is_meant = _rms(traced.arrays[leaf]) > (site.fan_in or 1) ** -0.5
            start = None if is_meant else Zeros()
        is_tied = kind == "product" and leaf in first["lookup"]
        roles[leaf] = _Role(kind, start, site, source, target, is_end, is_tied)
    return roles


def _initializers(
    traced: Traced, roles: Mapping[int, _Role], found: Found, readings: "_Readings"
) -> dict[int, Any]:
    """The initializer of every parameter, by its position; None keeps it."""
    made = {i: role.start for i, role in roles.items()}
    products = {i: role for i, role in roles.items() if role.kind == "product"}
    moments = _moments(traced, products, found)
    before = dict(_activations(traced.level, found))
    count = count_residuals(traced.level)
    for i, role in products.items():
        moment, site = moments[i], role.site
        axes = readings.axes(traced.paths[i], role)
        if axes is None:
            made[i] = RandomNormal(stddev=_round((moment * (site.fan_in or 1)) ** -0.5))
        else:
            made[i] = _scaling(moment, before.get(site.index, ()), axes)
        if role.is_end and count > 1:
            made[i] = DepthScaled(made[i], num_layers=count, per_block=1)
    return made


def _scaling(moment: float, names: Sequence[str], axes: Mapping[str, Any]) -> Any:
    """The initializer of a product that reads data of a second moment."""
    for name in names:
        if abs(moment * gain(name) ** 2 - 1) < _ALIKE:
            return ActivationScaled(name, **axes)
    if abs(moment - 1) >= _ALIKE:
        return VarianceScaling(_round(1 / moment), **axes)
    if "mode" in axes:
        return VarianceScaling(1.0, **axes)
    return LecunNormal(**axes)


def _moments(
    traced: Traced, products: Mapping[int, _Role], found: Found
) -> dict[int, float]:
    """The second moment of the input of each product.

    Products whose paths differ only in numbers get their mean, if they are close.
    """
    moments: dict[int, float] = {}
    alike: dict[Any, list[int]] = collections.defaultdict(list)
    for i, role in products.items():
        task = Task(role.site, role.source, role.target)
        moment = float(np.mean(over_layers(task, found[role.site.index]["input"])))
        moments[i] = moment if 0 < moment < math.inf else 1.0
        alike[starred(traced.paths[i]), role.is_end].append(i)
    for members in alike.values():
        logs = [math.log(moments[i]) for i in members]
        if max(logs) - min(logs) < 2 * _ALIKE:
            moments.update(dict.fromkeys(members, math.exp(float(np.mean(logs)))))
    return moments


def _activations(level: Level, found: Found) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of a product, and the activations that it may read."""
    program = level.program
    makers = {v: node for node in program.nodes for v in node.outputs}
    names: dict[Any, str] = {}
    for place in level.places:
        if isinstance(place, Inner):
            yield from _activations(place.level, found)
        elif isinstance(place, Site) and place.activation is not None:
            pairs = np.asarray(found[place.index]["pairs"], np.float64)
            name = recognize(*np.moveaxis(pairs, -2, 0).reshape(2, -1))
            names.update({} if name is None else {place.activation: name})
    for site in level.places:
        if isinstance(site, Site) and site.kind in PRODUCTS:
            node, i = site.data
            atom = node.inputs[i]
            while atom in makers and makers[atom].name in _MOVING:
                atom = makers[atom].inputs[0]
            if atom in names:
                yield site.index, [names[atom]]
            elif atom in program.inputs:  # perhaps the result of the last iteration
                yield site.index, list(dict.fromkeys(names.values()))


class _Readings:
    """Finds the axes and the mode that give the fan-in of a kernel."""

    def __init__(self, tree: Any):
        rows = Rules({}, default=VarianceScaling()).assign(tree).rows
        self._rows = {row.path: row for row in rows}

    def axes(self, path: str, role: _Role) -> dict[str, Any] | None:
        """Arguments that give an initializer the fan-in of a site, or None."""
        row = self._rows[path]
        calls = set(row.draw.calls)
        is_certain = row.is_known and row.draw.is_certain
        options: list[dict[str, Any]] = [{}, {"mode": "fan_out"}]
        if not is_certain and any(map(ambiguity, calls)):
            options = []
        if not row.is_known:
            options += _named_axes(len(row.shape), role.source.axes)
        for option in options:
            side = int("mode" in option)
            fans = [fans_of(VarianceScaling(**option), shape) for shape in calls]
            if all(x is not None and x[side] == role.site.fan_in for x in fans):
                return option
        return None


def _named_axes(ndim: int, stacked: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Yields all axes of a kernel: inputs before outputs, or after them."""
    free = [axis for axis in range(ndim) if axis not in stacked]
    for i in range(1, len(free)):
        for a, b in ((free[:i], free[i:]), (free[i:], free[:i])):
            batch = {"batch_axis": stacked} if stacked else {}
            yield {"in_axis": tuple(a), "out_axis": tuple(b), **batch}


def _rows(
    traced: Traced, roles: Mapping[int, _Role], made: Mapping[int, Any], report: Report
) -> Iterator[Suggested]:
    """A row for each product, embedding, and scale that ends a branch."""
    leaves = {
        x.site.index: i for i, x in roles.items() if x.kind not in ("bias", "kept")
    }
    places = walk(traced.level, (), 0)
    for (place, *_), row in zip(places, report.rows, strict=True):
        leaf = leaves.get(place.index)
        role = None if leaf is None else roles[leaf]
        if not isinstance(place, Site) or (
            row.kind not in PRODUCTS
            and (role is None or (role.kind == "scale" and not role.is_end))
        ):
            continue
        yield Suggested(
            path=row.path,
            kind=row.kind,
            layer=row.layer,
            initializer=None if leaf is None else made[leaf],
            gain=(row.weight_rms or 0.0) * math.sqrt(row.fan_in or 1),
            expected=None if role is None else role.target,
            measured=(row.out_rms or 0.0) ** 2,
        )


def _rms(x: Any) -> float:
    wide = np.asarray(x).astype(complex if jnp.iscomplexobj(x) else np.float64)
    return float(np.sqrt(np.mean(np.square(np.abs(wide))))) if x.size else 0.0


def _round(x: float) -> float:
    return float(f"{x:.3g}")
