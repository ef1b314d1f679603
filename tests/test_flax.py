"""Initializers as arguments of Flax Linen and NNX layers; networks train."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

import jaxinit

KEY = jax.random.key(0)
AUTO = (jax.sharding.AxisType.Auto,) * 2
HE = jaxinit.HeNormal()
ZEROS = jaxinit.Zeros()
NORMAL = jaxinit.RandomNormal(stddev=0.02)


class Network(nn.Module):
    """Convolution, attention, recurrence and scanned layers with our initializers."""

    kernel_init: jaxinit.Initializer = HE

    @nn.compact
    def __call__(self, tokens, image):
        x = nn.Embed(11, 8, embedding_init=NORMAL)(tokens)
        x = nn.MultiHeadDotProductAttention(
            2, kernel_init=jaxinit.GlorotUniform(), bias_init=jaxinit.Constant(0.1)
        )(x, x)
        cell = nn.LSTMCell(
            8, kernel_init=self.kernel_init, recurrent_kernel_init=jaxinit.Identity()
        )
        x = nn.RNN(cell)(x)
        layers = nn.scan(
            Residual,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=3,
        )(self.kernel_init)
        x, _ = layers(x, None)
        y = nn.Conv(8, (3, 3), kernel_init=self.kernel_init, bias_init=ZEROS)(image)
        return nn.Dense(2, kernel_init=self.kernel_init)(x.mean(1) + y.mean((1, 2)))


class Residual(nn.Module):
    kernel_init: jaxinit.Initializer

    @nn.compact
    def __call__(self, x, _):
        return x + nn.relu(nn.Dense(8, kernel_init=self.kernel_init)(x)), None


TOKENS = jax.random.randint(jax.random.key(1), (16, 5), 0, 11)
IMAGES = jax.random.normal(jax.random.key(2), (16, 4, 4, 3))
LABELS = (TOKENS[:, 0] > 5).astype(jnp.int32)


def test_linen_values():
    """Each leaf is a call of the initializer with the key that Flax passes."""
    params = Network().init(KEY, TOKENS, IMAGES)["params"]
    seen = {}

    def recording(init):
        def record(key, shape, dtype=None):
            seen[shape] = np.asarray(init(key, shape, dtype))
            return init(key, shape, dtype)

        return record

    embed = nn.Embed(11, 8, embedding_init=recording(NORMAL))
    ours = embed.init(KEY, TOKENS)["params"]["embedding"]
    np.testing.assert_array_equal(ours, seen[(11, 8)])
    query = params["MultiHeadDotProductAttention_0"]["query"]
    assert query["kernel"].shape == (8, 2, 4)
    np.testing.assert_array_equal(query["bias"], np.full((2, 4), 0.1, np.float32))
    limit = (6 / 16) ** 0.5  # DenseGeneral flattens to (8, 8) for the fans
    assert 0.8 * limit < abs(np.asarray(query["kernel"])).max() <= limit
    stacked = params["ScanResidual_0"]["Dense_0"]["kernel"]
    assert stacked.shape == (3, 8, 8)
    # One draw per scanned layer, each with the fans of its slice.
    assert len({float(layer[0, 0]) for layer in stacked}) == 3


def test_linen_trains():
    model, optimizer = Network(), optax.adam(3e-3)
    params = jax.jit(model.init)(KEY, TOKENS, IMAGES)
    state = optimizer.init(params)

    @jax.jit
    def step(params, state):
        def loss(params):
            logits = model.apply(params, TOKENS, IMAGES)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
            return losses.mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    losses = []
    for _ in range(60):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]


def test_linen_bfloat16_parameters():
    dense = nn.Dense(512, param_dtype=jnp.bfloat16, kernel_init=HE)
    kernel = dense.init(KEY, jnp.zeros((1, 512)))["params"]["kernel"]
    assert kernel.dtype == jnp.bfloat16
    values = np.asarray(kernel, np.float64)
    assert len(np.unique(values)) > 1000
    assert abs(values.mean()) < 5 * values.std() / 512


def test_linen_modules_are_hashable_values():
    model = Network(kernel_init=jaxinit.HeNormal())
    assert hash(model) == hash(Network(kernel_init=jaxinit.HeNormal()))
    assert model == Network(kernel_init=jaxinit.HeNormal())
    assert "kernel_init = HeNormal()" in repr(model)
    f = jax.jit(lambda m, key: m.init(key, TOKENS, IMAGES), static_argnums=0)
    f(model, KEY)
    assert f._cache_size() == 1
    f(Network(kernel_init=jaxinit.HeNormal()), KEY)
    assert f._cache_size() == 1


def test_linen_with_partitioning():
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=AUTO)
    dense = nn.Dense(16, kernel_init=nn.with_partitioning(HE, ("data", "model")))
    boxed = dense.init(KEY, jnp.zeros((1, 8)))
    assert boxed["params"]["kernel"].names == ("data", "model")
    shardings = nn.get_sharding(
        jax.eval_shape(dense.init, KEY, jnp.zeros((1, 8))), mesh
    )
    sharded = jax.jit(dense.init, out_shardings=shardings)(KEY, jnp.zeros((1, 8)))
    kernel = sharded["params"]["kernel"].value
    assert kernel.sharding.spec == P("data", "model")
    np.testing.assert_allclose(kernel, boxed["params"]["kernel"].value, rtol=1e-6)


class NnxNetwork(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.conv = nnx.Conv(3, 8, (3, 3), kernel_init=HE, bias_init=ZEROS, rngs=rngs)
        self.embed = nnx.Embed(11, 8, embedding_init=NORMAL, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            2, 8, kernel_init=jaxinit.GlorotUniform(), decode=False, rngs=rngs
        )
        self.dense = nnx.Linear(8, 2, kernel_init=jaxinit.LecunNormal(), rngs=rngs)

    def __call__(self, tokens, image):
        x = self.embed(tokens)
        x = (x + self.attention(x)).mean(1) + self.conv(image).mean((1, 2))
        return self.dense(nnx.relu(x))


def test_nnx_values_and_training():
    rngs = nnx.Rngs(0)
    dense = nnx.Linear(8, 4, kernel_init=HE, bias_init=jaxinit.Ones(), rngs=rngs)
    expected = HE(nnx.Rngs(0).params(), (8, 4))
    np.testing.assert_array_equal(dense.kernel[...], expected)
    np.testing.assert_array_equal(dense.bias[...], np.ones(4))

    model = NnxNetwork(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adam(3e-2), wrt=nnx.Param)

    @nnx.jit
    def step(model, optimizer):
        def loss(model):
            logits = model(TOKENS, IMAGES)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, LABELS)
            return losses.mean()

        value, gradient = nnx.value_and_grad(loss)(model)
        optimizer.update(model, gradient)
        return value

    losses = [float(step(model, optimizer)) for _ in range(40)]
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]


def test_nnx_with_partitioning():
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=AUTO)
    with jax.set_mesh(mesh):
        dense = nnx.Linear(
            8,
            16,
            kernel_init=nnx.with_partitioning(HE, ("data", "model")),
            rngs=nnx.Rngs(0),
        )
    spec = nnx.get_partition_spec(nnx.state(dense))["kernel"]
    assert spec.get_value() == P("data", "model")
    expected = HE(nnx.Rngs(0).params(), (8, 16))
    np.testing.assert_allclose(dense.kernel[...], expected, rtol=1e-6)


@pytest.mark.parametrize("wrong", [jaxinit.HeNormal, jaxinit.he_normal])
def test_a_forgotten_pair_of_parentheses_is_explained(wrong):
    with pytest.raises(TypeError, match=r"kernel_init=jaxinit\.HeNormal\(\)"):
        nn.Dense(4, kernel_init=wrong).init(KEY, jnp.zeros((1, 8)))
    with pytest.raises(TypeError, match=r"kernel_init=jaxinit\.HeNormal\(\)"):
        nnx.Linear(8, 4, kernel_init=wrong, rngs=nnx.Rngs(0))
