"""Draws the leaves of one law on the CPU, in blocks of rows.

A row is some elements of a leaf, drawn from its key and the index of the first; a
block of rows serves leaves of every shape. Some blocks are drawn while others are
copied to their leaves, and each is drawn again where it was: touching fresh memory
takes as long as drawing what goes there.
"""

import concurrent.futures
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .._compat import read_config
from .._prng import UINT, threefry_rows
from .law import Law
from .memory import BLOCKS, Memory

ROW = 2**12  # elements; half a row is wasted on a leaf
_BLOCK = 2**7  # rows: enough to keep all threads busy, and in the cache
# Wider vectors than XLA's default, where the processor has them. Only the loop over
# bits uses them: XLA knows no log1p of that width.
_OPTIONS: Any = {"xla_cpu_prefer_vector_width": 512}


def lower_rows(laws: Sequence[Law]) -> Callable[[], Any]:
    """What compiles the program of a block of rows of these leaves."""
    law, rows = laws[0], _rows(laws)

    def draw(words: Any, starts: Any, factors: Any, *_: Any) -> list[jax.Array]:
        bits = threefry_rows(words, law.bit_width, starts, ROW)
        # Returned, so that XLA has one loop for them and one for what follows: a
        # loop over both is too long for the processor to overlap its iterations.
        return [law.values(bits, factors), bits]

    lowered = jax.jit(draw, donate_argnums=(3, 4), keep_unused=True).lower(
        jax.ShapeDtypeStruct((rows, 2), np.uint32),
        jax.ShapeDtypeStruct((rows,), np.uint32),
        jax.ShapeDtypeStruct((rows,), _factors(laws).dtype),
        *_blank(laws),
    )
    return functools.partial(lowered.compile, _OPTIONS)


def drawing_pool() -> concurrent.futures.Executor:
    """The threads that `start_rows` needs."""
    return concurrent.futures.ThreadPoolExecutor(BLOCKS)


def start_rows(
    laws: Sequence[Law],
    words: Sequence[Any],
    compiled: Any,
    memory: Memory,
    pool: concurrent.futures.Executor,
) -> Callable[[], list[jax.Array]]:
    """Draws the leaves of these laws and keys in the threads of a pool.

    Returns:
        What waits for them.
    """
    counts = _counts(laws)
    ends = np.cumsum(counts)
    total, rows = int(ends[-1]), _rows(laws)
    leaf = np.repeat(np.arange(len(laws)), counts)
    leaf = np.pad(leaf, (0, -total % rows), mode="edge")
    starts = (np.arange(len(leaf)) - (ends - counts)[leaf]).astype(np.uint32) * ROW
    keys, factors = np.array(words, np.uint32)[leaf], _factors(laws)[leaf]
    flat = memory.leaves([(law.size, law.dtype) for law in laws])
    firsts = iter(range(0, total, rows))
    wide = read_config("jax_enable_x64")

    def work() -> None:
        # A setting under a context manager is the thread's own.
        with jax.enable_x64(wide):
            block = memory.block(_blank(laws))
            for first in firsts:
                place = slice(first, first + rows)
                block = compiled(keys[place], starts[place], factors[place], *block)
                copy(first, np.asarray(block[0]).reshape(-1))
            memory.keep(block)

    def copy(first: int, elements: np.ndarray) -> None:
        last = min(first + rows, total)
        for i in range(leaf[first], leaf[last - 1] + 1):
            begin, end = max(first, ends[i] - counts[i]), min(last, ends[i])
            part = elements[(begin - first) * ROW : (end - first) * ROW]
            there = flat[i][starts[begin] :][: len(part)]
            there[:] = part[: len(there)]

    workers = [pool.submit(work) for _ in range(_at_once(laws))]

    def finish() -> list[jax.Array]:
        for worker in workers:
            worker.result()
        pairs = zip(flat, laws, strict=True)
        return jax.device_put([x.reshape(law.shape) for x, law in pairs])

    return finish


def bytes_beside(groups: Sequence[Sequence[Law]]) -> int:
    """Bytes of the blocks that exist at once beside the leaves of groups of laws."""
    blocks = [
        sum(x.nbytes for x in _blank(laws))
        for laws in filter(None, groups)
        for _ in range(_at_once(laws))
    ]
    return sum(sorted(blocks, reverse=True)[:BLOCKS])


def _counts(laws: Sequence[Law]) -> list[int]:
    """Rows of each leaf."""
    return [-(-law.size // ROW) for law in laws]


def _rows(laws: Sequence[Law]) -> int:
    """Rows of a block: where they are few, of each of as few blocks as it takes."""
    total = sum(_counts(laws))
    if total > 16 * _BLOCK:
        return _BLOCK  # so that large groups can share theirs
    return -(-total // -(-total // _BLOCK))


def _at_once(laws: Sequence[Law]) -> int:
    return min(BLOCKS, -(-sum(_counts(laws)) // _rows(laws)))


def _blank(laws: Sequence[Law]) -> list[np.ndarray]:
    """The values and the bits of a block before it is drawn."""
    shape = _rows(laws), ROW
    dtypes = laws[0].dtype, UINT[laws[0].bit_width]
    return [np.broadcast_to(np.zeros((), dtype), shape) for dtype in dtypes]


def _factors(laws: Sequence[Law]) -> np.ndarray:
    none = np.float32(0)
    return np.array([none if law.factor is None else law.factor for law in laws])
