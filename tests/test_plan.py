"""Plans: the values of jit, one compilation per distinct program, clear errors."""

import functools
import gc
import subprocess
import sys
import weakref

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from models import GPT
from plans import KEY, MODELS, TOKENS, assert_same, check

pytestmark = pytest.mark.accelerator


@pytest.mark.parametrize("name", [name for name in MODELS if name != "small"])
def test_models_equal_jit(name):
    model, x = MODELS[name]
    planned = check(model.init, KEY, x)
    assert len(planned.groups) < len(planned.leaves)


@pytest.mark.parametrize("impl", ["raw", "rbg", "unsafe_rbg"])
def test_other_keys(impl):
    model, x = MODELS["small"]
    key = jax.random.PRNGKey(3) if impl == "raw" else jax.random.key(3, impl=impl)
    check(model.init, {"params": key, "dropout": jax.random.split(key)[0]}, x)


def test_original_threefry():
    with jax.threefry_partitionable(False):
        model, x = MODELS["small"]
        check(model.init, KEY, x)


class Everything(nn.Module):
    """Collections, sharing, weight norm, arithmetic between draws, lifted layers."""

    @nn.compact
    def __call__(self, x):
        shared = nn.Dense(8)
        x = shared(shared(x))
        x = nn.WeightNorm(nn.Dense(8))(x)
        x = nn.BatchNorm(use_running_average=False)(x)
        x = nn.remat(nn.Dense)(8)(x)
        heads = nn.vmap(
            nn.Dense,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=None,
            axis_size=3,
        )
        x = heads(8)(x).mean(0)
        x = nn.Dropout(0.5, deterministic=False)(x)
        x = nn.RNN(nn.LSTMCell(8))(x[None])[0]
        pair = self.param("pair", self.pair, (8, 8))
        self.variable("state", "count", lambda: jnp.zeros((), jnp.int32))
        return x @ pair

    @staticmethod
    def pair(key, shape):
        a, b = jax.random.split(key)
        return jax.random.normal(a, shape) - 0.5 * jax.random.uniform(b, shape)


def test_linen_features():
    rngs = {"params": KEY, "dropout": jax.random.key(1)}
    check(Everything().init, rngs, jnp.ones((5, 8)), tolerance=1e-6)


