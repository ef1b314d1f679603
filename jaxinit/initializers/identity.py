"""The identity as a matrix and as a convolution."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import (
    Axes,
    check_axes,
    check_dtype,
    check_int,
    check_number,
    check_out_sharding,
    check_shape,
    error,
)
from .._compat import OutSharding, Shape, is_traced
from .._fans import resolve_axes
from .._program import program
from .base import Initializer, unless_axes_are_named
from .constant import cast


def identity(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    gain: float = 1.0,
    batch_axis: Axes = (),
    shift: int = 0,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """``gain`` on the main diagonal, or on a shifted one, and zero elsewhere.

    In each slice along ``batch_axis`` W[i, j] = gain * (j == (i + shift) mod m) for
    i < m, where m is the number of columns. So output i + shift of ``x @ W`` is input i
    times the gain. In a recurrent network of ReLUs the identity keeps the state.

    Args:
        key: Unused; may be None.
        shape: ``(in, out)`` of any sizes, besides the axes of ``batch_axis``.
        dtype: Any numeric or bool dtype that can hold ``gain``.
        gain: Value on the diagonal.
        batch_axis: Axis or axes of stacked matrices.
        shift: Number of columns by which the diagonal is rolled to the right.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` does not have two dimensions besides ``batch_axis``.

    Example:
        >>> identity(None, (2, 3))
        Array([[1., 0., 0.],
               [0., 1., 0.]], dtype=float32)
        >>> identity(None, (2, 3), shift=-1)
        Array([[0., 0., 1.],
               [1., 0., 0.]], dtype=float32)

    References:
        Le et al., "A simple way to initialize recurrent networks of rectified
        linear units", 2015; the shift is from Flux's ``identity_init``.
    """
    where = "identity"
    arguments = _check_identity(where, gain=gain, batch_axis=batch_axis, shift=shift)
    shape = check_shape(where, shape)
    dtype = check_dtype(where, dtype, (jnp.number, jnp.bool_))
    out_sharding = check_out_sharding(where, out_sharding, len(shape))
    batch = resolve_axes(where, "batch_axis", arguments["batch_axis"], shape)
    axes = tuple(axis for axis in range(len(shape)) if axis not in batch)
    if len(axes) != 2:
        rule = "a shape of two dimensions besides those of batch_axis"
        cure = "Name the axes of stacked matrices in batch_axis."
        raise error(ValueError, where, "shape", rule, shape, cure)
    value = arguments["gain"]
    value = value if is_traced(value) else cast(where, value, dtype, "gain")
    roll = np.int32(arguments["shift"] % max(1, shape[axes[1]]))
    return _diagonal(None, shape, dtype, out_sharding, value, roll, axes=axes)


def dirac(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    groups: int = 1,
    gain: float = 1.0,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Convolution kernel that maps its input to itself.

    W[c, i, g * m + i] = gain for each group g of m = out / groups outputs and each
    i < min(in / groups, m), and zero elsewhere. c is the tap (k - 1) // 2 of each
    spatial axis. With ``padding="SAME"`` this tap reads the input at the position of
    the output, for even k too. (PyTorch's tap k // 2 shifts by one for even k.)

    Args:
        key: Unused; may be None.
        shape: ``(*taps, in / groups, out)`` with one spatial axis or more.
        dtype: Any numeric or bool dtype that can hold ``gain``.
        groups: Number of channel groups, ``feature_group_count`` in JAX.
        gain: The nonzero value.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` has no spatial axis, or ``groups`` does not divide
            out.

    Example:
        >>> x, kernel = jnp.arange(5.0), dirac(None, (3, 1, 1))
        >>> jnp.convolve(x, kernel[:, 0, 0], mode="same")
        Array([0., 1., 2., 3., 4.], dtype=float32)

    References:
        Zagoruyko and Komodakis, "DiracNets", 2017.
    """
    where = "dirac"
    arguments = _check_dirac(where, groups=groups, gain=gain)
    shape = check_shape(where, shape)
    dtype = check_dtype(where, dtype, (jnp.number, jnp.bool_))
    out_sharding = check_out_sharding(where, out_sharding, len(shape))
    if len(shape) < 3:
        rule = "(*taps, in / groups, out) with a spatial axis"
        raise error(ValueError, where, "shape", rule, shape)
    groups = arguments["groups"]
    if shape[-1] % groups:
        rule = f"a divisor of the {shape[-1]} outputs of shape {shape}"
        raise error(ValueError, where, "groups", rule, groups)
    value = arguments["gain"]
    value = value if is_traced(value) else cast(where, value, dtype, "gain")
    return _dirac(None, shape, dtype, out_sharding, value, groups=groups)


@program
def _diagonal(key, shape, dtype, gain, roll, *, axes):
    row, column = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in axes)
    column = column - roll
    column = jnp.where(column < 0, column + shape[axes[1]], column)
    return jnp.where(row == column, gain, jnp.zeros_like(gain))


@program
def _dirac(key, shape, dtype, gain, *, groups):
    row, column = (lax.broadcasted_iota(jnp.int32, shape[-2:], axis) for axis in (0, 1))
    column = column % max(1, shape[-1] // groups)
    return at_center(jnp.where(row == column, gain, jnp.zeros_like(gain)), shape[:-2])


def at_center(matrix: jax.Array, spatial: Sequence[int]) -> jax.Array:
    """Puts ``matrix`` at the tap (k - 1) // 2 of each axis, and zeros elsewhere."""
    taps = np.zeros(spatial, bool)
    if math.prod(spatial):
        taps[tuple((k - 1) // 2 for k in spatial)] = True
    return jnp.where(taps[..., None, None], matrix, jnp.zeros_like(matrix))


def _check_identity(
    where: str, *, gain: Any, batch_axis: Any, shift: Any
) -> dict[str, Any]:
    return {
        "gain": check_number(where, "gain", gain),
        "batch_axis": check_axes(where, "batch_axis", batch_axis),
        "shift": check_int(where, "shift", shift),
    }


def _check_dirac(where: str, *, groups: Any, gain: Any) -> dict[str, Any]:
    return {
        "groups": check_int(where, "groups", groups, minimum=1),
        "gain": check_number(where, "gain", gain),
    }


@dataclass(frozen=True, repr=False)
class Identity(Initializer):
    """``gain`` on the main diagonal, or on a shifted one, and zero elsewhere.

    W[i, j] = gain * (j == (i + shift) mod m) for i < m, the number of columns. The
    shape is ``(in, out)`` of any sizes, besides the axes of ``batch_axis``.

    Attributes:
        gain: Value on the diagonal.
        batch_axis: Axis or axes of stacked matrices.
        shift: Number of columns by which the diagonal is rolled to the right.

    Raises:
        ValueError: In a call, if the shape does not have two dimensions besides
            ``batch_axis``, or the dtype cannot hold ``gain``.

    Example:
        >>> Identity(gain=2.0)(None, (2, 2))
        Array([[2., 0.],
               [0., 2.]], dtype=float32)

    References:
        Le et al., "A simple way to initialize recurrent networks of rectified
        linear units", 2015; the shift is from Flux's ``identity_init``.
    """

    gain: float = 1.0
    batch_axis: Axes = ()
    shift: int = 0

    function = staticmethod(identity)
    check = staticmethod(_check_identity)
    identifiers = ("identity", "IdentityInitializer")
    deterministic = True
    reads_layout = unless_axes_are_named


@dataclass(frozen=True, repr=False)
class Dirac(Initializer):
    """Convolution kernel that maps its input to itself.

    W[c, i, g * m + i] = gain for each group g of m = out / groups outputs and each
    i < min(in / groups, m), and zero elsewhere. c is the tap (k - 1) // 2 of each
    spatial axis. The shape is ``(*taps, in / groups, out)`` with one spatial axis or
    more.

    Attributes:
        groups: Number of channel groups, ``feature_group_count`` in JAX.
        gain: The nonzero value.

    Raises:
        ValueError: In a call, if the shape has no spatial axis, or ``groups`` does not
            divide out.

    Example:
        >>> Dirac()(None, (3, 2, 2))[1]
        Array([[1., 0.],
               [0., 1.]], dtype=float32)

    References:
        Zagoruyko and Komodakis, "DiracNets", 2017.
    """

    groups: int = 1
    gain: float = 1.0

    function = staticmethod(dirac)
    check = staticmethod(_check_dirac)
    identifiers = ("dirac",)
    deterministic = True
    reads_layout = True
