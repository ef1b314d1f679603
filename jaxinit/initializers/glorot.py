"""Glorot (Xavier): variance 2 / (fan_in + fan_out)."""

from dataclasses import dataclass
from typing import Any

import jax

from .._checks import BatchAxes, FanAxis
from .._compat import OutSharding, Shape
from .._fans import check_fan_axes
from .base import Initializer, unless_axes_are_named
from .variance_scaling import scaled


def glorot_normal(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    in_axis: FanAxis = -2,
    out_axis: FanAxis = -1,
    batch_axis: BatchAxes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Truncated normal of variance ``2 / (fan_in + fan_out)``.

    W_i ~ N(0, s^2) cut at two standard deviations, s chosen so that the
    variance after the cut is 2 / (fan_in + fan_out).
    Arguments, result and errors are those of `variance_scaling`.

    Example:
        >>> glorot_normal(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep
        feedforward neural networks", 2010, eq. (12).
    """
    return scaled(
        "glorot_normal",
        (key, shape, dtype, out_sharding),
        scale=1.0,
        mode="fan_avg",
        distribution="truncated_normal",
        in_axis=in_axis,
        out_axis=out_axis,
        batch_axis=batch_axis,
    )


@dataclass(frozen=True, repr=False)
class GlorotNormal(Initializer):
    """Truncated normal of variance ``2 / (fan_in + fan_out)``.

    The class of `jaxinit.functional.glorot_normal`.

    Example:
        >>> GlorotNormal()(jax.random.key(0), (3, 4)).shape
        (3, 4)
    """

    in_axis: FanAxis = -2
    out_axis: FanAxis = -1
    batch_axis: BatchAxes = ()
    seed: int | None = None

    function = staticmethod(glorot_normal)
    check = staticmethod(check_fan_axes)
    identifiers = (
        "glorot_normal",
        "xavier_normal",
    )
    reads_layout = unless_axes_are_named


def glorot_uniform(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    in_axis: FanAxis = -2,
    out_axis: FanAxis = -1,
    batch_axis: BatchAxes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Uniform of variance ``2 / (fan_in + fan_out)``.

    W_i ~ U[-L, L) with L = sqrt(6 / (fan_in + fan_out)).
    Arguments, result and errors are those of `variance_scaling`.

    Example:
        >>> glorot_uniform(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep
        feedforward neural networks", 2010, eq. (16).
    """
    return scaled(
        "glorot_uniform",
        (key, shape, dtype, out_sharding),
        scale=1.0,
        mode="fan_avg",
        distribution="uniform",
        in_axis=in_axis,
        out_axis=out_axis,
        batch_axis=batch_axis,
    )


@dataclass(frozen=True, repr=False)
class GlorotUniform(Initializer):
    """Uniform of variance ``2 / (fan_in + fan_out)``.

    The class of `jaxinit.functional.glorot_uniform`.

    Example:
        >>> GlorotUniform()(jax.random.key(0), (3, 4)).shape
        (3, 4)
    """

    in_axis: FanAxis = -2
    out_axis: FanAxis = -1
    batch_axis: BatchAxes = ()
    seed: int | None = None

    function = staticmethod(glorot_uniform)
    check = staticmethod(check_fan_axes)
    identifiers = (
        "glorot_uniform",
        "xavier_uniform",
    )
    reads_layout = unless_axes_are_named