class DataDependent(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", lambda key: 1 / jnp.std(x, axis=0))
        return nn.Dense(4)(x * scale)


def test_data_dependent_init():
    x = jax.random.normal(jax.random.key(5), (64, 8))
    planned = check(DataDependent().init, KEY, x, tolerance=1e-6)
    scales = [planned(KEY, x * factor)["params"]["scale"] for factor in (1.0, 2.0)]
    np.testing.assert_allclose(scales[0], 2 * scales[1], rtol=1e-5)


def test_every_standard_initializer_of_jax():
    nn_ = jax.nn.initializers
    inits = {
        "normal": nn_.normal(),
        "uniform": nn_.uniform(),
        "truncated": nn_.truncated_normal(),
        "constant": nn_.constant(0.3),
        "orthogonal": nn_.orthogonal(),
        **{
            n: getattr(nn_, n)()
            for n in ("he_normal", "glorot_uniform", "lecun_normal")
        },
    }

    def init(key):
        keys = jax.random.split(key, len(inits))
        return {
            n: f(k, (24, 16)) for k, (n, f) in zip(keys, inits.items(), strict=True)
        }

    check(init, KEY)


def test_few_and_many_keys_are_those_of_jit():
    def init(key):
        numbers = [*range(40), 2**31, 2**32 - 1]
        folded = [jax.random.fold_in(key, np.uint32(i)) for i in numbers]
        again = [jax.random.fold_in(k, 2**32 - 1 - i) for i, k in enumerate(folded)]
        return folded, again, jax.random.fold_in(again[3], 7)

    check(init, KEY, groups=0)


def test_every_jaxinit_initializer():
    from cases import ONE_EACH

    kinds = {type(case.init): case for case in ONE_EACH}

    def init(key):
        keys = jax.random.split(key, len(kinds))
        pairs = zip(keys, kinds.values(), strict=True)
        return {case.id: case.init(k, case.shape) for k, case in pairs}

    check(init, KEY)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_each_layer_of_a_map_has_its_own_key(impl):
    """Batched draws of other keys than Threefry would ignore all keys but the first."""

    def init(key):
        keys = jax.random.split(key, 3)
        return lax.map(lambda key: jax.random.normal(key, (4, 8)), keys)

    check(init, jax.random.key(3, impl=impl))


KERNEL = functools.partial(jax.nn.initializers.he_normal(), shape=(8, 4))


def folded(key):
    return [KERNEL(jax.random.fold_in(key, i)) for i in (3, 8, 2**32 - 1)]


def split(key):
    return [KERNEL(k) for k in jax.random.split(key, 3)]


def counted(key):
    def layer(step):
        return [KERNEL(jax.random.fold_in(key, 7 * step + i)) for i in range(3)]

    return lax.map(layer, jnp.arange(20))


def broadcast(key):
    """Equal layers, as of nn.scan without split_rngs."""
    return lax.scan(lambda carry, _: (carry, folded(key)), 0.0, None, length=3)[1]


def layers_of(body, count=3):
    return lambda key: lax.map(body, jax.random.split(key, count))


@pytest.mark.parametrize("impl", ["typed", "raw"])
@pytest.mark.parametrize(
    "init",
    [
        layers_of(folded),
        layers_of(split),
        counted,
        broadcast,
        layers_of(layers_of(folded, 2)),
        layers_of(lambda key: jax.vmap(split)(jax.random.split(key))),
        layers_of(jax.checkpoint(jax.jit(folded))),
        layers_of(folded, 0),
    ],
    ids=("fold_in split counted broadcast nested vmap remat none").split(),
)
def test_equal_leaves_of_a_scan_share_a_program(init, impl):
    """Their keys differ, which the body of the scan computes."""
    key = jax.random.PRNGKey(3) if impl == "raw" else jax.random.key(3)
    check(init, key, groups=1)


class Three(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        for _ in range(3):
            x = nn.Dense(4, use_bias=False)(x)
        return x, None


def scanned(layer, axis=0):
    rngs = {"params": True}
    return nn.scan(layer, variable_axes={"params": axis}, split_rngs=rngs, length=3)


HEADS = nn.vmap(
    Three,
    variable_axes={"params": 0},
    split_rngs={"params": True},
    in_axes=(0, None),
    out_axes=(0, None),
)


@pytest.mark.parametrize(
    "layers",
    [
        scanned(Three),
        scanned(Three, 1),
        scanned(nn.remat(Three)),
        scanned(scanned(Three)),
        scanned(HEADS),
    ],
    ids=["plain", "second axis", "remat", "nested", "vmap"],
)
def test_equal_leaves_of_a_linen_scan_share_a_program(layers, compilations):
    """Linen folds the path of each into the key inside the scan."""
    x = jnp.ones((2, 4))
    planned = check(lambda key: layers().init(key, x, None), KEY, groups=1)
    assert len(planned.leaves) == 3
    compilations.clear()
    jaxinit.init(lambda key: layers().init(key, x, None), KEY)
    assert len(compilations) == 1, compilations


@pytest.mark.parametrize("kind", ["callback", "rbg"])
def test_what_cannot_be_batched_stays_a_scan(kind):
    def layer(key):
        drawn = jax.random.normal(key, (4, 8))
        if kind == "rbg":
            return drawn
        shape = jax.ShapeDtypeStruct((4, 8), jnp.float32)
        return jax.pure_callback(lambda x: np.asarray(x) * 2, shape, drawn)

    impl = "rbg" if kind == "rbg" else "threefry2x32"
    check(layers_of(layer), jax.random.key(3, impl=impl))


def test_layers_with_constants():
    def layer(key):
        count = jnp.zeros((), jnp.int32)
        return {"w": jax.random.normal(key, (8,)), "scale": 1.0, "count": count}

    check(lambda key: lax.map(layer, jax.random.split(key, 3)), KEY)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_of_the_closure(impl):
    other = jax.random.key(7, impl=impl)

    def init(key):
        def layer(i):
            return jax.random.normal(jax.random.fold_in(other, i), (8,))

        return {
            "key": other,
            "drawn": jax.random.normal(other, (8,)),
            "split": jax.random.normal(jax.random.split(other)[1], (8,)),
            "scan": lax.map(layer, jnp.arange(3)),
            "both": jax.random.normal(jax.random.fold_in(key, 1), (8,)),
        }

    planned = check(init, KEY)
    again = planned(KEY)["key"]  # each call's own, to donate
    jax.jit(lambda key: key, donate_argnums=0)(again)
    assert_same(planned(KEY), jax.jit(init)(KEY))


def test_raw_keys_reshaped_in_another_order():
    def init(key):
        return jax.random.normal(jax.random.split(key, 2).ravel(order="F")[:2], (9,))

    check(init, jax.random.PRNGKey(0))


@pytest.mark.parametrize("f", [jnp.tanh, jnp.exp, jnp.log, jnp.expm1, jnp.sqrt])
def test_constants_have_the_bits_of_jit(f):
    numbers = np.linspace(0.01, 5, 20, dtype=np.float32)
    check(lambda key: [jnp.full((3,), f(x)) for x in numbers], KEY)


def test_constants_passed_to_an_inner_jit_are_rounded_as_in_jit():
    """XLA expands erf, tanh and rsqrt in an inner function before inlining it."""
    rng, numbers = jax.random, np.linspace(0.1, 2, 20, dtype=np.float32)
    called = jax.jit(lambda x: jnp.tanh(lax.rsqrt(x) / 1.7))
    inlined = jax.checkpoint(lambda x: jnp.tanh(x))  # is no function for XLA

    def init(key):
        bounds = [(-b, b) for b in (0.05, 0.25, 0.34)] + [(-0.31, 2.16), (-2.15, 1.82)]
        return {
            "truncated": [rng.truncated_normal(key, *ends, (8, 16)) for ends in bounds],
            "called": [jnp.full((3,), called(x)) for x in numbers],
            "inlined": [jnp.full((3,), inlined(x)) for x in numbers],
            "gamma": rng.gamma(key, 1.3, (8, 16)),
            "wald": rng.wald(key, 1.3, (8, 16)),
        }

    check(init, KEY)


@pytest.mark.parametrize("setting", [jax.enable_x64, jax.threefry_partitionable])
def test_settings_must_be_those_of_planning(setting):
    def init(key):
        return jax.random.normal(key, (64, 64))

    was = setting is jax.threefry_partitionable
    planned = jaxinit.plan(init, KEY)
    with setting(not was):
        with pytest.raises(RuntimeError, match=f"was {was} when .* {not was} now"):
            planned(KEY)
        other = jaxinit.plan(init, KEY)
    with pytest.raises(RuntimeError, match=f"was {not was} when .* {was} now"):
        other(KEY)


def test_python_numbers_of_the_result_are_arrays_as_of_jit():
    def init(key):
        numbers = {"step": 3, "eps": 0.5, "on": True, "root": 1j, "minus": -0.0}
        return {"w": jax.random.normal(key, (2,)), **numbers, "none": None}

    expected = jax.jit(init)(KEY)
    for made in (
        jaxinit.init(init, KEY),
        jaxinit.plan(
            init, KEY, out_shardings=jax.sharding.SingleDeviceSharding(jax.devices()[0])
        )(KEY),
        jaxinit.init(init, KEY, rules={"w": jaxinit.RandomNormal()})
        | {"w": expected["w"]},
    ):
        assert_same(made, expected)
        for x, y in zip(jax.tree.leaves(made), jax.tree.leaves(expected), strict=True):
            assert isinstance(x, jax.Array) and x.weak_type == y.weak_type
        assert np.signbit(made["minus"])
    with pytest.raises(OverflowError):  # as jit
        jaxinit.init(lambda key: 2**40, KEY)
    made = jaxinit.init(lambda key: {"name": "a", "f": len, "n": 2}, KEY)
    assert made["name"] == "a" and made["f"] is len and made["n"].dtype == jnp.int32


def test_train_state_steps_like_that_of_jit():
    train_state = pytest.importorskip("flax.training.train_state")
    optax = pytest.importorskip("optax")
    tx = optax.adam(0.1)

    def init(key):
        params = {"w": jax.random.normal(key, (3,))}
        return train_state.TrainState.create(apply_fn=len, params=params, tx=tx)

    made, expected = jaxinit.init(init, KEY), jax.jit(init)(KEY)
    assert_same(made, expected)
    assert made.step.dtype == jnp.int32 and made.step == 0


def test_nan_as_a_fixed_argument_is_itself():
    planned = jaxinit.plan(lambda key, x: jax.numpy.full((2,), x), KEY, float("nan"))
    assert np.isnan(planned(KEY, float("nan"))).all()
    for other in (1.0, jnp.ones(2)):
        with pytest.raises(TypeError, match="was nan when it was planned"):
            planned(KEY, other)


def test_weak_types_stay():
    def init(key):
        return [jnp.asarray(1.0), jnp.asarray(2), jnp.broadcast_to(1.0, (3,)), key]

    made = check(init, KEY)(KEY)
    assert [x.weak_type for x in made[:3]] == [True, True, True]
    assert (made[0] * jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


def test_control_flow_stays_whole_without_its_unused_parts():
    def init(key, x):
        def layer(carry, k):
            return jnp.tanh(carry @ jnp.ones((4, 4))), jax.random.normal(k, (4, 2))

        _, stacked = lax.scan(layer, x, jax.random.split(key, 3))
        looped = lax.fori_loop(
            0, 3, lambda i, a: a + jax.random.normal(jax.random.fold_in(key, i), (2,)),
            jnp.zeros(2),
        )  # fmt: skip
        chosen = lax.cond(
            x[0] > 0,
            lambda k: jax.random.normal(k, (3,)),
            lambda k: jax.random.uniform(k, (3,)),
            key,
        )
        return stacked, looped, chosen

    planned = check(init, KEY, jnp.ones(4), tolerance=1e-6)
    text = "".join(str(n.params) for g in planned.groups for n in g.members[0].nodes)
    assert "tanh" not in text


def test_custom_derivatives_and_shard_map():
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))

    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))

    def init(key):
        a = jax.nn.relu(jax.random.normal(key, (8, 4)))
        b = double(jax.random.uniform(key, (8, 4)))
        c = jax.shard_map(jnp.sin, mesh=mesh, in_specs=P("i"), out_specs=P("i"))(a)
        return a, jax.checkpoint(jnp.cos)(b), c

    check(init, KEY, tolerance=1e-6)


