"""Zeros, ones, constants and arrays of given values."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import (
    check_broadcastable,
    check_dtype,
    check_out_sharding,
    check_shape,
    error,
)
from .._compat import OutSharding, Shape, is_traced
from .._frozen import FrozenArray
from .._program import program
from .base import Initializer


def zeros(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """All zeros.

    Args:
        key: Unused; may be None.
        shape: Any shape.
        dtype: Any numeric or bool dtype.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Example:
        >>> zeros(None, (2,))
        Array([0., 0.], dtype=float32)
    """
    return fill("zeros", shape, dtype, 0, out_sharding)


def ones(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """All ones.

    Args:
        key: Unused; may be None.
        shape: Any shape.
        dtype: Any numeric or bool dtype.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Example:
        >>> ones(None, (2,))
        Array([1., 1.], dtype=float32)
    """
    return fill("ones", shape, dtype, 1, out_sharding)


def constant(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    value: Any = 0.0,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """One value, or an array broadcast to the shape.

    Args:
        key: Unused; may be None.
        shape: Any shape that ``value`` broadcasts to.
        dtype: Any numeric or bool dtype that can hold the value. An integer dtype
            cannot hold a fraction, and a real dtype no complex value.
        value: Number or array of numbers.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``value`` does not broadcast to ``shape`` or does not fit
            ``dtype``.

    Example:
        >>> constant(None, (2, 2), value=[1.0, 2.0])
        Array([[1., 2.],
               [1., 2.]], dtype=float32)
    """
    return fill("constant", shape, dtype, value, out_sharding)


def from_array(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    value: Any,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """The values of an array, for the shape of this array only.

    Args:
        key: Unused; may be None.
        shape: The shape of ``value``.
        dtype: As for `constant`.
        value: Array of numbers.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` differs from the shape of ``value``.

    Example:
        >>> from_array(None, (2,), value=[3.0, 4.0])
        Array([3., 4.], dtype=float32)
    """
    shape = check_shape("from_array", shape)
    if np.shape(value) != shape:
        rule = f"{np.shape(value)}, the shape of value"
        raise error(ValueError, "from_array", "shape", rule, shape)
    return fill("from_array", shape, dtype, value, out_sharding)


def fill(
    where: str, shape: Shape, dtype: Any, value: Any, out_sharding: OutSharding
) -> jax.Array:
    """Casts ``value`` to ``dtype`` once and broadcasts it to ``shape``."""
    shape = check_shape(where, shape)
    dtype = check_dtype(where, dtype, (jnp.number, jnp.bool_))
    out_sharding = check_out_sharding(where, out_sharding, len(shape))
    if not is_traced(value):
        value = cast(where, value, dtype)
    check_broadcastable(where, "value", value, shape)
    return _broadcast(None, shape, dtype, out_sharding, value)


def cast(
    where: str, value: Any, dtype: np.dtype[Any], name: str = "value"
) -> np.ndarray:
    """Casts numbers to ``dtype``, or raises if ``dtype`` cannot represent them.

    Rounding is allowed. So is overflow to infinity, as in a cast of JAX, if ``dtype``
    has an infinity.
    """
    rule = f"representable in {dtype.name}"
    array = np.asarray(value)
    # NumPy's kind "O": ints of more than 64 bits. "V": the narrow dtypes of JAX.
    wide = {"O": np.float64, "V": np.float32}.get(array.dtype.kind)
    try:
        array = array if wide is None else array.astype(wide)
    except (TypeError, ValueError, OverflowError):
        raise error(ValueError, where, name, rule, value) from None
    complex_ = jnp.issubdtype(dtype, jnp.complexfloating)
    if array.dtype.kind not in "biuf" + ("c" if complex_ else ""):
        raise error(ValueError, where, name, rule, value)
    with np.errstate(over="ignore", invalid="ignore"):
        made = array.astype(dtype)
    if jnp.issubdtype(dtype, jnp.inexact):
        same = (np.isnan(made) == np.isnan(array)) & (np.isinf(made) >= np.isinf(array))
    else:
        same = made == array
    if not same.all():
        raise error(ValueError, where, name, rule, value)
    return made


@program
def _broadcast(key, shape, dtype, value):
    return jnp.broadcast_to(value, shape)


def _check_value(where: str, *, value: Any) -> dict[str, Any]:
    if isinstance(value, (bool, int, float)) and value == value:
        return {"value": value}
    if isinstance(value, FrozenArray):
        return {"value": value}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf" and value == value:
        return {"value": value.item()}
    if isinstance(value, (str, bytes)) or value is None:
        rule = "a number or an array of numbers"
        raise error(TypeError, where, "value", rule, value)
    return {"value": FrozenArray.from_plain(where, "value", value)}


def _check_array(where: str, *, value: Any) -> dict[str, Any]:
    if isinstance(value, FrozenArray):
        return {"value": value}
    return {"value": FrozenArray.from_plain(where, "value", value)}


@dataclass(frozen=True, repr=False)
class Zeros(Initializer):
    """All zeros, for any shape and any dtype.

    Example:
        >>> Zeros()(None, (2,))
        Array([0., 0.], dtype=float32)
    """

    function = staticmethod(zeros)
    identifiers = ("zeros", "zero")
    deterministic = True


@dataclass(frozen=True, repr=False)
class Ones(Initializer):
    """All ones, for any shape and any dtype.

    Example:
        >>> Ones()(None, (2,))
        Array([1., 1.], dtype=float32)
    """

    function = staticmethod(ones)
    identifiers = ("ones", "one")
    deterministic = True


@dataclass(frozen=True, repr=False)
class Constant(Initializer):
    """One value, or an array that is broadcast to the shape.

    W = value, broadcast as NumPy broadcasts.

    Attributes:
        value: Number, or array of numbers that broadcasts to the shapes of all calls.

    Raises:
        ValueError: In a call, if ``value`` does not broadcast to the shape, or the
            dtype cannot hold it, as an integer dtype cannot hold a fraction.

    Example:
        >>> Constant(0.5)(None, (2,))
        Array([0.5, 0.5], dtype=float32)
    """

    value: Any = 0.0

    function = staticmethod(constant)
    check = staticmethod(_check_value)
    identifiers = ("constant",)
    deterministic = True


@dataclass(frozen=True, repr=False)
class FromArray(Initializer):
    """The values of an array, for the shape of this array only.

    W = value.

    Attributes:
        value: Array of numbers.

    Raises:
        ValueError: In a call, if the shape is not the shape of ``value``, or the dtype
            cannot hold the values.

    Example:
        >>> FromArray([1.0, 2.0])(None, (2,))
        Array([1., 2.], dtype=float32)
    """

    value: Any

    function = staticmethod(from_array)
    check = staticmethod(_check_array)
    identifiers = ("from_array",)
    deterministic = True
