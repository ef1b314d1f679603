"""Plans of NNX, Haiku and Equinox models, and the adapters of Flax."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from plans import KEY, MODELS, assert_same, check

pytestmark = pytest.mark.accelerator

AUTO = (jax.sharding.AxisType.Auto,) * 2


class NnxBlock(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.lora = nnx.LoRA(width, 2, width, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.batch_norm = nnx.BatchNorm(width, rngs=rngs)

    def __call__(self, x):
        return x + self.lora(self.batch_norm(self.attention(self.norm(x))))


class NnxNetwork(nnx.Module):
    def __init__(self, width: int, layers: int, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(31, width, rngs=rngs)
        self.shared = nnx.Linear(width, width, rngs=rngs)
        self.blocks = nnx.List([NnxBlock(width, rngs=rngs) for _ in range(layers)])
        self.again = self.shared

        @nnx.split_rngs(splits=2)
        @nnx.vmap(in_axes=(0,), out_axes=0)
        def stack(rngs):
            return nnx.Linear(width, width, rngs=rngs)

        self.stack = stack(rngs)

    def __call__(self, tokens):
        x = self.again(self.shared(self.embed(tokens)))
        for block in self.blocks:
            x = block(x)
        return x


def make(rngs):
    return NnxNetwork(16, 3, rngs=rngs)


def test_nnx_create_equals_nnx_jit_and_keeps_streams():
    rngs, other = nnx.Rngs(0, dropout=1), nnx.Rngs(0, dropout=1)
    model = jaxinit.nnx.create(make, rngs)
    expected = nnx.jit(make)(other)
    assert model.again is model.shared
    assert nnx.graphdef(model) == nnx.graphdef(expected)
    assert_same(nnx.state(model), nnx.state(expected))
    assert_same(nnx.state(rngs), nnx.state(other), 0)
    assert rngs.params() == other.params()
    call = nnx.jit(lambda model: model(jnp.ones((2, 5), jnp.int32)))
    np.testing.assert_allclose(call(model), call(expected), rtol=1e-5)


def test_nnx_streams_of_a_model_count_on():
    class Noisy(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(3, 8, rngs=rngs)
            self.copy = nnx.clone(rngs)
            self.last = nnx.Linear(8, 3, rngs=rngs)
            self.rngs = rngs

    rngs, other = nnx.Rngs(0, noise=1), nnx.Rngs(0, noise=1)
    model, expected = jaxinit.nnx.create(Noisy, rngs), nnx.jit(Noisy)(other)
    assert nnx.graphdef(model) == nnx.graphdef(expected)
    assert_same(nnx.state(model), nnx.state(expected))
    for name in ("rngs", "copy"):
        streams, others = getattr(model, name), getattr(expected, name)
        assert streams.params() == others.params()
        assert streams.params.count[...] == others.params.count[...]
        assert isinstance(streams.params.count[...], jax.Array)


def test_nnx_plan_makes_a_model_of_each_seed(compilations):
    first = nnx.Rngs(0, dropout=1)
    planned = jaxinit.nnx.plan(make, first)
    planned(first)
    rngs, other = nnx.Rngs(5, dropout=6), nnx.Rngs(5, dropout=6)
    compilations.clear()
    model = planned(rngs)
    assert not compilations
    expected = nnx.jit(make)(other)
    assert nnx.graphdef(model) == nnx.graphdef(expected)
    assert_same(nnx.state(model), nnx.state(expected))
    assert_same(nnx.state(rngs), nnx.state(other), 0)
    assert planned(nnx.Rngs(5, dropout=6)) is not model


def test_nnx_plan_takes_the_streams_it_was_planned_with():
    planned = jaxinit.nnx.plan(make, nnx.Rngs(0, dropout=1))
    rngs = nnx.Rngs(0, dropout=1)
    planned(rngs)
    at_start = r"at the same counts {'default': 0, 'dropout': 0}"
    with pytest.raises(
        ValueError, match=at_start + r"; got {'default': \d+, .*new nnx"
    ):
        planned(rngs)
    with pytest.raises(ValueError, match=at_start + r"; got {'default': 0}"):
        planned(nnx.Rngs(0))
    with pytest.raises(TypeError, match="rbg"):
        planned(nnx.Rngs(jax.random.key(0, impl="rbg"), dropout=1))
    assert "groups" in str(planned) and planned.memory()["result"] > 0


def test_nnx_create_inside_transformations():
    def dense(rngs):
        return nnx.Linear(3, 4, rngs=rngs)

    abstract = nnx.eval_shape(lambda: jaxinit.nnx.create(dense, nnx.Rngs(0)))
    assert abstract.kernel.shape == (3, 4)

    @nnx.split_rngs(splits=3)
    @nnx.vmap
    def ensemble(rngs):
        return jaxinit.nnx.create(dense, rngs)

    kernels = ensemble(nnx.Rngs(0)).kernel[...]
    expected = nnx.split_rngs(splits=3)(nnx.vmap(dense))(nnx.Rngs(0)).kernel[...]
    np.testing.assert_allclose(kernels, expected, rtol=1e-6)

    rngs, other = nnx.Rngs(0, dropout=1), nnx.Rngs(0, dropout=1)
    model = nnx.jit(lambda rngs: jaxinit.nnx.create(make, rngs))(rngs)
    expected = nnx.jit(make)(other)
    assert nnx.graphdef(model) == nnx.graphdef(expected)
    assert_same(nnx.state(model), nnx.state(expected), 1e-6)
    assert_same(nnx.state(rngs), nnx.state(other), 0)


def test_nnx_create_on_a_mesh():
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=AUTO)
    kernel = nnx.with_partitioning(jaxinit.HeNormal(), ("data", "model"))

    def make(rngs):
        return nnx.Linear(8, 16, kernel_init=kernel, rngs=rngs)

    model = jaxinit.nnx.create(make, nnx.Rngs(3), mesh=mesh)
    assert model.kernel[...].sharding == NamedSharding(mesh, P("data", "model"))
    assert model.bias[...].sharding.is_fully_replicated
    ahead = jaxinit.nnx.plan(make, nnx.Rngs(0), mesh=mesh).compile()
    expected = jaxinit.HeNormal()(nnx.Rngs(3).params(), (8, 16))
    for made in (model, ahead(nnx.Rngs(3))):
        np.testing.assert_array_equal(made.kernel[...], expected)


def test_linen_init_equals_jit():
    model, x = MODELS["gpt2"]
    made = jaxinit.linen.init(model, {"params": KEY}, x)
    assert_same(made, jax.jit(model.init)({"params": KEY}, x))


class Named(nn.Module):
    """Layers with mesh axes as names, with logical names, and without names."""

    logical: bool

    @nn.compact
    def __call__(self, x, *, train: bool):
        assert train is False
        box = nn.with_logical_partitioning if self.logical else nn.with_partitioning
        names = ("embed", "mlp") if self.logical else ("data", "model")
        init = box(nn.initializers.lecun_normal(), names)
        return nn.Dense(16, kernel_init=init)(x)


@pytest.mark.parametrize("logical", [False, True])
def test_linen_init_on_a_mesh(logical):
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=AUTO)
    rules = (("embed", "data"), ("mlp", "model")) if logical else None
    model, x = Named(logical), jnp.ones((2, 8))
    made = jaxinit.linen.init(model, KEY, x, train=False, mesh=mesh, axis_rules=rules)
    kernel = made["params"]["Dense_0"]["kernel"].value
    assert kernel.sharding == NamedSharding(mesh, P("data", "model"))
    assert made["params"]["Dense_0"]["bias"].sharding.is_fully_replicated
    expected = jax.jit(lambda k: model.init(k, x, train=False))(KEY)
    assert_same(made, expected)
    if logical:
        with nn.logical_axis_rules(rules):
            again = jaxinit.linen.init(model, KEY, x, train=False, mesh=mesh)
        assert again["params"]["Dense_0"]["kernel"].value.sharding == kernel.sharding


def test_haiku():
    hk = pytest.importorskip("haiku")

    def forward(x):
        x = hk.nets.MLP([8, 8, 8], w_init=jaxinit.haiku.to_haiku("he_normal"))(x)
        x = hk.BatchNorm(True, True, 0.9)(x, is_training=True)
        core = hk.LSTM(8)
        return core(x, core.initial_state(x.shape[0]))[0]

    x = jnp.ones((2, 4))
    check(hk.transform_with_state(forward).init, KEY, x, tolerance=1e-6)
    plain = hk.transform(lambda x: hk.nets.MLP([8] * 6)(x))
    planned = check(plain.init, jax.random.PRNGKey(0), x)
    assert len(planned.groups) < len(planned.leaves)


def test_equinox():
    eqx = pytest.importorskip("equinox")

    def make(key):
        k1, k2, k3 = jax.random.split(key, 3)
        return {
            "mlp": eqx.nn.MLP(4, 3, 8, 5, key=k1),
            "attention": eqx.nn.MultiheadAttention(2, 8, key=k2),
            "conv": eqx.nn.Conv2d(3, 4, 3, key=k3),
            "dropout": eqx.nn.Dropout(0.3),
        }

    planned = jaxinit.plan(make, KEY)
    made, expected = planned(KEY), eqx.filter_jit(make)(KEY)
    assert jax.tree.structure(made) == jax.tree.structure(expected)
    arrays = [eqx.filter(tree, eqx.is_array) for tree in (made, expected)]
    assert_same(*arrays)
    assert made["mlp"].activation is jax.nn.relu and made["dropout"].p == 0.3
    assert made["mlp"](jnp.ones(4)).shape == (3,)
    assert len(planned.groups) < len(planned.leaves)


def test_hand_written():
    def init(key, widths):
        params = []
        pairs = zip(jax.random.split(key, 4), itertools.pairwise(widths), strict=True)
        for k, (m, n) in pairs:
            params.append({"w": jaxinit.HeNormal()(k, (m, n)), "b": jnp.zeros(n)})
        return params

    check(lambda key: init(key, (8, 16, 16, 16, 4)), KEY, groups=4)


@pytest.mark.parametrize("value", [None, 3, "x", nn.Dense, {"a": 1}, [1]])
def test_what_is_no_model(value):
    make, x = (lambda rngs: nnx.Linear(3, 2, rngs=rngs)), jnp.ones((2, 3))
    message = r"model=...\) must be a module of Flax Linen; got .* Pass an instance"
    with pytest.raises(TypeError, match=message):
        jaxinit.linen.init(value, KEY, x)
    with pytest.raises(TypeError, match=message):
        jaxinit.linen.probe(value, {"params": {"w": x}}, x, key=KEY)
    if value is not nn.Dense:  # which can be called
        for call in (jaxinit.nnx.plan, jaxinit.nnx.create, jaxinit.nnx.explain):
            rules = [{}] * (call is jaxinit.nnx.explain)
            with pytest.raises(
                TypeError, match=r"make=.*must be a function of nnx.Rngs"
            ):
                call(value, 0, *rules)
        with pytest.raises(TypeError, match=r"nnx.probe\(model=...\) must be a live"):
            jaxinit.nnx.probe(value, x, key=KEY)
    if value != 3:  # a seed
        with pytest.raises(TypeError, match=r"rngs=...\) must be nnx.Rngs, a seed or"):
            jaxinit.nnx.create(make, value)
