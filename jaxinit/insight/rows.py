"""Turns the statistics of a compiled program into the records of a report."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .layers import layers_of
from .places import Inner, Level, Place, Residual, Site, Softmax
from .recognition import recognize, saturation
from .report import Growth, Parameter, Row
from .sources import Source, biases_of, sources_of
from .statistics import Moments, tapped
from .trace import Traced

Layer = tuple[int | None, ...]


def rows_of(traced: Traced, measured: Mapping[str, Any]) -> tuple[Row, ...]:
    """A row for each place, in order; one for each layer of a scan over layers.

    Args:
        traced: The places.
        measured: Statistics: "found" of each place, forward; "back" of the gradients
            by its taps; "values" and "gradients" of the parameters.
    """
    level = traced.level
    found, back = dict(measured["found"]), dict(measured["back"])
    order = {position: i for i, position in enumerate(traced.parameters)}
    for place in level.places:  # a weight that is a parameter has its statistics
        if isinstance(place, Site) and (position := level.parameter(place)) is not None:
            i = order[position]
            found[place.index] |= {"weight": measured["values"][i]}
            back[place.index] |= {"weight": measured["gradients"][i]}
    names = _names(level, traced.paths, [int(np.size(x)) for x in traced.arrays])
    return tuple(
        _row(place, layer, depth, names[place.index], found, back)
        for place, layer, depth in walk(level, (), 0)
    )


def added_to_signals(traced: Traced, rows: Sequence[Row]) -> set[str]:
    """Paths of the parameters that are added to a signal which gets a gradient.

    The gradient of such a parameter is a sum over examples, and random signs can
    cancel in it.
    """
    level = traced.level
    placed = zip(walk(level, (), 0), rows, strict=True)
    reached = {place.index for (place, *_), row in placed if row.grad_rms}
    added = [pair for pair in sources_of(level) if pair[0].kind == "add"]
    return {
        traced.paths[source.leaf]
        for site, source in (*biases_of(level), *added)
        if isinstance(source, Source) and site.index in reached
    }


def parameters_of(
    paths: Sequence[str],
    arrays: Sequence[Any],
    values: Sequence[Any],
    gradients: Sequence[Any],
    used: Sequence[bool],
) -> tuple[Parameter, ...]:
    """A record for each parameter, from the moments of it and of its gradient."""
    found: list[Parameter] = []
    everything = zip(paths, arrays, values, gradients, used, strict=True)
    for path, array, value, gradient, is_used in everything:
        rms, grad = _rms(value), _rms(gradient)
        reached = math.sqrt(1 - float(gradient.zeros)) if array.size else 0.0
        found.append(
            Parameter(
                path=path,
                shape=tuple(array.shape),
                rms=rms,
                grad_std=float(gradient.std),
                grad_rms=grad,
                sgd_step=_over(grad, rms),
                adam_step=_over(reached, rms),
                is_used=is_used,
            )
        )
    return tuple(found)


def growth(points: Sequence[tuple[int, float]], of: str) -> Growth | None:
    """Fits log rms over depth; values at the same depth are averaged."""
    by_depth: dict[int, list[float]] = {}
    for depth, rms in points:
        if rms > 0 and math.isfinite(rms):
            by_depth.setdefault(depth, []).append(math.log(rms))
    if len(by_depth) < 3:
        return None
    y = np.array([np.mean(by_depth[depth]) for depth in sorted(by_depth)])
    x = np.arange(len(y))  # layers are counted, whatever lies between them
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    error = math.sqrt(float(rest @ rest) / max(1, len(y) - 2) / float(x @ x))
    rate = math.exp(slope)
    first, last = math.exp(y[0]), math.exp(y[-1])
    return Growth(rate, rate * error, len(y), first, last, of)


def growths(rows: Sequence[Row]) -> tuple[Growth | None, Growth | None]:
    """Growth of the signal and of the gradient over the layers."""
    of, chosen = layers_of(rows)
    forward = [(row.depth, row.out_rms or 0.0) for row in chosen]
    backward = [(-row.depth, row.grad_rms or 0.0) for row in chosen]
    return growth(forward, of), growth(backward, of)


def walk(level: Level, layer: Layer, deeper: int) -> Iterator[tuple[Place, Layer, int]]:
    """Every place with its layer and its depth; None for an iteration of no layer."""
    for place in level.places:
        if not isinstance(place, Inner):
            yield place, layer, place.depth + deeper
        elif place.length is None:
            yield from walk(place.level, layer, deeper)
        elif place.is_layered:
            order = range(place.length)
            if place.node.params["reverse"]:
                order = reversed(order)
            for passed, i in enumerate(order):
                depth = deeper + passed * place.stride
                yield from walk(place.level, (*layer, i), depth)
        else:
            yield from walk(place.level, (*layer, None), deeper)


def _row(
    place: Place,
    layer: Layer,
    depth: int,
    path: str,
    found: Mapping[int, Any],
    back: Mapping[int, Any],
) -> Row:
    index = tuple(slice(None) if i is None else i for i in layer)

    def picked(number: int) -> Any:
        return jax.tree.map(lambda x: x[index], found[number])

    pick = picked(place.index)
    taps = jax.tree.map(lambda x: x[index], back.get(place.index, {}))
    number = tuple(i for i in layer if i is not None)
    fields: dict[str, Any] = {
        "path": path,
        "layer": number[0] if len(number) == 1 else number or None,
        "depth": depth,
    }
    if isinstance(place, Softmax):
        return Row(**fields, kind="softmax", entropy=float(np.mean(pick["entropy"])))
    output, gradient = pick["output"], _moments(taps.get("array", taps.get("output")))
    fields |= {
        "out_mean": _mean(output),
        "out_std": _std(output),
        "out_rms": _rms(output),
        "zeros": float(np.mean(output.zeros)),
        "grad_std": _std(gradient),
        "grad_rms": _rms(gradient),
    }
    if "input" in pick:
        fields["in_mean"] = _mean(pick["input"])
        fields["in_std"] = _std(pick["input"])
        fields["in_rms"] = _rms(pick["input"])
    if isinstance(place, Residual):
        branch = _over(_rms(pick["branch"]), fields["in_rms"])
        return Row(**fields, kind="residual", branch=branch)
    if place.activation is not None:
        follows = picked(place.activation.index)
        fields["zeros"] = float(np.mean(follows["after"].zeros))
        fields["saturation"] = saturation(*pairs_of(follows))
        fields["activation"] = recognize(*pairs_of(follows))
    if place.reads is not None:
        fields["in_activation"] = recognize(*pairs_of(picked(place.reads.index)))
    weight, cosine = _rms(pick["weight"]), pick["rows"].cosine
    fan_in = place.fan_in
    return Row(
        **fields,
        kind=place.kind,
        cosine=None if cosine is None else float(np.mean(cosine)),
        rank=float(np.mean(pick["rows"].rank)),
        histogram=_counts(pick["rows"].counts),
        weight_rms=weight,
        weight_grad_rms=_rms(_moments(taps["weight"])),
        fan_in=fan_in,
        gain=None if fan_in is None else weight * math.sqrt(fan_in),
    )


def pairs_of(found: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Samples of the input and of the output of an activation, in all iterations."""
    x, y = np.moveaxis(np.asarray(found["pairs"], np.float64), -2, 0).reshape(2, -1)
    return x, y


