"""Normal, with the same number of zeros in every vector along an axis."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import _draws
from .._checks import Axes, check_axes, check_draw, check_fraction, check_number
from .._compat import OutSharding, Shape, is_traced
from .._fans import resolve_axes
from .._prng import row_major_index
from .._program import program
from .base import Initializer, unless_axes_are_named


def sparse(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    sparsity: float,
    stddev: float = 0.01,
    axis: Axes = -2,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Normal, with the same number of zeros in every vector along ``axis``.

    A vector has n entries, and ceil(sparsity * n) of them are zero. Every choice of
    these entries is equally likely, and the choices of two vectors are independent. The
    other entries are N(0, stddev^2). So E|W_i|^2 = stddev^2 (1 - ceil(sparsity n) / n).

    In a kernel ``(in, out)`` the default axis=-2 gives every output the same number of
    nonzero inputs. ``torch.nn.init.sparse_`` also uses the first axis, but
    ``torch.nn.Linear`` stores ``(out, in)``: it gives every input the same number of
    nonzero outputs, which is axis=-1 here.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Any shape that has ``axis``.
        dtype: Floating or complex dtype.
        sparsity: Fraction of zeros in each vector, from 0 to 1.
        stddev: Standard deviation of the other entries, at least 0.
        axis: Axis or axes of each vector: ``(0, 1, 2)`` for all connections of an
            output in a kernel ``(height, width, in, out)``.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``sparsity`` is not from 0 to 1, if ``stddev`` is negative, or
            if ``shape`` has no such ``axis``.

    Example:
        >>> w = sparse(jax.random.key(0), (10, 3), sparsity=0.65)
        >>> (w == 0).sum(0)
        Array([7, 7, 7], dtype=int32)

    References:
        Martens, "Deep learning via Hessian-free optimization", 2010.
    """
    where = "sparse"
    a = _check_sparse(where, sparsity=sparsity, stddev=stddev, axis=axis)
    draw = check_draw(where, key, shape, dtype, out_sharding)
    axes = tuple(sorted(resolve_axes(where, "axis", a["axis"], draw[1])))
    expected = a["sparsity"] * math.prod(draw[1][axis] for axis in axes)
    zeros = jnp.ceil(expected) if is_traced(expected) else math.ceil(expected)
    return _sparse(*draw, zeros, a["stddev"], axes=axes)


@program
def _sparse(key, shape, dtype, zeros, stddev, *, axes):
    values_key, zeros_key = jax.random.split(key)
    values = _draws.normal(values_key, shape, dtype, None, 0.0, stddev)
    bits = jax.random.bits(zeros_key, shape, jnp.uint32)
    return jnp.where(_least(bits, zeros, axes), jnp.zeros_like(values), values)


def _least(bits: jax.Array, count: Any, axes: tuple[int, ...]) -> jax.Array:
    """Returns a mask of the ``count`` smallest ``bits`` along ``axes``.

    Equal bits are ordered by their index. Bisection finds the largest chosen value, bit
    by bit. It needs sums along ``axes`` but no sort, which suits sharded arrays.
    """
    count = jnp.asarray(count, jnp.int32)

    def sum_(where: jax.Array) -> jax.Array:
        return jnp.sum(where, axes, jnp.int32, keepdims=True)

    def last(width: int, below: Any, count: jax.Array) -> jax.Array:
        """Returns the largest ``width``-bit number with fewer than ``count`` below."""

        def bit(i: jax.Array, found: jax.Array) -> jax.Array:
            larger = found | (np.uint32(1) << jnp.asarray(width - 1 - i, jnp.uint32))
            return jnp.where(sum_(below(larger)) < count, larger, found)

        none = jnp.zeros_like(sum_(bits), jnp.uint32)
        return lax.fori_loop(0, width, bit, none)

    index = row_major_index(bits.shape, axes[::-1])  # the first axis is the fastest
    limit = last(32, lambda x: bits < x, count)
    tied = bits == limit
    rest = count - sum_(bits < limit)
    size = math.prod(bits.shape[axis] for axis in axes)
    latest = last((size - 1).bit_length(), lambda x: tied & (index < x), rest)
    return (count > 0) & ((bits < limit) | (tied & (index <= latest)))


def _check_sparse(
    where: str, *, sparsity: Any, stddev: Any, axis: Any
) -> dict[str, Any]:
    return {
        "sparsity": check_fraction(where, "sparsity", sparsity),
        "stddev": check_number(where, "stddev", stddev, minimum=0.0),
        "axis": check_axes(where, "axis", axis),
    }


@dataclass(frozen=True, repr=False)
class Sparse(Initializer):
    """Normal, with the same number of zeros in every vector along ``axis``.

    A vector has n entries, and ceil(sparsity * n) of them, at random places, are zero.
    The other entries are N(0, stddev^2). So
    E|W_i|^2 = stddev^2 (1 - ceil(sparsity n) / n).

    Attributes:
        sparsity: Fraction of zeros in each vector, from 0 to 1.
        stddev: Standard deviation of the other entries, at least 0.
        axis: Axis or axes of each vector. The default is the inputs of each output in a
            shape ``(in, out)``; ``(0, 1, 2)`` is the same for
            ``(height, width, in, out)``.
        seed: Seed for calls without a key.

    Raises:
        ValueError: If ``sparsity`` is not from 0 to 1 or ``stddev`` is negative; in a
            call, if the shape has no such ``axis``.

    Example:
        >>> Sparse(0.5)(jax.random.key(0), (4, 3)).shape
        (4, 3)

    References:
        Martens, "Deep learning via Hessian-free optimization", 2010.
    """

    sparsity: float
    stddev: float = 0.01
    axis: Axes = -2
    seed: int | None = None

    function = staticmethod(sparse)
    check = staticmethod(_check_sparse)
    identifiers = ("sparse",)
    reads_layout = unless_axes_are_named
