"""He, or Kaiming: normal and uniform of variance ``2 / fan_in``."""

from dataclasses import dataclass
from typing import Any

import jax

from .._checks import BatchAxes, FanAxis
from .._compat import OutSharding, Shape
from .presets import Preset, draw_preset


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

    W_i ~ N(0, s^2), cut at two standard deviations. s is set so that the variance
    after the cut is 2 / fan_in.
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
        >>> he_normal(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        He et al., "Delving Deep into Rectifiers", 2015, eq. (10).
    """
    draw = key, shape, dtype, out_sharding
    return draw_preset("he_normal", draw, in_axis, out_axis, batch_axis)


@dataclass(frozen=True, repr=False)
class HeNormal(Preset):
    """Truncated normal of variance ``2 / fan_in``: He (Kaiming).

    W_i ~ N(0, s^2), cut at two standard deviations. s is set so that the variance
    after the cut is 2 / fan_in.
    A layer after a ReLU then keeps the variance of the pre-activations.

    Attributes:
        in_axis: Axis or axes of inputs; the default is for shapes ``(*taps, in, out)``.
            fan_in is their size times the number of taps. None: Keras's rule (see
            `fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, which no fan counts. ``"rest"``:
            every axis that is neither input nor output.
        seed: Seed for calls without a key.

    Example:
        >>> HeNormal()(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        He et al., "Delving Deep into Rectifiers", 2015, eq. (10).
    """

    function = staticmethod(he_normal)
    identifiers = ("he_normal", "kaiming_normal")


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

    W_i ~ U[-L, L) with L = sqrt(6 / fan_in); this has variance 2 / fan_in.
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
        >>> he_uniform(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        He et al., "Delving Deep into Rectifiers", 2015, eq. (10).
    """
    draw = key, shape, dtype, out_sharding
    return draw_preset("he_uniform", draw, in_axis, out_axis, batch_axis)


@dataclass(frozen=True, repr=False)
class HeUniform(Preset):
    """Uniform of variance ``2 / fan_in``: He (Kaiming).

    W_i ~ U[-L, L) with L = sqrt(6 / fan_in); this has variance 2 / fan_in.
    A layer after a ReLU then keeps the variance of the pre-activations.

    Attributes:
        in_axis: Axis or axes of inputs; the default is for shapes ``(*taps, in, out)``.
            fan_in is their size times the number of taps. None: Keras's rule (see
            `fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, which no fan counts. ``"rest"``:
            every axis that is neither input nor output.
        seed: Seed for calls without a key.

    Example:
        >>> HeUniform()(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        He et al., "Delving Deep into Rectifiers", 2015, eq. (10).
    """

    function = staticmethod(he_uniform)
    identifiers = ("he_uniform", "kaiming_uniform")
