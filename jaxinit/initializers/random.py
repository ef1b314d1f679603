"""Normal, uniform and truncated normal distributions with given parameters."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from .. import _draws
from .._checks import (
    check_bool,
    check_bound,
    check_choice,
    check_draw,
    check_number,
    error,
)
from .._compat import OutSharding, Shape, is_traced
from .._program import compute_dtype
from .base import Initializer


def random_normal(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    mean: float = 0.0,
    stddev: float = 0.05,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Normal with given mean and standard deviation.

    W_i ~ N(mean, stddev^2). In a complex dtype W_i - mean is circular, with
    E|W_i - mean|^2 = stddev^2.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Any shape.
        dtype: Floating or complex dtype.
        mean: Mean.
        stddev: Standard deviation, at least 0.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``stddev`` is negative or an argument is not finite.

    Example:
        >>> random_normal(jax.random.key(0), (2, 3)).shape
        (2, 3)
    """
    where = "random_normal"
    arguments = _check_normal(where, mean=mean, stddev=stddev)
    draw = check_draw(where, key, shape, dtype, out_sharding)
    return _draws.normal(*draw, **arguments)


def random_uniform(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    minval: float = -0.05,
    maxval: float = 0.05,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Uniform on [minval, maxval).

    W_i ~ U[minval, maxval). In a narrow dtype a value can be rounded to ``maxval``.
    In a complex dtype W_i is uniform on a disk with the same mean and variance. The
    disk has radius (maxval - minval) / sqrt(6).

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Any shape.
        dtype: Floating or complex dtype.
        minval: Lower end of the interval, included.
        maxval: Upper end of the interval, at least ``minval``.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``maxval < minval``, if an argument is not finite, or if the
            interval is too wide for the dtype of the computation, which is float32 for
            narrower dtypes.

    Example:
        >>> w = random_uniform(jax.random.key(0), (100,), minval=0.0, maxval=2.0)
        >>> bool((w >= 0).all() and (w < 2).all())
        True
    """
    where = "random_uniform"
    arguments = _check_uniform(where, minval=minval, maxval=maxval)
    draw = check_draw(where, key, shape, dtype, out_sharding)
    if not any(map(is_traced, arguments.values())):
        minval, maxval = arguments["minval"], arguments["maxval"]
        wide = compute_dtype(draw[2])
        span = maxval if minval == -maxval else maxval - minval  # as _draws.uniform
        if max(abs(minval), abs(maxval), span) > float(np.finfo(wide).max):
            rule = f"within the range of {wide.name}, the dtype of the computation"
            raise error(ValueError, where, "minval, maxval", rule, (minval, maxval))
    return _draws.uniform(*draw, **arguments)


def truncated_normal(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    mean: float = 0.0,
    stddev: float = 0.05,
    lower: float = -2.0,
    upper: float = 2.0,
    bounds: str = "relative",
    corrected: bool = False,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Normal distribution cut at two bounds.

    W_i ~ N(mean, s^2) given a <= W_i <= b. s is ``stddev``; or, if ``corrected``, s is
    set so that W_i has the standard deviation ``stddev``. Relative bounds mean
    a = mean + lower * s and b = mean + upper * s. Absolute bounds mean a = lower and
    b = upper. Values do not pile up at the bounds, not even in the far tails.

    In a complex dtype the normal is circular and its modulus is cut:
    |W_i - mean| <= upper * s. Then lower must be -upper.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Any shape.
        dtype: Floating or complex dtype.
        mean: Mean before truncation.
        stddev: Standard deviation before truncation, or after it if ``corrected``; at
            least 0.
        lower: Lower bound; it may be -inf.
        upper: Upper bound; it may be inf.
        bounds: ``"relative"``, in standard deviations from the mean, as in JAX
            and Keras; or ``"absolute"``, in units of W, as in PyTorch.
        corrected: Whether ``stddev`` is the standard deviation after truncation.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``lower >= upper``, if the bounds are too far in one tail, or if
            no normal cut at absolute bounds has the corrected ``stddev``.

    Example:
        >>> w = truncated_normal(jax.random.key(0), (1000,), stddev=1.0, upper=0.5)
        >>> float(w.max()) <= 0.5
        True

    References:
        Burkardt, "The truncated normal distribution", 2014, section 3.
    """
    where = "truncated_normal"
    arguments = _check_truncated(
        where,
        mean=mean,
        stddev=stddev,
        lower=lower,
        upper=upper,
        bounds=bounds,
        corrected=corrected,
    )
    draw = check_draw(where, key, shape, dtype, out_sharding)
    on_complex = draw[2].kind == "c"
    return _draws.truncated_normal(
        *draw, **_standardize(where, on_complex=on_complex, **arguments)
    )


def _check_normal(where: str, *, mean: Any, stddev: Any) -> dict[str, Any]:
    return {
        "mean": check_number(where, "mean", mean),
        "stddev": check_number(where, "stddev", stddev, minimum=0.0),
    }


def _check_uniform(where: str, *, minval: Any, maxval: Any) -> dict[str, Any]:
    minval = check_number(where, "minval", minval)
    maxval = check_number(where, "maxval", maxval)
    if not (is_traced(minval) or is_traced(maxval)):
        if maxval < minval:
            raise error(
                ValueError, where, "maxval", f"at least minval={minval}", maxval
            )
        if not math.isfinite(maxval - minval):
            rule = f"in the range of a float from minval={minval}"
            raise error(ValueError, where, "maxval", rule, maxval)
    return {"minval": minval, "maxval": maxval}


def _check_truncated(
    where: str,
    *,
    mean: Any,
    stddev: Any,
    lower: Any,
    upper: Any,
    bounds: Any,
    corrected: Any,
) -> dict[str, Any]:
    arguments = _check_normal(where, mean=mean, stddev=stddev)
    arguments |= {
        "lower": check_bound(where, "lower", lower),
        "upper": check_bound(where, "upper", upper),
        "bounds": check_choice(where, "bounds", bounds, ("relative", "absolute")),
        "corrected": check_bool(where, "corrected", corrected),
    }
    _standardize(where, on_complex=False, **arguments)
    return arguments


def _standardize(
    where: str,
    *,
    on_complex: bool,
    mean: float,
    stddev: float,
    lower: float,
    upper: float,
    bounds: str,
    corrected: bool,
) -> dict[str, float]:
    """Returns mean and stddev before truncation, and bounds relative to them."""
    if not lower < upper:
        raise error(ValueError, where, "upper", f"greater than lower={lower}", upper)
    if bounds == "absolute":
        for name, value in (("mean", mean), ("stddev", stddev)):
            if is_traced(value):
                rule = "a concrete number when bounds are absolute"
                raise error(TypeError, where, name, rule, value)
        if stddev == 0:
            if not lower <= mean <= upper:
                rule = f"within [{lower}, {upper}] when stddev is 0"
                raise error(ValueError, where, "mean", rule, mean)
            return {"mean": mean, "stddev": 0.0, "lower": -1.0, "upper": 1.0}
        if corrected:
            stddev = _uncorrected(where, mean, stddev, lower, upper)
        lower, upper = (lower - mean) / stddev, (upper - mean) / stddev
    _draws.check_bounds(where, lower, upper)
    if on_complex and lower != -upper:
        rule = f"-upper={-upper} for a complex dtype: the bounds limit the modulus"
        raise error(ValueError, where, "lower", rule, lower)
    if corrected and bounds == "relative":
        if on_complex:
            stddev = stddev / _draws.complex_truncated_stddev(upper)
        else:
            stddev = stddev / _draws.truncated_moments(lower, upper)[1]
    return {"mean": mean, "stddev": stddev, "lower": lower, "upper": upper}


def _uncorrected(
    where: str, mean: float, stddev: float, lower: float, upper: float
) -> float:
    """Returns s such that N(mean, s^2) cut to [lower, upper] has ``stddev``.

    The standard deviation after truncation grows with s, from 0 to the standard
    deviation of the uniform distribution. So bisection on log s finds s.
    """

    def after(s: float) -> float:
        a, b = (lower - mean) / s, (upper - mean) / s
        return s * _draws.truncated_moments(a, b)[1]

    low, high = stddev, stddev
    if not lower <= mean <= upper:  # start with an s that reaches the bounds
        away = min(abs(lower - mean), abs(upper - mean))
        low = high = max(stddev, away / _draws.FARTHEST)
        if after(low) > stddev:
            rule = f"at least {after(low):g}, the least for these bounds in float64"
            raise error(ValueError, where, "stddev", rule, stddev)
    widest = (upper - lower) / math.sqrt(12)
    if stddev >= 0.999 * widest:
        rule = f"below {widest:g}, that of the uniform on [{lower}, {upper}]"
        raise error(ValueError, where, "stddev", rule, stddev)
    while after(high) < stddev:
        high *= 2
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if after(middle) < stddev else (low, middle)
    return high


@dataclass(frozen=True, repr=False)
class RandomNormal(Initializer):
    """Normal with given mean and standard deviation.

    W_i ~ N(mean, stddev^2), for any shape. In a complex dtype W_i - mean is circular,
    with E|W_i - mean|^2 = stddev^2.

    Attributes:
        mean: Mean.
        stddev: Standard deviation, at least 0.
        seed: Seed for calls without a key.

    Raises:
        ValueError: If ``stddev`` is negative or an argument is not finite.

    Example:
        >>> RandomNormal(stddev=0.02)(jax.random.key(0), (2, 3)).shape
        (2, 3)
    """

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    function = staticmethod(random_normal)
    check = staticmethod(_check_normal)
    identifiers = ("random_normal", "normal")


@dataclass(frozen=True, repr=False)
class RandomUniform(Initializer):
    """Uniform on [minval, maxval).

    W_i ~ U[minval, maxval), for any shape. In a complex dtype W_i is uniform on a disk
    with the same mean and variance. The disk has radius (maxval - minval) / sqrt(6).

    Attributes:
        minval: Lower end of the interval, included.
        maxval: Upper end of the interval, at least ``minval``.
        seed: Seed for calls without a key.

    Raises:
        ValueError: If ``maxval < minval`` or an argument is not finite.

    Example:
        >>> RandomUniform(0.0, 1.0)(jax.random.key(0), (2, 3)).shape
        (2, 3)
    """

    minval: float = -0.05
    maxval: float = 0.05
    seed: int | None = None

    function = staticmethod(random_uniform)
    check = staticmethod(_check_uniform)
    identifiers = ("random_uniform", "uniform")


@dataclass(frozen=True, repr=False)
class TruncatedNormal(Initializer):
    """Normal distribution cut at two bounds.

    W_i ~ N(mean, s^2) given a <= W_i <= b, for any shape. s is ``stddev``; or, if
    ``corrected``, s is set so that W_i has the standard deviation ``stddev``. In a
    complex dtype the modulus is cut: |W_i - mean| <= upper * s, and lower must be
    -upper.

    Attributes:
        mean: Mean before truncation.
        stddev: Standard deviation before truncation, or after it if ``corrected``.
        lower: Lower bound; it may be -inf.
        upper: Upper bound; it may be inf.
        bounds: ``"relative"``, in standard deviations from the mean:
            a = mean + lower * s and b = mean + upper * s. Or ``"absolute"``:
            a = lower and b = upper.
        corrected: Whether ``stddev`` is the standard deviation after truncation.
        seed: Seed for calls without a key.

    Raises:
        ValueError: If ``lower >= upper``, if the bounds are too far in one tail, or if
            no normal cut at absolute bounds has the corrected ``stddev``.

    Example:
        >>> TruncatedNormal(stddev=1.0)(jax.random.key(0), (2, 3)).shape
        (2, 3)

    References:
        Burkardt, "The truncated normal distribution", 2014, section 3.
    """

    mean: float = 0.0
    stddev: float = 0.05
    lower: float = -2.0
    upper: float = 2.0
    bounds: str = "relative"
    corrected: bool = False
    seed: int | None = None

    function = staticmethod(truncated_normal)
    check = staticmethod(_check_truncated)
    identifiers = ("truncated_normal",)
