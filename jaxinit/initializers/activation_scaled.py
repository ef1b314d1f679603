"""Variance scaling by the exact gain of the activation that a layer reads."""

from dataclasses import dataclass
from typing import Any

import jax

from .._activations import check_name, second_moment
from .._checks import BatchAxes, FanAxis
from .._compat import OutSharding, Shape
from .base import Initializer, unless_axes_are_named
from .variance_scaling import check_scaling, draw_by_fans


def activation_scaled(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    activation: str,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    in_axis: FanAxis = -2,
    out_axis: FanAxis = -1,
    batch_axis: BatchAxes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Mean 0 and the variance that keeps the second moment behind an activation.

    E|W_i|^2 = 1 / (n E[f(z)^2]), z ~ N(0, 1), where n is a fan of the shape: a layer
    whose input is f(z) makes outputs of second moment 1. This is `variance_scaling`
    with ``scale = jaxinit.gain(activation) ** 2``: `he_normal` for relu.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Weight shape ``(*taps, in, out)`` unless the axes say otherwise.
        dtype: Floating or complex dtype.
        activation: The activation before the layer: a name of ``jax.nn``, or one that
            `jaxinit.register` gave to a function.
        mode: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` or ``"fan_geo_avg"``.
        distribution: ``"truncated_normal"``, ``"normal"`` or ``"uniform"``.
        in_axis: Axis or axes of inputs. None: Keras's rule (see `jaxinit.fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, which no fan counts; or
            ``"rest"`` for every axis that is neither input nor output.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If the axes do not fit the shape, or a name is unknown.

    Example:
        >>> w = activation_scaled(jax.random.key(0), (400, 300), activation="relu")
        >>> round(float(w.var()) * 400, 1)
        2.0

    References:
        He et al., "Delving Deep into Rectifiers", 2015, eq. (10); for any activation,
        Kumar, "On weight initialization in deep neural networks", 2017.
    """
    where = "activation_scaled"
    return draw_by_fans(
        where,
        (key, shape, dtype, out_sharding),
        scale=1 / second_moment(where, check_name(where, activation)),
        mode=mode,
        distribution=distribution,
        in_axis=in_axis,
        out_axis=out_axis,
        batch_axis=batch_axis,
    )


def _check(where: str, *, activation: Any, **arguments: Any) -> dict[str, Any]:
    arguments = check_scaling(where, scale=1.0, **arguments)
    del arguments["scale"]
    return {"activation": check_name(where, activation), **arguments}


@dataclass(frozen=True, repr=False)
class ActivationScaled(Initializer):
    """Mean 0 and the variance that keeps the second moment behind an activation.

    E|W_i|^2 = 1 / (n E[f(z)^2]), z ~ N(0, 1), where n is a fan of the shape: a layer
    whose input is f(z) makes outputs of second moment 1. This is `VarianceScaling`
    with ``scale = jaxinit.gain(activation) ** 2``: `HeNormal` for relu.

    Attributes:
        activation: The activation before the layer: a name of ``jax.nn``, or one that
            `jaxinit.register` gave to a function.
        mode: Choice of n: ``"fan_in"``, ``"fan_out"``, ``"fan_avg"`` (their mean) or
            ``"fan_geo_avg"`` (their geometric mean).
        distribution: ``"truncated_normal"`` (cut at two standard deviations),
            ``"normal"``, or ``"uniform"``.
        in_axis: Axis or axes of inputs. None: Keras's rule (see `jaxinit.fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, which no fan counts; or
            ``"rest"`` for every axis that is neither input nor output.
        seed: Seed of the key for calls that pass none.

    Raises:
        TypeError: If ``activation`` is not a string.
        ValueError: If a name is unknown; in a call, if the axes do not fit the shape.

    Example:
        >>> ActivationScaled("silu")(jax.random.key(0), (4, 3)).shape
        (4, 3)

    References:
        He et al., "Delving Deep into Rectifiers", 2015, eq. (10); for any activation,
        Kumar, "On weight initialization in deep neural networks", 2017.
    """

    activation: str
    mode: str = "fan_in"
    distribution: str = "truncated_normal"
    in_axis: FanAxis = -2
    out_axis: FanAxis = -1
    batch_axis: BatchAxes = ()
    seed: int | None = None

    function = staticmethod(activation_scaled)
    check = staticmethod(_check)
    identifiers = ("activation_scaled",)
    reads_layout = unless_axes_are_named
