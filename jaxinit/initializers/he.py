"""He (Kaiming): variance 2 / fan_in."""

from dataclasses import dataclass
from typing import Any

import jax

from .._checks import BatchAxes, FanAxis
from .._compat import OutSharding, Shape
from .._fans import check_fan_axes
from .base import Initializer, unless_axes_are_named
from .variance_scaling import scaled


def he_normal(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    in_axis: FanAxis = -2,
    out_axis: FanAxis = -1,
    batch_axis: BatchAxes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Truncated normal of variance ``2 / fan_in``.

    W_i ~ N(0, s^2) cut at two standard deviations, s chosen so that the
    variance after the cut is 2 / fan_in.
    Arguments, result and errors are those of `variance_scaling`.

    Example:
        >>> he_normal(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        He et al., "Delving Deep into Rectifiers", 2015, eq. (10).
    """
    return scaled(
        "he_normal",
        (key, shape, dtype, out_sharding),
        scale=2.0,
        mode="fan_in",
        distribution="truncated_normal",
        in_axis=in_axis,
        out_axis=out_axis,
        batch_axis=batch_axis,
    )


@dataclass(frozen=True, repr=False)
class HeNormal(Initializer):
    """Truncated normal of variance ``2 / fan_in``.

    The class of `jaxinit.functional.he_normal`.

    Example:
        >>> HeNormal()(jax.random.key(0), (3, 4)).shape
        (3, 4)
    """

    in_axis: FanAxis = -2
    out_axis: FanAxis = -1
    batch_axis: BatchAxes = ()
    seed: int | None = None

    function = staticmethod(he_normal)
    check = staticmethod(check_fan_axes)
    identifiers = (
        "he_normal",
        "kaiming_normal",
    )
    reads_layout = unless_axes_are_named


def he_uniform(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    in_axis: FanAxis = -2,
    out_axis: FanAxis = -1,
    batch_axis: BatchAxes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Uniform of variance ``2 / fan_in``.

    W_i ~ U[-L, L) with L = sqrt(6 / fan_in).
    Arguments, result and errors are those of `variance_scaling`.

    Example:
        >>> he_uniform(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        He et al., "Delving Deep into Rectifiers", 2015, eq. (10).
    """
    return scaled(
        "he_uniform",
        (key, shape, dtype, out_sharding),
        scale=2.0,
        mode="fan_in",
        distribution="uniform",
        in_axis=in_axis,
        out_axis=out_axis,
        batch_axis=batch_axis,
    )


@dataclass(frozen=True, repr=False)
class HeUniform(Initializer):
    """Uniform of variance ``2 / fan_in``.

    The class of `jaxinit.functional.he_uniform`.

    Example:
        >>> HeUniform()(jax.random.key(0), (3, 4)).shape
        (3, 4)
    """

    in_axis: FanAxis = -2
    out_axis: FanAxis = -1
    batch_axis: BatchAxes = ()
    seed: int | None = None

    function = staticmethod(he_uniform)
    check = staticmethod(check_fan_axes)
    identifiers = (
        "he_uniform",
        "kaiming_uniform",
    )
    reads_layout = unless_axes_are_named