def test_results_that_are_not_arrays_or_not_computed():
    class Opaque:
        pass

    token = Opaque()

    def init(key, x, *, train):
        assert train is True
        made = jaxinit.HeNormal()(key, (4, 4))
        return {
            "w": made, "tied": made, "key": key, "next": jax.random.split(key)[1],
            "x": x, "none": None, "fn": jnp.tanh, "token": token, "number": 3,
            "literal": jnp.float32(2.5) * 2, "array": np.arange(3),
        }  # fmt: skip

    planned = jaxinit.plan(init, KEY, jnp.ones(2), train=True)
    out = planned(KEY, jnp.ones(2), train=True)
    assert out["none"] is None and out["fn"] is jnp.tanh and out["token"] is token
    assert out["number"].dtype == jnp.int32 and out["number"] == 3
    assert out["tied"] is out["w"]
    assert jax.random.key_data(out["key"]).tolist() == jax.random.key_data(KEY).tolist()
    assert out["next"] == jax.random.split(KEY)[1]
    np.testing.assert_array_equal(out["literal"], 5.0)
    np.testing.assert_array_equal(out["array"], np.arange(3))
    np.testing.assert_array_equal(out["x"], np.ones(2))
    np.testing.assert_array_equal(out["w"], jaxinit.HeNormal()(KEY, (4, 4)))


