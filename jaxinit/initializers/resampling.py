"""Kernels for upsampling and downsampling by linear interpolation."""

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


def bilinear_upsampling(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Kernel of a transposed convolution that interpolates linearly.

    W[t, i, j] = prod_a (1 - |t_a - c_a| / f_a) (i == j) over the spatial axes a, with
    f = (k + 1) // 2 and c = (k - 1) / 2 for k taps. Use it with strides f: a stride s
    needs 2 s or 2 s - 1 taps. Then the weights of every output position sum to 1, and a
    linear function of the position stays linear.

    If in == 1 the kernel is depthwise: every output channel has the filter, for
    ``feature_group_count=out``.

    Args:
        key: Unused; may be None.
        shape: ``(*taps, in, out)`` with in == out or in == 1, as for
            ``lax.conv_transpose`` and Flax.
        dtype: Floating or complex dtype.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` is not of that form.

    Example:
        >>> bilinear_upsampling(None, (4, 1, 1)).ravel()
        Array([0.25, 0.75, 0.75, 0.25], dtype=float32)

    References:
        Long et al., "Fully convolutional networks", 2015, section 3.3, and its
        Caffe code; Chainer's ``UpsamplingDeconvFilter``.
    """
    return _triangular("bilinear_upsampling", shape, dtype, out_sharding, mean=False)


def linear_downsampling(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Kernel of a strided convolution that averages with linear weights.

    W is the kernel of `bilinear_upsampling` divided by the sum of its taps. With
    strides (k + 1) // 2 a constant keeps its value, and a linear function of the
    position stays linear.

    Args:
        key: Unused; may be None.
        shape: ``(*taps, in, out)`` with in == out or in == 1 (depthwise).
        dtype: Floating or complex dtype.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` is not of that form.

    Example:
        >>> linear_downsampling(None, (3, 1, 1)).ravel()
        Array([0.25, 0.5 , 0.25], dtype=float32)

    References:
        Chainer's ``DownsamplingConvFilter``.
    """
    return _triangular("linear_downsampling", shape, dtype, out_sharding, mean=True)


def _triangular(
    where: str, shape: Shape, dtype: Any, out_sharding: OutSharding, *, mean: bool
) -> jax.Array:
    shape = check_shape(where, shape)
    dtype = check_dtype(where, dtype)
    out_sharding = check_out_sharding(where, out_sharding, len(shape))
    if len(shape) < 3 or shape[-2] not in (1, shape[-1]):
        rule = "(*taps, in, out) with a spatial axis, and in == out or in == 1"
        raise error(ValueError, where, "shape", rule, shape)
    taps = np.ones(())
    for k in shape[:-2]:
        distance = np.abs(np.arange(k) - (k - 1) / 2)
        weights = 1 - distance / max(1, (k + 1) // 2)
        taps = taps[..., None] * (weights / weights.sum() if mean else weights)
    return _per_channel(None, shape, dtype, out_sharding, taps.astype(dtype))


@program
def _per_channel(key, shape, dtype, taps):
    row, column = (lax.broadcasted_iota(jnp.int32, shape[-2:], axis) for axis in (0, 1))
    is_own = (row == column) | (shape[-2] == 1)
    return jnp.where(
        is_own, taps[..., None, None], jnp.zeros_like(taps[..., None, None])
    )


@dataclass(frozen=True, repr=False)
class BilinearUpsampling(Initializer):
    """Kernel of a transposed convolution that interpolates linearly.

    W[t, i, j] = prod_a (1 - |t_a - c_a| / f_a) (i == j) over the spatial axes a, with
    f = (k + 1) // 2 and c = (k - 1) / 2 for k taps; use it with strides f. The shape is
    ``(*taps, in, out)`` with in == out, or in == 1 for a depthwise kernel.

    Raises:
        ValueError: In a call, if the shape is not of that form.

    Example:
        >>> BilinearUpsampling()(None, (3, 1, 2))[:, 0, 1]
        Array([0.5, 1. , 0.5], dtype=float32)

    References:
        Long et al., "Fully convolutional networks", 2015, section 3.3, and its
        Caffe code; Chainer's ``UpsamplingDeconvFilter``.
    """

    function = staticmethod(bilinear_upsampling)
    identifiers = ("bilinear_upsampling",)
    deterministic = True
    reads_layout = True


@dataclass(frozen=True, repr=False)
class LinearDownsampling(Initializer):
    """Kernel of a strided convolution that averages with linear weights.

    W[t, i, j] = prod_a w_a[t_a] (i == j) over the spatial axes a, where w_a is
    1 - |t - c| / f divided by its sum, with f = (k + 1) // 2 and c = (k - 1) / 2 for k
    taps; use it with strides f. The shape is ``(*taps, in, out)`` with in == out, or
    in == 1 for a depthwise kernel.

    Raises:
        ValueError: In a call, if the shape is not of that form.

    Example:
        >>> float(LinearDownsampling()(None, (4, 4, 1, 1)).sum())
        1.0

    References:
        Chainer's ``DownsamplingConvFilter``.
    """

    function = staticmethod(linear_downsampling)
    identifiers = ("linear_downsampling",)
    deterministic = True
    reads_layout = True
