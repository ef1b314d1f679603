"""Memory of leaves that a plan draws on the CPU, drawn into again once they are gone.

Fresh memory costs about as much as the values that go there: the system zeroes it,
one page of 4 kB at a time.
"""

import collections
import gc
import mmap
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np

BLOCKS = 3  # drawn at once: two while one is copied to its leaves
_LEAST = 2**16  # bytes of pages of their own
_ALIGNMENT = 64  # bytes: JAX copies what is aligned to less


class Memory:
    """Where the leaves of a plan lie, and what is left of those that were dropped.

    The system may take what is left for other uses, and does so when it runs short.
    """

    def __init__(self, sizes: Iterable[int]) -> None:
        """Of leaves of so many bytes: no more is kept than one call needs."""
        self._wanted = collections.Counter(sizes)
        self._awaited = False
        self._left: dict[int, list[mmap.mmap]] = collections.defaultdict(list)
        self._blocks: dict[Any, collections.deque[list[jax.Array]]] = (
            collections.defaultdict(lambda: collections.deque(maxlen=BLOCKS))
        )

    def leaves(self, sizes: Sequence[tuple[int, np.dtype[Any]]]) -> list[np.ndarray]:
        """Arrays of one axis and any values, which JAX need not copy."""
        self._awaited = True
        gc.collect(0)  # when JAX lets go of what was dropped
        self._awaited = False
        return [self._leaf(size, dtype) for size, dtype in sizes]

    def block(self, blank: Sequence[np.ndarray], place: Any) -> list[jax.Array]:
        """Arrays of these shapes and dtypes, and any values, at a place."""
        try:
            kept = self._blocks[place].pop()
        except IndexError:
            return jax.device_put(list(blank))
        kinds = [[(x.shape, x.dtype) for x in block] for block in (kept, blank)]
        return kept if kinds[0] == kinds[1] else jax.device_put(list(blank))

    def keep(self, block: list[jax.Array], place: Any) -> None:
        """Keeps a block for later."""
        self._blocks[place].append(block)

    def _leaf(self, size: int, dtype: np.dtype[Any]) -> np.ndarray:
        count = size * dtype.itemsize
        if count < _LEAST or not hasattr(mmap, "MADV_FREE"):
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
        """Keeps the pages of an array that is gone, unless nobody wants them."""
        owner, count = memory(), len(pages)
        if owner is None or len(owner._left[count]) >= owner._wanted[count]:
            return
        try:
            if not owner._awaited:  # for a leaf that is about to be drawn
                pages.madvise(mmap.MADV_FREE)
        except OSError:  # where memory is locked
            return
        owner._left[count].append(pages)
