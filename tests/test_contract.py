"""The contract of calls and configs, for every initializer in cases.py."""

import copy
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding

import jaxinit
from cases import (
    CASES,
    COLLECTIVES,
    NARROW,
    ONE_EACH,
    Case,
    assert_same,
    ids,
    tagged,
)

pytestmark = pytest.mark.accelerator

KEY = jax.random.key(7)


def on(cases: list[Case]):
    return pytest.mark.parametrize("case", cases, ids=ids(cases))


# Each test runs for every record to which it applies, or for a record of each program.
every, random, exact = on(CASES), on(tagged("random")), on(tagged("exact"))
each_program = on(ONE_EACH)


def test_every_registered_class_has_a_record():
    recorded = {type(case.init) for case in CASES}
    built_in = {
        c for c in jaxinit.names().values() if c.__module__.startswith("jaxinit")
    }
    assert built_in == recorded


@exact
@pytest.mark.parametrize("dtype", ["float32", "complex64", *NARROW])
def test_exact_values_are_float64_values_rounded_once(case: Case, dtype):
    values = case.init(None, case.shape, dtype)
    expected = case.values(case.shape).astype(values.dtype)
    assert values.shape == case.shape and values.dtype == jnp.dtype(dtype)
    # One unit in the last place: the references sum and divide in another order.
    single = (np.complex64, np.float32) if dtype == "complex64" else (np.float32,) * 2
    got, want = (np.asarray(x).astype(single[0]) for x in (values, expected))
    tolerance = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=1e-7)


@every
def test_default_dtype_is_float32_and_values_repeat(case: Case):
    first = case.init(KEY, case.shape)
    assert first.dtype == jnp.float32 and first.shape == case.shape
    np.testing.assert_array_equal(first, case.init(KEY, case.shape, "float32"))


@random
def test_another_key_gives_other_values(case: Case):
    a = np.asarray(case.init(KEY, case.shape))
    b = np.asarray(case.init(jax.random.key(8), case.shape))
    assert (a == b)[a != 0].mean() < 0.01  # some initializers put zeros


@every
def test_jit_with_a_static_initializer_equals_eager(case: Case):
    f = jax.jit(lambda init, key: init(key, case.shape), static_argnums=0)
    assert_same(case, f(case.init, KEY), case.init(KEY, case.shape))


@random
@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_narrow_values_are_float32_values_rounded_once(case: Case, dtype):
    wide = np.asarray(case.init(KEY, case.shape))
    made = np.asarray(case.init(KEY, case.shape, dtype))
    assert made.dtype == NARROW[dtype]
    np.testing.assert_array_equal(made, wide.astype(NARROW[dtype]))


@on(tagged("real"))
def test_complex_dtypes_are_refused(case: Case):
    with pytest.raises(ValueError, match="complex"):
        case.init(KEY, case.shape, jnp.complex64)


@on([case for case in ONE_EACH if "real" not in case.tags])
def test_complex_values_in_jit_are_near_the_eager_ones(case: Case):
    made = jax.jit(lambda key: case.init(key, case.shape, jnp.complex64))(KEY)
    eager = case.init(KEY, case.shape, jnp.complex64)
    # Another fusion may round sin and cos differently.
    near = {"rtol": 1e-6, "atol": 1e-7 * abs(eager).max()}
    np.testing.assert_allclose(made, eager, **near)


@random
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64"])
def test_strict_promotion_changes_no_operation(case: Case, dtype):

    def trace():
        return str(jax.make_jaxpr(lambda key: case.init(key, case.shape, dtype))(KEY))

    with jax.numpy_dtype_promotion("strict"):
        if dtype == "complex64" and "real" in case.tags:
            with pytest.raises(ValueError, match="complex"):
                trace()
            return
        strict = trace()
    assert strict == trace()


@each_program
def test_vmap_over_keys_equals_a_loop(case: Case):
    keys = jax.random.split(KEY, 3)
    mapped = jax.vmap(lambda key: case.init(key, case.shape))(keys)
    looped = np.stack([case.init(key, case.shape) for key in keys])
    assert_same(case, mapped, looped)