def test_constants_of_the_closure_are_inputs():
    tables = [jnp.arange(6.0).reshape(2, 3) * i for i in range(1, 5)]

    def init(key):
        keys = jax.random.split(key, 4)
        return [
            t + jax.random.normal(k, (2, 3)) for k, t in zip(keys, tables, strict=True)
        ]

    check(init, KEY, groups=1)


def test_shared_scalars_do_not_tie_leaves_together():
    def init(key):
        scale = jnp.sqrt(jnp.float32(2.0))
        return [scale * jax.random.normal(k, (4,)) for k in jax.random.split(key, 5)]

    check(init, KEY, groups=1)


def test_compilations_equal_groups_whatever_the_depth(compilations):
    counts = []
    for layers in (2, 9):
        model = GPT(layers=layers, width=40 + 4 * layers, vocab=103)
        planned = jaxinit.plan(model.init, KEY, TOKENS)
        assert not compilations, "planning compiles nothing"
        jax.block_until_ready(planned(KEY, TOKENS))
        compiled = len(planned.texts())
        assert len(compilations) == compiled, compilations
        jax.block_until_ready(planned(jax.random.key(9), TOKENS))
        assert len(compilations) == compiled, "a second key compiles nothing"
        counts.append(len(planned.groups))
        compilations.clear()
    assert counts[0] == counts[1]


