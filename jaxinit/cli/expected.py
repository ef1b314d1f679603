"""The standard deviation that an initializer promises.

Computed from the definition of each law, not by the code that draws it, so
that comparing the two means something.
"""

import math
from typing import Any

import numpy as np

import jaxinit
from jaxinit import _draws

# variance * n, and which fan is n.
_SCALED = {
    jaxinit.GlorotNormal: (1.0, "fan_avg"),
    jaxinit.GlorotUniform: (1.0, "fan_avg"),
    jaxinit.HeNormal: (2.0, "fan_in"),
    jaxinit.HeUniform: (2.0, "fan_in"),
    jaxinit.LecunNormal: (1.0, "fan_in"),
    jaxinit.LecunUniform: (1.0, "fan_in"),
    jaxinit.TorchKernel: (1 / 3, "fan_in"),
}


def expected_stddev(
    init: Any, shape: tuple[int, ...], *, on_complex: bool = False
) -> float | None:
    """Standard deviation of the entries of ``init(key, shape)``.

    Args:
        init: An initializer.
        shape: A shape that it can fill.
        on_complex: Whether the dtype is complex.

    Returns:
        The population value for random initializers, that of the entries
        themselves for deterministic ones, None where no formula is known.
    """
    kind = type(init)
    if kind is jaxinit.VarianceScaling:
        return _scaled(init, shape, init.scale, init.mode)
    if kind in _SCALED:
        return _scaled(init, shape, *_SCALED[kind])
    if kind is jaxinit.RandomNormal:
        return init.stddev
    if kind is jaxinit.RandomUniform:
        return (init.maxval - init.minval) / math.sqrt(12)
    if kind is jaxinit.TruncatedNormal:
        return _truncated(init, on_complex)
    if kind is jaxinit.TorchBias:
        return 1 / math.sqrt(3 * init.fan_in)
    if kind in (jaxinit.Zeros, jaxinit.Ones):
        return 0.0
    if kind in (jaxinit.Constant, jaxinit.FromArray):
        return float(np.broadcast_to(np.asarray(init.value), shape).std())
    if kind is jaxinit.Identity:
        return _identity(init, shape)
    return None


def _scaled(init: Any, shape: tuple[int, ...], scale: float, mode: str) -> float:
    fan_in, fan_out = jaxinit.fans(shape, init.in_axis, init.out_axis, init.batch_axis)
    n = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
    return math.sqrt(scale / n) if n else 0.0


def _truncated(init: Any, on_complex: bool) -> float:
    if init.corrected or init.stddev == 0:
        return init.stddev
    lower, upper = init.lower, init.upper
    if init.bounds == "absolute":
        lower, upper = ((b - init.mean) / init.stddev for b in (lower, upper))
    if on_complex:
        return init.stddev * _draws.complex_truncated_stddev(upper)
    return init.stddev * _draws.truncated_moments(lower, upper)[1]


def _identity(init: Any, shape: tuple[int, ...]) -> float:
    batch = np.atleast_1d(np.asarray(init.batch_axis, int)) % len(shape)
    rows, columns = (d for axis, d in enumerate(shape) if axis not in batch)
    share = min(rows, columns) / max(1, rows * columns)  # of entries on the diagonal
    return abs(init.gain) * math.sqrt(share * (1 - share))
