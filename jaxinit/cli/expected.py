"""The standard deviation that an initializer promises, by the formula of its class.

The formulas share no code with the random draws, so a comparison of the two is a test.
"""

import functools
import itertools
import math
from typing import Any, NamedTuple

import numpy as np

import jaxinit

from .._compat import x64_for
from .._draws import complex_truncated_stddev, truncated_moments
from ..initializers import BUILT_IN
from ..initializers.presets import PRESETS


def expected_stddev(
    init: Any, shape: tuple[int, ...], *, on_complex: bool = False
) -> float | None:
    """Standard deviation of the entries of ``init(key, shape)``, or None if unknown.

    A random initializer has that of its distribution, a deterministic one that of its
    values.
    """
    variance = _moments(init, shape, on_complex).variance
    return None if math.isnan(variance) else math.sqrt(variance)


class _Moments(NamedTuple):
    """Mean and variance of all entries of a tensor, or NaN if unknown."""

    mean: complex = math.nan
    variance: float = math.nan
    is_centered: bool = False  # symmetric about 0, and no vector of entries is zero


def _moments(init: Any, shape: tuple[int, ...], on_complex: bool) -> _Moments:
    of = functools.partial(_moments, on_complex=on_complex)
    if not math.prod(shape) or isinstance(init, jaxinit.Zeros):
        return _Moments(0, 0.0)
    if init.deterministic:
        return _of_values(init, shape, on_complex)
    if type(init) not in BUILT_IN:  # a subclass may draw anything
        return _Moments()
    match init:
        case jaxinit.RandomNormal(mean=mean, stddev=stddev):
            return _Moments(mean, stddev**2, mean == 0 < stddev)
        case jaxinit.RandomUniform(minval=low, maxval=high):
            return _Moments((low + high) / 2, (high - low) ** 2 / 12, -low == high)
        case jaxinit.TruncatedNormal():
            return _truncated(init, on_complex)
        case jaxinit.TorchBias():
            return _Moments(0, 1 / (3 * init.fan_in), True)
        case jaxinit.VarianceScaling(scale=scale, mode=mode):
            return _Moments(0, scale / _fan(init, shape, mode), True)
        case jaxinit.ActivationScaled(activation=activation, mode=mode):
            scale = jaxinit.gain(activation) ** 2
            return _Moments(0, scale / _fan(init, shape, mode), True)
        case _ if init.identifiers[0] in PRESETS:
            scale, mode, _ = PRESETS[init.identifiers[0]]
            return _Moments(0, scale / _fan(init, shape, mode), True)
        case jaxinit.Orthogonal():
            rows, size = jaxinit.fans(shape, (), init.column_axis, init.batch_axis)
            r = size / rows**2  # columns / rows
            scale = {None: 1, "scaled_uniform": max(1, r), "spectral": r}[init.scale]
            return _Moments(0, init.gain**2 * scale / max(rows, size / rows), True)
        case jaxinit.DeltaOrthogonal() | jaxinit.ConvOrthogonal():
            larger = max(jaxinit.fans(np.delete(shape, init.batch_axis).tolist()))
            return _Moments(0, init.gain**2 / larger)
        case jaxinit.Sparse():
            n = np.take(shape, np.asarray(init.axis, int)).prod()
            zeros = math.ceil(init.sparsity * n) / n
            return _Moments(0, init.stddev**2 * (1 - zeros))
        case jaxinit.AsDtype():
            return of(init.initializer, shape)
        case jaxinit.ICNR():
            outputs = shape[-1] // init.factor ** (len(shape) - 2)
            return of(init.initializer, (*shape[:-1], outputs))
        case jaxinit.Stacked():
            return of(init.initializer, tuple(np.delete(shape, init.axis).tolist()))
        case jaxinit.Scaled():
            return _scaled(of(init.initializer, shape), init.factor)
        case jaxinit.DepthScaled(mode="depth", num_layers=n):
            return _scaled(of(init.initializer, shape), (init.per_block * n) ** -0.5)
        case jaxinit.DepthScaled(index=int(i)):
            n = init.per_block * (i + 1)
            return _scaled(of(init.initializer, shape), n**-0.5)
        case jaxinit.Masked(mask=None, sparsity=float(gone)):
            mean, variance, _ = of(init.initializer, shape)
            square = variance + gone * abs(mean) ** 2
            return _Moments((1 - gone) * mean, (1 - gone) * square)
        case jaxinit.Normalized() if of(init.initializer, shape).is_centered:
            return _Moments(0, init.norm**2 / np.take(shape, init.axis).prod(), True)
        case jaxinit.Blocks(initializer=initializer):
            return _side_by_side([initializer], init, shape, of)
        case jaxinit.Concatenate(initializers=initializers):
            return _side_by_side(initializers, init, shape, of)
        case _:
            return _Moments()


def _of_values(init: Any, shape: tuple[int, ...], on_complex: bool) -> _Moments:
    dtype = np.complex128 if on_complex else np.float64
    with x64_for(dtype):
        values = np.asarray(init(None, shape, dtype))
    offsets = values - values.flat[0]  # exact zeros if all are equal
    return _Moments(values.flat[0] + offsets.mean(), float(offsets.var()))


def _fan(init: Any, shape: tuple[int, ...], mode: str) -> float:
    a, b = jaxinit.fans(shape, init.in_axis, init.out_axis, init.batch_axis)
    fans = {"fan_in": a, "fan_out": b, "fan_avg": (a + b) / 2}
    return fans.get(mode, math.sqrt(a * b))


def _truncated(init: Any, on_complex: bool) -> _Moments:
    lower, upper, stddev = init.lower, init.upper, init.stddev
    if init.bounds == "absolute" and stddev:
        lower, upper = (lower - init.mean) / stddev, (upper - init.mean) / stddev
    mean = init.mean if lower == -upper else math.nan
    if not init.corrected and stddev:
        cut = truncated_moments(lower, upper)[1]
        stddev *= complex_truncated_stddev(upper) if on_complex else cut
    return _Moments(mean, stddev**2, mean == 0 < stddev)


def _scaled(moments: _Moments, factor: complex) -> _Moments:
    mean, variance, is_centered = moments
    is_centered = is_centered and factor != 0
    return _Moments(factor * mean, abs(factor) ** 2 * variance, is_centered)


def _side_by_side(parts: Any, init: Any, shape: tuple[int, ...], of: Any) -> _Moments:
    sizes = len(parts) if init.sizes is None else init.sizes
    if isinstance(sizes, int):
        sizes = [shape[init.axis] // sizes] * sizes
    found: list[_Moments] = []
    for part, size in zip(itertools.cycle(parts), sizes, strict=False):
        one = list(shape)
        one[init.axis] = size
        found.append(of(part, tuple(one)))
    means, variances, are_centered = map(np.array, zip(*found, strict=True))
    mean = np.average(means, weights=sizes)
    variance = np.average(variances + abs(means - mean) ** 2, weights=sizes)
    return _Moments(mean, float(variance), all(are_centered))
