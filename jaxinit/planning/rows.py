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
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._compat import default_place, read_config
from .._prng import UINT, threefry_rows
from .law import Law
from .memory import BLOCKS, Memory

ROW = 2**12  # elements; half a row is wasted on a leaf
_BLOCK = 2**7  # rows: enough to keep all threads busy, and in the cache
# Wider vectors than XLA's default, where the processor has them. Only the loop over
# bits uses them: XLA knows no log1p of that width.
# Level 3 takes as long again to compile a loop over pairs, and makes it no faster.
_OPTIONS: Any = {
    "xla_cpu_prefer_vector_width": 512,
    "xla_backend_optimization_level": 2,
}


def lower_rows(laws: Sequence[Law]) -> Callable[[], Any]:
    """What compiles the program of a block of rows of these leaves."""
    draw = functools.partial(_draw_pairs if _in_pairs(laws) else _draw, laws[0])
    rows = _rows(laws)
    lowered = jax.jit(draw, donate_argnums=(3, 4), keep_unused=True).lower(
        jax.ShapeDtypeStruct((rows, 2), np.uint32),
        jax.ShapeDtypeStruct((rows,), np.uint32),
        jax.ShapeDtypeStruct((rows,), _factors(laws).dtype),
        *_blank(laws),
    )
    return functools.partial(lowered.compile, _OPTIONS)


def _draw(law: Law, words: Any, starts: Any, factors: Any, *_: Any) -> list[jax.Array]:
    """The values of a block, and its bits."""
    bits = threefry_rows(words, law.bit_width, starts, ROW)
    # Returned, so that XLA has one loop for them and one for what follows: a loop
    # over both is too long for the processor to overlap its iterations.
    return [law.values(bits, factors), bits]


def _draw_pairs(
    law: Law, words: Any, starts: Any, factors: Any, *_: Any
) -> list[jax.Array]:
    """The same of 32 bits, those of two rows in the parts of complex numbers.

    Each round of Threefry waits for the one before. A loop that hashes two counters at
    once is faster, and a complex number is the one way to have it give two results.
    """
    halves = zip(jnp.split(words, 2), jnp.split(starts, 2), strict=True)
    bits = [threefry_rows(keys, 32, firsts, ROW) for keys, firsts in halves]
    pairs = lax.complex(*(lax.bitcast_convert_type(x, np.float32) for x in bits))
    # Apart, or XLA would hash again for each of them. A concatenation would be slower,
    # and values in pairs would not be the same: LLVM moves operations past the pairing.
    apart = jnp.broadcast_to(lax.optimization_barrier(pairs), (2, *pairs.shape))
    is_first = lax.broadcasted_iota(np.int32, apart.shape, 0) == 0
    parts = lax.select(is_first, apart.real, apart.imag)
    unpaired = lax.bitcast_convert_type(parts, np.uint32).reshape(-1, ROW)
    return [law.values(unpaired, factors), pairs]


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
    wide, place = read_config("jax_enable_x64"), default_place()
    # Pairs of bits, as floats, may be anything.
    nans, infs = (
        read_config(f"jax_debug_{what}") and not _in_pairs(laws)
        for what in ("nans", "infs")
    )

    def work() -> None:
        # A setting under a context manager is the thread's own.
        with jax.enable_x64(wide), jax.debug_nans(nans), jax.debug_infs(infs):
            block = memory.block(_blank(laws), place)
            for first in firsts:
                here = slice(first, first + rows)
                block = compiled(keys[here], starts[here], factors[here], *block)
                copy(first, np.asarray(block[0]).reshape(-1))
            memory.keep(block, place)

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
    if _are_many(laws):
        return _BLOCK  # so that large groups can share theirs
    total = sum(_counts(laws))
    return -(-total // -(-total // _BLOCK))


def _are_many(laws: Sequence[Law]) -> bool:
    return sum(_counts(laws)) > 16 * _BLOCK


def _in_pairs(laws: Sequence[Law]) -> bool:
    """Whether the program that takes longer to compile is worth it."""
    return laws[0].bit_width == 32 and _are_many(laws)


def _at_once(laws: Sequence[Law]) -> int:
    return min(BLOCKS, -(-sum(_counts(laws)) // _rows(laws)))


def _blank(laws: Sequence[Law]) -> list[np.ndarray]:
    """The values and the bits of a block before it is drawn."""
    rows, width = _rows(laws), laws[0].bit_width
    bits = (rows // 2, np.complex64) if _in_pairs(laws) else (rows, UINT[width])
    kinds = (rows, laws[0].dtype), bits
    return [np.broadcast_to(np.zeros((), dtype), (n, ROW)) for n, dtype in kinds]


def _factors(laws: Sequence[Law]) -> np.ndarray:
    none = np.float32(0)
    return np.array([none if law.factor is None else law.factor for law in laws])
