"""Leaves of the CPU lie where dropped ones lay, and nowhere else."""

import jax
import numpy as np
import pytest

import jaxinit
from plans import KEY, assert_same

OTHER = jax.random.key(5)
SHAPES = [(256, 128), (128, 256), (64, 8), (512, 300)]


def init(key):
    keys = jax.random.split(key, len(SHAPES))
    he_normal = jax.nn.initializers.he_normal()
    return [he_normal(k, s) for k, s in zip(keys, SHAPES, strict=True)]


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
    del kept
    for _ in range(3):
        other = planned(OTHER)
        assert not places(other) & before
        del other
    for view, x in zip(views, expected, strict=False):
        np.testing.assert_array_equal(view, x)
    np.testing.assert_array_equal(rows, expected[3][3:])


def test_leaves_outlive_their_plan():
    planned = jaxinit.plan(init, KEY)
    made = planned(KEY)
    del planned
    again = jaxinit.init(init, OTHER)
    assert not places(made) & places(again)
    assert_same(made, jax.jit(init)(KEY))
