"""Rules draw as the layer's own initializer: same distribution, orthogonal maps."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import flax.linen as nn
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
import jaxinit.haiku

pytestmark = pytest.mark.accelerator

KEY = jax.random.key(0)
LECUN = nn.initializers.lecun_normal()
RULES = {"**/kernel*": "lecun_normal"}


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer that draws its kernels by LeCun's scheme.

    Attributes:
        name: Its name.
        init: Function from a key to the parameters.
        fan_in: Number of inputs of one output, by the end of the kernel's path.
        rules: Rules for LeCun's scheme.
    """

    name: str
    init: Callable[[Any], Any]
    fan_in: dict[str, int]
    rules: Any = dataclasses.field(default_factory=lambda: RULES)


def linen(module: nn.Module, *shapes: Any) -> Callable[[Any], Any]:
    args = [None if shape is None else jnp.ones(shape) for shape in shapes]
    return lambda key: module.init(key, *args)


def live(make: Callable[[nnx.Rngs], Any]) -> Callable[[Any], Any]:
    return lambda key: nnx.state(make(nnx.Rngs(key)), nnx.Param)


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x: Any, _: Any) -> Any:
        x = nn.Dense(24, name="dense")(x)
        return nn.MultiHeadDotProductAttention(4, name="attention")(x), None


