"""LeCun: normal and uniform of variance ``1 / fan_in``."""

from dataclasses import dataclass
from typing import Any

import jax

from .._checks import BatchAxes, FanAxis
from .._compat import OutSharding, Shape
from .presets import Preset, draw_preset


def lecun_normal(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    in_axis: FanAxis = -2,
    out_axis: FanAxis = -1,
    batch_axis: BatchAxes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Truncated normal of variance ``1 / fan_in``.

    W_i ~ N(0, s^2), cut at two standard deviations. s is set so that the variance
    after the cut is 1 / fan_in.
    `variance_scaling` defines the draw in complex dtypes.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Weight shape ``(*taps, in, out)`` unless the axes say otherwise.
        dtype: Floating or complex dtype.
        in_axis: Axis or axes of inputs. None: Keras's rule (see `fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, as for `variance_scaling`.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If the axes do not fit the shape.

    Example:
        >>> lecun_normal(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        LeCun et al., "Efficient BackProp", 1998, eq. (16).
    """
    draw = key, shape, dtype, out_sharding
    return draw_preset("lecun_normal", draw, in_axis, out_axis, batch_axis)


@dataclass(frozen=True, repr=False)
class LecunNormal(Preset):
    """Truncated normal of variance ``1 / fan_in``: LeCun.

    W_i ~ N(0, s^2), cut at two standard deviations. s is set so that the variance
    after the cut is 1 / fan_in.
    A linear layer then keeps the variance of its input.

    Attributes:
        in_axis: Axis or axes of inputs; the default is for shapes ``(*taps, in, out)``.
            fan_in is their size times the number of taps. None: Keras's rule (see
            `fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, which no fan counts. ``"rest"``:
            every axis that is neither input nor output.
        seed: Seed for calls without a key.

    Example:
        >>> LecunNormal()(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        LeCun et al., "Efficient BackProp", 1998, eq. (16).
    """

    function = staticmethod(lecun_normal)
    identifiers = ("lecun_normal",)


def lecun_uniform(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    in_axis: FanAxis = -2,
    out_axis: FanAxis = -1,
    batch_axis: BatchAxes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Uniform of variance ``1 / fan_in``.

    W_i ~ U[-L, L) with L = sqrt(3 / fan_in); this has variance 1 / fan_in.
    `variance_scaling` defines the draw in complex dtypes.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Weight shape ``(*taps, in, out)`` unless the axes say otherwise.
        dtype: Floating or complex dtype.
        in_axis: Axis or axes of inputs. None: Keras's rule (see `fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, as for `variance_scaling`.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If the axes do not fit the shape.

    Example:
        >>> lecun_uniform(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        LeCun et al., "Efficient BackProp", 1998, eq. (16).
    """
    draw = key, shape, dtype, out_sharding
    return draw_preset("lecun_uniform", draw, in_axis, out_axis, batch_axis)


@dataclass(frozen=True, repr=False)
class LecunUniform(Preset):
    """Uniform of variance ``1 / fan_in``: LeCun.

    W_i ~ U[-L, L) with L = sqrt(3 / fan_in); this has variance 1 / fan_in.
    A linear layer then keeps the variance of its input.

    Attributes:
        in_axis: Axis or axes of inputs; the default is for shapes ``(*taps, in, out)``.
            fan_in is their size times the number of taps. None: Keras's rule (see
            `fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, which no fan counts. ``"rest"``:
            every axis that is neither input nor output.
        seed: Seed for calls without a key.

    Example:
        >>> LecunUniform()(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        LeCun et al., "Efficient BackProp", 1998, eq. (16).
    """

    function = staticmethod(lecun_uniform)
    identifiers = ("lecun_uniform",)
