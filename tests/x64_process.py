"""Checks of float64 and complex128, run by test_x64.py in an x64 process."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxinit
from cases import EXACT, LAWS, ONE_EACH, assert_same, ks_pvalue

KEY = jax.random.key(1)
WIDE = ONE_EACH
ENOUGH = 200_000  # draws: of 24 bits each, a thousand would be equal to another


def check_exact(case):
    """Checks that the default dtype is float64, and the values."""
    values = case.init(None, case.shape)
    assert values.dtype == jnp.float64, values.dtype
    expected = np.asarray(case.values(case.shape), np.float64)
    np.testing.assert_allclose(values, expected, rtol=1e-14, atol=1e-15)
    wide = case.init(None, case.shape, jnp.complex128)
    np.testing.assert_allclose(wide, expected, rtol=1e-14, atol=1e-15)


def check_random(case):
    """Checks the law, 64-bit resolution, and the float32 values of other processes."""
    shape = case.many if case in LAWS else case.shape
    values = case.init(KEY, shape)
    assert values.dtype == jnp.float64, values.dtype
    if case in LAWS:
        check_law(case, np.asarray(values).ravel()[:ENOUGH])
    single = case.init(KEY, case.shape, jnp.float32)
    assert single.dtype == jnp.float32
    with jax.enable_x64(False):
        assert_same(case, single, case.init(KEY, case.shape))


def check_law(case, draws):
    low, high = case.law.support()
    assert low - 1e-14 <= draws.min() and draws.max() <= high + 1e-14
    mean, variance = case.law.stats("mv")
    assert abs(draws.mean() - mean) < 5 * np.sqrt(variance / draws.size)
    assert ks_pvalue(draws, case.law) > 1e-3
    assert len(np.unique(draws)) == draws.size, "53-bit draws do not repeat"
    if case.modulus2 is not None:
        wide = case.init(KEY, case.many, jnp.complex128)
        modulus2 = np.abs(np.asarray(wide).ravel()[:ENOUGH] - mean) ** 2
        assert ks_pvalue(modulus2, case.modulus2) > 1e-3


def check_same_as_jax():
    shape = (301, 201)
    for name in ("he_normal", "glorot_uniform", "lecun_normal"):
        theirs = getattr(jax.nn.initializers, name)()
        expected = jax.jit(lambda key, init=theirs: init(key, shape))(KEY)
        np.testing.assert_allclose(
            jaxinit.get(name)(KEY, shape), expected, rtol=1e-12, atol=1e-16
        )


def main():
    assert jax.config.jax_enable_x64
    checks = {
        **{case.id: functools.partial(check_exact, case) for case in EXACT},
        **{case.id: functools.partial(check_random, case) for case in WIDE},
        "same_as_jax": check_same_as_jax,
    }
    for name, check in checks.items():
        try:
            check()
            print(name, "ok")
        except Exception as e:
            print(name, repr(e))


if __name__ == "__main__":
    main()
