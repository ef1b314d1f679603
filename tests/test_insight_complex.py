"""Probes of complex models: every number is one of moduli, against NumPy."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit.insight import statistics

KEY = jax.random.key(0)
PROBE = functools.partial(jaxinit.probe, key=KEY)


def normal(i, *shape):
    """Complex normal numbers whose parts have other variances and other means."""
    a, b = jax.random.normal(jax.random.fold_in(KEY, i), (2, *shape))
    return jax.lax.complex(a + 0.5, 2 * b - 1)


def rms(x):
    return float(np.sqrt(np.mean(np.abs(np.asarray(x, np.complex128)) ** 2)))


def near(x):
    return pytest.approx(x, rel=1e-4)


@pytest.mark.parametrize("rows", [8, 4096])  # moments on the host; in the program
def test_every_number_against_numpy(rows):
    p = {"a": normal(0, 6, 8) / 4, "bias": normal(1, 8), "b": normal(2, 8, 4) / 4}
    p["a"] = p["a"].at[0].set(1j)  # a real part of 0 alone is no zero
    x = normal(3, rows, 6)
    weights = np.asarray(normal(4, rows, 4), np.complex128)

    def loss(y):
        return jnp.sum(jnp.abs(y - weights) ** 2)

    def fn(p, x):
        return (x @ p["a"] + p["bias"]) @ p["b"]

    report = PROBE(fn, p, x, loss=loss)
    q = {name: np.asarray(v, np.complex128) for name, v in p.items()}
    hidden = np.asarray(x, np.complex128) @ q["a"] + q["bias"]
    out = hidden @ q["b"]
    a, b = report.rows
    for row, y, z in ((a, np.asarray(x), hidden), (b, hidden, out)):
        assert row.in_rms == near(rms(y)) and row.out_rms == near(rms(z))
        assert row.in_std == near(np.std(y)) and row.out_std == near(np.std(z))
        assert row.in_mean == near(abs(np.mean(y)))
        assert row.out_mean == near(abs(np.mean(z)))
        assert row.zeros == 0
        assert row.weight_rms == near(rms(q[row.path]))
        assert row.gain == near(rms(q[row.path]) * math.sqrt(row.fan_in))
    by_out = 2 * (out - weights)  # up to a conjugate
    by_hidden = by_out @ q["b"].conj().T
    assert b.grad_rms == near(rms(by_out)) and b.grad_std == near(np.std(by_out))
    assert a.grad_rms == near(rms(by_hidden)) and a.grad_std == near(np.std(by_hidden))
    assert b.weight_grad_rms == near(rms(hidden.conj().T @ by_out))
    assert report.output_rms == near(rms(out))
    assert report.output_variance == near(np.var(out))
    parameters = {p.path: p for p in report.parameters}
    assert parameters["b"].rms == near(rms(q["b"]))
    assert parameters["bias"].grad_rms == near(rms(by_hidden.sum(0)))
    assert parameters["bias"].grad_std == near(np.std(by_hidden.sum(0)))
    assert parameters["bias"].adam_step == near(1 / rms(q["bias"]))


def test_inside_a_scan():
    """The means of the layers or steps differ, also in their phases."""
    w, x = normal(5, 3, 8, 8) / 5, normal(6, 16, 8)

    def layers(w, x):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

    def unrolled(w, x):
        for layer in w:
            x = x @ layer
        return x

    scanned, flat = PROBE(layers, w, x), PROBE(unrolled, list(w), x)
    for a, b in zip(scanned.rows, flat.rows, strict=True):
        for name in ("out_mean", "out_std", "out_rms", "in_rms", "grad_rms"):
            assert getattr(a, name) == near(getattr(b, name)), name
        assert a.weight_grad_rms == near(b.weight_grad_rms)

    def steps(w, xs):
        return jax.lax.scan(lambda _, x: (None, x @ w), None, xs)[1]

    xs = x * jnp.exp(1j * jnp.arange(4.0))[:, None, None]
    (row,) = PROBE(steps, w[0], xs).rows
    made = np.asarray(xs @ w[0])
    assert row.out_std == near(np.std(made)) and row.out_rms == near(rms(made))
    assert row.out_mean == near(abs(np.mean(made)))


def test_the_jacobian_is_that_of_both_parts():
    unitary = jaxinit.Orthogonal()(KEY, (16, 16), jnp.complex64)
    assert PROBE(lambda w, x: x @ w, unitary, normal(7, 4, 16)).jacobian == near(1)

    # Real inputs: singular values of [Re W, Im W], whose squares sum to |W|^2.
    w = normal(8, 64, 256)
    report = PROBE(lambda w, x: x @ w, w, jax.random.normal(KEY, (64, 64)))
    expected = np.sum(np.abs(np.asarray(w)) ** 2) / 64
    assert report.jacobian == pytest.approx(expected, rel=0.05)

    # A modulus: real results of complex inputs, with a slope of 1 in one direction.
    report = PROBE(lambda w, x: jnp.abs(x * w), jnp.ones(64), normal(9, 64, 64))
    assert report.jacobian == near(1)


@pytest.mark.parametrize("scale", [1.0, 1e-28, 1e28])
def test_moments_survive_squares_that_do_not(scale):
    x = np.asarray(normal(10, 50, 41), np.complex128)
    found = statistics.moments(jnp.asarray(x * scale, jnp.complex64))
    assert complex(found.mean) / scale == near(complex(np.mean(x)))
    assert float(found.std) / scale == near(float(np.std(x)))
    zeros = statistics.moments(jnp.array([0j, 1j, 1, 0])).zeros
    assert float(zeros) == 0.5
