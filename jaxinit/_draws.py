"""Uniform, normal and truncated normal tensors of any dtype, from any key.

Values are drawn and scaled in float32 (float64 for float64, the matching pair for
complex) and rounded to the requested dtype once. The callers check the arguments. The
mean, the stddev and the ends of a uniform may be traced.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import log_ndtr

from ._checks import error
from ._compat import OutSharding, is_traced
from ._program import compute_dtype, elementwise_program

# If both bounds are beyond this many standard deviations on the same side, the draw
# uses log_ndtr, because erf in float32 is too coarse there.
_TAIL = 2.0
# P(z > 38) is about the smallest probability that float64 holds.
FARTHEST = 37.5


def uniform(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    out_sharding: OutSharding,
    minval: float,
    maxval: float,
) -> jax.Array:
    """Draws from the uniform distribution on [minval, maxval).

    A complex dtype is uniform on a disk with the same mean and the same E|w - mean|^2.
    The disk has radius (maxval - minval) / sqrt(6).
    """
    if jnp.issubdtype(dtype, jnp.complexfloating):
        mean = (minval + maxval) / 2
        stddev = (maxval - minval) / math.sqrt(12)
        return _disk(key, shape, dtype, out_sharding, mean, stddev)
    if not is_traced(minval) and not is_traced(maxval) and minval == -maxval:
        if maxval > jnp.finfo(compute_dtype(dtype)).tiny:
            return _symmetric(key, shape, dtype, out_sharding, maxval)
    return _uniform(key, shape, dtype, out_sharding, minval, maxval - minval, maxval)


def normal(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    out_sharding: OutSharding,
    mean: float,
    stddev: float,
) -> jax.Array:
    """Draws normal values; complex ones are circular, E|w - mean|^2 = stddev^2."""
    if jnp.issubdtype(dtype, jnp.complexfloating):
        return _complex_normal(key, shape, dtype, out_sharding, mean, stddev)
    infinity = math.inf
    return truncated_normal(
        key, shape, dtype, out_sharding, mean, stddev, -infinity, infinity
    )


def truncated_normal(
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    out_sharding: OutSharding,
    mean: float,
    stddev: float,
    lower: float,
    upper: float,
) -> jax.Array:
    """Draws from the normal cut at ``lower`` and ``upper`` stddevs from the mean.

    A complex dtype is circular normal, cut at |w - mean| <= upper * stddev.
    """
    if jnp.issubdtype(dtype, jnp.complexfloating):
        kept = -math.expm1(-(upper**2))
        return _complex_truncated(key, shape, dtype, out_sharding, mean, stddev, kept)
    if lower >= _TAIL or upper <= -_TAIL:
        near, far = sorted((abs(lower), abs(upper)))
        sign = 1.0 if lower > 0 else -1.0
        return _normal_tail(
            key, shape, dtype, out_sharding, mean, stddev * sign, near, far
        )
    a, b = (math.erf(x / math.sqrt(2)) for x in (lower, upper))
    return _normal_center(
        key, shape, dtype, out_sharding, mean, stddev, a, b, lower, upper
    )


@functools.cache
def truncated_moments(lower: float, upper: float) -> tuple[float, float]:
    """Returns mean and standard deviation of N(0, 1) cut to [lower, upper].

    Gauss-Legendre quadrature is precise even in narrow intervals and far tails, where
    the terms of the closed form cancel.
    """
    near = min(max(lower, 0.0), upper)  # the point of highest density
    reach = 40.0 / max(1.0, abs(near))
    low, high = max(lower, near - reach), min(upper, near + reach)
    nodes, weights = np.polynomial.legendre.leggauss(20)
    half = (high - low) / 80  # 40 panels
    centers = (low - near) + half * np.arange(1, 81, 2)
    offset = (centers[:, None] + half * nodes).ravel()
    density = np.tile(weights, 40) * np.exp(-offset * (offset / 2 + near))
    density /= density.sum()
    shift = float(density @ offset)
    return near + shift, math.sqrt(float(density @ (offset - shift) ** 2))


def complex_truncated_stddev(upper: float) -> float:
    """Returns sqrt(E|z|^2) of a circular normal with E|z|^2 = 1, cut at |z| = upper."""
    if upper > 20:
        return 1.0
    return math.sqrt(1 - upper**2 / math.expm1(upper**2))


def check_bounds(where: str, lower: float, upper: float) -> None:
    """Raises unless lower < upper, with some probability between them."""
    if not lower < upper:
        rule = f"greater than lower={lower}"
        raise error(ValueError, where, "upper", rule, upper)
    if lower > FARTHEST or upper < -FARTHEST:
        rule = f"bounds that include values within {FARTHEST} standard deviations"
        raise error(ValueError, where, "lower, upper", rule, (lower, upper))


def _unit(key: jax.Array, shape: tuple[int, ...], dtype: np.dtype[Any]) -> jax.Array:
    """Draws from [0, 1): a float in [1, 2) with random mantissa bits, minus 1."""
    width, mantissa = (64, 52) if dtype == np.float64 else (32, 23)
    uint = np.dtype(f"uint{width}")
    one = np.ones((), dtype).view(uint)
    bits = jax.random.bits(key, shape, uint) >> uint.type(width - mantissa)
    return lax.bitcast_convert_type(bits | one, dtype) - dtype.type(1)


@elementwise_program
def _symmetric(key, shape, dtype, maxval):
    (maxval,) = _as(dtype, maxval)
    # 2 u - 1 is exact. The maximum changes no value, but without it XLA multiplies both
    # terms by maxval.
    w = jnp.maximum(_unit(key, shape, dtype) * 2 - 1, -1)
    return w * maxval


@elementwise_program
def _uniform(key, shape, dtype, minval, span, maxval):
    minval, span, maxval = _as(dtype, minval, span, maxval)
    w = _unit(key, shape, dtype) * span + minval
    return jnp.clip(w, minval, jnp.maximum(minval, _next(maxval, minval)))


@elementwise_program
def _normal_center(key, shape, dtype, mean, stddev, a, b, lower, upper):
    mean, stddev, a, b, lower, upper = _as(dtype, mean, stddev, a, b, lower, upper)
    # erf_inv is finite only on (-1, 1), but erf of a bound beyond 5.4 rounds to +-1.
    last = np.nextafter(dtype.type(1), dtype.type(0))
    a = jnp.maximum(a, -last)
    u = jnp.clip(_unit(key, shape, dtype) * (b - a) + a, a, last)
    z = dtype.type(math.sqrt(2)) * lax.erf_inv(u)
    inside = _next(lower, upper), _next(upper, lower)
    return jnp.clip(z, *inside) * stddev + mean


@elementwise_program
def _normal_tail(key, shape, dtype, mean, stddev, near, far):
    mean, stddev, near, far = _as(dtype, mean, stddev, near, far)
    # log P(x > z) runs from log P(x > near) to log P(x > far).
    log_near = log_ndtr(-near)
    keep = -jnp.expm1(log_ndtr(-far) - log_near)
    step = jnp.log1p(-_unit(key, shape, dtype) * keep)
    z = jnp.sqrt(near * near - 2 * step)
    for _ in range(3):
        log_tail = log_ndtr(-z)
        hazard = jnp.exp(-z * z / 2 - math.log(math.sqrt(2 * math.pi)) - log_tail)
        z = z + (log_tail - log_near - step) / hazard
    return jnp.clip(z, near, far) * stddev + mean


@elementwise_program
def _complex_normal(key, shape, dtype, mean, stddev):
    real = np.empty(0, dtype).real.dtype
    last = np.nextafter(real.type(1), real.type(0))

    def part(key: jax.Array) -> jax.Array:
        u = _unit(key, shape, real) * real.type(2) - last
        return lax.erf_inv(jnp.clip(u, -last, last))  # variance 1/2

    real_key, imag_key = jax.random.split(key)
    return _around(mean, stddev, part(real_key), part(imag_key))


@elementwise_program
def _complex_truncated(key, shape, dtype, mean, stddev, kept):
    real = np.empty(0, dtype).real.dtype
    (kept,) = _as(real, kept)
    radius_key, angle_key = jax.random.split(key)
    radius = jnp.sqrt(-jnp.log1p(-kept * _unit(radius_key, shape, real)))
    return _polar(mean, stddev, radius, _unit(angle_key, shape, real))


@elementwise_program
def _disk(key, shape, dtype, mean, stddev):
    real = np.empty(0, dtype).real.dtype
    radius_key, angle_key = jax.random.split(key)
    radius = jnp.sqrt(2 * _unit(radius_key, shape, real))
    return _polar(mean, stddev, radius, _unit(angle_key, shape, real))


def _polar(mean, stddev, radius, turn):
    angle = turn * turn.dtype.type(2 * math.pi)
    return _around(mean, stddev, radius * jnp.cos(angle), radius * jnp.sin(angle))


def _around(mean, stddev, re, im):
    mean, stddev = _as(re.dtype, mean, stddev)
    return lax.complex(re * stddev + mean, im * stddev)


def _next(x: jax.Array, towards: jax.Array) -> jax.Array:
    """Returns the next float after a bound; JAX has no derivative of nextafter."""
    return jnp.nextafter(lax.stop_gradient(x), lax.stop_gradient(towards))


def _as(dtype: np.dtype[Any], *numbers: Any) -> tuple[jax.Array, ...]:
    return tuple(jnp.asarray(x, dtype) for x in numbers)
