"""Sparse: number and places of the zeros, distribution of the other entries."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from scipy import stats

import jaxinit
from cases import NARROW
from jaxinit.cli.expected import expected_stddev
from jaxinit.initializers.sparse import _least

KEY = jax.random.key(5)


@pytest.mark.parametrize("sparsity", [0, 0.07, 0.1, 1 / 3, 0.5, 0.999, 1])
@pytest.mark.parametrize(
    ("rows", "dtype"),
    [(1, "float32"), (7, "bfloat16"), (64, "complex64"), (100, "float32")],
)
def test_every_column_has_as_many_zeros_as_torch_gives_it(rows, sparsity, dtype):
    w = np.asarray(jaxinit.Sparse(sparsity, 1.0)(KEY, (rows, 50), dtype))
    np.testing.assert_array_equal((w == 0).sum(0), math.ceil(sparsity * rows))


def test_torch_agrees():
    torch = pytest.importorskip("torch")
    for sparsity in (0.07, 0.3, 0.9):
        theirs = torch.nn.init.sparse_(torch.empty(100, 5), sparsity)
        ours = jaxinit.Sparse(sparsity)(KEY, (100, 5))
        np.testing.assert_array_equal((ours == 0).sum(0), (theirs == 0).sum(0))


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((40, 30), -1), ((40, 30), 0), ((3, 3, 8, 20), (0, 1, 2)), ((30,), 0),
     ((4, 5, 6), (2, 0)), ((4, 5), (0, 1)), ((4, 5), ())],
)  # fmt: skip
def test_vectors_extend_along_the_axis(shape, axis):
    w = jaxinit.Sparse(0.3, axis=axis)(KEY, shape)
    axes = axis if isinstance(axis, tuple) else (axis,)
    n = math.prod(shape[a] for a in axes)
    zeros = np.asarray(w == 0).sum(axes)
    np.testing.assert_array_equal(zeros, math.ceil(0.3 * n))


def test_every_subset_is_equally_likely_and_columns_are_independent():
    """Chi-square tests of the 10 pairs of 5 rows, and of neighboring columns."""
    w = np.asarray(jaxinit.Sparse(0.4)(KEY, (5, 200_000)) == 0)
    code = (w * (2 ** np.arange(5))[:, None]).sum(0)
    found, counts = np.unique(code, return_counts=True)
    assert len(found) == 10
    assert stats.chisquare(counts).pvalue > 1e-3
    both, counts = np.unique(code[::2] * 32 + code[1::2], return_counts=True)
    assert len(both) == 100
    assert stats.chisquare(counts).pvalue > 1e-3


def test_other_entries_are_normal():
    init = jaxinit.Sparse(0.25, 0.3)
    assert expected_stddev(init, (1000, 1200)) == pytest.approx(0.3 * 0.75**0.5)
    w = np.asarray(init(KEY, (1000, 1200)), np.float64)
    values = w[w != 0]
    assert values.size == 750 * 1200
    assert stats.kstest(values, stats.norm(0, 0.3).cdf).pvalue > 1e-3
    assert abs(w.var() / (0.3**2 * 0.75) - 1) < 5 * math.sqrt(2 / values.size)


def test_other_entries_are_circular_normal_when_complex():
    w = np.asarray(jaxinit.Sparse(0.25, 0.3)(KEY, (600, 600), jnp.complex64))
    values = w[w != 0]
    assert stats.kstest(np.abs(values) ** 2, stats.expon(scale=0.09).cdf).pvalue > 1e-3
    phase = np.angle(values) / (2 * np.pi) + 0.5
    assert stats.kstest(phase, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dtype", NARROW)
def test_zeros_are_in_the_same_places_in_every_dtype(dtype):
    init = jaxinit.Sparse(0.5, 1.0)
    narrow, wide = init(KEY, (40, 30), dtype), init(KEY, (40, 30))
    # Float8 rounds some of the others to zero, too.
    assert np.asarray(narrow == 0)[np.asarray(wide == 0)].all()


def test_ties_go_by_index():
    bits = jnp.array([[3, 1, 3, 0], [3, 3, 3, 0], [3, 3, 1, 0]], jnp.uint32)
    least = jax.jit(_least, static_argnums=2)
    for count in range(4):
        chosen = np.asarray(least(bits, count, (0,)))
        order = np.argsort(np.asarray(bits), axis=0, kind="stable")
        expected = np.zeros((3, 4), bool)
        np.put_along_axis(expected, order[:count], True, 0)
        np.testing.assert_array_equal(chosen, expected)
    for count in range(13):
        chosen = np.asarray(least(bits, count, (0, 1)))
        assert chosen.sum() == count
        assert bits[chosen].max(initial=0) <= bits[~chosen].min(initial=3)


def test_sharded_along_the_axis_is_the_same():
    mesh = jax.make_mesh((8,), ("a",))
    init = jaxinit.Sparse(0.3)
    for spec in (P("a"), P(None, "a")):
        w = init(KEY, (64, 16), out_sharding=NamedSharding(mesh, spec))
        np.testing.assert_array_equal(w, init(KEY, (64, 16)))


def test_arguments_share_one_executable_and_may_be_traced(compilations):
    shape = (29, 31)
    plain = [jaxinit.Sparse(s, d)(KEY, shape) for s, d in [(0.2, 1.0), (0.7, 2.0)]]
    assert len(compilations) == 1, compilations

    @jax.vmap
    def swept(sparsity, stddev):
        sparse = jaxinit.functional.sparse
        return sparse(KEY, shape, sparsity=sparsity, stddev=stddev)

    both = swept(jnp.array([0.2, 0.7]), jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(both, plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: jaxinit.Sparse(), TypeError, "sparsity"),
        (lambda: jaxinit.Sparse(1.5), ValueError, r"sparsity=.*from 0 to 1; got 1\.5"),
        (lambda: jaxinit.Sparse(-0.1), ValueError, "sparsity"),
        (lambda: jaxinit.Sparse("0.1"), TypeError, "sparsity"),
        (lambda: jaxinit.Sparse(0.1, -1), ValueError, "stddev"),
        (lambda: jaxinit.Sparse(0.1, axis="in"), TypeError, "axis"),
        (lambda: jaxinit.Sparse(0.1)(KEY, (3,)), ValueError, r"axis=.*1 dimensions"),
        (lambda: jaxinit.Sparse(0.1)(None, (3, 4)), TypeError, "seed=0"),
        (lambda: jaxinit.Sparse(0.1)(KEY, (3, 4), int), TypeError, "dtype"),
    ],
)
def test_refusals(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
