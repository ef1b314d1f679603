"""The inverse error function away from its ends: XLA's bits, where they apply."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers as jax_init

import jaxinit
from jaxinit.planning import erf_inv
from plans import KEY, check


@pytest.mark.parametrize("low, high", [(-2, 2), (-1.3, 0.4), (-2.57, 2.57)])
def test_every_value_of_a_truncated_normal_has_the_bits_of_xla(low, high):
    a, b = (np.float32(math.erf(x / math.sqrt(2))) for x in (low, high))
    x = np.arange(2**23, dtype=np.float32) / np.float32(2**23) * (b - a) + a
    got, expected = jax.jit(erf_inv.central_erf_inv)(x), jax.jit(jax.lax.erf_inv)(x)
    np.testing.assert_array_equal(got, expected)


def truncated(low, high, dtype=jnp.float32):
    init = jax_init.truncated_normal(0.3, lower=low, upper=high)
    return lambda key: [init(key, (300, 70), dtype), init(key, (7, 8), dtype)]


def bounded(key, f=lambda u: u - 0.6):
    return jnp.maximum(f(jax.random.uniform(key, (300, 70))), 0.01)


def square(u):
    return (u - 0.5) * (u - 0.5)


def cancelled(u):
    return (u * 0.9999 + 1e8) - 1e8


@pytest.mark.parametrize(
    "make, central",
    [
        (truncated(-2, 2), True),
        (truncated(-2.5, 1), True),
        (truncated(-2.6, 1), False),  # beyond 0.99
        (truncated(-1, math.inf), False),
        (truncated(-2, 2, jnp.bfloat16), False),
        (lambda key: jax.random.normal(key, (300, 70)), False),
        (lambda key: 2 * jax.lax.erf_inv(bounded(key) - 0.1), False),
        (lambda key: jax.lax.erf_inv(bounded(key) * 0.9) + 0.7, False),
        (lambda key: jax.lax.erf_inv(bounded(key)) + 0.7, False),
        (lambda key: 2 * jax.lax.erf_inv(bounded(key)), True),
        # Operations whose ends do not tell what is between them.
        (lambda key: 2 * jax.lax.erf_inv(bounded(key, lambda u: 0.1 / u)), False),
        (lambda key: 2 * jax.lax.erf_inv(bounded(key, square)), False),
        (lambda key: 2 * jax.lax.erf_inv(bounded(key, cancelled)), False),
    ],
)
def test_where_it_takes_the_place_of_erf_inv(make, central, monkeypatch):
    # Elsewhere these are laws as all others, whose values test_law.py compares.
    planned = check(make, KEY) if central else jaxinit.plan(make, KEY)
    laws = [law for group in planned.groups for law in group.laws]
    assert any(law.central for law in laws) == central
    monkeypatch.setattr(erf_inv, "ERF_INV_IS_GILES", False)
    planned = jaxinit.plan(make, KEY)
    assert not any(law.central for group in planned.groups for law in group.laws)