def test_no_forward_pass_and_no_full_size_temporaries():
    model = GPT(layers=2, width=256, vocab=2**16)
    planned = jaxinit.plan(model.init, KEY, TOKENS).compile()
    used = {n.name for g in planned.groups for n in g.members[0].nodes}
    assert not used & {"dot_general", "tanh", "exp", "reduce_sum", "gather"}
    smallest = min(leaf.bytes for leaf in planned.leaves if len(leaf.shape) == 2)
    there = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # leaf by leaf
    apart = jaxinit.plan(model.init, KEY, TOKENS, out_shardings=there).compile()
    assert apart.memory()["temporary"] < smallest / 4
    memory = planned.memory()
    assert memory["temporary"] < memory["result"] / 4
    assert memory["result"] == sum(leaf.bytes for leaf in planned.leaves)


def test_planning_from_abstract_arguments():
    model, x = MODELS["gpt2"]
    abstract = jax.ShapeDtypeStruct(x.shape, x.dtype)
    planned = jaxinit.plan(model.init, jax.eval_shape(lambda: KEY), abstract)
    assert_same(planned(KEY, x), jax.jit(model.init)(KEY, x))


def test_inside_transformations():
    model, x = nn.Dense(8), jnp.ones((2, 4))
    planned = jaxinit.plan(model.init, KEY, x)
    expected = jax.jit(model.init)(KEY, x)
    assert_same(jax.jit(planned)(KEY, x), expected)
    keys = jax.random.split(KEY, 2)
    many = jax.vmap(planned, in_axes=(0, None))(keys, x)
    mapped = jax.jit(jax.vmap(model.init, in_axes=(0, None)))
    assert_same(many, mapped(keys, x), 1e-6)
    shapes = jax.eval_shape(planned, KEY, x)
    assert jax.tree.structure(shapes) == jax.tree.structure(expected)
    assert_same(jax.jit(lambda k: jaxinit.init(model.init, k, x))(KEY), expected)

    def scaled(s, key):
        return s * jax.random.normal(key, (3,))

    gradient = jax.grad(lambda s: jaxinit.plan(scaled, 1.0, KEY)(s, KEY).sum())(2.0)
    np.testing.assert_allclose(gradient, jax.random.normal(KEY, (3,)).sum(), rtol=1e-6)


def test_disabled_jit_bypasses_the_plan():
    def init(key):
        return jaxinit.Sparse(0.5)(key, (4, 8)), jax.random.normal(key, (3,))

    shapes = {"a": jax.ShapeDtypeStruct((4, 8), jnp.float32)}
    planned = jaxinit.plan(init, KEY)
    with jax.disable_jit():
        assert_same(planned(KEY), init(KEY))
        made = jaxinit.init_tree(KEY, shapes, {"a": "he_normal"})["a"]
    assert not planned.texts()
    expected = jaxinit.HeNormal()(jaxinit.leaf_key(KEY, "a"), (4, 8))
    np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_inside_jit_with_arguments_from_outside():
    """``jax.eval_shape(lambda: model.init(key, x))`` is the usual idiom of Flax."""
    model, x = nn.Dense(4), jnp.ones((1, 3))
    planned = jaxinit.plan(model.init, KEY, x)
    expected = planned(KEY, x)
    assert_same(jax.jit(lambda: planned(KEY, x))(), expected)
    assert_same(jax.jit(lambda: jaxinit.linen.init(model, KEY, x))(), expected)
    total = float(expected["params"]["kernel"].sum())

    def times(y):
        return y * planned(KEY, x)["params"]["kernel"].sum()

    np.testing.assert_allclose(jax.vmap(times)(jnp.arange(2.0)), [0, total], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(times)(1.0), total, rtol=1e-6)
    shapes = jax.eval_shape(lambda: jaxinit.init(model.init, KEY, x))
    assert shapes["params"]["kernel"].shape == (3, 4)

    def graph(rngs):
        return nnx.state(jaxinit.nnx.create(lambda r: nnx.Linear(3, 4, rngs=r), rngs))

    made = jax.jit(lambda: graph(nnx.Rngs(0)))()
    np.testing.assert_array_equal(
        made["kernel"][...], graph(nnx.Rngs(0))["kernel"][...]
    )


