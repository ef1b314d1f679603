"""The identity matrix."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .._checks import (
    Axes,
    check_axes,
    check_dtype,
    check_number,
    check_out_sharding,
    check_shape,
    error,
)
from .._compat import OutSharding, Shape, is_traced
from .._program import program
from .base import Initializer
from .constant import cast


def identity(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    gain: float = 1.0,
    batch_axis: Axes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """``gain`` on the main diagonal, zero elsewhere.

    W[..., i, j] = gain * (i == j), for each slice along ``batch_axis``.

    Args:
        key: Unused; may be None.
        shape: Two dimensions, equal or not, beside those of ``batch_axis``.
        dtype: Any numeric or bool dtype that holds ``gain``.
        gain: Value on the diagonal.
        batch_axis: Axis or axes of stacked matrices.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` without ``batch_axis`` has not two dimensions.

    Example:
        >>> identity(None, (2, 3))
        Array([[1., 0., 0.],
               [0., 1., 0.]], dtype=float32)
    """
    where = "identity"
    arguments = _check_identity(where, gain=gain, batch_axis=batch_axis)
    shape = check_shape(where, shape)
    dtype = check_dtype(where, dtype, (jnp.number, jnp.bool_))
    out_sharding = check_out_sharding(where, out_sharding, len(shape))
    batch = arguments["batch_axis"]
    batch = batch if isinstance(batch, tuple) else (batch,)
    if any(not -len(shape) <= axis < len(shape) for axis in batch):
        rule = f"within the {len(shape)} dimensions of shape {shape}"
        raise error(ValueError, where, "batch_axis", rule, arguments["batch_axis"])
    taken = {axis % len(shape) for axis in batch}
    axes = tuple(axis for axis in range(len(shape)) if axis not in taken)
    if len(axes) != 2:
        rule = "of two dimensions beside those of batch_axis"
        cure = "Name the axes of stacked matrices in batch_axis."
        raise error(ValueError, where, "shape", rule, shape, cure)
    value = arguments["gain"]
    value = value if is_traced(value) else cast(where, value, dtype)
    return _diagonal(None, shape, dtype, out_sharding, value, axes=axes)


@program
def _diagonal(key, shape, dtype, gain, *, axes):
    row, column = (lax.broadcasted_iota(jnp.int32, shape, axis) for axis in axes)
    return jnp.where(row == column, gain, jnp.zeros_like(gain))


def _check_identity(where: str, *, gain: Any, batch_axis: Any) -> dict[str, Any]:
    return {
        "gain": check_number(where, "gain", gain),
        "batch_axis": check_axes(where, "batch_axis", batch_axis),
    }


@dataclass(frozen=True, repr=False)
class Identity(Initializer):
    """Identity matrix: the class of `jaxinit.functional.identity`.

    Attributes:
        gain: Value on the diagonal.
        batch_axis: Axis or axes of stacked matrices.

    Example:
        >>> Identity(gain=2.0)(None, (2, 2))
        Array([[2., 0.],
               [0., 2.]], dtype=float32)
    """

    gain: float = 1.0
    batch_axis: Axes = ()

    function = staticmethod(identity)
    check = staticmethod(_check_identity)
    identifiers = ("identity", "IdentityInitializer")
    deterministic = True