class Shared(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        layer = nn.Dense(32)
        return layer(layer(x))


class Experts(nn.Module):
    """A mixture of experts whose kernel has a batch axis."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        init = nn.initializers.lecun_normal(batch_axis=(0,))
        return jnp.einsum("bi,eio->beo", x, self.param("kernel", init, (6, 24, 40)))


def layers(count: int, of: Any = Attention, **options: Any) -> Any:
    """``count`` layers by scan, each with parameters of its own."""
    split = {"params": True}
    return nn.scan(
        of, variable_axes={"params": 0}, split_rngs=split, length=count, **options
    )


def parallel(count: int, axis: int = 0) -> Any:
    split = {"params": True}
    options: Any = {"in_axes": (0, None), "split_rngs": split, "axis_size": count}
    return nn.vmap(Attention, variable_axes={"params": axis}, **options)


class Block(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.dense = nnx.Linear(24, 24, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 24, rngs=rngs, decode=False)


def stacked_blocks(rngs: nnx.Rngs) -> Block:
    @nnx.split_rngs(splits=5)
    @nnx.vmap(in_axes=(0,), out_axes=0)
    def make(rngs: nnx.Rngs) -> Block:
        return Block(rngs)

    return make(rngs)


HEADS = {f"{name}/kernel": 24 for name in ("query", "key", "value", "out")}
STACK = {f"attention/{name}": fan for name, fan in HEADS.items()} | {"dense/kernel": 24}
GATES = {f"{a}{b}/kernel": n for a, n in (("i", 24), ("h", 32)) for b in "ifgo"}

LAYERS = [
    Layer("dense", linen(nn.Dense(64), (1, 48)), {"kernel": 48}),
    Layer("heads", linen(nn.DenseGeneral((8, 16)), (1, 48)), {"kernel": 48}),
    Layer("joined", linen(nn.DenseGeneral(64, (-2, -1)), (1, 8, 6)), {"kernel": 48}),
    Layer("einsum", linen(nn.Einsum((48, 64), "bi,io->bo"), (1, 48)), {"kernel": 48}),
    Layer("conv", linen(nn.Conv(64, (3, 3)), (1, 9, 9, 8)), {"kernel": 72}),
    Layer(
        "grouped conv",
        linen(nn.Conv(64, (3, 3), feature_group_count=4), (1, 9, 9, 8)),
        {"kernel": 18},
    ),
    Layer("transposed", linen(nn.ConvTranspose(64, (3,)), (1, 9, 8)), {"kernel": 24}),
    Layer("attention", linen(nn.MultiHeadDotProductAttention(4), (1, 5, 24)), HEADS),
    Layer("scan", linen(layers(5)(), (1, 5, 24), None), STACK),
    Layer(
        "scan of remat",
        linen(layers(5, nn.remat(Attention))(), (1, 5, 24), None),
        STACK,
    ),
    Layer("vmap", linen(parallel(3)(), (3, 1, 5, 24), None), STACK),
    Layer("vmap, axis 1", linen(parallel(3, 1)(), (3, 1, 5, 24), None), STACK),
    Layer("scan of vmap", linen(layers(2, parallel(3))(), (3, 1, 5, 24), None), STACK),
    Layer("shared", linen(Shared(), (1, 32)), {"kernel": 32}),
    Layer(
        "experts",
        linen(Experts(), (1, 24)),
        {"kernel": 24},
        {"**/kernel": jaxinit.LecunNormal(batch_axis=0)},
    ),
    Layer(
        "embed",
        lambda key: nn.Embed(64, 48, embedding_init=LECUN).init(key, jnp.array([1])),
        {"embedding": 64},
        {"**/embedding": "lecun_normal"},
    ),
    Layer(
        "lstm",
        lambda key: nn.OptimizedLSTMCell(32, recurrent_kernel_init=LECUN).init(
            key, (jnp.ones((1, 32)), jnp.ones((1, 32))), jnp.ones((1, 24))
        ),
        GATES,
    ),
    Layer(
        "gru",
        lambda key: nn.GRUCell(32, recurrent_kernel_init=LECUN).init(
            key, jnp.ones((1, 32)), jnp.ones((1, 24))
        ),
        {f"{a}{b}/kernel": n for a, n in (("i", 24), ("h", 32)) for b in "rzn"},
    ),
    Layer("NNX linear", live(lambda r: nnx.Linear(48, 64, rngs=r)), {"kernel": 48}),
    Layer(
        "NNX heads",
        live(lambda r: nnx.LinearGeneral((6, 8), (4, 16), axis=(-2, -1), rngs=r)),
        {"kernel": 48},
    ),
    Layer("NNX conv", live(lambda r: nnx.Conv(8, 64, (3, 3), rngs=r)), {"kernel": 72}),
    Layer(
        "NNX einsum",
        live(lambda r: nnx.Einsum("bi,io->bo", (48, 64), (64,), rngs=r)),
        {"kernel": 48},
    ),
    Layer("NNX blocks", live(Block), STACK),
    Layer("NNX vmap", live(stacked_blocks), STACK),
    Layer(
        "NNX LoRA",
        live(
            lambda r: nnx.LoRA(
                48, 64, 80, b_initializer=LECUN, a_initializer=LECUN, rngs=r
            )
        ),
        {"lora_a": 48, "lora_b": 64},
        {"lora_*": "lecun_normal"},
    ),
    Layer(
        "Haiku",
        lambda key: hk.transform(lambda x: hk.Linear(64, w_init=lecun_haiku())(x)).init(
            key, jnp.ones((1, 48))
        ),
        {"w": 48},
        {"**/w": "lecun_normal"},
    ),
    Layer(
        "stacked by hand",
        lambda key: jnp.stack(
            [LECUN(k, (24, 40)) for k in jax.random.split(key, 3)], 1
        ),
        {"": 24},
        {"**": "lecun_normal"},
    ),
    Layer(
        "fused by hand",
        lambda key: jnp.concatenate(
            [LECUN(k, (24, 40)) for k in jax.random.split(key, 3)], 1
        ),
        {"": 24},
        {"**": "lecun_normal"},
    ),
]


def lecun_haiku() -> Any:
    return jaxinit.haiku.to_haiku(jaxinit.LecunNormal())


def by_path(tree: Any) -> dict[str, np.ndarray]:
    pairs = jax.tree_util.tree_leaves_with_path(tree)
    named = ((jax.tree_util.keystr(p, simple=True, separator="/"), x) for p, x in pairs)
    return {path.removesuffix("/value"): np.asarray(x, np.float64) for path, x in named}


def check_lecun(leaves: dict[str, np.ndarray], fan_in: dict[str, int]) -> None:
    """Asserts variance 1 / fan_in of a truncated normal, in five standard errors."""
    for end, fan in fan_in.items():
        found = [x for path, x in leaves.items() if path.endswith(end)]
        assert found, end
        for x in found:
            error = 5 * math.sqrt(0.5 / x.size)  # of the standard deviation, relative
            assert abs(x.std() * math.sqrt(fan) - 1) < error, (end, x.std(), fan**-0.5)


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_rules_draw_from_the_distribution_of_the_layer(layer):
    own = by_path(jax.jit(layer.init)(KEY))
    ruled = by_path(jaxinit.init(layer.init, KEY, rules=layer.rules))
    check_lecun(own, layer.fan_in)
    check_lecun(ruled, layer.fan_in)
    ends = tuple(layer.fan_in)
    for path in own:
        if path.endswith(ends):
            assert (own[path] != ruled[path]).mean() > 0.99, path
        else:
            np.testing.assert_array_equal(own[path], ruled[path])


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_shapes_of_eval_shape_give_the_same_values(layer):
    """`init` under rules, `init_tree` and `reinit` give the same values."""
    rules = jaxinit.Rules(layer.rules, default="zeros")
    shapes = jaxinit.eval_shape(layer.init, KEY)
    want = jaxinit.init(layer.init, KEY, rules=rules)
    jax.tree.map(
        np.testing.assert_array_equal, jaxinit.init_tree(KEY, shapes, rules), want
    )
    zeros = jax.tree.map(jnp.zeros_like, want)
    again = jaxinit.reinit(KEY, zeros, rules, like=shapes)
    jax.tree.map(np.testing.assert_array_equal, again, want)


def test_an_updated_shape_keeps_its_draw():
    """As one writes a dtype or a sharding into the shapes of a checkpoint."""
    init = linen(layers(4)(), (1, 5, 24), None)
    shapes = jaxinit.eval_shape(init, KEY)
    rules = jaxinit.Rules({"**/kernel": "lecun_normal"}, default="zeros")
    want = jaxinit.init_tree(KEY, shapes, rules)
    device = jax.sharding.SingleDeviceSharding(jax.devices()[1])
    changed = jax.tree.map(
        lambda s: s.update(dtype=jnp.bfloat16, sharding=device), shapes
    )
    made = jaxinit.init_tree(KEY, changed, rules)
    assert all(x.sharding == device for x in jax.tree.leaves(made))
    want = jax.tree.map(lambda x: x.astype(jnp.bfloat16), want)
    jax.tree.map(np.testing.assert_array_equal, made, want)
    loaded = jaxinit.fill_missing(KEY, {}, changed, rules)
    jax.tree.map(np.testing.assert_array_equal, loaded, want)
    kernel = shapes["params"]["dense"]["kernel"]
    assert type(kernel.update(shape=(3, 4))) is jax.ShapeDtypeStruct


def test_layers_whose_fans_flax_counts_its_own_way():
    """Flax counts batch axes and positions as inputs, and the rule does, too."""
    batched = nn.DenseGeneral(64, axis=(-2, -1), batch_dims=(0,))
    local = nn.ConvLocal(16, (3,))
    for module, shape in ((batched, (4, 8, 6)), (local, (1, 9, 8))):
        init = linen(module, shape)
        own = by_path(init(KEY))["params/kernel"]
        made = by_path(jaxinit.init(init, KEY, rules=RULES))["params/kernel"]
        assert abs(made.std() / own.std() - 1) < 5 * math.sqrt(1 / own.size)


def is_orthogonal(matrix: np.ndarray) -> bool:
    values = np.linalg.svd(matrix, compute_uv=False)
    return bool(np.abs(values - 1).max() < 1e-5)


def applied(layer: Callable[[jax.Array], jax.Array], count: int) -> np.ndarray:
    """Returns the matrix of a linear map on ``count`` features."""
    return np.stack([np.asarray(layer(x)).ravel() for x in jnp.eye(count)])


ORTHOGONAL = {"**/kernel": "orthogonal", "**/bias": "zeros"}


def test_orthogonal_maps_of_linen_heads():
    for module, shape in (
        (nn.DenseGeneral((4, 6)), (24,)),
        (nn.DenseGeneral(24, axis=(-2, -1)), (4, 6)),
        (nn.DenseGeneral((4, 3), axis=(-2, -1)), (4, 6)),
    ):
        x = jnp.ones(shape)
        variables = jaxinit.init(module.init, KEY, x, rules=ORTHOGONAL)
        inputs = jnp.eye(24).reshape(24, *shape)
        matrix = np.asarray(module.apply(variables, inputs)).reshape(24, -1)
        assert is_orthogonal(matrix)


def test_orthogonal_maps_of_scanned_attention():
    init = linen(layers(3)(), (1, 5, 24), None)
    params = by_path(jaxinit.init(init, KEY, rules=ORTHOGONAL))
    for path, kernel in params.items():
        if path.endswith("kernel"):
            made = [is_orthogonal(layer.reshape(24, 24)) for layer in kernel]
            assert made == [True] * 3, path
            assert abs(kernel[0] - kernel[1]).max() > 0.1


def test_orthogonal_maps_of_nnx():
    rules = ORTHOGONAL
    model = jaxinit.nnx.create(stacked_blocks, 0, rules=rules)
    kernels = np.asarray(model.attention.query.kernel[...])
    assert all(is_orthogonal(kernel.reshape(24, 24)) for kernel in kernels)
    layer = jaxinit.nnx.create(
        lambda r: nnx.LinearGeneral(24, (4, 6), rngs=r), 0, rules=rules
    )
    assert is_orthogonal(applied(layer, 24))


def test_orthogonal_maps_of_equinox():
    layer = jaxinit.reinit(KEY, eqx.nn.Linear(24, 16, key=KEY), ORTHOGONAL_EQUINOX)
    assert is_orthogonal(applied(layer, 24))


ORTHOGONAL_EQUINOX = {"**/weight": "orthogonal", "**/bias": "zeros"}
WEIGHTS = {"**/weight": "he_normal"}


@pytest.mark.parametrize(
    ("make", "fan_in"),
    [
        (lambda k: eqx.nn.Linear(16, 64, key=k), 16),
        (lambda k: eqx.nn.Conv2d(8, 64, 3, key=k), 72),
        (lambda k: eqx.nn.ConvTranspose1d(8, 64, 3, key=k), 24),
        (lambda k: eqx.nn.LSTMCell(16, 32, key=k).weight_ih, None),
        (eqx.filter_vmap(lambda k: eqx.nn.Linear(16, 64, key=k)), 16),
    ],
    ids=["linear", "conv", "transposed", "array alone", "stacked"],
)
def test_equinox_layers(make, fan_in):
    key = jax.random.split(KEY, 5) if "vmap" in repr(make) else KEY
    module = make(key)
    if fan_in is None:  # an array without its module is read as (in, out)
        made = jaxinit.reinit(KEY, {"weight": module}, WEIGHTS)["weight"]
        assert abs(np.std(made) * math.sqrt(module.shape[0] / 2) - 1) < 0.1
        return
    made = jaxinit.reinit(KEY, module, WEIGHTS).weight
    planned = jaxinit.init(make, key, rules=WEIGHTS).weight if key is KEY else made
    for weight in (made, planned):
        assert abs(np.std(weight) * math.sqrt(fan_in / 2) - 1) < 0.1
    np.testing.assert_array_equal(made, planned)


def test_axes_of_the_initializer_are_those_of_the_stored_kernel():
    """In Equinox an initializer with named axes gets the stored shape."""
    init = jaxinit.HeNormal(in_axis=1, out_axis=0)
    made = jaxinit.reinit(KEY, eqx.nn.Linear(16, 64, key=KEY), {"weight": init})
    want = init(jaxinit.leaf_key(KEY, "weight"), (64, 16))
    np.testing.assert_array_equal(made.weight, want)


def test_calls_and_keys():
    """One call gets the key of the leaf; of several, call i has i folded in."""
    calls: list[tuple[int, ...]] = []

    def recorded(key: Any, shape: Any, dtype: Any) -> Any:
        calls.append(shape)
        return jax.random.normal(key, shape, dtype)

    attention = linen(nn.MultiHeadDotProductAttention(4), (1, 5, 24))
    made = jaxinit.init(attention, KEY, rules={"**/query/kernel": recorded})
    assert set(calls) == {(24, 24)}
    path = "params/query/kernel"
    want = jax.random.normal(jaxinit.leaf_key(KEY, path), (24, 24))
    query = made["params"]["query"]["kernel"]
    np.testing.assert_allclose(query.reshape(24, 24), want, rtol=1e-6)

    calls.clear()
    scanned = linen(layers(3)(), (1, 5, 24), None)
    made = jaxinit.init(scanned, KEY, rules={"**/dense/kernel": recorded})
    assert set(calls) == {(24, 24)}
    key = jaxinit.leaf_key(KEY, "params/dense/kernel")
    keys = [jax.random.fold_in(key, i) for i in range(3)]
    want = jnp.stack([jax.random.normal(k, (24, 24)) for k in keys])
    np.testing.assert_allclose(made["params"]["dense"]["kernel"], want, rtol=1e-6)


def test_initializers_of_stacks_draw_all_layers_of_a_scan():
    """Stacked, and DepthScaled by index, get the whole stack in one call."""
    init = linen(layers(4)(), (1, 5, 24), None)
    by_index = jaxinit.DepthScaled("ones", 4, per_block=1, mode="index")
    rules = {
        "**/query/kernel": by_index,
        "**/dense/kernel": jaxinit.Stacked("orthogonal"),
    }
    made = jaxinit.init(init, KEY, rules=rules)["params"]
    query = np.asarray(made["attention"]["query"]["kernel"])
    want = np.arange(1, 5) ** -0.5
    np.testing.assert_allclose(
        query, np.broadcast_to(want[:, None, None, None], query.shape)
    )
    assert all(map(is_orthogonal, made["dense"]["kernel"]))


# Parameters alone


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.BatchNorm(use_running_average=True)(nn.Conv(8, (3, 3))(x))


class NormedNNX(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.drop = nnx.Dropout(0.1, rngs=rngs)


NORMAL = jaxinit.Rules({}, default=jaxinit.RandomNormal(stddev=0.02))


def test_a_default_excludes_statistics(capsys):
    init = linen(Normed(), (1, 8, 8, 3))
    made = jaxinit.init(init, KEY, rules=NORMAL)
    np.testing.assert_array_equal(made["batch_stats"]["BatchNorm_0"]["var"], np.ones(8))
    assert np.std(made["params"]["BatchNorm_0"]["scale"]) > 0
    model = jaxinit.nnx.create(NormedNNX, 0, rules=NORMAL)
    np.testing.assert_array_equal(model.norm.var[...], np.ones(8))
    again = jaxinit.reinit(KEY, NormedNNX(nnx.Rngs(0)), NORMAL)  # with Dropout's keys
    np.testing.assert_array_equal(again.norm.mean[...], np.zeros(8))
    jaxinit.nnx.explain(NormedNNX, 0, NORMAL)
    said = capsys.readouterr().out.splitlines()[-1]
    excluded = (
        "the default excludes 4 arrays that are not parameters, as drop/rngs/count"
    )
    assert said.startswith(excluded)
    assert "names 'count'" in said


def test_a_pattern_that_names_a_collection_reaches_it():
    init = linen(Normed(), (1, 8, 8, 3))
    made = jaxinit.init(init, KEY, rules={"batch_stats/**": jaxinit.Constant(3.0)})
    np.testing.assert_array_equal(made["batch_stats"]["BatchNorm_0"]["mean"], [3.0] * 8)
    model = jaxinit.nnx.create(NormedNNX, 0, rules={"**/mean": jaxinit.Constant(3.0)})
    np.testing.assert_array_equal(model.norm.mean[...], [3.0] * 8)
    with pytest.raises(
        ValueError, match=r"matches no parameter.* 'batch_stats' reaches"
    ):
        jaxinit.init(init, KEY, rules={"*/*/mean": "zeros"})


def test_optimizer_states_are_no_parameters():
    import optax
    from flax.training import train_state

    module, x = nn.Dense(4), jnp.ones((1, 16))

    def make(key: Any) -> Any:
        params = module.init(key, x)["params"]
        return train_state.TrainState.create(
            apply_fn=module.apply, params=params, tx=optax.adam(1e-3)
        )

    rules = {"**/kernel": "he_normal"}
    state = jaxinit.reinit(KEY, make(KEY), rules)
    for made in (state, jaxinit.init(make, KEY, rules=rules)):
        assert not np.asarray(made.opt_state[0].nu["kernel"]).any()
        assert not np.asarray(made.opt_state[0].mu["kernel"]).any()
        assert np.std(made.params["kernel"]) > 0.2
    again = jaxinit.reinit(KEY, state, {"opt_state/**/kernel": "ones"})
    np.testing.assert_array_equal(again.opt_state[0].nu["kernel"], np.ones((16, 4)))
    model = nnx.Linear(16, 4, rngs=nnx.Rngs(0))
    live_state = nnx.state(nnx.Optimizer(model, optax.adam(1e-3), wrt=nnx.Param))
    with pytest.raises(ValueError, match="names 'opt_state' reaches it"):
        jaxinit.reinit(KEY, live_state, rules)


# Shapes without a known draw


@pytest.mark.parametrize("init", ["lecun_normal", "orthogonal", LECUN, "keras"])
def test_a_shape_with_two_readings_is_refused(init):
    if init == "keras":
        init = jaxinit.HeNormal(in_axis=None, out_axis=None)
    tree = {"layers": jax.ShapeDtypeStruct((6, 512, 128), jnp.float32)}
    with pytest.raises(ValueError) as e:
        jaxinit.init_tree(KEY, tree, {"layers": init})
    for words in (
        "fan_in 3072 and fan_out 768",
        "6 stacked kernels (512, 128), with fan_in 512 and fan_out 128",
        "jaxinit.eval_shape",
        "in_axis=1, out_axis=2",
        "batch_axis=(0,)",
    ):
        assert words in str(e.value)
    # Of 12 layers, and of 5 layers with 4 heads.
    for shape in ((12, 768, 12, 64), (5, 4, 64, 256)):
        heads = {"query": jnp.ones(shape, jnp.bfloat16)}
        with pytest.raises(ValueError, match="two readings"):
            jaxinit.reinit(KEY, heads, {"query": init})


def test_shapes_with_one_reading():
    for shape in (
        (3, 3, 8, 16),
        (1, 7, 8, 16),
        (4, 1, 8, 16),
        (5, 3, 8, 16),
        (16, 16, 3, 64),
        (3, 3, 3, 4, 8),
        (2, 4, 4, 3, 96),
    ):
        tree = {"kernel": jax.ShapeDtypeStruct(shape, jnp.float32)}
        made = jaxinit.init_tree(KEY, tree, {"kernel": "lecun_normal"})["kernel"]
        fan_in = math.prod(shape[:-1])
        assert abs(np.std(made) * math.sqrt(fan_in) - 1) < 5 / math.sqrt(made.size)
    tree = {"kernel": jax.ShapeDtypeStruct((6, 64, 32), jnp.float32)}
    for init, fan_in in (
        (jaxinit.LecunNormal(in_axis=1, out_axis=2), 384),
        (jaxinit.LecunNormal(batch_axis=0), 64),
        (jaxinit.Stacked("lecun_normal"), 64),
    ):
        made = jaxinit.init_tree(KEY, tree, {"kernel": init})["kernel"]
        assert abs(np.std(made) * math.sqrt(fan_in) - 1) < 5 / math.sqrt(made.size)
    jaxinit.init_tree(KEY, tree, {"kernel": jaxinit.RandomNormal(stddev=0.02)})


# The table


def test_explain_shows_calls_fans_and_deviations(capsys):
    shapes = jaxinit.eval_shape(linen(layers(6)(), (1, 5, 24), None), KEY)
    jaxinit.Rules({"**/query/kernel": "lecun_normal"}, default=None).explain(shapes)
    lines = capsys.readouterr().out.splitlines()
    query = next(line for line in lines if "query/kernel" in line)
    words = " ".join(query.split())
    assert (
        "float32[6, 24, 4, 6] 6 x (24, 24) 1 **/query/kernel LecunNormal() 24 24"
        in words
    )
    given, own = (float(x) for x in words.split("24 24 ")[1].split(", own "))
    assert abs(given * 24**0.5 - 1) < 0.1 and abs(own * 24**0.5 - 1) < 0.1
    jaxinit.Rules({"**/query/kernel": "he_normal"}).explain(shapes)
    assert "!" not in capsys.readouterr().out  # a factor of 1.41
    jaxinit.Rules({"**/query/kernel": jaxinit.RandomNormal(stddev=2.0)}).explain(shapes)
    assert "!" in capsys.readouterr().out


def test_explain_merges_layers_and_measures_no_data_dependent_leaves(capsys):
    def init(key: Any, x: Any) -> Any:
        blocks = {
            f"block_{i}": LECUN(k, (24, 24))
            for i, k in enumerate(jax.random.split(key, 4))
        }
        return blocks | {"mean": x.mean(0), "scale": jnp.ones(3)}

    shapes = jaxinit.eval_shape(init, KEY, jax.ShapeDtypeStruct((5, 3), jnp.float32))
    jaxinit.Rules({"block_*": "lecun_normal"}).explain(shapes)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["block_*", "mean", "scale"]
    assert rows[0][-2] == "own" and rows[1][-1] == "own"  # of "the model's own"
    assert rows[2][-2:] == ["own", "0"]


# One dialect of paths, one order of arguments


def test_plans_name_nnx_parameters_as_rules_do():
    seen: list[str] = []

    def place(path: str, leaf: Any) -> None:
        seen.append(path)

    jaxinit.init(lambda r: nnx.Linear(4, 4, rngs=r), nnx.Rngs(0), out_shardings=place)
    assert seen == ["bias", "kernel"]
    planned = jaxinit.nnx.plan(Block, 0)
    assert "dense/kernel" in {leaf.path for leaf in planned.leaves}
    assert "/value" not in str(planned).replace("attention/value", "")
    seen.clear()
    jaxinit.nnx.create(Block, 0, out_shardings=place)
    assert "attention/query/kernel" in seen


def test_nnx_takes_a_seed_or_a_key():
    model = jaxinit.nnx.create(lambda r: nnx.Linear(4, 4, rngs=r), 3)
    other = jaxinit.nnx.create(lambda r: nnx.Linear(4, 4, rngs=r), jax.random.key(3))
    want = jax.jit(lambda: nnx.state(nnx.Linear(4, 4, rngs=nnx.Rngs(3))))()
    for made in (model, other):
        np.testing.assert_array_equal(made.kernel[...], want["kernel"][...])


def test_the_old_order_of_arguments_is_named():
    tree, rules = {"a": jnp.ones((2, 2))}, {"a": "he_normal"}
    with pytest.raises(TypeError, match=r"reinit\(key, params, rules\)"):
        jaxinit.reinit(tree, rules, KEY)
    with pytest.raises(TypeError, match=r"init_tree\(key, abstract_params, rules\)"):
        jaxinit.init_tree(tree, rules, KEY)
    with pytest.raises(TypeError, match=r"reinit\(key, params, rules\)"):
        jaxinit.reinit(tree, KEY, rules)
    order = r"fill_missing\(key, loaded, abstract_params, rules\)"
    with pytest.raises(TypeError, match=order):
        jaxinit.fill_missing(tree, tree, rules, KEY)


def test_like_must_be_the_same_tree():
    with pytest.raises(ValueError, match=r"like=.*\n  a\n  b"):
        jaxinit.reinit(KEY, {"a": jnp.ones(2)}, {"a": "zeros"}, like={"b": jnp.ones(2)})


def test_checkpoints_with_dicts_for_boxes_and_lists():
    model = nnx.List([nnx.Linear(4, 4, rngs=nnx.Rngs(i)) for i in range(2)])
    state = nnx.state(model, nnx.Param)
    loaded = {
        str(i): {
            name: {"value": layer[name].get_value()} for name in ("kernel", "bias")
        }
        for i, layer in state.items()
    }
    del loaded["1"]["bias"]
    made = jaxinit.fill_missing(KEY, loaded, state, {"1/bias": "ones"})
    np.testing.assert_array_equal(
        made[0]["kernel"].get_value(), state[0]["kernel"].get_value()
    )
    np.testing.assert_array_equal(made[1]["bias"].get_value(), np.ones(4))


def test_shapes_of_like_are_found_by_path():
    """Layers 2 and 10 have another order in a list than in a dict of names."""

    def init(key: Any) -> Any:
        keys = jax.random.split(key, 12)
        heads = [LECUN(k, (16, 16)).reshape(16, 4, 4) for k in keys[:3]]
        return heads + [LECUN(k, (16, 16)) for k in keys[3:]]

    shapes = jaxinit.eval_shape(init, KEY)
    named = {str(i): x for i, x in enumerate(init(KEY))}
    made = jaxinit.reinit(KEY, named, {"**": "orthogonal"}, like=shapes)
    assert all(is_orthogonal(x.reshape(16, 16)) for x in made.values())


def test_a_draw_behind_arithmetic_is_refused():
    """A leaf that was reshaped and then scaled may come from a matrix."""
    shapes = jaxinit.eval_shape(
        lambda k: 0.5 * LECUN(k, (64, 64)).reshape(64, 4, 16), KEY
    )
    with pytest.raises(ValueError, match="two readings") as e:
        jaxinit.init_tree(KEY, shapes, {"**": "lecun_normal"})
    assert "jaxinit.eval_shape" not in str(e.value)  # its shapes are those given
    kernel = nn.Conv(5, (3,), kernel_init=nn.initializers.orthogonal())
    shapes = jaxinit.eval_shape(linen(kernel, (1, 9, 7)), KEY)
    jaxinit.init_tree(KEY, shapes, {"**/kernel": "orthogonal", "**/bias": "zeros"})


def test_loaded_numbers_are_kept():
    wanted = {"a": jax.ShapeDtypeStruct((), jnp.float32), "b": jnp.zeros(2)}
    loaded = {"a": 5.0, "b": np.ones(2, np.float32)}
    made = jaxinit.fill_missing(KEY, loaded, wanted, {})
    assert float(made["a"]) == 5.0
    with pytest.raises(TypeError, match="fill_missing: b must be an array"):
        jaxinit.fill_missing(KEY, {"a": 5.0, "b": "text"}, wanted, {"b": "zeros"})


def test_no_layers():
    def init(key: Any) -> Any:
        return jax.vmap(lambda k: LECUN(k, (8, 24)))(jax.random.split(key, 0))

    assert jaxinit.init(init, KEY, rules={"**": "he_normal"}).shape == (0, 8, 24)


def test_one_row_shows_how_far_its_layers_differ(capsys):
    def init(key: Any) -> Any:
        scales = (0.125, 0.01, 0.001)
        return {f"block_{s}": s * jax.random.normal(key, (64, 64)) for s in scales}

    shapes = jaxinit.eval_shape(init, KEY)
    jaxinit.Rules({"**": jaxinit.RandomNormal(stddev=0.125)}).explain(shapes)
    row = capsys.readouterr().out.splitlines()[1]
    assert "own 0.000" in row or "own 0.001" in row
    assert "to 0.12" in row and "!" in row


def test_shared_layers_of_nnx_stay_shared():
    class Tied(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.first = nnx.LinearGeneral(8, (2, 4), rngs=rngs)
            self.second = self.first

    made = jaxinit.reinit(KEY, Tied(nnx.Rngs(0)), {"**/kernel": "orthogonal"})
    assert made.second is made.first
    assert is_orthogonal(np.asarray(made.first.kernel[...]).reshape(8, 8))