def test_a_function_with_side_effects_is_one_program(capfd):
    def init(key):
        w = jax.random.normal(key, (4, 4))
        jax.debug.print("made {}", w.shape[0])
        return w, jnp.zeros(3)

    planned = check(init, KEY)
    assert "side effects" in planned.reason and "side effects" in str(planned)
    jax.effects_barrier()
    assert "made 4" in capfd.readouterr().out


def test_a_function_with_keys_from_floating_point_data_is_one_program():
    def init(key, x):
        key = jax.random.fold_in(key, (x.sum() * 10).astype(jnp.int32))
        return jax.random.normal(key, (4,))

    planned = check(init, KEY, jnp.arange(3.0))
    assert "floating-point" in planned.reason


def test_progress_and_text():
    model, x = MODELS["gpt2_bfloat16"]
    seen = []
    planned = jaxinit.plan(model.init, KEY, x, progress=lambda *a: seen.append(a))
    text = str(planned)
    assert "params/block_0/attention/key/kernel" in text
    assert "drawn from 8 bits" in text and "jaxinit's RandomNormal draw" in text
    assert "LecunNormal" in text
    kernel = next(x for x in planned.leaves if x.path.endswith("up/kernel"))
    assert kernel.coarse == (
        8,
        "TruncatedNormal, or LecunNormal, GlorotNormal, HeNormal",
    )
    assert f"{len(planned.leaves)} arrays" in text
    planned(KEY, x)
    compiled = len(planned.texts())
    assert seen == [(i + 1, compiled, "compiled") for i in range(compiled)]
    wide = str(jaxinit.plan(MODELS["gpt2"][0].init, KEY, x))
    assert "drawn from" not in wide


def test_data_on_a_mesh():
    """Arguments may be committed to other devices than the result."""
    mesh = jax.make_mesh((8,), ("a",), axis_types=(jax.sharding.AxisType.Auto,))
    x = jax.random.normal(KEY, (16, 8))
    expected = jax.jit(DataDependent().init)(KEY, x)
    placed = jax.device_put(x, NamedSharding(mesh, P("a")))
    assert_same(jaxinit.init(DataDependent().init, KEY, placed), expected, 1e-6)
    rows = NamedSharding(mesh, P())
    there = jax.device_put(x, jax.devices()[3])
    made = jaxinit.init(DataDependent().init, KEY, there, out_shardings=rows)
    assert_same(made, expected, 1e-6)


def test_donated_arguments_are_deleted():
    x = jnp.arange(4.0)

    def init(key, x, y):
        return jax.random.normal(key, (4,)) + x, y

    y = jnp.ones(2)
    made = jaxinit.plan(init, KEY, x, y, donate=(1, 2))(KEY, x, y)
    assert x.is_deleted() and not y.is_deleted() and made[1].tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="donate"):
        jaxinit.plan(init, KEY, made[0], y, donate=3)
    for wrong in (True, False, (0, True)):
        with pytest.raises(TypeError, match=r"not bools.*donate=\(\)"):
            jaxinit.plan(init, KEY, made[0], y, donate=wrong)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda p: p(KEY, jnp.ones((2, 5))),
            r"argument 1 was float32\[2, 4\].*\[2, 5\]",
        ),
        (lambda p: p(KEY, jnp.ones((2, 4), jnp.int32)), "int32"),
        (
            lambda p: p(jax.random.key(0, impl="rbg"), jnp.ones((2, 4))),
            "argument 0.*rbg",
        ),
        (lambda p: p(jax.random.PRNGKey(0), jnp.ones((2, 4))), r"uint32\[2\]"),
        (lambda p: p(KEY), "structure"),
        (lambda p: p(KEY, {"x": jnp.ones((2, 4))}), "structure"),
        (lambda p: p(KEY, 3), "argument 1"),
        (
            lambda p: p(jax.eval_shape(lambda: KEY), jnp.ones((2, 4))),
            "argument 0 is a ShapeDtypeStruct.*params/kernel.*Pass an array",
        ),
    ],
)
def test_changed_arguments_are_named(call, message):
    planned = jaxinit.plan(nn.Dense(3).init, KEY, jnp.ones((2, 4)))
    with pytest.raises(TypeError, match=message):
        call(planned)


