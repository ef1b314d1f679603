"""The fused Threefry draws the same bits as JAX's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinit import _prng
from jaxinit._prng import fused

SHAPES = [(), (3, 0, 2), (7,), (2, 3, 5), (65537,), (300, 301)]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [*((shape, jnp.uint32) for shape in SHAPES),
     *((shape, dtype) for shape in SHAPES[3:5] for dtype in (jnp.uint8, jnp.uint16))],
)  # fmt: skip
@pytest.mark.parametrize("seed", [0, 2**31 + 5])
def test_bits_equal_jax(shape, dtype, seed):
    key = jax.random.key(seed)
    expected = jax.random.bits(key, shape, dtype)
    np.testing.assert_array_equal(jax.random.bits(fused(key), shape, dtype), expected)
    raw = jax.random.PRNGKey(seed)
    np.testing.assert_array_equal(jax.random.bits(fused(raw), shape, dtype), expected)


@pytest.mark.parametrize("shape", SHAPES[::2], ids=str)
def test_64_bits_equal_jax(shape):
    with jax.enable_x64(True):
        key = jax.random.key(3)
        expected = jax.random.bits(key, shape, jnp.uint64)
        got = jax.random.bits(fused(key), shape, jnp.uint64)
        assert got.dtype == jnp.uint64
        np.testing.assert_array_equal(got, expected)


def test_split_and_fold_in_equal_jax():
    key = jax.random.key(5)
    data = jax.random.key_data
    for make in (
        lambda k: jax.random.split(k, (3, 2)),
        lambda k: jax.random.fold_in(k, 17),
        lambda k: jax.random.split(jax.random.fold_in(k, 2**32 - 1))[1],
    ):
        np.testing.assert_array_equal(data(make(fused(key))), data(make(key)))


def test_without_partitionable_threefry_the_bits_are_jaxs():
    with jax.threefry_partitionable(False):
        key = jax.random.key(5)
        expected = jax.random.bits(key, (33, 5))
        np.testing.assert_array_equal(jax.random.bits(fused(key), (33, 5)), expected)
        with jax.threefry_partitionable(True):
            other = jax.random.bits(key, (33, 5))
    assert (np.asarray(expected) != np.asarray(other)).any()


def test_tensors_of_2_to_the_32_elements_use_jaxs_own_bits():
    """Traced only: 2^32 elements need a second counter word."""
    size = 2**32
    plain = jax.make_jaxpr(lambda k: jax.random.bits(fused(k), (size,)))(
        jax.random.key(0)
    )
    own = []
    original = jax.random.bits

    def spy(key, shape, dtype):
        own.append((str(jax.random.key_impl(key)), shape))
        return original(key, shape, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "bits", spy)
        jax.eval_shape(
            lambda k: _prng.threefry_bits(k, 32, (size,)), jax.random.PRNGKey(0)
        )
    assert own == [("threefry2x32", (size,))]
    assert plain.out_avals[0].shape == (size,)


def test_other_implementations_pass_unchanged():
    key = jax.random.key(0, impl="rbg")
    assert fused(key) is key
    twice = fused(fused(jax.random.key(0)))
    assert jax.random.key_impl(twice) == jax.random.key_impl(fused(jax.random.key(0)))


def test_vmapped_bits_equal_a_loop():
    keys = jax.random.split(jax.random.key(1), 4)
    mapped = jax.vmap(lambda k: jax.random.bits(fused(k), (9, 3)))(keys)
    looped = np.stack([jax.random.bits(k, (9, 3)) for k in keys])
    np.testing.assert_array_equal(mapped, looped)


def test_no_loop_over_rounds_is_compiled():
    """The program is one fusion; JAX's CPU lowering has a while loop."""
    f = jax.jit(lambda k: jax.random.bits(fused(k), (4096,)))
    text = f.lower(jax.random.key(0)).compile().as_text()
    assert " while(" not in text
