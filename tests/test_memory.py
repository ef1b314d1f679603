"""Memory of leaves: apart from each other, and taken over without a copy."""

import mmap

import jax
import numpy as np
import pytest

from jaxinit.model import memory

SIZES = [3, 2**20, 1, 5_000_000, 17, 1000, 3_000_001, 2]


@pytest.mark.parametrize("slow", [0.0, 1e9])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_arrays_are_apart(slow, dtype, monkeypatch):
    monkeypatch.setattr(memory, "_SLOW", slow)
    arrays = memory.empty_arrays(SIZES, np.dtype(dtype))
    assert [x.shape for x in arrays] == [(n,) for n in SIZES]
    for i, x in enumerate(arrays):
        assert x.dtype == dtype
        x[:] = i
    for i, x in enumerate(arrays):
        assert (x == i).all()


def test_where_there_are_no_huge_pages(monkeypatch):
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    test_arrays_are_apart(1.0, "float32", monkeypatch)


def test_slow_pages_are_not_asked_for_again(monkeypatch):
    asked: list[bool] = []
    allocate = memory._allocate

    def recorded(count: int, huge: bool):
        asked.append(huge)
        return allocate(count, huge)

    monkeypatch.setattr(memory, "_allocate", recorded)
    monkeypatch.setattr(memory, "_SLOW", 0.0)
    memory.empty_arrays([3_000_000] * 5, np.dtype("float32"))
    assert asked == [True] + [False] * (len(asked) - 1) and len(asked) == 5


def test_jax_takes_it_over():
    for x in memory.empty_arrays(SIZES, np.dtype("float32")):
        x[:] = 1
        assert jax.device_put(x).unsafe_buffer_pointer() == x.ctypes.data