def test_arguments_on_which_no_leaf_depends_may_be_abstract():
    """As a batch of real size, which Linen's ``lazy_init`` spares."""
    huge = jax.ShapeDtypeStruct((2**30, 2**12), jnp.float32)  # 16 TB

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.Dropout(0.1, deterministic=not train)(nn.Dense(8)(x))
            return nn.Dense(3)(x)

    def printing(key, x):
        jax.debug.callback(lambda: None)
        return Net().init(key, x)

    expected = jax.jit(Net().init)(KEY, jnp.ones((1, 2**12)))
    for fn in (Net().init, Net().lazy_init, printing):
        planned = jaxinit.plan(fn, KEY, huge)
        assert_same(planned(KEY, huge), expected)
        assert_same(jaxinit.init(fn, KEY, huge), expected)
    assert_same(jaxinit.linen.init(Net(), {"params": KEY}, huge, train=False), expected)
    rules = {"**/bias": "zeros"}
    assert_same(jaxinit.init(Net().init, KEY, huge, rules=rules), expected)


def test_an_abstract_argument_on_which_a_leaf_depends_is_named():
    x = jax.ShapeDtypeStruct((64, 8), jnp.float32)

    def printing(key, x):
        jax.debug.callback(lambda: None)
        return {"mean": x.mean()}

    for fn, leaf in ((DataDependent().init, "params/scale"), (printing, "mean")):
        with pytest.raises(
            TypeError, match=f"argument x is a Shape.* leaf {leaf} depends"
        ):
            jaxinit.init(fn, KEY, x=x)


def test_changed_static_arguments_are_named():
    planned = jaxinit.plan(lambda key, *, n: jax.random.normal(key, (n,)), KEY, n=3)
    with pytest.raises(TypeError, match=r"argument n was 3 .* is 4 now"):
        planned(KEY, n=4)


