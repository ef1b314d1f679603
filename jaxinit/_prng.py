"""Threefry-2x32 with its 20 rounds unrolled, so that XLA fuses them.

On a CPU JAX lowers ``threefry2x32`` to a loop, which writes each group of rounds to
memory. This file implements the same generator as straight-line code, which XLA fuses
with the operations that consume the bits. Bits, seed, split, fold_in and counters are
those of JAX.

References:
    Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._compat import define_prng_impl, read_config, threefry_prng_impl

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
UINT = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32, 64: jnp.uint64}


def fused(key: jax.Array) -> jax.Array:
    """Returns a typed key that draws the same bits as ``key``.

    Args:
        key: One PRNG key, typed or raw.

    Returns:
        A typed key of the fused implementation if ``key`` is a Threefry-2x32 key, else
        ``key`` itself as a typed key.
    """
    if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.wrap_key_data(key)
    if str(jax.random.key_impl(key)) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=FUSED_THREEFRY)


def is_fused(key: jax.Array) -> bool:
    """True if ``key`` is a key of the fused implementation."""
    return str(key.dtype) == "key<jxi>"


def is_threefry(aval: Any) -> bool:
    """True if an abstract value is typed Threefry-2x32 keys, fused or JAX's own."""
    return str(aval.dtype) in ("key<fry>", "key<jxi>")


def _hash(key: Any, counter: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the two words of Threefry-2x32 at the 64-bit counters (0, counter)."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0 = jnp.broadcast_to(schedule[0], counter.shape)
    x1 = counter + schedule[1]
    for group in range(5):
        x0, x1 = _four_rounds(x0, x1, rotations=_ROTATIONS[group % 2])
        x0 = x0 + schedule[(group + 1) % 3]
        x1 = x1 + (schedule[(group + 2) % 3] + np.uint32(group + 1))
    return x0, x1


# jit traces this once for each shape and set of rotations, not five times.
@functools.partial(jax.jit, static_argnames="rotations")
def _four_rounds(
    x0: jax.Array, x1: jax.Array, *, rotations: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    for rotation in rotations:
        x0 = x0 + x1
        x1 = (x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))
        x1 = x0 ^ x1
    return x0, x1


def hash_words(key: tuple[Any, Any], counter: tuple[Any, Any]) -> tuple[Any, Any]:
    """Computes Threefry-2x32 of Python ints or uint64 arrays, on the host."""
    mask = 0xFFFFFFFF
    schedule = (key[0], key[1], key[0] ^ key[1] ^ int(_PARITY))
    x0, x1 = (counter[0] + key[0]) & mask, (counter[1] + key[1]) & mask
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = (x0 + x1) & mask
            x1 = ((x1 << rotation) & mask | x1 >> (32 - rotation)) ^ x0
        x0 = (x0 + schedule[(group + 1) % 3]) & mask
        x1 = (x1 + schedule[(group + 2) % 3] + group + 1) & mask
    return x0, x1


def row_major_index(
    shape: Sequence[int], axes: Sequence[int] | None = None
) -> jax.Array:
    """Returns the row-major index of each element of an array of ``shape``.

    The index is a sum of one iota per axis. So each device of a partitioned program
    computes only the part that it needs, which a reshaped flat iota would prevent.

    Args:
        shape: Shape of the array.
        axes: Axes that the index counts, the slowest first. None: all axes.
    """
    axes = range(len(shape)) if axes is None else axes
    index = jnp.zeros(shape, jnp.uint32)
    stride = math.prod(shape[axis] for axis in axes)
    for axis in axes:
        stride //= max(1, shape[axis])
        if shape[axis] > 1:
            step = lax.broadcasted_iota(jnp.uint32, shape, axis)
            index = index + step * np.uint32(stride)
    return index


def threefry_bits(
    words: jax.Array, bit_width: int, shape: tuple[int, ...], *, apart: bool = False
) -> jax.Array:
    """Draws the random bits of a whole array.

    Args:
        words: The two words of a Threefry-2x32 key.
        bit_width: 8, 16, 32 or 64.
        shape: Shape of the array.
        apart: Whether a barrier keeps the bits out of the fusion that consumes them.
    """
    size = math.prod(shape)
    if not read_config("jax_threefry_partitionable") or size >= 2**32:
        plain = jax.random.wrap_key_data(words, impl="threefry2x32")
        return jax.random.bits(plain, shape, UINT[bit_width])
    if size == 0:
        return jnp.zeros(shape, UINT[bit_width])
    index = row_major_index(shape)
    return bits_at((words[0], words[1]), index, bit_width, apart=apart)


def bits_at(
    words: tuple[Any, Any], index: jax.Array, bit_width: int, *, apart: bool = False
) -> jax.Array:
    """Draws the random bits of the elements at some row-major indices.

    Args:
        words: The two words of a Threefry-2x32 key, or arrays of them.
        index: Row-major index of each element, ``uint32``.
        bit_width: 8, 16, 32 or 64.
        apart: Whether a barrier keeps the bits out of the fusion that consumes them.
    """
    high, low = _hash(words, index)
    if apart:
        high, low = lax.optimization_barrier((high, low))
    if bit_width == 64:
        return (high.astype(jnp.uint64) << np.uint64(32)) | low.astype(jnp.uint64)
    return (high ^ low).astype(UINT[bit_width])


FUSED_THREEFRY = define_prng_impl(
    key_shape=threefry_prng_impl.key_shape,
    seed=threefry_prng_impl.seed,
    split=threefry_prng_impl.split,
    random_bits=threefry_bits,
    fold_in=threefry_prng_impl.fold_in,
    name="jaxinit_threefry2x32",
    tag="jxi",
)
