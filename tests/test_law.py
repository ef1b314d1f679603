"""Leaves of one law share a program, whatever their shapes and scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers as jax_init
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from jaxinit.planning import group, rows
from jaxinit.planning.rows import ROW
from plans import KEY, assert_same, check

LECUN = jax_init.lecun_normal()


def of_shapes(init, shapes, dtype=jnp.float32):
    def make(key):
        return [
            init(jax.random.fold_in(key, i), s, dtype) for i, s in enumerate(shapes)
        ]

    return make


SHAPES = [
    (3, 8),
    (5, 3, 16),
    (1, ROW),
    (2, ROW // 2),
    (1031, 1031),  # more than a block, and a bit
    (300, 257),
    (2, 3, 3, 64),
]


@pytest.mark.parametrize(
    "name, dtype",
    [
        ("lecun_normal", "float32"),
        ("glorot_normal", "bfloat16"),
        ("lecun_uniform", "float16"),
    ],
)
def test_one_program_for_every_shape(name, dtype, compilations):
    shapes = SHAPES if name == "lecun_normal" else SHAPES[1::3]
    make = of_shapes(getattr(jax_init, name)(), shapes, dtype)
    planned = jaxinit.plan(make, KEY)
    made = planned(KEY)
    assert len(compilations) == sum(g.fill is None for g in planned.groups)
    if dtype == "float32":  # narrow scales are part of the program
        assert len(planned.groups) == 1
    assert_same(made, jax.jit(make)(KEY))


@pytest.mark.parametrize(
    "init, dtype",
    [
        (jaxinit.HeNormal(), "float32"),
        (jaxinit.GlorotUniform(), "bfloat16"),
        (jaxinit.VarianceScaling(mode="fan_out"), "float8_e4m3fn"),
        (jaxinit.RandomNormal(mean=0.3), "float16"),
        (jaxinit.RandomUniform(-0.1, 0.3), "float32"),
    ],
)
def test_own_initializers_are_one_law_in_every_dtype(init, dtype):
    check(of_shapes(init, SHAPES[1::2], dtype), KEY, groups=1)


@pytest.mark.parametrize(
    "init, dtype",
    [
        (lambda *a: jax.random.truncated_normal(a[0], -2, 2, *a[1:]) + 0.7, "float32"),
        (jaxinit.RandomNormal(), "bfloat16"),
        (jax_init.he_uniform(), "float32"),
    ],
)
def test_rows_of_large_groups_are_hashed_two_at_once(init, dtype, monkeypatch):
    """Of several blocks, the last of which is not full."""
    monkeypatch.setattr(rows, "_BLOCK", 4)
    planned = check(of_shapes(init, [(67, ROW), (3, 8), (31, 257)], dtype), KEY)
    assert "c64[2,4096]" in planned.texts()[0]


def test_pairs_of_bits_are_not_looked_at_for_nans(monkeypatch):
    monkeypatch.setattr(rows, "_BLOCK", 4)
    make = of_shapes(jax_init.normal(), [(67, ROW)])
    expected = jax.jit(make)(KEY)
    jax.config.update("jax_debug_nans", True)  # in every thread
    try:
        assert_same(jaxinit.init(make, KEY), expected)
    finally:
        jax.config.update("jax_debug_nans", False)


def test_rules_draw_what_they_match_by_one_program():
    def init(key):
        zeros = {"a": jnp.zeros((3, 8)), "b": jnp.zeros((2, 3, 3, 64))}
        return jaxinit.init(lambda key: zeros, key, rules={"*": "glorot_uniform"})

    check(init, KEY, groups=1)


@pytest.mark.parametrize("init", [LECUN, jax_init.normal(0.3), jax_init.he_uniform()])
def test_float64_under_a_context_manager(init):
    """Which other threads do not see."""
    with jax.enable_x64(True):
        check(of_shapes(init, SHAPES[:5:2], jnp.float64), KEY, groups=1)


def test_every_scale_is_that_of_jit():
    shapes = [(fan, 8) for fan in (1, 3, 38, 112, 371)]
    normal = jax_init.variance_scaling(0.9, "fan_in", "normal")
    for init, some in ((LECUN, 5), (jax_init.he_uniform(), 3), (normal, 3)):
        check(of_shapes(init, shapes[-some:]), KEY, groups=1)


def test_what_follows_the_scale_is_part_of_the_law():
    """As of Haiku, which adds its mean last."""

    def init(shift):
        def draw(key, shape, dtype):
            x = jax.random.truncated_normal(key, -2, 2, shape, dtype)
            return 0.1 * shape[0] * x + shift

        return draw

    shapes = [(3, 8), (7, 16), (2, 5, 32)]
    check(of_shapes(init(0.0), shapes), KEY, groups=1)
    planned = check(of_shapes(init(0.7), shapes), KEY, groups=1)
    assert len({float(law.factor) for law in planned.groups[0].laws}) == 3


FOLLOWERS = [
    (lambda x: x * 0.7, 1),
    (lambda x: x * 0.3 * 0.07, 1),
    (lambda x: x * 0.3 * 1.7 * 1.1, 1),
    (lambda x: x / 0.7, 1),
    (lambda x: 0.3 * (x * 0.7).reshape(-1), 1),
    (lambda x: 0.7 * (0.0 + 0.3 * x), 1),
    (lambda x: 0.7 * jax.lax.stop_gradient(0.3 * x), 1),
    (lambda x: 0.7 * jnp.array(0.3 * x, copy=True), 1),
    (lambda x: 0.7 * jnp.negative(jnp.negative(0.3 * x)), 1),
    (lambda x: (0.3 * x) * (0.3 * x), 2),  # no chain
    (lambda x: jax.lax.erf_inv(jnp.clip(x, 0.1, 0.6) * 0.9) + 0.7, 1),
    (lambda x: x * jnp.float32(3e38), 1),
    (lambda x: x * jnp.float32(1e-38), 1),  # which is subnormal
    (lambda x: jnp.ravel(x, order="F"), 2),  # a transpose is no law
]


@pytest.mark.parametrize("f, groups", FOLLOWERS)
def test_what_follows_a_draw_is_computed_as_in_jit(f, groups):
    """XLA may merge factors with what follows them."""

    def init(key, shape, dtype):
        return f(jax.random.normal(key, shape, dtype))

    check(of_shapes(init, [(8, 16), (5, 33)]), KEY, groups=groups)


@pytest.mark.parametrize("f, groups", FOLLOWERS[::3])
def test_the_same_of_uniform_draws(f, groups):
    def init(key, shape, dtype):
        return f(jax.random.uniform(key, shape, dtype))

    check(of_shapes(init, [(8, 16)]), KEY, groups=1)


def test_initializers_scaled_again():
    def tripled(key, shape, dtype):
        return 3 * jax_init.he_normal()(key, shape, dtype)

    def haiku(key, shape, dtype):
        x = jax.random.truncated_normal(key, -2.0, 2.0, shape, dtype)
        return 0.7 * (x * 0.02 + 0.0)

    for init in (tripled, haiku):
        check(of_shapes(init, [(8, 16), (64, 48)]), KEY)


def test_bits_alone_are_no_law():
    def make(key):
        return [jax.random.bits(key, (8, 16)), jax.random.bits(key, (8, 16), "uint8")]

    check(make, KEY, groups=2)


def test_zeros_of_either_sign_are_apart():
    def make(key):
        a, b = (
            jax.random.uniform(k, (8, 16), jnp.float16) for k in jax.random.split(key)
        )
        return a * 0.0, b * -0.0

    made = check(make, KEY, groups=2)(KEY)
    assert [bool(jnp.signbit(x).all()) for x in made] == [False, True]


def test_what_differs_in_more_than_scale_is_apart():
    shapes = [(8, 16), (16, 8), (4, 32)]

    def make(bound):
        truncated = jax_init.truncated_normal(lower=-bound, upper=bound)
        inits = truncated, LECUN, jax_init.normal(0.02), jax_init.normal(0.03)
        return lambda key: [
            of_shapes(init, shapes)(k)
            for init, k in zip(inits, jax.random.split(key, 4), strict=True)
        ]

    check(make(2), KEY, groups=2)
    check(make(1.5), KEY, groups=3)


def test_short_minor_axes_and_other_keys_have_their_own_programs():
    planned = check(of_shapes(LECUN, [(8, 3), (16, 3), (24, 3)]), KEY, groups=3)
    assert not any(group.laws for group in planned.groups)
    rbg = jax.random.key(0, impl="rbg")
    planned = check(of_shapes(LECUN, [(8, 16), (16, 8)]), rbg, groups=2)
    assert not any(group.laws for group in planned.groups)


def test_sharded_leaves_are_drawn_on_their_shards():
    mesh = jax.make_mesh((8,), ("x",))
    make = of_shapes(LECUN, [(16, 8), (8, 16)])
    planned = jaxinit.plan(make, KEY, out_shardings=NamedSharding(mesh, P("x")))
    assert not any(group.laws for group in planned.groups)
    assert_same(planned(KEY), jax.jit(make)(KEY))


def test_results_can_be_donated():
    """No two share their memory."""
    shapes = [(160, 80), (1031, 1031), (80, 160), (8, 16), (16, 8)]
    made = jaxinit.init(of_shapes(LECUN, shapes), KEY)
    assert len({x.unsafe_buffer_pointer() for x in made}) == len(made)
    before = [np.array(x) for x in made]
    double = jax.jit(lambda x: 2 * x, donate_argnums=0)
    for x, y in zip(made, before, strict=True):
        np.testing.assert_array_equal(double(x), 2 * y)
        assert x.is_deleted()


def test_long_programs_have_the_same_values(monkeypatch):
    monkeypatch.setattr(group, "_LONG", 10)
    x = jax.random.normal(jax.random.key(1), (16, 32))

    def make(key):
        w, v = LECUN(key, (32, 32)), LECUN(jax.random.fold_in(key, 1), (32, 32))
        y = jnp.tanh(x @ w) @ v
        return w, v, {"mean": y.mean(axis=0), "scale": 1 / jnp.std(y, axis=0)}

    planned = check(make, KEY, tolerance=1e-6)
    assert max(len(g.members[0].nodes) for g in planned.groups if not g.laws) > 10


def test_a_result_that_data_is_multiplied_with_is_made_apart():
    x = jax.random.normal(jax.random.key(1), (4, 8))

    def make(key):
        w = LECUN(key, (8, 16))
        return {"w": w, "scale": 1 / jnp.std(x @ w, axis=0)}

    planned = jaxinit.plan(make, KEY)
    assert len(planned.groups) == 2
    made, expected = planned(KEY), jax.jit(make)(KEY)
    assert_same(made["w"], expected["w"])
    assert_same(made, expected, 1e-6)

    mesh = jax.make_mesh((8,), ("x",))
    sharded = jaxinit.init(make, KEY, out_shardings=NamedSharding(mesh, P("x")))
    assert_same(sharded["w"], expected["w"])
    assert_same(sharded, expected, 1e-6)


def test_results_that_need_each_other_stay_together():
    x = jnp.ones((8, 8))

    def make(key):
        w = LECUN(key, (8, 8))
        s = x @ w
        return w, s, s @ x + w

    assert_same(check(make, KEY, groups=1, tolerance=1e-6)(KEY)[0], make(KEY)[0], 1e-6)
