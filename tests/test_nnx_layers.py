"""Layouts of Flax NNX's layers, compared with their calls and their outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
from jaxinit._nnx_layers import layouts
from jaxinit._paths import parts_of
from layouts import kernels_of, stored


def abstract(make, *args, **kwargs):
    """Returns a layer of abstract arrays: layouts need no values, nothing compiles."""
    return nnx.eval_shape(lambda: make(*args, **kwargs, rngs=nnx.Rngs(0)))


def with_kernel(layer, name="kernel", seed=0):
    """Returns the layer with random kernels in one array, and the kernels."""
    variable, layout = getattr(layer, name), layouts(layer)[name,]
    kernels = kernels_of(layout, variable.shape, seed)
    new = stored(layout, kernels)
    assert new.shape == variable.shape
    variable.set_value(jnp.asarray(new))
    return layer, kernels


def data(*shape):
    return np.random.default_rng(7).standard_normal(shape)


def same(found, expected):
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


def by_path(model):
    return dict(zip(parts_of(model), jax.tree.leaves(model), strict=True))


BOTH = ("kernel_init", "bias_init")
SCALE = ("scale_init", "bias_init")
LAYERS = {
    "Linear": (nnx.Linear, (3, 5), {}, BOTH),
    "LoRALinear": (
        nnx.LoRALinear,
        (3, 5),
        {"lora_rank": 2},
        (*BOTH, "a_initializer", "b_initializer"),
    ),
    "LoRA": (nnx.LoRA, (3, 2, 5), {}, ("a_initializer", "b_initializer")),
    "LinearGeneral": (nnx.LinearGeneral, (3, (2, 5)), {}, BOTH),
    "LinearGeneral in": (nnx.LinearGeneral, ((3, 4), 5), {"axis": (-2, -1)}, BOTH),
    "LinearGeneral batch": (
        nnx.LinearGeneral,
        ((3, 4), (5, 2)),
        {"axis": (-2, -1), "batch_axis": {0: 6, 1: 7}},
        BOTH,
    ),
    "Einsum": (nnx.Einsum, ("btd,dhk->bthk", (3, 2, 5), (2, 5)), {}, BOTH),
    "Einsum without bias": (nnx.Einsum, ("bd,dk->bk", (3, 5)), {}, BOTH[:1]),
    "Conv": (nnx.Conv, (4, 6, (3, 2)), {"feature_group_count": 2}, BOTH),
    "Conv of one tap": (nnx.Conv, (4, 6, 3), {"use_bias": False}, BOTH[:1]),
    "ConvTranspose": (nnx.ConvTranspose, (4, 6, (3, 2)), {}, BOTH),
    "ConvTranspose out, in": (
        nnx.ConvTranspose,
        (4, 6, (3,)),
        {"transpose_kernel": True},
        BOTH,
    ),
    "Embed": (nnx.Embed, (7, 3), {}, ("embedding_init",)),
    "MultiHeadAttention": (
        nnx.MultiHeadAttention,
        (2, 6, 8),
        {"normalize_qk": False, "decode": False},
        BOTH,
    ),
    "LSTMCell": (nnx.LSTMCell, (3, 4), {}, (*BOTH, "recurrent_kernel_init")),
    "OptimizedLSTMCell": (
        nnx.OptimizedLSTMCell,
        (3, 4),
        {},
        (*BOTH, "recurrent_kernel_init"),
    ),
    "GRUCell": (nnx.GRUCell, (3, 4), {}, (*BOTH, "recurrent_kernel_init")),
    "SimpleCell": (nnx.SimpleCell, (3, 4), {}, (*BOTH, "recurrent_kernel_init")),
    "LayerNorm": (nnx.LayerNorm, (5,), {}, SCALE),
    "RMSNorm": (nnx.RMSNorm, (5,), {}, SCALE[:1]),
    "GroupNorm": (nnx.GroupNorm, (6, 3), {}, SCALE),
    "InstanceNorm": (nnx.InstanceNorm, (5,), {}, SCALE),
    "BatchNorm": (nnx.BatchNorm, (5,), {}, SCALE),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layouts_equal_the_calls_of_flax(name):
    """Each array is the result of one call of its initializer, stored by the layout."""
    make, args, kwargs, initializers = LAYERS[name]
    calls = []

    def record(key, shape, dtype):
        rng = np.random.default_rng(len(calls))
        calls.append(rng.standard_normal(shape).astype(dtype))
        return jnp.asarray(calls[-1])

    layer = make(
        *args, **kwargs, **dict.fromkeys(initializers, record), rngs=nnx.Rngs(0)
    )
    found, arrays = layouts(layer), by_path(layer)
    for path, layout in found.items():
        (call,) = [
            x
            for x in calls
            if x.shape == layout.shape
            and np.array_equal(stored(layout, x), arrays[path])
        ]
        calls = [x for x in calls if x is not call]
    assert not calls
    params = nnx.state(layer, nnx.Param)
    assert found.keys() == set(parts_of(params))


def test_linear_general_is_one_matrix():
    layer = abstract(nnx.LinearGeneral, (3, 4), (5, 2), axis=(-2, -1), use_bias=False)
    layer, kernel = with_kernel(layer)
    assert kernel.shape == (12, 10)
    x = data(6, 3, 4)
    same(layer(x).reshape(6, 10), x.reshape(6, 12) @ kernel)


def test_attention_projects_onto_all_heads():
    attention = abstract(
        nnx.MultiHeadAttention, 2, 6, 8, out_features=5, use_bias=False, decode=False
    )
    query, kernel = with_kernel(attention.query)
    assert kernel.shape == (6, 8)
    x = data(3, 6)
    same(query(x).reshape(3, 8), x @ kernel)
    out, kernel = with_kernel(attention.out)
    assert kernel.shape == (8, 5)
    y = data(3, 2, 4)
    same(out(y), y.reshape(3, 8) @ kernel)


@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_sum_over_taps_and_inputs(groups):
    options = {"padding": "VALID", "use_bias": False}
    layer, kernel = with_kernel(
        abstract(nnx.Conv, 4, 6, (3, 2), feature_group_count=groups, **options)
    )
    x = data(1, 3, 2, 4)
    parts = zip(np.split(x[0], groups, -1), np.split(kernel, groups, -1), strict=True)
    same(layer(x)[0, 0, 0], np.concatenate([np.tensordot(p, k, 3) for p, k in parts]))
    layer.kernel.set_value(jnp.ones(kernel.shape))
    fan_in, _ = jaxinit.fans(kernel.shape)
    same(layer(np.ones_like(x))[0, 0, 0], np.full(6, fan_in))


def test_transposed_convolutions_sum_over_taps_and_inputs():
    layer, kernel = with_kernel(
        abstract(nnx.ConvTranspose, 4, 6, (3,), padding="VALID", use_bias=False)
    )
    x = data(1, 3, 4)
    same(layer(x)[0, 2], np.tensordot(x[0], kernel, 2))
    layer.kernel.set_value(jnp.ones(kernel.shape))
    fan_in, _ = jaxinit.fans(kernel.shape)
    same(layer(np.ones_like(x))[0, 2], np.full(6, fan_in))


def stack(make, *sizes, axis=0):
    """Returns a layer made by nested ``nnx.vmap``, with one axis for each size."""

    def build(rngs, sizes):
        if not sizes:
            return make(rngs)
        inner = nnx.vmap(lambda rngs: build(rngs, sizes[1:]), out_axes=axis)
        return nnx.split_rngs(splits=sizes[0])(inner)(rngs)

    return nnx.eval_shape(lambda: build(nnx.Rngs(0), sizes))


@pytest.mark.parametrize("sizes", [(4,), (2, 4)])
def test_each_stacked_layer_has_its_own_kernel(sizes):
    def make(rngs):
        return nnx.LinearGeneral(3, (2, 2), use_bias=False, rngs=rngs)

    layer, kernels = with_kernel(stack(make, *sizes))
    assert kernels.shape == (*sizes, 3, 4)
    x = data(*sizes, 3)

    def apply(layer, x):
        return layer(x)

    for _ in sizes:
        apply = nnx.vmap(apply)
    expected = np.einsum("...i,...io->...o", x, kernels)
    same(apply(layer, jnp.asarray(x)).reshape(expected.shape), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_a_stack_adds_one_axis_to_every_array(name):
    make, args, kwargs, _ = LAYERS[name]

    def build(rngs):
        return make(*args, **kwargs, rngs=rngs)

    one, many = layouts(stack(build)), layouts(stack(build, 8))
    assert one.keys() == many.keys() and one
    for path, layout in one.items():
        assert many[path].stacked == (0,) and layout.stacked == ()
        assert many[path].shape == layout.shape


def test_each_layer_of_a_scan_has_its_own_kernel():
    @nnx.split_rngs(splits=5)
    @nnx.scan(in_axes=(nnx.Carry, 0), out_axes=(nnx.Carry, 0))
    def build(carry, rngs):
        return carry, nnx.Linear(3, 4, rngs=rngs)

    found = layouts(nnx.eval_shape(lambda: build(0.0, nnx.Rngs(0))[1]))
    assert found["kernel",].shape == (3, 4) and found["kernel",].stacked == (0,)


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize("size", [5, 3])
def test_each_layer_stacked_along_a_later_axis_has_its_own_kernel(size, axis):
    """With 3 layers a kernel of (3, 3, 4) fits by chance, but the bias does not."""

    def make(rngs):
        return nnx.LinearGeneral(3, (2, 2), rngs=rngs)

    layer, kernels = with_kernel(stack(make, size, axis=axis))
    assert kernels.shape == (size, 3, 4)
    layer.bias.set_value(jnp.zeros(layer.bias.shape))
    x = data(size, 3)
    apply = nnx.vmap(lambda layer, x: layer(x), in_axes=(axis, 0))
    expected = np.einsum("ni,nio->no", x, kernels).reshape(size, 2, 2)
    same(apply(layer, jnp.asarray(x)), expected)


def test_rules_read_heads_that_a_vmap_stacks_along_a_later_axis():
    """The stored shape (4, 5, 6, 24) looks like a convolution with a 4 x 5 window."""

    @nnx.split_rngs(splits=5)
    @nnx.vmap(in_axes=(0,), out_axes=1)
    def build(rngs):
        return nnx.LinearGeneral((4, 6), 24, axis=(-2, -1), use_bias=False, rngs=rngs)

    layer = build(nnx.Rngs(0))
    assert layer.kernel.shape == (4, 5, 6, 24)
    new = jaxinit.reinit(jax.random.key(0), layer, {"kernel": "orthogonal"})
    for i in range(5):
        w = np.asarray(new.kernel[...], np.float64)[:, i].reshape(24, 24)
        same(w @ w.T, np.eye(24))


class Inner(nnx.Module, pytree=False):
    def __init__(self, rngs):
        self.linears = [nnx.Linear(3, 4, rngs=rngs)]


class Own(nnx.Linear):
    """A subclass with other attributes than its base."""

    def __init__(self, rngs):
        self.kernel = nnx.Param(jnp.ones((3, 4)))


class Model(nnx.Module):
    def __init__(self, rngs):
        self.z = self.a = nnx.Linear(3, 4, rngs=rngs)
        self.blocks = nnx.List(
            [nnx.Embed(7, 3, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)]
        )
        self.named = nnx.Dict(q=nnx.BatchNorm(4, rngs=rngs))
        self.plain = nnx.data({"p": (nnx.PReLU(),)})
        self.sequence = nnx.Sequential(nnx.Linear(4, 5, rngs=rngs), jax.nn.relu)
        self.inner = Inner(rngs)
        self.own = Own(rngs)
        self.scale = nnx.Param(jnp.ones((4, 4)))
        self.inner.owner = self  # a reference upwards


def test_paths_agree_with_parts_of():
    model = nnx.eval_shape(lambda: Model(nnx.Rngs(0)))
    found = {path: layout.shape for path, layout in layouts({"m": model}).items()}
    assert found == {
        ("m", "a", "kernel"): (3, 4),
        ("m", "a", "bias"): (4,),
        ("m", "z", "kernel"): (3, 4),
        ("m", "z", "bias"): (4,),
        ("m", "blocks", "0", "embedding"): (7, 3),
        ("m", "named", "q", "scale"): (4,),
        ("m", "named", "q", "bias"): (4,),
        ("m", "plain", "p", "0", "negative_slope"): (),
        ("m", "sequence", "layers", "0", "kernel"): (4, 5),
        ("m", "sequence", "layers", "0", "bias"): (5,),
        ("m", "inner", "linears", "0", "kernel"): (3, 4),
        ("m", "inner", "linears", "0", "bias"): (4,),
    }
    state = set(parts_of(nnx.state(model, nnx.Param)))
    alias = {("z", "kernel"), ("z", "bias")}
    assert {path[1:] for path in found} - alias == state - {
        ("own", "kernel"),
        ("scale",),
    }


def test_made_and_traced_models_have_the_same_layouts():
    def make(rngs):
        return nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs)

    model, found = make(nnx.Rngs(0)), []
    nnx.jit(lambda model: found.append(layouts(model)))(model)
    expected = layouts(nnx.eval_shape(lambda: make(nnx.Rngs(0))))
    assert found == [expected] and layouts(model) == expected
    assert expected.keys() <= set(parts_of(model))
