"""LeCun, Glorot (Xavier) and He (Kaiming): named cases of variance scaling."""

from dataclasses import dataclass
from typing import Any

import jax

from .._checks import BatchAxes, FanAxis
from .._compat import OutSharding, Shape
from .._fans import check_fan_axes
from .base import Initializer, unless_axes_are_named
from .variance_scaling import draw_by_fans

# Scale, mode and distribution that each preset passes to `variance_scaling`.
PRESETS = {
    "lecun_normal": (1.0, "fan_in", "truncated_normal"),
    "lecun_uniform": (1.0, "fan_in", "uniform"),
    "glorot_normal": (1.0, "fan_avg", "truncated_normal"),
    "glorot_uniform": (1.0, "fan_avg", "uniform"),
    "he_normal": (2.0, "fan_in", "truncated_normal"),
    "he_uniform": (2.0, "fan_in", "uniform"),
    "torch_kernel": (1 / 3, "fan_in", "uniform"),
}


def draw_preset(
    name: str,
    draw: tuple[Any, Any, Any, Any],
    in_axis: FanAxis,
    out_axis: FanAxis,
    batch_axis: BatchAxes,
) -> jax.Array:
    """Draws by `variance_scaling` with the arguments of the preset ``name``.

    ``draw`` holds the key, the shape, the dtype and the sharding.
    """
    scale, mode, distribution = PRESETS[name]
    return draw_by_fans(
        name,
        draw,
        scale=scale,
        mode=mode,
        distribution=distribution,
        in_axis=in_axis,
        out_axis=out_axis,
        batch_axis=batch_axis,
    )


@dataclass(frozen=True, repr=False)
class Preset(Initializer, abstract=True):
    """Base of the presets: the fields for the axes and the seed."""

    in_axis: FanAxis = -2
    out_axis: FanAxis = -1
    batch_axis: BatchAxes = ()
    seed: int | None = None

    check = staticmethod(check_fan_axes)
    reads_layout = unless_axes_are_named


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
    Arguments, result and errors are those of `variance_scaling`.

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
    Arguments, result and errors are those of `variance_scaling`.

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
    Arguments, result and errors are those of `variance_scaling`.

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
    Arguments, result and errors are those of `variance_scaling`.

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
    Arguments, result and errors are those of `variance_scaling`.

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
    Arguments, result and errors are those of `variance_scaling`.

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
