"""Variance scaling: the general scheme behind LeCun, Glorot and He."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from .. import _draws
from .._checks import BatchAxes, FanAxis, check_choice, check_draw, check_number
from .._compat import OutSharding, Shape
from .._exact import Exact
from .._fans import check_fan_axes, compute_fans
from .base import Initializer, unless_axes_are_named

_MODES = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: math.sqrt(fan_in * fan_out),
}
_DISTRIBUTIONS = ("truncated_normal", "normal", "untruncated_normal", "uniform")


def variance_scaling(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    in_axis: FanAxis = -2,
    out_axis: FanAxis = -1,
    batch_axis: BatchAxes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Mean 0 and variance ``scale / n``, where n is a fan of the shape.

    E|W_i|^2 = scale / n in every dtype. n is fan_in, fan_out, their mean or their
    geometric mean. "truncated_normal" is a normal cut at two of its standard
    deviations. "uniform" is U[-L, L) with L = sqrt(3 scale / n). In a complex dtype
    "normal" is circular normal, "truncated_normal" is circular normal with its modulus
    cut at 2 standard deviations, and "uniform" is uniform on a disk.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Weight shape ``(*taps, in, out)`` unless the axes say otherwise.
        dtype: Floating or complex dtype.
        scale: Numerator of the variance, at least 0.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.
        distribution: ``"truncated_normal"``, ``"normal"`` (or its alias
            ``"untruncated_normal"``) or ``"uniform"``.
        in_axis: Axis or axes of inputs. None: Keras's rule (see `fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, which no fan counts. ``"rest"``:
            every axis that is neither input nor output.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If the axes do not fit the shape, or ``mode`` or
            ``distribution`` is unknown.

    Example:
        >>> w = variance_scaling(jax.random.key(0), (400, 300), scale=2.0)
        >>> round(float(w.var()) * 400, 1)
        2.0

    References:
        LeCun et al., "Efficient BackProp", 1998, eq. (16); Glorot and Bengio,
        "Understanding the difficulty of training deep feedforward neural networks",
        2010, eq. (12); He et al., "Delving Deep into Rectifiers", 2015, eq. (10).
    """
    return draw_by_fans(
        "variance_scaling",
        (key, shape, dtype, out_sharding),
        scale=scale,
        mode=mode,
        distribution=distribution,
        in_axis=in_axis,
        out_axis=out_axis,
        batch_axis=batch_axis,
    )


def draw_by_fans(
    where: str, draw: tuple[Any, Any, Any, Any], **arguments: Any
) -> jax.Array:
    """Draws by `variance_scaling`; error messages name the caller ``where``."""
    draw = check_draw(where, *draw)
    _, shape, dtype, _ = draw
    on_complex = dtype.kind == "c"
    try:
        exact = Exact.of(arguments)
        sample, numbers = _cached_sampler(where, shape, on_complex, exact)
    except TypeError:  # not hashable: a list, or a traced scale
        sample, numbers = _sampler(where, shape, on_complex, **arguments)
    return sample(*draw, *numbers)


def _sampler(
    where: str, shape: tuple[int, ...], on_complex: bool, **arguments: Any
) -> tuple[Callable[..., jax.Array], tuple[float, ...]]:
    """Returns a function of `_draws` and its numeric arguments."""
    a = check_scaling(where, **arguments)
    axes = a["in_axis"], a["out_axis"], a["batch_axis"]
    fan = _MODES[a["mode"]](*compute_fans(where, shape, *axes))
    variance = a["scale"] / fan if fan else 0.0
    stddev = variance**0.5
    if a["distribution"] == "uniform":
        limit = math.sqrt(3) * stddev
        return _draws.uniform, (-limit, limit)
    if a["distribution"] == "normal":
        return _draws.normal, (0.0, stddev)
    if on_complex:
        kept = _draws.complex_truncated_stddev(2.0)
    else:
        kept = _draws.truncated_moments(-2.0, 2.0)[1]
    return _draws.truncated_normal, (0.0, stddev / kept, -2.0, 2.0)


# Without the cache `_sampler` takes half of the time of a small eager call.
@functools.lru_cache(maxsize=4096)
def _cached_sampler(
    where: str, shape: tuple[int, ...], on_complex: bool, arguments: Exact
) -> tuple[Callable[..., jax.Array], tuple[float, ...]]:
    """Calls `_sampler`, which refuses some values that equal valid ones."""
    return _sampler(where, shape, on_complex, **arguments.value)


def check_scaling(
    where: str, *, scale: Any, mode: Any, distribution: Any, **axes: Any
) -> dict[str, Any]:
    """The arguments of `variance_scaling`, checked and in plain form."""
    distribution = check_choice(where, "distribution", distribution, _DISTRIBUTIONS)
    if distribution == "untruncated_normal":
        distribution = "normal"
    return {
        "scale": check_number(where, "scale", scale, minimum=0.0),
        "mode": check_choice(where, "mode", mode, tuple(_MODES)),
        "distribution": distribution,
        **check_fan_axes(where, **axes),
    }


@dataclass(frozen=True, repr=False)
class VarianceScaling(Initializer):
    """Mean 0 and variance ``scale / n``, where n is a fan of the shape.

    E|W_i|^2 = scale / n, in complex dtypes too. For a shape ``(*taps, in, out)`` fan_in
    is ``in`` times the number of taps, and fan_out is ``out`` times the number of taps.

    Attributes:
        scale: Numerator of the variance, at least 0.
        mode: Choice of n: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` (their mean) or
            ``"fan_geo_avg"`` (their geometric mean).
        distribution: ``"truncated_normal"`` (cut at two standard deviations),
            ``"normal"``, or ``"uniform"`` on [-L, L) with L = sqrt(3 scale / n).
        in_axis: Axis or axes of inputs. None: Keras's rule (see `fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, which no fan counts. ``"rest"``:
            every axis that is neither input nor output.
        seed: Seed for calls without a key.

    Raises:
        ValueError: If ``mode`` or ``distribution`` is unknown or ``scale`` is negative;
            in a call, if the axes do not fit the shape.

    Example:
        >>> VarianceScaling(2.0, "fan_out")(jax.random.key(0), (4, 3)).shape
        (4, 3)

    References:
        LeCun et al., "Efficient BackProp", 1998, eq. (16); Glorot and Bengio,
        "Understanding the difficulty of training deep feedforward neural networks",
        2010, eq. (12); He et al., "Delving Deep into Rectifiers", 2015, eq. (10).
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"
    in_axis: FanAxis = -2
    out_axis: FanAxis = -1
    batch_axis: BatchAxes = ()
    seed: int | None = None

    function = staticmethod(variance_scaling)
    check = staticmethod(check_scaling)
    identifiers = ("variance_scaling",)
    reads_layout = unless_axes_are_named
