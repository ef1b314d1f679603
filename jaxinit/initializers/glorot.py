"""Glorot, or Xavier: normal and uniform of variance ``2 / (fan_in + fan_out)``."""

from dataclasses import dataclass
from typing import Any

import jax

from .._checks import BatchAxes, FanAxis
from .._compat import OutSharding, Shape
from .presets import Preset, draw_preset


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

    W_i ~ N(0, s^2), cut at two standard deviations. s is set so that the variance
    after the cut is 2 / (fan_in + fan_out).
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
        >>> glorot_normal(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep
        feedforward neural networks", 2010, eq. (12).
    """
    draw = key, shape, dtype, out_sharding
    return draw_preset("glorot_normal", draw, in_axis, out_axis, batch_axis)


@dataclass(frozen=True, repr=False)
class GlorotNormal(Preset):
    """Truncated normal of variance ``2 / (fan_in + fan_out)``: Glorot (Xavier).

    W_i ~ N(0, s^2), cut at two standard deviations. s is set so that the variance
    after the cut is 2 / (fan_in + fan_out).
    This is a compromise: with 1 / fan_in a linear layer keeps the variance of its
    input, and with 1 / fan_out it keeps the variance of the gradient.

    Attributes:
        in_axis: Axis or axes of inputs; the default is for shapes ``(*taps, in, out)``.
            fan_in is their size times the number of taps. None: Keras's rule (see
            `fans`).
        out_axis: Axis or axes of outputs. fan_out is their size times the taps.
        batch_axis: Axis or axes of stacked weights, which no fan counts. ``"rest"``:
            every axis that is neither input nor output.
        seed: Seed for calls without a key.

    Example:
        >>> GlorotNormal()(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep
        feedforward neural networks", 2010, eq. (12).
    """

    function = staticmethod(glorot_normal)
    identifiers = ("glorot_normal", "xavier_normal")


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
        >>> glorot_uniform(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep
        feedforward neural networks", 2010, eq. (16).
    """
    draw = key, shape, dtype, out_sharding
    return draw_preset("glorot_uniform", draw, in_axis, out_axis, batch_axis)


@dataclass(frozen=True, repr=False)
class GlorotUniform(Preset):
    """Uniform of variance ``2 / (fan_in + fan_out)``: Glorot (Xavier).

    W_i ~ U[-L, L) with L = sqrt(6 / (fan_in + fan_out)).
    This is a compromise: with 1 / fan_in a linear layer keeps the variance of its
    input, and with 1 / fan_out it keeps the variance of the gradient.

    Attributes:
        in_axis: Axis or axes of inputs; the default is for shapes ``(*taps, in, out)``.
            fan_in is their size times the number of taps. None: Keras's rule (see
            `fans`).
        out_axis: Axis or axes of outputs. fan_out is their size times the taps.
        batch_axis: Axis or axes of stacked weights, which no fan counts. ``"rest"``:
            every axis that is neither input nor output.
        seed: Seed for calls without a key.

    Example:
        >>> GlorotUniform()(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep
        feedforward neural networks", 2010, eq. (16).
    """

    function = staticmethod(glorot_uniform)
    identifiers = ("glorot_uniform", "xavier_uniform")