@random
def test_inside_shard_map(case: Case):
    """Traces every record. Records with a loop also run: the carry varies by device."""
    mesh = jax.make_mesh((2,), ("a",), axis_types=(AxisType.Auto,))

    def one(keys):
        return case.init(keys[0], case.shape)[None]

    mapped = jax.shard_map(one, mesh=mesh, in_specs=jax.P("a"), out_specs=jax.P("a"))
    keys = jax.random.split(KEY)
    assert jax.eval_shape(mapped, keys).shape == (2, *case.shape)
    if case.init in (jaxinit.Orthogonal(), jaxinit.ConvOrthogonal()):
        looped = np.stack([case.init(key, case.shape) for key in keys])
        np.testing.assert_allclose(mapped(keys), looped, atol=1e-6)


@random
def test_eval_shape_and_checkpoint(case: Case):
    def f(key):
        return case.init(key, case.shape, jnp.bfloat16)

    abstract = jax.eval_shape(f, KEY)
    assert (abstract.shape, abstract.dtype) == (case.shape, jnp.bfloat16)
    np.testing.assert_array_equal(jax.checkpoint(f)(KEY), f(KEY))


@every
def test_zero_size_and_numpy_shapes(case: Case):
    if case.empty:
        empty = case.init(KEY, case.empty, jnp.float16)
        assert empty.shape == case.empty and empty.dtype == jnp.float16
    shape = [np.int64(d) for d in case.shape]
    expected = case.init(KEY, case.shape)
    np.testing.assert_array_equal(case.init(KEY, shape), expected)
    np.testing.assert_array_equal(case.init(KEY, np.array(case.shape)), expected)


def mesh_of(kind):
    return jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind,) * 2)


@every
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_sharded_values_equal_unsharded_ones(case: Case, kind):
    sharding = NamedSharding(mesh_of(kind), case.spec)
    made = case.init(KEY, case.shape, out_sharding=sharding)
    assert made.sharding.is_equivalent_to(sharding, len(case.shape))
    assert_same(case, made, case.init(KEY, case.shape))


@every
def test_sharded_in_jit_without_collectives(case: Case):
    mesh = mesh_of(AxisType.Explicit)
    with jax.set_mesh(mesh):
        f = jax.jit(lambda key: case.init(key, case.shape, out_sharding=case.spec))
        program = f.lower(KEY).compile()
        made = program(KEY)
    assert_same(case, made, case.init(KEY, case.shape))
    text = program.as_text()
    assert not [op for op in COLLECTIVES if op in text]
    local = NamedSharding(mesh, case.spec).shard_shape(case.shape)
    assert f"[{','.join(map(str, local))}]" in text, "no array of the shard's shape"


@each_program
def test_out_shardings_of_jit_without_collectives(case: Case):
    sharding = NamedSharding(mesh_of(AxisType.Auto), case.spec)
    f = jax.jit(lambda key: case.init(key, case.shape), out_shardings=sharding)
    program = f.lower(KEY).compile()
    assert_same(case, program(KEY), case.init(KEY, case.shape))
    text = program.as_text()
    assert "products" in case.tags or not [op for op in COLLECTIVES if op in text]


@random
def test_raw_and_typed_keys_agree(case: Case):
    raw = jax.random.PRNGKey(7)
    expected = case.init(KEY, case.shape)
    np.testing.assert_array_equal(case.init(raw, case.shape), expected)
    np.testing.assert_array_equal(case.init(np.asarray(raw), case.shape), expected)


@each_program
def test_rbg_keys_give_the_same_distribution(case: Case):
    key = jax.random.key(7, impl="rbg")
    a = np.asarray(case.init(key, case.shape))
    np.testing.assert_array_equal(a, case.init(key, case.shape))
    b = np.asarray(case.init(KEY, case.shape))
    assert (a == b)[a != 0].mean() < 0.01  # some initializers put zeros
    assert abs(a.mean() - b.mean()) < 5 * b.std() / np.sqrt(b.size / 2)
    assert 0.7 < a.std() / b.std() < 1.4


