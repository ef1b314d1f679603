"""Memory of leaves that a plan draws on the CPU, drawn into again once they are gone.

Fresh memory costs about as much as the values that go there: the system zeroes it,
one page of 4 kB at a time.
"""

import collections
import gc
import mmap
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

_LEAST = 2**16  # bytes of pages of their own
_ALIGNMENT = 64  # bytes: JAX copies what is aligned to less


class Memory:
    """Where the leaves of a plan lie, and what is left of those that were dropped.

    The system may take what is left for other uses, and does so when it runs short.

    Attributes:
        blocks: By program, the arrays in which it draws what is copied to leaves; a
            few MB each.
    """

    def __init__(self) -> None:
        """Nothing is left yet."""
        self.blocks: dict[Any, list[Any]] = collections.defaultdict(list)
        self._left: dict[int, list[mmap.mmap]] = collections.defaultdict(list)

    def empty(self, sizes: Sequence[tuple[int, np.dtype[Any]]]) -> list[np.ndarray]:
        """Arrays of one axis and any values, which JAX need not copy."""
        gc.collect(0)  # when JAX lets go of what was dropped
        return [self._empty(size, dtype) for size, dtype in sizes]

    def _empty(self, size: int, dtype: np.dtype[Any]) -> np.ndarray:
        count = size * dtype.itemsize
        if count < _LEAST:
            raw = np.empty(count + _ALIGNMENT, np.uint8)
            return raw[-raw.ctypes.data % _ALIGNMENT :][:count].view(dtype)
        # NumPy would ask for huge pages, from 4 MB on. A virtual machine that returns
        # free memory to its host may wait for each, far longer than for small ones.
        try:
            pages = self._left[count].pop()
        except IndexError:
            pages = mmap.mmap(-1, count, access=mmap.ACCESS_COPY)
        array = np.frombuffer(pages, dtype)
        gone = weakref.finalize(array, self._give_back, weakref.ref(self), pages)
        gone.atexit = False
        return array

    @staticmethod
    def _give_back(memory: "weakref.ref[Memory]", pages: mmap.mmap) -> None:
        """Keeps the pages of an array that is gone, unless its plan is gone, too."""
        owner = memory()
        if owner is not None and hasattr(mmap, "MADV_FREE"):
            pages.madvise(mmap.MADV_FREE)
            owner._left[len(pages)].append(pages)
