"""Stacked, Blocks, Concatenate: independent draws with their own fans."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import jaxinit
from cases import COLLECTIVES, ulps
from jaxinit.cli.expected import expected_stddev

KEY = jax.random.key(13)
HE, GLOROT = jaxinit.HeNormal(), jaxinit.GlorotUniform()


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_stacked_is_vmap_over_split_keys(axis):
    shape = np.insert([30, 20], axis % 3, 7)
    keys = jax.random.split(KEY, 7)
    expected = jax.vmap(lambda key: HE(key, (30, 20)), out_axes=axis)(keys)
    assert ulps(jaxinit.Stacked(HE, axis)(KEY, shape), expected) <= 1


def test_stacked_slices_have_the_variance_of_their_fans_and_are_independent():
    w = np.asarray(jaxinit.Stacked(GLOROT)(KEY, (6, 300, 500)), np.float64)
    variance = 2 / (300 + 500)
    expected = expected_stddev(jaxinit.Stacked(GLOROT), w.shape)
    assert expected == pytest.approx(variance**0.5)
    flat = w.reshape(6, -1)
    covariance = flat @ flat.T / flat.shape[1] / variance
    n = flat.shape[1]
    assert abs(np.diag(covariance) - 1).max() < 5 * (0.8 / n) ** 0.5  # uniform
    assert abs(covariance - np.diag(np.diag(covariance))).max() < 5 * n**-0.5


def test_stacked_identities_and_foreign_functions():
    np.testing.assert_array_equal(
        jaxinit.Stacked("identity")(None, (3, 4, 5)), [np.eye(4, 5)] * 3
    )
    foreign = jax.nn.initializers.orthogonal()
    w = np.asarray(jaxinit.Stacked(foreign)(KEY, (3, 8, 8)), np.float64)
    np.testing.assert_allclose(w @ w.transpose(0, 2, 1), [np.eye(8)] * 3, atol=1e-5)


@pytest.mark.parametrize(
    ("axis", "sizes"),
    [(-1, 3), (-1, (4, 16, 4)), (-1, (24,)), (0, (8, 8, 8)), (1, (20, 0, 4)), (1, 3)],
)
def test_blocks_are_draws_of_split_keys_side_by_side(sizes, axis):
    shape = (24, 24, 5) if axis != -1 else (5, 6, 24)
    w = jaxinit.Blocks(GLOROT, sizes, axis)(KEY, shape)
    each = (8, 8, 8) if sizes == 3 else sizes
    draws = []
    for key, size in zip(jax.random.split(KEY, len(each)), each, strict=True):
        part = list(shape)
        part[axis] = size
        draws.append(GLOROT(key, part))
    assert ulps(w, jnp.concatenate(draws, axis)) <= 1
    same = jaxinit.Concatenate((GLOROT,) * len(each), each, axis)
    assert ulps(w, same(KEY, shape)) <= 1


def test_blocks_have_the_variance_of_their_fans():
    init = jaxinit.Blocks(GLOROT, (512, 128, 128))
    w = np.asarray(init(KEY, (512, 768)), np.float64)
    start = total = 0
    for size in (512, 128, 128):
        part, variance = w[:, start : start + size], 2 / (512 + size)
        assert abs(part.var() / variance - 1) < 5 * (0.8 / part.size) ** 0.5
        start, total = start + size, total + size * variance / 768
    assert expected_stddev(init, w.shape) == pytest.approx(total**0.5)


def test_each_part_of_concatenate_has_its_own_distribution():
    init = jaxinit.Concatenate(
        (jaxinit.RandomNormal(1.0, 0.1), "zeros", "he_normal"), (200, 50, 250), axis=0
    )
    w = np.asarray(init(KEY, (500, 400)), np.float64)
    first, second, third = np.split(w, [200, 250])
    assert abs(first.mean() - 1) < 5 * 0.1 / first.size**0.5
    assert not second.any()
    assert abs(third.var() * 250 / 2 - 1) < 5 * (2 / third.size) ** 0.5


def test_concatenate_forget_bias_in_any_dtype():
    gates = jaxinit.Concatenate(("zeros", "ones", "zeros", "zeros"))
    for dtype in (jnp.float32, jnp.int32, bool, jnp.complex64):
        w = gates(None, (12,), dtype)
        np.testing.assert_array_equal(w, np.repeat([0, 1, 0, 0], 3).astype(dtype))


@pytest.mark.parametrize(
    ("init", "shape"),
    [
        (jaxinit.Stacked(HE, 1), (8, 16, 8)),
        (jaxinit.Blocks(HE, 3), (8, 48)),
        (jaxinit.Blocks(HE, (32, 8, 8)), (8, 48)),
        (jaxinit.Concatenate((HE, "zeros", GLOROT), (32, 8, 8)), (8, 48)),
    ],
    ids=["stacked", "equal", "unequal", "concatenate"],
)
def test_sharded_along_the_axis_is_the_same(init, shape):
    """Explicit axes inside jit; test_contract.py has Auto axes and the other axis."""
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Explicit,))
    unequal = getattr(init, "sizes", 3) != 3
    for spec in (P("a"), P(None, "a")):
        with jax.set_mesh(mesh):
            f = jax.jit(lambda key, spec=spec: init(key, shape, out_sharding=spec))
            program = f.lower(KEY).compile()
            w = program(KEY)
        np.testing.assert_array_equal(w, init(KEY, shape))
        text = program.as_text()
        assert unequal or not [op for op in COLLECTIVES if op in text]


def test_program_does_not_grow_with_the_stack():
    def size(layers):
        init = jaxinit.Stacked(jaxinit.Blocks(HE, layers))
        f = jax.jit(lambda key: init(key, (layers, 4, 4 * layers)))
        return len(f.lower(KEY).as_text())

    assert size(64) < 1.1 * size(4)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: jaxinit.Stacked(HE, 0.5), TypeError, "axis=.*an int"),
        (lambda: jaxinit.Stacked(HE, 3)(KEY, (2, 3, 4)), ValueError, "3 dimensions"),
        (lambda: jaxinit.Stacked(HE)(KEY, (2, 3)), ValueError, "he_normal.*two or"),
        (lambda: jaxinit.Stacked(HE)(None, (2, 3, 4)), TypeError, "seed=0"),
        (lambda: jaxinit.Blocks(HE, 0), ValueError, "sizes=.*at least 1"),
        (lambda: jaxinit.Blocks(HE, "3"), TypeError, "sizes=.*ints"),
        (lambda: jaxinit.Blocks(HE, ()), TypeError, "sizes"),
        (lambda: jaxinit.Blocks(HE, (2, -2)), ValueError, "sizes=.*at least 0"),
        (lambda: jaxinit.Blocks(HE, 3)(KEY, (4, 4)), ValueError, "3 equal parts"),
        (lambda: jaxinit.Blocks(HE, (3, 2))(KEY, (4, 4)), ValueError, "sum to 4"),
        (lambda: jaxinit.Concatenate(HE), TypeError, "sequence of initializers"),
        (lambda: jaxinit.Concatenate("zeros"), TypeError, "sequence of init"),
        (lambda: jaxinit.Concatenate(()), TypeError, "sequence of init"),
        (lambda: jaxinit.Concatenate(("zeros", 3)), TypeError, "initializers"),
        (lambda: jaxinit.Concatenate((HE, HE), (3,)), ValueError, "2 sizes"),
        (lambda: jaxinit.Concatenate((HE, HE))(KEY, (4, 3)), ValueError, "2 equal"),
    ],
)
def test_refusals(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