@random
def test_seed_is_used_only_without_a_key(case: Case):
    seeded = jaxinit.get({**jaxinit.serialize(case.init), "config": {
        **case.init.get_config(), "seed": 7}})  # fmt: skip
    expected = case.init(KEY, case.shape)
    np.testing.assert_array_equal(seeded(None, case.shape), expected)
    other = seeded(jax.random.key(8), case.shape)
    np.testing.assert_array_equal(other, case.init(jax.random.key(8), case.shape))
    with pytest.raises(TypeError, match=r"seed=0"):
        case.init(None, case.shape)


@every
def test_reads_layout(case: Case):
    assert case.init.reads_layout is case.reads_layout


@pytest.mark.parametrize(
    ("init", "expected"),
    [
        (jaxinit.HeNormal(in_axis=None, out_axis=None), True),
        (jaxinit.HeNormal(in_axis=1, out_axis=0), False),
        (jaxinit.HeNormal(out_axis=(-2, -1), in_axis=0), False),
        (jaxinit.HeNormal(batch_axis="rest"), False),
        (jaxinit.VarianceScaling(2.0, batch_axis=0), False),
        (jaxinit.TorchKernel(1, 0), False),
        (jaxinit.Orthogonal(2.0, scale="spectral"), True),
        (jaxinit.Orthogonal(column_axis=0), False),
        (jaxinit.DeltaOrthogonal(batch_axis=0), False),
        (jaxinit.ConvOrthogonal(batch_axis=0), False),
        (jaxinit.Identity(batch_axis=0), False),
        (jaxinit.Sparse(0.5, axis=-1), False),
        (jaxinit.ICNR("normal"), True),
        (jaxinit.Scaled(jaxinit.Scaled("orthogonal", 2.0), 2.0), True),
        (jaxinit.Scaled(jaxinit.HeNormal(1, 0), 2.0), False),
        (jaxinit.Scaled(jax.nn.initializers.he_normal(), 2.0), False),
        (jaxinit.Clipped("he_normal", -1, 1), True),
        (jaxinit.DepthScaled("he_normal", 12), True),
        (jaxinit.DepthScaled("he_normal", 12, mode="index", index=1), True),
        (jaxinit.DepthScaled("he_normal", 12, mode="index"), False),
        (jaxinit.Normalized("he_normal", axis=-2), False),
        (jaxinit.Masked("he_normal", np.eye(3)), False),
        (jaxinit.Stacked("he_normal"), False),
        (jaxinit.Blocks("normal", 2), False),
        (jaxinit.Blocks("he_normal", 2, axis=0), False),
        (jaxinit.Concatenate(("zeros", "he_normal")), True),
        (jaxinit.Concatenate(("zeros", "he_normal"), axis=0), False),
    ],
)
def test_reads_layout_only_if_no_axis_is_named(init, expected):
    assert init.reads_layout is expected


@every
def test_hash_equality_pickle_copy_config_and_repr(case: Case):
    init = case.init
    config = json.loads(json.dumps(init.get_config()))
    twins = [
        copy.copy(init),
        copy.deepcopy(init),
        pickle.loads(pickle.dumps(init)),
        type(init).from_config(config),
        init.clone(),
        jaxinit.deserialize(json.loads(json.dumps(jaxinit.serialize(init)))),
        jaxinit.get(init),
    ]
    for twin in twins:
        assert twin == init and hash(twin) == hash(init) and type(twin) is type(init)
    assert len({init, *twins}) == 1
    assert init != jaxinit.Constant(123.0)
    with pytest.raises(AttributeError):
        init.seed = 1
    assert isinstance(init, jax.nn.initializers.Initializer)
    assert repr(init).startswith(type(init).__name__ + "(") and len(repr(init)) < 120


@every
def test_function_and_class_agree(case: Case):
    function = getattr(jaxinit.functional, type(case.init).identifiers[0])
    arguments = {k: v for k, v in vars(case.init).items() if k != "seed"}
    np.testing.assert_array_equal(
        function(KEY, case.shape, **arguments), case.init(KEY, case.shape)
    )


@every
def test_every_identifier_names_the_class(case: Case):
    cls = type(case.init)
    for name in (*cls.identifiers, cls.__name__):
        assert jaxinit.names()[name] is cls