def _counts(counts: np.ndarray) -> tuple[int, ...]:
    """The counts of a histogram, summed over iterations."""
    return tuple(int(n) for n in counts.reshape(-1, counts.shape[-1]).sum(0))


def _names(level: Level, paths: Sequence[str], sizes: Sequence[int]) -> dict[int, str]:
    """The path of each place, by its number."""
    found: dict[int, str] = {}
    places = list(level.walk())
    for place in places:
        if isinstance(place, Site):
            # Weight norm has several parameters: the largest gives the name.
            leaf = max(sorted(place.leaves), key=sizes.__getitem__)
            found[place.index] = paths[leaf]
    for place in places:
        if not isinstance(place, Site):
            near = [found[i] for i in sorted(place.near) if i in found]
            found[place.index] = _shared(near)
    return found


def _shared(paths: Sequence[str]) -> str:
    """The part of paths that they share, without the name of a parameter."""
    split = [path.split("/")[:-1] for path in paths]
    shared: list[str] = []
    for names in zip(*split, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return "/".join(shared)


def _moments(gradient: Any) -> Moments:
    """The moments of a gradient, of which `statistics.tap` makes an array."""
    return gradient if isinstance(gradient, Moments) else tapped(gradient)


def _mean(moments: Any) -> float:
    """Mean of several arrays; the modulus of a complex mean."""
    mean = np.mean(moments.mean)
    return float(abs(mean) if np.iscomplexobj(mean) else mean)


def _rms(moments: Any) -> float:
    """Root of the second moment; of several arrays, of all their elements."""
    return float(np.sqrt(np.mean(np.abs(moments.mean) ** 2 + moments.std**2)))


def _std(moments: Any) -> float:
    """Standard deviation; of several arrays, of all their elements."""
    return float(np.sqrt(np.mean(moments.std**2) + np.var(moments.mean)))


def _over(a: float, b: float | None) -> float:
    if not b:
        return 0.0 if a == 0 else math.inf
    return a / b
