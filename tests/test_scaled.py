"""Scaled, DepthScaled, Normalized: factors, and lengths of vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxinit
from cases import NARROW, ulps

KEY = jax.random.key(11)
HE = jaxinit.HeNormal()


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_scaled_is_the_factor_times_the_same_draw(dtype):
    expected = np.asarray(HE(KEY, (30, 20), dtype)) * np.float32(-0.3)
    got = jaxinit.Scaled(HE, -0.3)(KEY, (30, 20), dtype)
    assert ulps(got, expected) <= 1
    assert not jaxinit.Scaled(HE, 0)(KEY, (30, 20), dtype).any()


def test_factors_share_one_executable_and_may_be_traced(compilations):
    shape = (17, 31)
    plain = [jaxinit.Scaled(HE, f)(KEY, shape) for f in (0.5, 2.0)]
    for layer in range(3):
        jaxinit.DepthScaled(HE, 3, mode="index", index=layer)(KEY, shape)
    assert len(compilations) == 1, compilations
    scaled = jaxinit.functional.scaled
    swept = jax.vmap(lambda f: scaled(KEY, shape, initializer=HE, factor=f))
    np.testing.assert_allclose(swept(jnp.array([0.5, 2.0])), plain, rtol=1e-6)
    total = jax.grad(lambda f: scaled(KEY, shape, initializer=HE, factor=f).sum())
    np.testing.assert_allclose(total(0.5), HE(KEY, shape).sum(), rtol=1e-4)


def test_all_branches_together_have_the_variance_of_one():
    init = jaxinit.DepthScaled(jaxinit.RandomNormal(stddev=1.0), num_layers=8)
    draw = jax.vmap(lambda key: init(key, (500, 40)))
    stream = draw(jax.random.split(KEY, 16)).sum(0)
    assert abs(float(stream.var()) - 1) < 5 * (2 / stream.size) ** 0.5


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_index_in_a_stack_is_the_index_of_each_layer(axis):
    stack = jaxinit.DepthScaled(jaxinit.Stacked(HE, axis), 5, 3, "index", axis=axis)
    shape = np.insert([64, 32], axis % 3, 5)
    w = np.moveaxis(np.asarray(stack(KEY, shape)), axis, 0)
    for layer, key in enumerate(jax.random.split(KEY, 5)):
        alone = jaxinit.DepthScaled(HE, 5, 3, "index", index=layer)
        assert ulps(w[layer], alone(key, (64, 32))) <= 1
        expected = HE(key, (64, 32)) / (3 * (layer + 1)) ** 0.5
        np.testing.assert_allclose(w[layer], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("axis", "dtype"),
    [*((axis, "float32") for axis in (0, -1, (0, 2), (), (0, 1, 2))),
     *((0, dtype) for dtype in ("complex64", *NARROW)), ((), "complex64")],
)  # fmt: skip
def test_normalized_vectors_have_the_length(axis, dtype):
    w = jaxinit.Normalized(HE, axis, 3.0)(KEY, (4, 5, 6), dtype)
    w = np.asarray(w).astype("complex128" if dtype == "complex64" else "float64")
    axes = axis if isinstance(axis, tuple) else (axis,)
    length = np.sqrt((abs(w) ** 2).sum(axes))
    np.testing.assert_allclose(length, 3.0, rtol=2 * float(jnp.finfo(dtype).eps))


@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e30])
def test_normalized_neither_overflows_nor_vanishes(scale):
    huge = jaxinit.Normalized(jaxinit.Scaled(HE, scale), 0)(KEY, (8, 4))
    np.testing.assert_allclose(huge, jaxinit.Normalized(HE, 0)(KEY, (8, 4)), rtol=1e-5)


def test_normalized_leaves_zeros():
    assert not jaxinit.Normalized("zeros", 0)(None, (8, 4)).any()
    w = jaxinit.Normalized(jaxinit.Masked("ones", [1, 0]), 0)(None, (4, 2))
    np.testing.assert_array_equal(w, [[0.5, 0]] * 4)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_normalized_normals_are_uniform_on_the_sphere(n):
    """The distribution is the same along any direction, and vectors are independent."""
    w = np.asarray(jaxinit.Normalized("normal", -1)(KEY, (100_000, n)), np.float64)
    law = stats.beta((n - 1) / 2, (n - 1) / 2, -1, 2)
    diagonal = w @ np.full(n, n**-0.5)
    for projection in (w[:, 0], diagonal):
        assert stats.kstest(projection, law.cdf).pvalue > 1e-3
    between = (w[::2] * w[1::2]).sum(1)
    assert stats.kstest(between, law.cdf).pvalue > 1e-3


DEPTH = jaxinit.DepthScaled


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: jaxinit.Scaled("he_normal"), TypeError, "factor"),
        (lambda: jaxinit.Scaled(HE, "2"), TypeError, r"Scaled\(factor=.*number"),
        (lambda: jaxinit.Scaled(HE, np.nan), ValueError, "factor=.*finite"),
        (lambda: jaxinit.Scaled(HE, 2)(KEY, (3, 4), jnp.int32), TypeError, "dtype"),
        (lambda: jaxinit.Scaled(HE, 2)(None, (3, 4)), TypeError, "seed=0"),
        (lambda: jaxinit.Scaled(HE, 2)(KEY, (3,)), ValueError, "he_normal.*in_axis"),
        (lambda: DEPTH(HE, 0), ValueError, "num_layers=.*at least 1"),
        (lambda: DEPTH(HE, 3, 0), ValueError, "per_block=.*at least 1"),
        (lambda: DEPTH(HE, 3, mode="layer"), ValueError, "'index'"),
        (lambda: DEPTH(HE, 3, index=1), ValueError, "index=.*None in mode 'depth'"),
        (lambda: DEPTH(HE, 3, 2, "index", 3), ValueError, "below num_layers=3"),
        (lambda: DEPTH(HE, 3, 2, "index")(KEY, (4, 4)), ValueError, "pass index=l"),
        (lambda: jaxinit.Normalized(HE), TypeError, "axis"),
        (lambda: jaxinit.Normalized(HE, 0, -1), ValueError, "norm=.*at least 0"),
        (lambda: jaxinit.Normalized(HE, 2)(KEY, (3, 4)), ValueError, "2 dimensions"),
    ],
)
def test_refusals(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
