"""Draws blocks of rows and copies them to their leaves."""

import collections
import concurrent.futures
import functools
import math
import mmap
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Sharding

from ...._compat import Place, may_transfer, read_config
from ...._prng import UINT, bits_at
from ...ir import Program, Value
from ...partition import Component
from ..base import Factory, Member, temporary_bytes, wanted
from .draws import ElementwiseDraw, find_draw

_ROW = 2**12  # elements; half a row is wasted on a leaf
_BLOCK = 2**7  # rows: enough to keep all threads busy, and in the cache
_THREADS = 3  # two draw while one copies
_ALIGNMENT = 64  # bytes: JAX copies what is aligned to less
_PAGES = 2**16  # bytes: enough for pages of their own
# Wider vectors than XLA's default, where the processor has them. Only the loop over
# bits uses them: XLA knows no log1p of that width.
_OPTIONS: Any = {"xla_cpu_prefer_vector_width": 512}


def claim(
    component: Component,
    program: Program,
    shardings: Mapping[Value, Sharding | None],
    place: Place,
) -> tuple[Hashable, Factory] | None:
    """Claims an elementwise draw of a leaf that lies on the one CPU."""
    if jax.default_backend() != "cpu" or place.device is not None:
        return None
    if any(sharding is not None for sharding in wanted(component, shardings)):
        return None
    draw = find_draw(component, program.avals)
    if draw is None or (draw.keys > _BLOCK and _part(draw) < _ROW // 2):
        return None  # most of the rows would be wasted
    return draw.signature, functools.partial(Rows, program)


class Rows:
    """One program for a block of rows, run until all members are drawn."""

    def __init__(self, program: Program, members: Sequence[Component]):
        """Prepares the programs of components that are draws of one signature."""
        first_of = {c.signature: c for c in members}
        found = {s: find_draw(c, program.avals) for s, c in first_of.items()}
        self._draws = {s: draw for s, draw in found.items() if draw is not None}
        draws = [self._draws[c.signature] for c in members]
        total = sum(draw.keys * _count(draw) for draw in draws)
        blocks = -(-total // _BLOCK)
        self._rows = -(-total // blocks)  # of a block: as few as these blocks need
        self._threads = min(_THREADS, blocks)
        self._draw = next(iter(self._draws.values()))
        dtypes = self._draw.dtype, UINT[self._draw.bits.params["bit_width"]]
        blank = (np.broadcast_to(np.zeros((), x), (self._rows, _ROW)) for x in dtypes)
        self._block = list(blank)  # before it is drawn: values and bits

    def lower(self) -> Callable[[], Any]:
        """Traces the program of a block."""
        draw = functools.partial(_draw, self._draw)
        # Drawn where the block before was: fresh memory costs as much as a draw.
        jitted = jax.jit(draw, donate_argnums=(3, 4))
        lowered = jitted.lower(
            jax.ShapeDtypeStruct((self._rows, 2), np.uint32),
            jax.ShapeDtypeStruct((self._rows,), np.uint32),
            jax.ShapeDtypeStruct((self._rows,), self._draw.factor.dtype),
            *self._block,
        )
        return functools.partial(lowered.compile, _OPTIONS)

    def start(
        self, compiled: Any, members: Sequence[Member]
    ) -> Callable[[], list[list[jax.Array]]]:
        """Draws the members in threads of their own."""
        draws = [self._draws[member.component.signature] for member in members]
        flat = [_empty(draw) for draw in draws]
        # A part is what one key draws: a leaf, or one layer of it.
        each = [draw.keys for draw in draws]
        pairs = zip(flat, each, strict=True)
        parts = [part for x, n in pairs for part in x.reshape(n, -1)]
        counts = np.repeat(list(map(_count, draws)), each)
        ends = np.cumsum(counts)
        total, rows = int(ends[-1]), self._rows
        of_row = np.repeat(np.arange(len(parts)), counts)
        of_row = np.pad(of_row, (0, -total % rows), mode="edge")
        starts = (np.arange(len(of_row)) - (ends - counts)[of_row]) * _ROW
        starts = starts.astype(np.uint32)
        words = [np.reshape(m.operands[0], (-1, 2)) for m in members]
        keys = np.concatenate(words).astype(np.uint32)[of_row]
        factors = np.repeat([draw.factor for draw in draws], each)[of_row]
        firsts = iter(range(0, total, rows))
        wide = read_config("jax_enable_x64")

        def work() -> None:
            # A setting under a context manager is the thread's own.
            with jax.enable_x64(wide), may_transfer():
                block = self._block
                for first in firsts:
                    here = slice(first, first + rows)
                    block = compiled(keys[here], starts[here], factors[here], *block)
                    copy(first, np.asarray(block[0]).reshape(-1))

        def copy(first: int, elements: np.ndarray) -> None:
            last = min(first + rows, total)
            for i in range(of_row[first], of_row[last - 1] + 1):
                begin, end = max(first, ends[i] - counts[i]), min(last, ends[i])
                part = elements[(begin - first) * _ROW : (end - first) * _ROW]
                there = parts[i][starts[begin] :][: len(part)]
                there[:] = part[: len(there)]

        pool = concurrent.futures.ThreadPoolExecutor(self._threads)
        workers = [pool.submit(work) for _ in range(self._threads)]
        pool.shutdown(wait=False)

        def finish() -> list[list[jax.Array]]:
            try:
                for worker in workers:
                    worker.result()
            finally:
                collections.deque(firsts, maxlen=0)  # after an interrupt none is drawn
            pairs = zip(flat, draws, strict=True)
            made = jax.device_put([x.reshape(draw.shape) for x, draw in pairs])
            return [[x] for x in made]

        return finish

    def temporary_bytes(self, compiled: Any) -> int:
        """The blocks that exist at once."""
        block = sum(x.nbytes for x in self._block)
        return self._threads * (block + temporary_bytes(compiled))

    def note(self) -> str:
        """Nothing."""
        return ""


def _draw(
    draw: ElementwiseDraw, words: Any, starts: Any, factors: Any, *before: Any
) -> list[jax.Array]:
    """A block and its bits; row i is elements of the part of key i, from start i."""
    index = lax.broadcasted_iota(np.uint32, (len(starts), _ROW), 1)
    pair = words[:, :1], words[:, 1:]
    bits = bits_at(pair, starts[:, None] + index, draw.bits.params["bit_width"])
    # Bits are returned, so that XLA has one loop for them and one for what follows: a
    # loop over both is too long for the processor to overlap its iterations.
    drawn = draw.values(bits, factors), bits
    # Jit donates no argument that is not read, and the barrier reads the block before.
    return list(lax.optimization_barrier((*drawn, *before))[:2])


def _part(draw: ElementwiseDraw) -> int:
    """Elements that one key draws."""
    return math.prod(draw.shape) // draw.keys


def _count(draw: ElementwiseDraw) -> int:
    """Rows of a part."""
    return -(-_part(draw) // _ROW)


def _empty(draw: ElementwiseDraw) -> np.ndarray:
    """The elements of a leaf before they are drawn, where JAX need not copy them."""
    count = math.prod(draw.shape) * draw.dtype.itemsize
    if count >= _PAGES:
        # NumPy would ask for huge pages. A virtual machine that returns free memory to
        # its host may wait for each, far longer than for small ones.
        pages = mmap.mmap(-1, count, access=mmap.ACCESS_COPY)  # private
        return np.frombuffer(pages, draw.dtype)
    raw = np.empty(count + _ALIGNMENT, np.uint8)
    return raw[-raw.ctypes.data % _ALIGNMENT :][:count].view(draw.dtype)