def test_out_shardings_of_every_form():
    mesh = jax.make_mesh(
        (4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2
    )
    whole, rows = NamedSharding(mesh, P()), NamedSharding(mesh, P("a"))

    def init(key):
        k1, k2 = jax.random.split(key)
        w = {"kernel": jaxinit.HeNormal()(k1, (8, 4)), "bias": jnp.zeros(8)}
        return {"a": w, "b": {"kernel": jaxinit.HeNormal()(k2, (8, 4))}}

    expected = jax.jit(init)(KEY)
    forms = {
        "one": (rows, [rows] * 3),
        "prefix": ({"a": rows, "b": None}, [rows, rows, None]),
        "function": (
            lambda path, leaf: rows if path.endswith("kernel") else whole,
            [whole, rows, rows],
        ),
    }
    for form, (wanted, found) in forms.items():
        planned = jaxinit.plan(init, KEY, out_shardings=wanted)
        assert [leaf.sharding for leaf in planned.leaves] == found, form
        made = planned(KEY)
        assert_same(made, expected)
        for leaf, sharding in zip(jax.tree.leaves(made), found, strict=True):
            assert sharding is None or leaf.sharding == sharding
    with jax.set_mesh(mesh):
        made = jaxinit.init(init, KEY, out_shardings=P("a"))
        assert made["a"]["kernel"].sharding == rows


@pytest.mark.parametrize(
    ("wanted", "kind", "message"),
    [
        (P("a"), ValueError, "needs a mesh"),
        ({"w": None, "z": None}, ValueError, "prefix of the result"),
        (lambda path, leaf: 3, TypeError, "at w must be a Sharding"),
        (
            lambda path, leaf: NamedSharding(jax.make_mesh((8,), ("a",)), P("a")),
            ValueError,
            "at w: .* does not fit shape",
        ),
        (
            lambda path, leaf: NamedSharding(
                jax.make_mesh((8,), ("a",)), P(None, None, "a")
            ),
            ValueError,
            "at w: .* for 3 dimensions and the leaf has 2: shorten",
        ),
    ],
)
def test_shardings_that_do_not_match_are_named(wanted, kind, message):
    def init(key):
        return {"w": jax.random.normal(key, (3, 2))}

    with pytest.raises(kind, match=message):
        jaxinit.plan(init, KEY, out_shardings=wanted)


def test_a_kernel_that_multiplies_data_has_its_own_group():
    x = jax.random.normal(jax.random.key(1), (4, 8))

    def make(key):
        w = jax.nn.initializers.lecun_normal()(key, (8, 16))
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


def test_results_that_depend_on_each_other_share_a_group():
    x = jnp.ones((8, 8))

    def make(key):
        w = jax.nn.initializers.lecun_normal()(key, (8, 8))
        s = x @ w
        return w, s, s @ x + w

    assert_same(check(make, KEY, groups=1, tolerance=1e-6)(KEY)[0], make(KEY)[0], 1e-6)


def test_constants_can_be_donated():
    table = jnp.arange(3.0)
    planned = jaxinit.plan(lambda key: (table, jax.random.normal(key, (2,))), KEY)
    first, second = planned(KEY), planned(KEY)
    first[0].delete()
    for made in (second, planned(jax.random.key(5))):
        np.testing.assert_array_equal(made[0], table)


def test_a_deleted_plan_is_freed_without_garbage_collection():
    planned = jaxinit.nnx.plan(lambda rngs: nnx.Linear(8, 4, rngs=rngs), nnx.Rngs(0))
    planned(nnx.Rngs(1))
    gone = weakref.ref(planned)
    gc.disable()
    try:
        del planned
        assert gone() is None
    finally:
        gc.enable()


def test_plans_do_not_change_garbage_collection():
    """A plan must not enable what another thread disabled, nor disable it."""
    states = []

    def init(key):
        states.append(gc.isenabled())
        return jax.random.normal(key, (2,))

    jaxinit.plan(init, KEY, progress=lambda *_: states.append(gc.isenabled()))(KEY)
    assert states == [True, True]


def test_plans_copy_the_arrays_of_a_closure():
    """A later change of an array changes no result, as in jit."""
    table, number = np.ones((4, 4), np.float32), np.array(2.0, np.float32)

    def init(key):
        drawn = jax.random.normal(key, (4, 4))
        steps = lax.scan(lambda c, _: (c * number, None), drawn, None, length=2)[0]
        inner = jax.jit(lambda x: x * number + table)(drawn)
        return table, drawn + table, drawn * number, steps, inner, jnp.full(3, number)

    def effects(key):
        jax.debug.callback(lambda: None)
        return init(key)

    for fn in (init, effects):
        planned = jaxinit.plan(fn, KEY)
        expected = jax.jit(init)(KEY)
        table[:], number[...] = 9.0, 7.0
        for made in (planned(KEY), planned(KEY)):
            assert_same(made, expected)
        table[:], number[...] = 1.0, 2.0


MEMORY = """
import jax, jax.numpy as jnp, jaxinit
from models import GPT

def status(field):
    with open("/proc/self/status") as lines:
        return next(1024 * int(x.split()[1]) for x in lines if x.startswith(field))

model, x, key = GPT(4, 512, 50257), jnp.zeros((1, 8), int), jax.random.key(0)
planned = jaxinit.plan(model.init, key, x).compile()
jax.block_until_ready(jaxinit.HeNormal()(key, (8, 8)))
open("/proc/self/clear_refs", "w").write("5")  # the peak begins here
resting = status("VmRSS")
params = jax.block_until_ready(planned(key, x))
print((status("VmHWM") - resting) / planned.memory()["result"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_the_parameters():
    import pathlib

    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        capture_output=True,
        text=True,
        check=True,
        cwd=pathlib.Path(__file__).parent,
    )
    assert 0.7 < float(done.stdout) < 1.3, done.stdout


def test_a_table_shows_no_control_characters_and_no_long_paths():
    names = "a\x1b[2J", "b" * 10**5
    for name in names:
        for kept in (False, True):  # a leaf that the function takes and returns
            plan = jaxinit.plan(
                lambda key, x, name=name, kept=kept: {
                    name: x if kept else jax.random.normal(key, (2,))
                },
                KEY,
                jnp.ones(2),
            )
            assert "\x1b" not in str(plan) and len(str(plan)) < 2000
            assert plan.leaves[0].path == name
