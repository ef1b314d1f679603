"""Draws the leaves of one law on the CPU, in rows.

A row is some elements of a leaf, drawn from its key and the index of the first. A
large leaf is one row, so that leaves of one size share a program whatever their
shapes. A small one is several, and a block of rows serves leaves of every size:
XLA's threads compute a block while others are copied to their leaves, whose memory
NumPy asks for in huge pages.
"""

import collections
import concurrent.futures
import os
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .law import Law

ROW = 2**12  # elements of a small leaf's row; half of one is wasted on a leaf
_BLOCK = 2**8  # rows: enough to keep all threads busy, and in the cache
_AHEAD = 4  # blocks that are computed or copied at once
_ALIGNMENT = 64  # bytes: JAX copies what is aligned to less


def lower_rows(laws: Sequence[Law], row: int) -> Any:
    """The program of a block of rows of these leaves, to compile."""
    rows = _block(sum(_counts(laws, row)), row)
    dtype = _factors(laws).dtype
    # The leaves of the commonest shape need not be shaped again.
    common, _ = collections.Counter(law.shape for law in laws).most_common(1)[0]

    def draw(words: Any, starts: Any, factors: Any) -> jax.Array:
        drawn = laws[0].rows(words, starts, factors, row)
        return drawn.reshape(common) if row > ROW else drawn

    return jax.jit(draw).lower(
        jax.ShapeDtypeStruct((rows, 2), jnp.uint32),
        jax.ShapeDtypeStruct((rows,), jnp.uint32),
        jax.ShapeDtypeStruct((rows,), dtype),
    )


def draw_rows(
    laws: Sequence[Law], row: int, words: Sequence[Any], compiled: Any
) -> list[jax.Array]:
    """The leaves of these laws and keys, from the compiled program of a block."""
    if row > ROW:
        return _large(laws, words, compiled)
    return _small(laws, row, words, compiled)


def _large(laws: Sequence[Law], words: Sequence[Any], compiled: Any) -> list[jax.Array]:
    """A row each; NumPy shapes the memory of those not of the program's shape."""
    factors = _factors(laws)
    start = jax.device_put(np.zeros(1, np.uint32))
    shared = {x.item(): jax.device_put(x[None]) for x in np.unique(factors)}
    operands = zip(words, factors, strict=True)
    drawn = [compiled(w[None], start, shared[x.item()]) for w, x in operands]
    return [
        x if x.shape == law.shape else jax.device_put(np.asarray(x).reshape(law.shape))
        for x, law in zip(drawn, laws, strict=True)
    ]


def _small(
    laws: Sequence[Law], row: int, words: Sequence[Any], compiled: Any
) -> list[jax.Array]:
    """Some rows each, copied from blocks of rows."""
    counts = _counts(laws, row)
    ends = np.cumsum(counts)
    total = int(ends[-1])
    rows = _block(total, row)
    leaf = np.repeat(np.arange(len(laws)), counts)
    leaf = np.pad(leaf, (0, -total % rows), mode="edge")
    starts = (np.arange(len(leaf)) - (ends - counts)[leaf]).astype(np.uint32) * row
    keys, factors = np.array(words, np.uint32)[leaf], _factors(laws)[leaf]
    flat = [_empty(law.size, compiled.out_info.dtype) for law in laws]

    def block(first: int) -> jax.Array:
        place = slice(first, first + rows)
        return compiled(keys[place], starts[place], factors[place])

    def copy(first: int, made: jax.Array) -> None:
        elements, last = np.asarray(made).reshape(-1), min(first + rows, total)
        for i in range(leaf[first], leaf[last - 1] + 1):
            begin, end = max(first, ends[i] - counts[i]), min(last, ends[i])
            part = elements[(begin - first) * row : (end - first) * row]
            there = flat[i][starts[begin] :][: len(part)]
            there[:] = part[: len(there)]

    _overlap(copy, block, range(0, total, rows))
    pairs = zip(flat, laws, strict=True)
    return jax.device_put([x.reshape(law.shape) for x, law in pairs])


def _overlap(copy: Any, block: Any, firsts: Sequence[int]) -> None:
    """Copies each block while the next ones are computed."""
    waiting: collections.deque[Any] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in firsts:
            waiting.append(pool.submit(copy, first, block(first)))
            if len(waiting) > _AHEAD:
                waiting.popleft().result()
        for copied in waiting:
            copied.result()


def bytes_beside(laws: Sequence[Law], row: int, compiled: Any) -> int:
    """Bytes of the blocks that exist at once beside the leaves."""
    if row > ROW:
        return 0
    total = sum(_counts(laws, row))
    rows = _block(total, row)
    blocks = min(-(-total // rows), 1 + _AHEAD)
    return blocks * rows * row * compiled.out_info.dtype.itemsize


def _counts(laws: Sequence[Law], row: int) -> list[int]:
    return [-(-law.size // row) for law in laws]


def _factors(laws: Sequence[Law]) -> np.ndarray:
    none = np.float32(0)
    return np.array([none if law.factor is None else law.factor for law in laws])


def _block(total: int, row: int) -> int:
    """Rows of each of as few blocks as it takes."""
    most = 1 if row > ROW else _BLOCK
    return -(-total // -(-total // most))


def _empty(size: int, dtype: np.dtype[Any]) -> np.ndarray:
    raw = np.empty(size * dtype.itemsize + _ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT
    return raw[start : start + size * dtype.itemsize].view(dtype)
