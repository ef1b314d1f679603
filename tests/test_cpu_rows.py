"""Leaves that differ in shape and scale share a program on the CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers as jax_init
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from jaxinit.planning import makers
from jaxinit.planning.makers import constant, per_leaf
from jaxinit.planning.makers.cpu_rows import rows
from plans import KEY, assert_same, check

LECUN = jax_init.lecun_normal()
ROW = rows._ROW
OTHER = jax.random.key(5)


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
    assert len(compilations) == len(planned.groups)
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
def test_own_initializers_share_a_program_in_every_dtype(init, dtype):
    check(of_shapes(init, SHAPES[1::2], dtype), KEY, groups=1)


@pytest.mark.parametrize(
    "init, dtype",
    [
        (lambda *a: jax.random.truncated_normal(a[0], -2, 2, *a[1:]) + 0.7, "float32"),
        (jaxinit.RandomNormal(), "bfloat16"),
        (jax_init.he_uniform(), "float32"),
    ],
)
def test_several_blocks_with_a_partial_last_block(init, dtype, monkeypatch):
    monkeypatch.setattr(rows, "_BLOCK", 4)
    check(of_shapes(init, [(67, ROW), (3, 8), (31, 257)], dtype), KEY, groups=1)


def test_debug_nans_does_not_check_random_bits():
    make = of_shapes(jax_init.normal(), [(67, 64)])
    expected = jax.jit(make)(KEY)
    jax.config.update("jax_debug_nans", True)  # in every thread
    try:
        assert_same(jaxinit.init(make, KEY), expected)
    finally:
        jax.config.update("jax_debug_nans", False)


def test_leaves_that_rules_match_share_one_program():
    def init(key):
        zeros = {"a": jnp.zeros((3, 8)), "b": jnp.zeros((2, 3, 3, 64))}
        return jaxinit.init(lambda key: zeros, key, rules={"*": "glorot_uniform"})

    check(init, KEY, groups=1)


@pytest.mark.parametrize("init", [LECUN, jax_init.normal(0.3), jax_init.he_uniform()])
def test_float64_under_a_context_manager(init):
    """Other threads do not see the setting of a context manager."""
    with jax.enable_x64(True):
        check(of_shapes(init, SHAPES[:5:2], jnp.float64), KEY, groups=1)


def test_every_scale_is_rounded_as_in_jit():
    shapes = [(fan, 8) for fan in (1, 3, 38, 112, 371)]
    normal = jax_init.variance_scaling(0.9, "fan_in", "normal")
    for init, some in ((LECUN, 5), (jax_init.he_uniform(), 3), (normal, 3)):
        check(of_shapes(init, shapes[-some:]), KEY, groups=1)


def test_operations_after_the_scale_are_part_of_the_program():
    """Haiku, for instance, adds the mean last."""

    def init(shift):
        def draw(key, shape, dtype):
            x = jax.random.truncated_normal(key, -2, 2, shape, dtype)
            return 0.1 * shape[0] * x + shift

        return draw

    shapes = [(3, 8), (7, 16), (2, 5, 32)]
    check(of_shapes(init(0.0), shapes), KEY, groups=1)
    check(of_shapes(init(0.7), shapes), KEY, groups=1)


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
    (lambda x: jnp.ravel(x, order="F"), 2),  # a transpose is not elementwise
]


@pytest.mark.parametrize("f, groups", FOLLOWERS)
def test_operations_after_a_draw_are_computed_as_in_jit(f, groups):
    """XLA may merge factors with the operations that follow them."""

    def init(key, shape, dtype):
        return f(jax.random.normal(key, shape, dtype))

    check(of_shapes(init, [(8, 16), (5, 33)]), KEY, groups=groups)


@pytest.mark.parametrize("f, groups", FOLLOWERS[::3])
def test_operations_after_a_uniform_draw_are_computed_as_in_jit(f, groups):
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


def test_bits_alone_have_a_program_for_each_shape():
    def make(key):
        return [jax.random.bits(key, (8, 16)), jax.random.bits(key, (8, 16), "uint8")]

    check(make, KEY, groups=2)


def test_zeros_of_different_signs_have_different_programs():
    def make(key):
        a, b = (
            jax.random.uniform(k, (8, 16), jnp.float16) for k in jax.random.split(key)
        )
        return a * 0.0, b * -0.0

    made = check(make, KEY, groups=2)(KEY)
    assert [bool(jnp.signbit(x).all()) for x in made] == [False, True]


def test_draws_that_differ_in_more_than_scale_have_different_programs():
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


@pytest.mark.parametrize(
    "init",
    [jax_init.he_uniform(1, 0), jax_init.he_normal(1, 0), jaxinit.HeNormal(1, 0)],
    ids=["uniform", "normal", "own"],
)
def test_kernels_with_features_first_share_a_program(init):
    """As of Equinox, and of models that came from PyTorch."""
    shapes = [(16, 8, 3, 3), (33, 65, 3, 3), (8, 16, 1, 1), (9, 3, 7, 7), (8, 6, 5)]
    check(of_shapes(init, shapes), KEY, groups=1)


def test_equal_bounds_share_a_program_as_of_equinox():
    def make(key):
        keys = jax.random.split(key, 3)
        shapes = [(16, 8, 3, 3), (40, 8, 3, 3), (16,)]
        pairs = zip(keys, shapes, strict=True)
        return [
            jax.random.uniform(k, s, minval=-(72**-0.5), maxval=72**-0.5)
            for k, s in pairs
        ]

    check(make, KEY, groups=1)


@pytest.mark.parametrize("init", [LECUN, jax_init.he_uniform(), jaxinit.HeNormal()])
def test_layers_of_a_scan_share_the_program_of_other_leaves(init, monkeypatch):
    def make(key):
        first, *rest = jax.random.split(key, 6)

        def layer(key):
            return of_shapes(init, [(67, ROW), (8, 3, 3), (16, 8)])(key)

        return init(first, (31, 257)), jax.lax.map(layer, jnp.stack(rest))

    monkeypatch.setattr(rows, "_BLOCK", 48)  # a block ends within a layer
    check(make, KEY, groups=1)


def test_many_small_layers_would_waste_their_rows():
    def make(key):
        keys = jax.random.split(key, rows._BLOCK + 1)
        return jax.vmap(lambda k: LECUN(k, (8, 16)))(keys), LECUN(key, (16, 8))

    check(make, KEY, groups=2)


def test_short_minor_axes_and_other_keys_have_their_own_programs():
    check(of_shapes(LECUN, [(8, 4), (16, 4), (24, 2)]), KEY, groups=3)
    rbg = jax.random.key(0, impl="rbg")
    check(of_shapes(LECUN, [(8, 16), (16, 8)]), rbg, groups=2)


def test_sharded_leaves_are_drawn_on_their_shards():
    mesh = jax.make_mesh((8,), ("x",))
    make = of_shapes(LECUN, [(16, 8), (8, 16)])
    planned = jaxinit.plan(make, KEY, out_shardings=NamedSharding(mesh, P("x")))
    assert len(planned.groups) == 2
    assert_same(planned(KEY), jax.jit(make)(KEY))


def test_results_can_be_donated():
    """No two results share memory."""
    shapes = [(160, 80), (1031, 1031), (80, 160), (8, 16), (16, 8)]
    made = jaxinit.init(of_shapes(LECUN, shapes), KEY)
    assert len({x.unsafe_buffer_pointer() for x in made}) == len(made)
    before = [np.array(x) for x in made]
    double = jax.jit(lambda x: 2 * x, donate_argnums=0)
    for x, y in zip(made, before, strict=True):
        np.testing.assert_array_equal(double(x), 2 * y)
        assert x.is_deleted()


def test_later_draws_change_no_leaf_and_no_view():
    """Later draws use other memory, even if the caller drops an array with a view."""
    make = of_shapes(LECUN, [(256, 128), (128, 256), (512, 300)])
    planned = jaxinit.plan(make, KEY)
    expected = [np.array(x) for x in jax.jit(make)(KEY)]
    kept = planned(KEY)
    views = [np.asarray(kept[0]), np.from_dlpack(kept[2])[3:]]
    pending = slow(kept[1])  # runs while the leaf is dropped
    del kept
    for _ in range(3):
        planned(OTHER)
    np.testing.assert_array_equal(views[0], expected[0])
    np.testing.assert_array_equal(views[1], expected[2][3:])
    np.testing.assert_array_equal(pending, slow(expected[1]))


@jax.jit
def slow(x):
    y = jnp.ones((256, 64))
    return jax.lax.fori_loop(0, 100, lambda _, y: jnp.sin(x.T @ (x @ y)), y)


def test_leaves_outlive_their_plan():
    make = of_shapes(LECUN, [(256, 128), (64, 8)])
    made = jaxinit.plan(make, KEY)(KEY)
    jaxinit.init(make, OTHER)
    assert_same(made, jax.jit(make)(KEY))


def test_blocks_are_counted():
    planned = jaxinit.plan(of_shapes(LECUN, SHAPES), KEY)
    assert planned.memory()["temporary"] == 0
    count = sum(-(-int(np.prod(shape)) // ROW) for shape in SHAPES)
    a_block = 2 * 4 * ROW * count // 3  # of values and bits, in at most three blocks
    assert planned.compile().memory()["temporary"] >= a_block


def test_without_this_maker_every_value_is_the_same(monkeypatch):
    others = constant.claim, per_leaf.claim
    monkeypatch.setattr(makers, "MAKERS", others)

    def make(key):
        drawn = of_shapes(LECUN, SHAPES[::3])(key)
        normal = jax.random.normal(key, (8, 16), jnp.bfloat16)
        return drawn, jaxinit.HeNormal()(key, (16, 8)), normal, jnp.zeros(3)

    planned = check(make, KEY)
    assert len(planned.groups) == 6, "a program for each shape"
