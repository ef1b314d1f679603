"""Layouts of Equinox's layers, compared with the outputs of the layers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit._paths import parts_of
from jaxinit.equinox import layouts
from layouts import kernels_of, stored

KEY = jax.random.key(0)


def abstract(make, *args, **kwargs):
    """Returns a layer of abstract arrays: layouts need no values, nothing compiles."""
    return eqx.filter_eval_shape(lambda key: make(*args, **kwargs, key=key), KEY)


def with_kernel(layer, name="weight", seed=0):
    """Returns the layer with random kernels and no bias, and the kernels."""
    array, layout = getattr(layer, name), layouts(layer)[name,]
    kernels = kernels_of(layout, array.shape, seed)
    new = jnp.asarray(stored(layout, kernels))
    assert new.shape == array.shape
    return eqx.tree_at(lambda m: getattr(m, name), layer, new), kernels


def data(*shape):
    return np.random.default_rng(7).standard_normal(shape)


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def test_linear_multiplies_by_the_kernel():
    layer, kernel = with_kernel(abstract(eqx.nn.Linear, 3, 5, use_bias=False))
    assert kernel.shape == (3, 5)
    x = data(3)
    same(layer(x), x @ kernel)


@pytest.mark.parametrize(
    ("inputs", "outputs", "shape"),
    [("scalar", 5, (1, 5)), (3, "scalar", (3, 1)), ("scalar", "scalar", (1, 1))],
)
def test_linear_of_scalars(inputs, outputs, shape):
    layer, kernel = with_kernel(abstract(eqx.nn.Linear, inputs, outputs, False))
    assert kernel.shape == shape
    x = data() if inputs == "scalar" else data(inputs)
    same(np.ravel(layer(jnp.asarray(x))), np.reshape(x, shape[0]) @ kernel)
    biased = layouts(abstract(eqx.nn.Linear, inputs, outputs))
    assert biased["bias",].shape == shape[1:]


CONVS = {
    "Conv1d": (eqx.nn.Conv1d, (4,), {}),
    "Conv2d": (eqx.nn.Conv2d, (3, 2), {}),
    "Conv3d": (eqx.nn.Conv3d, (2, 3, 1), {}),
    "Conv": (eqx.nn.Conv, (3, 2), {"num_spatial_dims": 2}),
    "ConvTranspose1d": (eqx.nn.ConvTranspose1d, (4,), {}),
    "ConvTranspose2d": (eqx.nn.ConvTranspose2d, (3, 2), {}),
    "ConvTranspose3d": (eqx.nn.ConvTranspose3d, (2, 3, 1), {}),
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", CONVS)
def test_convolutions_sum_over_taps_and_inputs(name, groups):
    make, taps, options = CONVS[name]
    made = abstract(
        make,
        in_channels=4,
        out_channels=6,
        kernel_size=taps,
        groups=groups,
        use_bias=False,
        **options,
    )
    layer, kernel = with_kernel(made)
    assert kernel.shape == (*taps, 4 // groups, 6)

    def one(layer, x):
        """Returns the outputs at the position where all taps meet the input."""
        y = np.asarray(layer(jnp.asarray(x, jnp.float32)))
        middle = tuple(n // 2 if n > 1 else 0 for n in y.shape[1:])
        return y[(slice(None), *middle)]

    x = data(4, *taps)
    expected = np.concatenate(
        [
            np.tensordot(np.moveaxis(part, 0, -1), k, len(taps) + 1)
            for part, k in zip(
                np.split(x, groups), np.split(kernel, groups, -1), strict=True
            )
        ]
    )
    same(one(layer, x), expected)
    ones = eqx.tree_at(lambda m: m.weight, made, jnp.ones(made.weight.shape))
    fan_in, _ = jaxinit.fans(kernel.shape)
    same(one(ones, np.ones_like(x)), np.full(6, fan_in))


def test_bias_of_a_convolution_is_a_vector():
    found = layouts(abstract(eqx.nn.Conv2d, 3, 6, 3))["bias",]
    assert found.shape == (6,)
    values = np.arange(6.0)
    assert stored(found, values).shape == (6, 1, 1)
    same(stored(found, values)[:, 0, 0], values)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_gates_of_lstm_lie_side_by_side():
    layer = abstract(eqx.nn.LSTMCell, 3, 4, use_bias=False)
    layer, inner = with_kernel(layer, "weight_ih")
    layer, outer = with_kernel(layer, "weight_hh", seed=1)
    assert (inner.shape, outer.shape) == ((3, 16), (4, 16))
    x, h, c = data(3), data(4), data(4)
    i, f, g, o = np.split(x @ inner + h @ outer, 4)
    c_new = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    found = layer(x, (h, c))
    same(found[0], sigmoid(o) * np.tanh(c_new))
    same(found[1], c_new)


def test_gates_of_gru_lie_side_by_side():
    layer = abstract(eqx.nn.GRUCell, 3, 4, use_bias=False)
    layer, inner = with_kernel(layer, "weight_ih")
    layer, outer = with_kernel(layer, "weight_hh", seed=1)
    assert (inner.shape, outer.shape) == ((3, 12), (4, 12))
    x, h = data(3), data(4)
    a, b = np.split(x @ inner, 3), np.split(h @ outer, 3)
    new = np.tanh(a[2] + sigmoid(a[0] + b[0]) * b[2])
    same(layer(x, h), new + sigmoid(a[1] + b[1]) * (h - new))
    biased = layouts(abstract(eqx.nn.GRUCell, 3, 4))
    assert biased["bias",].shape == (12,) and biased["bias_n",].shape == (4,)


def test_embedding_looks_rows_up():
    layer, kernel = with_kernel(abstract(eqx.nn.Embedding, 7, 3))
    assert kernel.shape == (7, 3)
    same(layer(jnp.asarray(5)), kernel[5])


def test_attention_projects_onto_all_heads():
    sizes = {"key_size": 3, "value_size": 4, "output_size": 5}
    attention = abstract(eqx.nn.MultiheadAttention, 2, 6, **sizes, qk_size=7, vo_size=9)
    found = {path[0]: layout.shape for path, layout in layouts(attention).items()}
    assert found == {
        "query_proj": (6, 14),
        "key_proj": (3, 14),
        "value_proj": (4, 18),
        "output_proj": (18, 5),
    }


def test_he_normal_by_layout_has_the_fans_of_the_layer():
    """The standard deviations that users asked for in issues, from one kernel."""
    for layer, fan_in in (
        (abstract(eqx.nn.Linear, 16, 64), 16),
        (abstract(eqx.nn.Conv2d, 32, 64, 3), 288),
    ):
        layout = layouts(layer)["weight",]
        kernel = jaxinit.HeNormal()(KEY, layout.shape)
        expected, n = (2 / fan_in) ** 0.5, kernel.size
        found = stored(layout, np.asarray(kernel)).std()
        assert abs(found / expected - 1) < 5 / (2 * n) ** 0.5


def test_vectors_of_norms():
    norms = {
        "layer": eqx.nn.LayerNorm((3, 4)),
        "rms": eqx.nn.RMSNorm(5),
        "group": eqx.nn.GroupNorm(2, 4),
        "bare": eqx.nn.GroupNorm(2, channelwise_affine=False),
        "batch": eqx.nn.BatchNorm(6, axis_name="batch", mode="ema"),
        "prelu": eqx.nn.PReLU(jnp.ones((6, 1, 1))),
    }
    found = layouts(norms)
    assert {path: layout.shape for path, layout in found.items()} == {
        ("layer", "weight"): (3, 4),
        ("layer", "bias"): (3, 4),
        ("rms", "weight"): (5,),
        ("rms", "bias"): (5,),
        ("group", "weight"): (4,),
        ("group", "bias"): (4,),
        ("batch", "weight"): (6,),
        ("batch", "bias"): (6,),
        ("prelu", "negative_slope"): (6, 1, 1),
    }
    for layout in found.values():
        assert layout.stored == layout.shape


def stack(make, *sizes):
    """Returns a layer made by nested ``filter_vmap``, with one axis for each size."""
    for _ in sizes:
        make = eqx.filter_vmap(make)
    return eqx.filter_eval_shape(make, jax.random.split(KEY, sizes))


@pytest.mark.parametrize("sizes", [(4,), (2, 4)])
def test_each_stacked_layer_has_its_own_kernel(sizes):
    layer = stack(lambda key: eqx.nn.Linear(3, 4, use_bias=False, key=key), *sizes)
    layer, kernels = with_kernel(layer)
    assert kernels.shape == (*sizes, 3, 4)
    x = data(*sizes, 3)
    apply = eqx.nn.Linear.__call__
    for _ in sizes:
        apply = eqx.filter_vmap(apply)
    same(apply(layer, x), np.einsum("...i,...io->...o", x, kernels))


@pytest.mark.parametrize(
    "make",
    [
        lambda key: eqx.nn.Linear(3, 4, key=key),
        lambda key: eqx.nn.Linear(3, "scalar", key=key),
        lambda key: eqx.nn.Conv2d(4, 6, 3, groups=2, key=key),
        lambda key: eqx.nn.ConvTranspose1d(4, 6, 3, key=key),
        lambda key: eqx.nn.GRUCell(3, 4, key=key),
        lambda key: eqx.nn.LSTMCell(3, 4, key=key),
        lambda key: eqx.nn.Embedding(3, 4, key=key),
        lambda key: eqx.nn.MultiheadAttention(2, 8, use_query_bias=True, key=key),
        lambda key: eqx.nn.LayerNorm((3, 4)),
        lambda key: eqx.nn.GroupNorm(2, 4),
        lambda key: eqx.nn.WeightNorm(eqx.nn.Linear(3, 4, key=key)).layer,
    ],
)
def test_a_stack_adds_one_axis_to_every_array(make):
    one, many = layouts(make(KEY)), layouts(stack(make, 5))
    assert (
        one.keys() == many.keys() == set(parts_of(eqx.filter(make(KEY), eqx.is_array)))
    )
    for path, layout in one.items():
        assert many[path].stacked == (0,) and layout.stacked == ()
        assert many[path].shape == layout.shape
        assert many[path].order == layout.order


@pytest.mark.parametrize("axes", [(1,), (-1,), (0, 1), (-1, 0), (1, -1)])
def test_each_layer_stacked_along_a_later_axis_has_its_own_kernel(axes):
    """The axes are those of nested vmaps, from the innermost to the outermost."""

    def make(key):
        return eqx.nn.Linear(3, 4, key=key)

    for axis in axes:
        make = eqx.filter_vmap(make, out_axes=eqx.if_array(axis))
    sizes = (5, 6)[: len(axes)]
    layer = eqx.filter_eval_shape(make, jax.random.split(KEY, sizes))
    layer, kernels = with_kernel(layer)
    bias = jnp.zeros(layer.bias.shape)
    layer = eqx.tree_at(lambda layer: layer.bias, layer, bias)
    x = data(*sizes, 3)
    apply = eqx.nn.Linear.__call__
    for axis in axes:
        apply = eqx.filter_vmap(apply, in_axes=(eqx.if_array(axis), 0))
    lead = kernels.shape[: len(sizes)]
    kernels = np.moveaxis(kernels, range(len(sizes)), map(sizes.index, lead))
    same(apply(layer, x), np.einsum("...i,...io->...o", x, kernels))


@pytest.mark.parametrize("draw", [jaxinit.init, jaxinit.reinit])
def test_rules_read_kernels_that_a_vmap_stacks_along_a_later_axis(draw):
    """The stored shape (4, 5, 3, 3) looks like a convolution with a 4 x 5 window."""

    def build(key):
        return eqx.nn.Conv1d(3, 4, 3, use_bias=False, key=key)

    def make(key):
        stack = eqx.filter_vmap(build, out_axes=eqx.if_array(1))
        return stack(jax.random.split(key, 5))

    rules = {"weight": "orthogonal"}
    if draw is jaxinit.init:
        layer = jaxinit.init(make, KEY, rules=rules)
    else:
        layer = jaxinit.reinit(KEY, make(KEY), rules)
    assert layer.weight.shape == (4, 5, 3, 3)
    for i in range(5):
        w = np.asarray(layer.weight, np.float64)[:, i].reshape(4, 9)
        same(w @ w.T, np.eye(4))


class Model(eqx.Module):
    layers: list
    heads: dict
    first: eqx.nn.Linear
    again: eqx.nn.Linear
    norm: eqx.nn.WeightNorm
    spectral: eqx.nn.SpectralNorm
    batch: eqx.nn.BatchNorm
    rope: eqx.nn.RotaryPositionalEmbedding
    dropout: eqx.nn.Dropout
    step: jax.Array
    key: jax.Array
    scale: jax.Array
    phase: jax.Array
    name: str = "model"

    def __init__(self, key):
        self.layers = [eqx.nn.Linear(3, 4, key=key), jax.nn.relu, (jnp.ones(2),)]
        self.heads = {"mlp": eqx.nn.MLP(2, 3, 5, 3, scan=True, key=key)}
        self.first = eqx.nn.Linear(3, 4, key=key)
        self.again = self.first
        self.norm = eqx.nn.WeightNorm(eqx.nn.Conv1d(2, 3, 4, key=key))
        linear = eqx.nn.Linear(3, 4, key=key)
        self.spectral = eqx.nn.SpectralNorm(linear, "weight", key=key)
        self.batch = eqx.nn.BatchNorm(4, axis_name="batch", mode="batch")
        self.rope = eqx.nn.RotaryPositionalEmbedding(4)
        self.dropout = eqx.nn.Dropout(0.1)
        self.step = jnp.zeros((), jnp.int32)
        self.key = key
        self.scale = jnp.ones(3, jnp.bfloat16)
        self.phase = jnp.ones(3, jnp.complex64)


MODEL = eqx.filter_eval_shape(Model, KEY)


def test_paths_agree_with_parts_of():
    model = {"model": (MODEL,)}
    found = layouts(model)
    assert found.keys() <= set(parts_of(model))
    shapes = {path[2:]: layout.shape for path, layout in found.items()}
    assert shapes["layers", "0", "weight"] == (3, 4)
    assert shapes["first", "weight"] == shapes["again", "weight"] == (3, 4)
    assert shapes["norm", "layer", "weight"] == (4, 2, 3)
    assert shapes["norm", "g"] == (3, 1, 1)
    assert shapes["spectral", "layer", "weight"] == (3, 4)
    hidden = found["model", "0", "heads", "mlp", "layers", "1", "weight"]
    assert (hidden.shape, hidden.stacked) == ((5, 5), (0,))


def test_made_and_traced_modules_have_the_same_layouts():
    expected, found = layouts(MODEL), []
    model = eqx.filter_jit(Model)(KEY)
    eqx.filter_jit(lambda model: found.append(layouts(model)))(model)
    assert found == [expected]
    arrays, rest = eqx.partition(model, eqx.is_array)
    assert layouts(model) == layouts(arrays) == expected
    assert layouts(rest) == {}


def test_a_default_reaches_inexact_arrays_outside_of_state():
    model, state = eqx.nn.make_with_state(eqx.filter_jit(Model))(KEY)
    rules = jaxinit.Rules({}, default=jaxinit.Constant(7))
    made = jaxinit.reinit(KEY, (model, state), rules)
    old = zip(parts_of((model, state)), jax.tree.leaves((model, state)), strict=True)
    reached = {
        path
        for (path, x), y in zip(old, jax.tree.leaves(made), strict=True)
        if y is not x and bool((y == 7).all())
    }
    paths = dict(zip(parts_of(model), jax.tree.leaves(model), strict=True))
    expected = {path for path, x in paths.items() if eqx.is_inexact_array(x)}
    assert reached == {("0", *path) for path in expected}
    assert ("scale",) in expected and ("phase",) in expected
    assert not {("step",), ("key",)} & expected


def test_shared_weights():
    pair = abstract(eqx.nn.Embedding, 7, 3), abstract(eqx.nn.Linear, 3, 7)
    tied = eqx.nn.Shared(pair, lambda p: p[1].weight, lambda p: p[0].weight)
    found = {path: layout.shape for path, layout in layouts(tied).items()}
    assert found == {("pytree", "0", "weight"): (7, 3), ("pytree", "1", "bias"): (7,)}


class Dense(eqx.Module):
    """A user's layer, whose sizes are not static fields."""

    weight: jax.Array
    in_features: int
    out_features: int


