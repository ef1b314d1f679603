"""Digests of arrays, the same for every sharding and device.

Version 1. An array is read as 32-bit words. An element of up to 4 bytes is one word:
its bits, extended by zeros (int4 is read as int8, float4 as float8_e4m3fn). An element
of 8 bytes is two words, the low one first. In a complex element the real part is first.
Let w be word p = 0, 1, ... of the element at flat row-major index i. Then

    a = N(w ^ k),  b = M(a + k),  k = M(i + (p + 1) * 0x9e3779b9)

where M and N are two mixers, one-to-one on 32 bits. The digest is the sum of all a and
the sum of all b, each modulo 2**32. Sums do not depend on order, so each device sums
its own shard in one pass. A change of one word always changes the first sum. In an
array of more than 2**32 elements i is the index over the last axes only, as many as one
word can count. Then k is replaced by M(k ^ M(index over the leading axes)).

Digests find accidental changes. They do not protect against deliberate ones.
"""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._compat import may_transfer, x64_for
from .._prng import row_major_index

VERSION = 1
_COUNTED = 2**32  # most elements that one 32-bit index counts
_SMALL = 2**14  # elements; the digest of a smaller array is computed on the host


def digests(leaves: Sequence[Any]) -> list[str]:
    """Returns the digest of each array as 16 hexadecimal digits.

    In a job of several processes, each process that has a part of an array must call
    this function.

    Args:
        leaves: Arrays of any dtype, keys included, on any shardings.
    """
    with may_transfer(), jax.disable_jit(False):  # the setting is for other functions
        return _digests(leaves)


def _digests(leaves: Sequence[Any]) -> list[str]:
    plain = [_plain(leaf) for leaf in leaves]
    kinds = {_kind(x) for x in plain if not isinstance(x, np.ndarray)}
    # Lowered in this thread, because the settings of a context manager belong to it.
    todo = {kind: _lowered(*kind) for kind in kinds if kind not in _programs}

    def build(kind: Any) -> None:
        _programs[kind] = todo[kind].compile()

    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        list(pool.map(build, todo))
    finally:  # an interrupt waits for nothing
        pool.shutdown(wait=False, cancel_futures=True)
    sums = [_sums(x) if isinstance(x, np.ndarray) else _run(x) for x in plain]
    return [f"{int(a):08x}{int(b):08x}" for a, b in sums]


_programs: dict[Any, Any] = {}


def _plain(leaf: Any) -> Any:
    """Returns a NumPy array to digest on the host, or a JAX array for its devices."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)
    if jnp.issubdtype(leaf.dtype, jnp.integer) and jnp.iinfo(leaf.dtype).bits < 8:
        leaf = leaf.astype(jnp.int8)
    elif jnp.issubdtype(leaf.dtype, jnp.floating) and jnp.finfo(leaf.dtype).bits < 8:
        leaf = leaf.astype(jnp.float8_e4m3fn)
    if not isinstance(leaf, jax.Array):
        leaf = np.asarray(leaf, leaf.dtype.newbyteorder("="))
    elif not leaf.is_fully_addressable:
        return leaf
    if leaf.size < _SMALL:
        return np.asarray(leaf)
    with x64_for(leaf.dtype):
        return jnp.asarray(leaf)


def _kind(x: jax.Array) -> Any:
    return x.shape, x.dtype, x.sharding


def _lowered(shape: tuple[int, ...], dtype: Any, sharding: Any) -> Any:
    with x64_for(dtype):
        aval = jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        return jax.jit(_sums).lower(aval)


def _run(x: jax.Array) -> Any:
    with x64_for(x.dtype):
        return _programs[_kind(x)](x)


def _sums(x: Any) -> tuple[Any, Any]:
    """Returns both sums of a NumPy array, or of a tracer inside jit."""
    on_host = isinstance(x, np.ndarray)
    x = x.reshape(-1) if on_host else x
    split = _split(x.shape)
    index = _index(x.shape, range(split, x.ndim), on_host)
    sums: Any = np.zeros(2, np.uint32) if on_host else jnp.zeros(2, jnp.uint32)
    for p, words in enumerate(_planes(x)):
        k = _mix(index + np.uint32((p + 1) * 0x9E3779B9 % 2**32))
        if split:
            k = _mix(k ^ _mix(_index(x.shape, range(split), on_host)))
        a = _other_mix(words ^ k)
        b = _mix(a + k)
        if on_host:
            sums += np.stack([a.sum(dtype=np.uint32), b.sum(dtype=np.uint32)])
        else:
            # One reduction is one pass over the array. Two would store k and a.
            zero, axes = np.uint32(0), tuple(range(x.ndim))
            sums += jnp.stack(lax.reduce((a, b), (zero, zero), _add, axes))
    return sums[0], sums[1]


def _add(x: Any, y: Any) -> Any:
    return x[0] + y[0], x[1] + y[1]


def _planes(x: Any) -> list[Any]:
    """Returns the words of all elements, one array for each word of an element."""
    if x.dtype.kind == "c":
        return [*_planes(x.real), *_planes(x.imag)]
    if x.dtype == np.bool_:
        return [x.astype(np.uint32)]
    bits = x.view(f"uint{8 * x.dtype.itemsize}")
    if bits.dtype.itemsize < 8:
        return [bits.astype(np.uint32)]
    return [bits.astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32)]


def _split(shape: Sequence[int]) -> int:
    """Returns the number of leading axes that have an index of their own."""
    return next(k for k in range(len(shape) + 1) if math.prod(shape[k:]) <= _COUNTED)


def _index(shape: Sequence[int], axes: Sequence[int], on_host: bool) -> Any:
    """Returns the row-major index over ``axes``; on the host the array is flat."""
    if on_host:
        return np.arange(shape[0], dtype=np.uint32)
    return row_major_index(shape, axes)


def _mix(h: Any) -> Any:
    """Mixes by the finalizer of MurmurHash3."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def _other_mix(h: Any) -> Any:
    """Mixes by "lowbias32", from Chris Wellons's search for integer hashes."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B)
    return h ^ (h >> np.uint32(16))
