"""Suggest: finds rules that give a model a steady signal."""

import collections
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._checks import check_key
from ..initializers.activation_scaled import ActivationScaled
from ..initializers.lecun import LecunNormal
from ..initializers.random import RandomNormal
from ..initializers.scaled import DepthScaled
from ..initializers.variance_scaling import VarianceScaling
from ..rules.readings import ambiguity, fans_of
from ..rules.rules import Rules
from ..rules.shortest import exact_glob, shortest, starred
from ..rules.tree import reinit
from .activation import gain
from .places import Inner, Level, Site
from .probe import probe_traced
from .recognition import recognize
from .report import Report
from .roles import Role, roles_of
from .rows import Layer, pairs_of, walk
from .scaling import Found, over_layers, scale
from .sources import Source, sources_of
from .suggestion import Suggested, Suggestion
from .tasks import PRODUCTS, Task
from .trace import Traced, trace

_ALIKE = 0.1  # second moments within this relative distance share a rule
_PASSES = 4  # only weights that several places share need more than one
_MOVING = {"convert_element_type", "copy", "reshape", "squeeze", "transpose"}


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
    on these inputs. Each of L residual branches of a stream gets the second moment
    1 / L; a skip inside a branch is a stream of its own. Biases are zeros and scales
    are ones; a scale that ends a branch is 1 / sqrt(L). Embeddings are normal with
    variance 1, or 1 / width if the embedding is also the head.

    A kernel that multiplies the state of a scan over time is orthogonal, if it is a
    square matrix or has a square matrix for each gate. Its result has the second moment
    of the state, so no moment is expected.

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
        ValueError: If there is no floating parameter or result, or no input.

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
    roles = roles_of(traced)
    by_paths = {exact_glob(traced.paths[i]): role.start for i, role in roles.items()}
    start = reinit(key, params, by_paths, like=like)
    tasks = {x.site.index: _task(x) for x in roles.values() if x.kind == "product"}
    _, _, found = scale(traced.of(start), tasks, 0.01, _PASSES, with_inputs=True)
    readings = _Readings(params if like is None else like)
    made = _initializers(traced, roles, found, readings)
    rules = Rules(shortest({traced.paths[i]: x for i, x in made.items()}))
    drawn = reinit(key, params, rules, like=like)
    report = probe_traced(traced.of(drawn), None, key)
    kept = tuple(traced.paths[i] for i, x in made.items() if x is None)
    return Suggestion(
        rules, tuple(_rows(traced, roles, made, found, report)), report, kept
    )


def _initializers(
    traced: Traced, roles: Mapping[int, Role], found: Found, readings: "_Readings"
) -> dict[int, Any]:
    """The initializer of every parameter, by its position; None keeps it."""
    made = {i: role.start for i, role in roles.items()}
    products = {i: role for i, role in roles.items() if role.kind == "product"}
    moments = _moments(traced, products, found)
    before = dict(_activations(traced.level, found))
    for i, role in products.items():
        if role.target is None:
            continue
        moment, site = moments[i], role.site
        axes = readings.axes(traced.paths[i], role)
        if axes is None:
            made[i] = RandomNormal(stddev=_round((moment * (site.fan_in or 1)) ** -0.5))
        else:
            made[i] = _scaling(moment, before.get(site.index, ()), axes)
        if role.branches > 1:
            made[i] = DepthScaled(made[i], num_layers=role.branches, per_block=1)
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
    traced: Traced, products: Mapping[int, Role], found: Found
) -> dict[int, float]:
    """The second moment of the input of each product.

    Products whose paths differ only in numbers get their mean, if they are close.
    """
    moments: dict[int, float] = {}
    alike: dict[Any, list[int]] = collections.defaultdict(list)
    for i, role in products.items():
        moment = float(
            np.mean(over_layers(_task(role), found[role.site.index]["input"]))
        )
        moments[i] = moment if 0 < moment < math.inf else 1.0
        alike[starred(traced.paths[i]), role.branches].append(i)
    for members in alike.values():
        logs = [math.log(moments[i]) for i in members]
        if max(logs) - min(logs) < 2 * _ALIKE:
            moments.update(dict.fromkeys(members, math.exp(float(np.mean(logs)))))
    return moments


