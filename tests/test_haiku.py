"""Initializers in Haiku's modules, run by ``hk.transform``."""

import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit.haiku import to_haiku
from plans import assert_same

KEY = jax.random.PRNGKey(0)
X = jnp.ones((1, 8))
HE = jaxinit.HeNormal()


def made(forward, *args):
    """Returns jit's parameters; planned ones must be equal, eager ones nearly so."""
    init = hk.transform(forward).init
    jitted = jax.jit(init)(KEY, *args)
    assert_same(jaxinit.init(init, KEY, *args), jitted)
    assert_same(init(KEY, *args), jitted, 1e-6)
    return jitted


def linear(w_init):
    return lambda x: hk.Linear(6, w_init=w_init)(x)


def conv(w_init):
    return lambda x: hk.Conv2D(40, (3, 2), padding="VALID", w_init=w_init)(x)


def conv_transpose(w_init):
    return lambda x: hk.Conv2DTranspose(40, 3, w_init=w_init)(x)


def attention(w_init):
    return lambda x: hk.MultiHeadAttention(4, 20, w_init=w_init, model_size=60)(x, x, x)


def embed(w_init):
    return lambda tokens: hk.Embed(50, 40, w_init=w_init)(tokens)


def lstm(w_init):
    """hk.LSTM takes no initializer: a creator of parameters passes one."""

    def create(next_creator, shape, dtype, init, context):
        return next_creator(shape, dtype, w_init if context.name == "w" else init)

    def forward(x):
        core = hk.LSTM(40)
        with hk.custom_creator(create):
            return core(x, core.initial_state(len(x)))[0]

    return forward


TOKENS = jnp.zeros((1, 2), jnp.int32)
IMAGE = jnp.ones((1, 3, 2, 20))
# For each model and kernel, the number of terms of one output.
LAYERS = {
    "linear": (linear, X, HE, [8]),
    "conv": (conv, IMAGE, HE, [3 * 2 * 20]),
    "conv_transpose": (
        conv_transpose,
        IMAGE,
        jaxinit.HeNormal(in_axis=-1, out_axis=-2),
        [3 * 3 * 20],
    ),
    # Key, output, query and value, as jit sorts them.
    "attention": (attention, jnp.ones((1, 2, 50)), HE, [50, 80, 50, 50]),
    "embed": (embed, TOKENS, HE, [50]),  # (tokens, features), as one-hot data
    "lstm": (lstm, jnp.ones((1, 30)), HE, [30 + 40]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_kernels_have_the_variance_of_their_fans(name):
    layer, x, init, fans = LAYERS[name]
    params = made(layer(to_haiku(init)), x)
    kernels = [value for p in params.values() for value in p.values() if value.ndim > 1]
    for kernel, fan_in in zip(kernels, fans, strict=True):
        values = np.asarray(kernel, np.float64)
        expected = (2 / fan_in) ** 0.5
        assert abs(values.std() / expected - 1) < 5 / (2 * values.size) ** 0.5


@pytest.mark.parametrize("name", ["linear", "conv", "lstm"])
def test_ones_sum_to_the_fan_in(name):
    """The layers sum over as many inputs as the fans of the table above."""
    layer, x, _, (fan_in,) = LAYERS[name]
    model = hk.transform(layer(to_haiku("ones")))
    y = model.apply(model.init(None, x), None, x)
    if name == "lstm":  # from a state of zeros; the forget gate alone has a bias
        fan_in = 30
        sigmoid = 1 / (1 + np.exp(-fan_in))
        np.testing.assert_allclose(y, np.full_like(y, sigmoid * np.tanh(sigmoid)))
    else:
        np.testing.assert_array_equal(y, np.full_like(y, fan_in))


def test_draws_take_the_same_keys_as_haikus_initializers():
    def deep(init, zeros):
        def forward(x):
            x = hk.Linear(7, w_init=init, b_init=zeros)(x)
            x = attention(init)(x)
            return hk.Linear(5, w_init=init, b_init=init)(x)

        return forward

    theirs = deep(hk.initializers.RandomNormal(0.5), hk.initializers.Constant(0))
    ours = deep(to_haiku(jaxinit.RandomNormal(stddev=0.5)), to_haiku("zeros"))
    expected = jax.jit(hk.transform(theirs).init)(KEY, X)
    assert_same(made(ours, X), expected, 1e-6)


def test_values_are_those_of_the_initializer_and_the_next_key():
    first, second = hk.transform(lambda: [hk.next_rng_key() for _ in range(2)]).apply(
        {}, KEY
    )

    def forward(x):
        x = hk.Linear(6, w_init=to_haiku(HE), b_init=to_haiku("zeros"), name="a")(x)
        return hk.Linear(5, w_init=to_haiku("orthogonal"), name="b")(x)

    params = made(forward, X)
    assert_same(params["a"]["w"], HE(first, (8, 6)), 1e-6)
    # Zeros took no key: the next one is of the second layer.
    assert_same(params["b"]["w"], jaxinit.Orthogonal()(second, (6, 5)), 1e-6)


def test_bfloat16_parameters():
    def forward(x):
        return hk.Linear(64, w_init=to_haiku(HE))(x)

    kernel = made(forward, jnp.ones((1, 64), jnp.bfloat16))["linear"]["w"]
    assert kernel.dtype == jnp.bfloat16
    values = np.asarray(kernel, np.float64)
    assert abs(values.std() / (2 / 64) ** 0.5 - 1) < 5 / (2 * 64**2) ** 0.5


def test_models_without_draws_need_no_key():
    zeros = to_haiku("zeros")
    params = hk.transform(linear(zeros)).init(None, X)
    np.testing.assert_array_equal(params["linear"]["w"], np.zeros((8, 6)))
    with pytest.raises(ValueError, match="PRNGKey"):
        hk.transform(linear(to_haiku(HE))).init(None, X)


def test_arguments_of_to_haiku():
    assert to_haiku("he_normal") == to_haiku(HE) != to_haiku("zeros")
    assert repr(to_haiku(HE)) == "HaikuInitializer(initializer=HeNormal())"
    with pytest.raises(TypeError, match=r"to_haiku\(initializer=...\) must be an init"):
        to_haiku(None)
    params = made(linear(to_haiku(jax.nn.initializers.ones)), X)
    np.testing.assert_array_equal(params["linear"]["w"], np.ones((8, 6)))


@pytest.mark.parametrize(
    "init",
    [
        HE,
        jaxinit.HeNormal,
        jaxinit.Zeros(),
        jaxinit.Identity(),
        jaxinit.Orthogonal(),
        jaxinit.Scaled("he_normal", 2.0),
        jaxinit.functional.he_normal,
        jaxinit.functional.zeros,
    ],
    ids=lambda x: getattr(x, "__name__", str(x)),
)
def test_an_initializer_without_to_haiku_is_explained(init):
    with pytest.raises(TypeError, match=r"jaxinit\.haiku\.to_haiku"):
        hk.transform(linear(init)).init(KEY, X)
