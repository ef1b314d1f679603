"""ZerO: partial identities and Hadamard matrices, without random numbers."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import check_dtype, check_out_sharding, check_shape, error
from .._compat import OutSharding, Shape
from .._program import program
from .base import Initializer
from .identity import at_center


def zer_o(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Partial identity, or rows of a Hadamard matrix if out > in; not random.

    W[i, j] = (i == j) if out <= in, else 2^(-m / 2) H[i, j] with m = ceil(log2 out)
    and H[i, j] = (-1)^popcount(i & j), Sylvester's Hadamard matrix. The factor is from
    the authors' code. It makes the rows of W orthonormal if out is a power of two. A
    convolution kernel has W at the tap (k - 1) // 2 of each spatial axis, and zeros at
    the other taps.

    Args:
        key: Unused; may be None.
        shape: ``(*taps, in, out)``.
        dtype: Floating or complex dtype.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` has fewer than two dimensions.

    Example:
        >>> zer_o(None, (2, 4))
        Array([[ 0.5,  0.5,  0.5,  0.5],
               [ 0.5, -0.5,  0.5, -0.5]], dtype=float32)

    References:
        Zhao et al., "ZerO initialization", 2022, and its code.
    """
    where = "zer_o"
    shape = check_shape(where, shape)
    dtype = check_dtype(where, dtype)
    out_sharding = check_out_sharding(where, out_sharding, len(shape))
    if len(shape) < 2:
        raise error(ValueError, where, "shape", "(*taps, in, out)", shape)
    return _zer_o(None, shape, dtype, out_sharding)


@program
def _zer_o(key, shape, dtype):
    *spatial, inputs, outputs = shape
    row, column = (lax.broadcasted_iota(jnp.int32, shape[-2:], axis) for axis in (0, 1))
    if outputs <= inputs:
        matrix = (row == column).astype(dtype)
    else:
        scale = np.asarray(2.0 ** (-(outputs - 1).bit_length() / 2), dtype)
        is_negative = lax.population_count(row & column) % 2 == 1
        matrix = jnp.where(is_negative, -scale, scale)
    return at_center(matrix, spatial)


@dataclass(frozen=True, repr=False)
class ZerO(Initializer):
    """Partial identity, or rows of a Hadamard matrix if out > in; not random.

    W[i, j] = (i == j) if out <= in, else 2^(-m / 2) H[i, j] with m = ceil(log2 out)
    and H[i, j] = (-1)^popcount(i & j). The shape is ``(*taps, in, out)``. A convolution
    kernel has W at the tap (k - 1) // 2 of each spatial axis, and zeros at the other
    taps.

    Raises:
        ValueError: In a call, if the shape has fewer than two dimensions.

    Example:
        >>> ZerO()(None, (2, 1))
        Array([[1.],
               [0.]], dtype=float32)

    References:
        Zhao et al., "ZerO initialization", 2022, and its code.
    """

    function = staticmethod(zer_o)
    identifiers = ("zer_o",)
    deterministic = True
    reads_layout = True