def _activations(level: Level, found: Found) -> Iterator[tuple[int, list[str]]]:
    """Yields the number of a product, and the activations that it may read."""
    program = level.program
    makers = {v: node for node in program.nodes for v in node.outputs}
    names = {x: recognize(*pairs_of(found[x.index])) for x in level.activations}
    last: list[str | None] = []
    for place in level.places:
        if isinstance(place, Inner):
            yield from _activations(place.level, found)
        elif isinstance(place, Site) and place.activation is not None:
            last.append(names[place.activation])
    for site in level.places:
        if not isinstance(site, Site) or site.kind not in PRODUCTS:
            continue
        if site.reads is not None:
            yield site.index, list(filter(None, [names[site.reads]]))
            continue
        node, i = site.data
        atom = node.inputs[i]
        while atom in makers and makers[atom].name in _MOVING:
            atom = makers[atom].inputs[0]
        if atom in program.inputs:  # perhaps the result of the last iteration
            yield site.index, list(dict.fromkeys(filter(None, last)))


class _Readings:
    """Finds the axes and the mode that give the fan-in of a kernel."""

    def __init__(self, tree: Any):
        rows = Rules({}, default=VarianceScaling()).assign(tree).rows
        self._rows = {row.path: row for row in rows}

    def axes(self, path: str, role: Role) -> dict[str, Any] | None:
        """Arguments that give an initializer the fan-in of a site, or None."""
        row = self._rows[path]
        calls = set(row.draw.calls)
        is_certain = row.is_known and row.draw.is_certain
        options: list[dict[str, Any]] = [{}, {"mode": "fan_out"}]
        if not is_certain and any(ambiguity(x, row.is_known) for x in calls):
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
    traced: Traced,
    roles: Mapping[int, Role],
    made: Mapping[int, Any],
    found: Found,
    report: Report,
) -> Iterator[Suggested]:
    """A row for each product, embedding, and scale that ends a branch."""
    roles_of_site = {
        x.site.index: x for x in roles.values() if x.kind not in ("bias", "kept")
    }
    leaves = {
        site.index: x.leaf
        for site, x in sources_of(traced.level)
        if isinstance(x, Source) and x.is_whole
    }
    places = walk(traced.level, (), 0)
    for (place, layer, _), row in zip(places, report.rows, strict=True):
        role = roles_of_site.get(place.index)
        if not isinstance(place, Site) or (
            row.kind not in PRODUCTS
            and (role is None or (role.kind == "scale" and not role.branches))
        ):
            continue
        yield Suggested(
            path=row.path,
            kind=row.kind,
            layer=row.layer,
            initializer=made.get(leaves.get(place.index, -1)),
            gain=(row.weight_rms or 0.0) * math.sqrt(row.fan_in or 1),
            expected=None if role is None else _expected(role, layer, found),
            measured=(row.out_rms or 0.0) ** 2,
        )


def _expected(role: Role, layer: Layer, found: Found) -> float | None:
    """Second moment of the result of a site; a bias that the model keeps adds its own.

    The weights are independent of the bias, so the moments add.
    """
    if role.target is None or role.kind != "product":
        return role.target
    index = tuple(slice(None) if i is None else i for i in layer)
    bias = np.asarray(found[role.site.index]["moments"], np.float64)[index][..., 2]
    return role.target + float(np.mean(bias))


def _task(role: Role) -> Task:
    """The task that measures a product, and scales it without its bias."""
    is_scaled = role.target is not None and not role.is_tied
    return Task(role.site, role.source, role.target or 1.0, is_scaled, with_bias=False)


def _round(x: float) -> float:
    return float(f"{x:.3g}")
