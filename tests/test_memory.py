"""Leaves of the CPU lie where dropped ones lay, and nowhere else."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
from jaxinit.planning.memory import Memory
from jaxinit.planning.rows import ROW
from plans import KEY, assert_same

OTHER = jax.random.key(5)
SHAPES = [(256, 128), (128, 256), (64, 8), (512, 300)]


def init(key):
    keys = jax.random.split(key, len(SHAPES))
    he_normal = jax.nn.initializers.he_normal()
    return [he_normal(k, s) for k, s in zip(keys, SHAPES, strict=True)]


@jax.jit
def slow(x):
    y = jnp.ones((256, 64))
    return jax.lax.fori_loop(0, 300, lambda _, y: jnp.sin(x.T @ (x @ y)), y)


@pytest.fixture
def planned():
    return jaxinit.plan(init, KEY)


def places(leaves):
    return {x.unsafe_buffer_pointer() for x in leaves if x.size > 10_000}


def test_dropped_leaves_are_drawn_over(planned):
    first = planned(KEY)
    before = places(first)
    del first
    second = planned(OTHER)
    assert places(second) == before
    assert_same(second, jax.jit(init)(OTHER))


def test_leaves_and_their_views_stay_as_they_are(planned):
    expected = [np.array(x) for x in jax.jit(init)(KEY)]
    kept = planned(KEY)
    before = places(kept)
    views = [np.asarray(x) for x in kept[:2]]
    rows = np.from_dlpack(kept[3])[3:]
    pending = slow(kept[1])  # runs while the leaf is dropped
    del kept
    for _ in range(3):
        other = planned(OTHER)
        assert not places(other) & before
        del other
    for view, x in zip(views, expected, strict=False):
        np.testing.assert_array_equal(view, x)
    np.testing.assert_array_equal(rows, expected[3][3:])
    np.testing.assert_array_equal(pending, slow(expected[1]))


def test_leaves_outlive_their_plan():
    planned = jaxinit.plan(init, KEY)
    made = planned(KEY)
    del planned
    again = jaxinit.init(init, OTHER)
    assert not places(made) & places(again)
    assert_same(made, jax.jit(init)(KEY))


def test_no_more_is_kept_than_a_call_needs(planned):
    several = [planned(KEY) for _ in range(4)]
    held = set().union(*map(places, several))
    del several
    again = [planned(OTHER) for _ in range(2)]
    assert places(again[0]) <= held
    assert len(planned._memory._left[SHAPES[0][0] * SHAPES[0][1] * 4]) == 0


def test_what_a_plan_holds_goes_with_it():
    planned = jaxinit.nnx.plan(lambda rngs: nnx.Linear(8, 4, rngs=rngs), nnx.Rngs(0))
    planned(nnx.Rngs(1))
    gone = weakref.ref(planned)
    gc.disable()
    try:
        del planned
        assert gone() is None
    finally:
        gc.enable()


def test_constants_can_be_donated():
    table = jnp.arange(3.0)
    planned = jaxinit.plan(lambda key: (table, jax.random.normal(key, (2,))), KEY)
    first, second = planned(KEY), planned(KEY)
    first[0].delete()
    for made in (second, planned(OTHER)):
        np.testing.assert_array_equal(made[0], table)


def test_locked_memory_is_not_kept():
    class Locked(bytes):
        def madvise(self, advice):
            raise OSError("Invalid argument")

    memory = Memory([7])
    memory._give_back(weakref.ref(memory), Locked(7))
    assert not memory._left[7]


def test_blocks_are_counted():
    planned = jaxinit.plan(init, KEY)
    assert planned.memory()["temporary"] == 0
    rows = sum(-(-n * m // ROW) for n, m in SHAPES)  # of one block: values and bits
    assert planned.compile().memory()["temporary"] >= 2 * 4 * ROW * rows
