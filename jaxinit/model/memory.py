"""Memory of arrays on the CPU, in huge pages where these are cheap.

Touching fresh memory in pages of 4 kB takes about as long as drawing the numbers
that fill it; in huge pages, a fourth of that. But a virtual machine that returns
free memory to its host may wait for each of them, many times longer.
"""

import mmap
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

_HUGE_PAGE = 2**21  # bytes
_SLOW = 1e-3  # seconds; a huge page at hand takes 0.2 ms
_SHARED = 2**24  # bytes of small arrays that lie together, as long as one is in use
_ALIGNMENT = 64  # bytes: JAX copies what is aligned to less


def empty_arrays(sizes: Sequence[int], dtype: np.dtype[Any]) -> list[np.ndarray]:
    """Flat arrays of so many elements, which JAX need not copy."""
    rooms = [-(-size * dtype.itemsize // _ALIGNMENT) * _ALIGNMENT for size in sizes]
    made: list[np.ndarray] = []
    huge = True
    while len(made) < len(sizes):
        ends = np.cumsum(rooms[len(made) :])
        ends = ends[: max(1, np.searchsorted(ends, _SHARED, "right"))]
        memory, huge = _allocate(int(ends[-1]), huge)
        for part in np.split(memory, ends[:-1]):
            made.append(part.view(dtype)[: sizes[len(made)]])
    return made


def _allocate(count: int, huge: bool) -> tuple[np.ndarray, bool]:
    """So many bytes, in huge pages if wanted; and whether these are still cheap."""
    if count < _HUGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return _aligned(np.empty(count + _ALIGNMENT, np.uint8), count, _ALIGNMENT), huge
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    pages = mmap.mmap(-1, count + _HUGE_PAGE, flags)
    memory = _aligned(np.frombuffer(pages, np.uint8), count, _HUGE_PAGE)
    if huge:
        pages.madvise(mmap.MADV_HUGEPAGE)
        start = time.perf_counter()
        memory[0] = 0
        huge = time.perf_counter() - start < _SLOW
    if not huge:
        pages.madvise(mmap.MADV_NOHUGEPAGE)
    return memory, huge


def _aligned(raw: np.ndarray, count: int, boundary: int) -> np.ndarray:
    return raw[-raw.ctypes.data % boundary :][:count]