class LoRA(eqx.Module):
    linear: eqx.nn.Linear
    lora_a: jax.Array
    lora_b: jax.Array

    def __call__(self, x):
        return self.linear(x) + self.lora_b @ (self.lora_a @ x)


def test_layers_of_users_are_read_by_their_fields():
    dense = Dense(jnp.ones((5, 3)), 3, 5)
    assert layouts(dense)["weight",].shape == (3, 5)
    found = []
    jax.jit(lambda dense: found.append(layouts(dense)))(dense)  # sizes are traced
    assert found == [{}]
    for wrong in (jnp.ones((3, 5)), jnp.ones(15), None, 3, "w"):
        assert layouts(Dense(wrong, 3, 5)) == {}
    for sizes in ((None, 5), ("all", 5), ((3,), 5), (3.0, 5)):
        assert layouts(Dense(jnp.ones((5, 3)), *sizes)) == {}


@pytest.mark.parametrize("outputs", [3, 5])
def test_low_rank_updates(outputs):
    linear, _ = with_kernel(abstract(eqx.nn.Linear, 3, outputs, use_bias=False))
    lora = LoRA(linear, jnp.zeros((2, 3)), jnp.zeros((outputs, 2)))
    assert layouts(lora)["linear", "weight"].shape == (3, outputs)
    lora, a = with_kernel(lora, "lora_a")
    lora, b = with_kernel(lora, "lora_b", seed=1)
    assert (a.shape, b.shape) == ((3, 2), (2, outputs))
    x = data(3)
    same(lora(x) - linear(x), x @ a @ b)
    # Stored as (in, rank) and (rank, out), for x @ a @ b.
    found = layouts(LoRA(linear, jnp.zeros((3, 2)), jnp.zeros((2, outputs))))
    assert found["lora_a",].stored == found["lora_a",].shape == (3, 2)
    assert found["lora_b",].stored == found["lora_b",].shape == (2, outputs)
    stacked = layouts(LoRA(linear, jnp.zeros((7, 2, 3)), jnp.zeros((7, outputs, 2))))
    assert stacked["lora_a",].shape == (3, 2) and stacked["lora_a",].stacked == (0,)
    for a, b in (((2, 3), (4, 1)), ((3,), (2, 3)), ((), ())):
        found = layouts(LoRA(linear, jnp.zeros(a), jnp.zeros(b)))
        assert found.keys() == {("linear", "weight")}
