"""Masked, Clipped, AsDtype: the change of each entry."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxinit
from cases import NARROW
from jaxinit.cli.expected import expected_stddev

pytestmark = pytest.mark.accelerator

KEY = jax.random.key(12)
HE = jaxinit.HeNormal()
NORMAL = jaxinit.RandomNormal(stddev=1.0)


@pytest.mark.parametrize(
    "mask", [np.tri(5, 4, dtype=bool), [[1], [0], [1], [1], [0]], [True, False] * 2, 1]
)
def test_mask_keeps_the_same_draw_where_it_is_true(mask):
    w = jaxinit.Masked(HE, mask)(KEY, (5, 4))
    np.testing.assert_array_equal(w, np.where(mask, HE(KEY, (5, 4)), 0))


def test_mask_may_be_traced_and_of_any_kind():
    masked = jax.jit(
        lambda mask: jaxinit.functional.masked(KEY, (5, 4), initializer=HE, mask=mask)
    )
    mask = np.tri(5, 4, dtype=bool)
    np.testing.assert_array_equal(masked(mask), np.where(mask, HE(KEY, (5, 4)), 0))
    assert jaxinit.Masked("ones", mask)(None, (5, 4), jnp.int8).sum() == mask.sum()


@pytest.mark.parametrize("p", [0.0, 0.1, 0.75, 1.0])
def test_sparsity_is_the_probability_of_a_zero(p):
    init = jaxinit.Masked(NORMAL, sparsity=p)
    w = np.asarray(init(KEY, (1000, 1000)), np.float64)
    zero = w == 0
    assert abs(zero.mean() - p) <= 5 * math.sqrt(p * (1 - p) / w.size)
    if 0 < p < 1:
        pairs = 2 * zero.ravel()[::2] + zero.ravel()[1::2]
        expected = np.array([(1 - p) ** 2, p * (1 - p), p * (1 - p), p**2])
        counts = np.bincount(pairs, minlength=4)
        assert stats.chisquare(counts, expected * counts.sum()).pvalue > 1e-3
    if p < 1:
        assert stats.kstest(w[~zero], "norm").pvalue > 1e-3
    assert expected_stddev(init, w.shape) == pytest.approx(math.sqrt(1 - p))
    error = math.sqrt((3 * (1 - p) - (1 - p) ** 2) / w.size)
    assert abs(w.var() - (1 - p)) <= 5 * error


def test_variance_of_a_masked_draw_with_a_mean():
    inner = jaxinit.RandomNormal(2.0, 0.5)
    w = np.asarray(jaxinit.Masked(inner, sparsity=0.3)(KEY, (1000, 1000)), np.float64)
    variance = 0.7 * (0.25 + 0.3 * 4)
    fourth = ((w - w.mean()) ** 4).mean()
    assert abs(w.var() - variance) < 5 * math.sqrt((fourth - variance**2) / w.size)


@pytest.mark.parametrize("dtype", ["complex64", "bfloat16", "float8_e5m2"])
def test_the_same_entries_are_kept_in_every_dtype(dtype):
    init = jaxinit.Masked("ones", sparsity=0.5)
    np.testing.assert_array_equal(
        init(KEY, (40, 30), dtype) == 0, init(KEY, (40, 30)) == 0
    )


@pytest.mark.parametrize(("lower", "upper"), [(-1.0, 1.0), (-0.5, 2.0), (-9.0, 0.3)])
def test_clipped_puts_the_tails_on_the_bounds(lower, upper):
    w = np.asarray(jaxinit.Clipped(NORMAL, lower, upper)(KEY, (1000, 1000)))
    np.testing.assert_array_equal(w, np.clip(NORMAL(KEY, (1000, 1000)), lower, upper))
    for bound, p in ((lower, stats.norm.cdf(lower)), (upper, stats.norm.sf(upper))):
        share = (w == np.float32(bound)).mean()
        assert abs(share - p) <= 5 * math.sqrt(p * (1 - p) / w.size) + 1e-7
    inside = w[(w > lower) & (w < upper)].astype(np.float64)
    assert stats.kstest(inside, stats.truncnorm(lower, upper).cdf).pvalue > 1e-3


@pytest.mark.parametrize("bound", [0.5, 1.0, 3.0])
def test_variance_of_a_clipped_normal_is_that_of_its_docstring(bound):
    s = 0.2
    init = jaxinit.Clipped(jaxinit.RandomNormal(stddev=s), -bound * s, bound * s)
    w = np.asarray(init(KEY, (1000, 1000)), np.float64)
    within, phi = 2 * stats.norm.cdf(bound) - 1, stats.norm.pdf(bound)
    variance = s**2 * (within - 2 * bound * phi + bound**2 * (1 - within))
    error = math.sqrt(((w**4).mean() - variance**2) / w.size)
    assert abs((w**2).mean() - variance) < 5 * error


@pytest.mark.parametrize("bound", [0.5, 1.0, 3.0])
def test_clipped_complex_modulus(bound):
    init = jaxinit.Clipped(NORMAL, -bound, bound)
    w, v = (np.asarray(i(KEY, (700, 700), jnp.complex64)) for i in (init, NORMAL))
    np.testing.assert_allclose(abs(w), np.minimum(abs(v), bound), rtol=1e-6)
    np.testing.assert_allclose(np.angle(w), np.angle(v), atol=1e-6)
    modulus2 = abs(w.astype(np.complex128)) ** 2
    error = modulus2.std() / math.sqrt(w.size)
    assert abs(modulus2.mean() + math.expm1(-(bound**2))) < 5 * error


def test_infinite_bounds_change_nothing():
    for dtype in ("float32", "complex64", "bfloat16"):
        w = jaxinit.Clipped(HE, -math.inf, math.inf)(KEY, (30, 20), dtype)
        np.testing.assert_array_equal(w, HE(KEY, (30, 20), dtype))


@pytest.mark.parametrize(
    ("through", "jit"), list(zip(NARROW, [False, True] * 2, strict=True))
)
def test_as_dtype_gives_the_values_of_that_dtype(through, jit):
    init = jaxinit.AsDtype(HE, through)
    f = jax.jit(init, static_argnums=1) if jit else init
    w = f(KEY, (64, 64))
    assert w.dtype == jnp.float32
    np.testing.assert_array_equal(w, HE(KEY, (64, 64), through).astype(jnp.float32))


def test_as_dtype_rounds_twice_where_once_would_differ():
    value = 1 + 2**-8 + 2**-12  # above the middle of two bfloat16s; float16 drops it
    once = jaxinit.Constant(value)(None, (1,), jnp.bfloat16)
    twice = jaxinit.AsDtype(jaxinit.Constant(value), "float16")(None, (1,), "bfloat16")
    assert float(once[0]) == 1 + 2**-7 and float(twice[0]) == 1


def test_as_dtype_rounds_both_parts_of_complex_values():
    w = jaxinit.AsDtype(HE, jnp.bfloat16)(KEY, (30, 20), jnp.complex64)
    v = HE(KEY, (30, 20), jnp.complex64)
    for got, part in ((w.real, v.real), (w.imag, v.imag)):
        expected = part.astype(jnp.bfloat16).astype(jnp.float32)
        np.testing.assert_allclose(got, expected, rtol=2**-7)
        np.testing.assert_array_equal(got, got.astype(jnp.bfloat16))


def test_as_dtype_asks_foreign_functions_for_the_dtype():
    foreign = jax.nn.initializers.he_normal()
    w = jaxinit.AsDtype(foreign, "bfloat16")(KEY, (64, 64))
    expected = jax.jit(lambda key: foreign(key, (64, 64), jnp.bfloat16))(KEY)
    np.testing.assert_array_equal(w, expected.astype(jnp.float32))


MASKED = jaxinit.Masked


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: MASKED(HE), ValueError, r"mask=.*if sparsity is None"),
        (lambda: MASKED(HE, [1], 0.5), ValueError, "else None"),
        (lambda: MASKED(HE, 0.9), ValueError, "array of bools.*sparsity="),
        (lambda: MASKED(HE, "causal"), TypeError, "mask"),
        (lambda: MASKED(HE, sparsity=2), ValueError, "sparsity=.*from 0 to 1"),
        (lambda: MASKED(HE, [1, 0])(KEY, (3, 4)), ValueError, r"mask=.*\(3, 4\)"),
        (lambda: MASKED(HE, [[[1]]])(KEY, (3, 4)), ValueError, "broadcastable"),
        (lambda: MASKED("ones", sparsity=0.5)(None, (3,)), TypeError, "seed=0"),
        (
            lambda: jaxinit.functional.masked(
                None, (3,), initializer="ones", sparsity=0.5
            ),
            TypeError,
            "one PRNG key",
        ),
        (lambda: jaxinit.Clipped(HE, 1, 0), ValueError, "upper=.*at least lower=1"),
        (lambda: jaxinit.Clipped(HE, math.nan, 0), ValueError, "lower"),
        (
            lambda: jaxinit.Clipped(HE, -1, 2)(KEY, (3, 4), "complex64"),
            ValueError,
            "lower=.*complex",
        ),
        (lambda: jaxinit.AsDtype(HE, None), TypeError, "sample_dtype=.*floating"),
        (lambda: jaxinit.AsDtype(HE, "int8"), TypeError, "sample_dtype"),
        (lambda: jaxinit.AsDtype(HE, "complex64"), TypeError, "sample_dtype"),
        (lambda: jaxinit.AsDtype(HE, "float99"), TypeError, "sample_dtype"),
    ],
)
def test_refusals(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
