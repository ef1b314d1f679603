"""Exact gains, the mean-field maps, and the initializer that reads them."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

import jaxinit
from jaxinit import _activations
from jaxinit._quadrature import grid_of
from jaxinit.initializers import registry

# 1 / sqrt(E[f^2]) and 1 / sqrt(E[f'^2]): closed forms, and 30-digit quadrature.
CLOSED = {
    "identity": (1.0, 1.0),
    "relu": (math.sqrt(2), math.sqrt(2)),
    "leaky_relu": (math.sqrt(2 / (1 + 0.01**2)),) * 2,
    "selu": (1.0, 0.966025776974),
    "elu": (1.2451983007007, 1.22342855755),
    "gelu": (1.5335805216661, 1.48116805809),
    "silu": (1.6765324703311, 1.62332025795),
    "mish": (1.4868475812732, 1.44475523255),
    "tanh": (1.5925374197228, 1.46741359163),
    "sigmoid": (1.8462285453386, 4.72264608594),
    "softplus": (1.0418668355353, 1.84622854534),
    "soft_sign": (2.3375333631085, 2.09578060894),
    "relu6": (1.4142135650951, 1.41421356377),
    "hard_tanh": (1.3920361404483, 1.21028706243),
    "hard_sigmoid": (1.8978404247296, 6.0081158252),
    "hard_swish": (1.7366572127665, 1.67007636744),
    "log_sigmoid": (1.0418668355353, 1.84622854534),
}
FUNCTIONS = {
    "sin": (jnp.sin, 1 / math.sqrt((1 - math.exp(-2)) / 2)),
    "abs": (jnp.abs, 1.0),
    "square": (jnp.square, 1 / math.sqrt(3)),
    "gaussian": (lambda x: jnp.exp(-(x**2)), 5**0.25),
    "relu squared": (lambda x: jax.nn.relu(x) ** 2, math.sqrt(2 / 3)),
    "exact gelu": (functools.partial(jax.nn.gelu, approximate=False), 1.5335304411955),
    "leaky": (functools.partial(jax.nn.leaky_relu, negative_slope=0.25), 1.37198868114),
    "tanhshrink": (lambda x: x - jnp.tanh(x), 2.3383675301021),
    # A kink and a jump that lie on no power of two.
    "kink": (
        lambda x: jax.nn.relu(x - 1 / 3),
        1 / math.sqrt((1 + 1 / 9) * stats.norm.sf(1 / 3) - stats.norm.pdf(1 / 3) / 3),
    ),
    "jump": (lambda x: jnp.where(x > 1 / 3, 1.0, 0.0), stats.norm.sf(1 / 3) ** -0.5),
    "exp": (jnp.exp, math.exp(-1)),
}


@pytest.fixture
def scratch(monkeypatch):
    """Names that are registered in a test are gone after it."""
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    monkeypatch.setattr(_activations, "_registered", dict(_activations._registered))
    yield
    _activations._second_moment.cache_clear()


@pytest.mark.parametrize("name", CLOSED)
def test_gains_of_names(name):
    gain, slopes = CLOSED[name]
    found = jaxinit.activation(name)
    assert found.gain == pytest.approx(gain, rel=1e-10)
    assert found.gain == pytest.approx(jaxinit.gain(name), rel=1e-13)
    assert found.slope_moment**-0.5 == pytest.approx(slopes, rel=1e-10)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gains_of_functions(name):
    f, gain = FUNCTIONS[name]
    assert jaxinit.gain(f) == pytest.approx(gain, rel=1e-10)


def test_every_elementwise_function_of_jax_nn_has_a_name():
    elementwise = set()
    for name in dir(jax.nn):
        f = getattr(jax.nn, name)
        if name[0] == "_" or not _activations.is_activation(f):
            continue
        x = np.linspace(-1, 1, 6).reshape(2, 3)
        try:
            whole, single = f(x), np.stack([[f(v) for v in row] for row in x])
        except Exception:
            continue
        if np.shape(whole) == x.shape and np.allclose(whole, single, 0, 1e-6):
            elementwise.add(name)
    assert elementwise == set(_activations.NAMES)


def test_means_at_every_variance():
    grid = grid_of("test", jax.nn.silu)
    for q in (1e-8, 1e-2, 1.0, 30.0, 400.0):

        def integrand(z, q=q):
            x = math.sqrt(q) * z
            return (x / (1 + math.exp(-x))) ** 2 * stats.norm.pdf(z)

        expected = integrate.quad(integrand, -14, 14, epsabs=0, points=[0], limit=500)
        assert grid.mean(grid.values**2, q) == pytest.approx(expected[0], rel=1e-9)


def test_what_is_computed_in_float32_or_in_a_trace():
    f = jax.nn.silu
    assert jaxinit.gain(lambda x: f(x.astype(jnp.float32))) == pytest.approx(
        jaxinit.gain("silu"), rel=1e-6
    )
    made = jax.jit(lambda x: x * jaxinit.gain(lambda y: f(y) * 1.0))(1.0)
    assert float(made) == pytest.approx(jaxinit.gain("silu"), rel=1e-6)
    with jax.disable_jit():
        assert jaxinit.gain(lambda y: f(y) * 1.0) == jaxinit.gain("silu")


def test_an_activation_cannot_read_a_traced_value():
    with pytest.raises(TypeError, match="elementwise function"):
        jax.jit(lambda x: jaxinit.gain(lambda y: x * y))(1.0)


@pytest.mark.parametrize(
    ("f", "kind", "message"),
    [
        ("silo", ValueError, "Did you mean 'silu'"),
        ("initializers", ValueError, "of jax.nn or registered"),
        (3, TypeError, "name of an activation or a function"),
        (np.tanh, TypeError, "elementwise function"),
        (jax.nn.softmax, TypeError, "elementwise function"),
        (lambda x: x > 0, TypeError, "elementwise function"),
        (lambda x: jnp.stack([x, x]), TypeError, "elementwise function"),
        (jnp.zeros_like, ValueError, "of which it is 0"),
        (jnp.log, ValueError, "of which it is nan"),
    ],
)
def test_what_has_no_gain(f, kind, message):
    with pytest.raises(kind, match=message):
        jaxinit.gain(f)
    with pytest.raises(kind, match=message):
        jaxinit.activation(f)


def test_relu_is_at_the_edge_of_chaos():
    found = jaxinit.activation("relu")
    assert found.verdict == "edge of chaos" and found.stability == "neutral"
    assert found.chi == pytest.approx(1, abs=1e-12)
    assert found.gradient_factor == pytest.approx(1, abs=1e-12)
    assert found.correlation == 1 and found.ceiling is None
    # The arc-cosine kernel of Cho and Saul.
    for c in (0.0, 0.3, 0.9):
        exact = (math.sqrt(1 - c * c) + c * (math.pi - math.acos(c))) / math.pi
        assert found.correlation_map(c) == pytest.approx(exact, abs=1e-6)


def test_phases_of_tanh():
    """Poole et al., figure 1: without a bias the edge of tanh is sigma_w = 1."""
    ordered = jaxinit.activation("tanh", weight_variance=0.9)
    assert ordered.verdict == "vanishing" and ordered.fixed_point == 0
    chaotic = jaxinit.activation("tanh", weight_variance=4.0)
    assert chaotic.verdict == "chaotic" and chaotic.correlation < 1e-6
    assert chaotic.stability == "attracts" and chaotic.gradient_factor > 1
    q = chaotic.fixed_point
    assert chaotic.variance_map(q) == pytest.approx(q, rel=1e-12)
    # Schoenholz et al. and Pennington et al.: (1.76, 0.05) is critical.
    edge = jaxinit.activation("tanh", weight_variance=1.76, bias_variance=0.05)
    assert edge.verdict == "edge of chaos"
    assert edge.gradient_factor == pytest.approx(1, abs=1e-3)
    between = jaxinit.activation("tanh", weight_variance=8.0, bias_variance=0.3)
    c = between.correlation
    assert 0.1 < c < 0.99
    assert between.correlation_map(c) == pytest.approx(c, abs=1e-6)


def test_exact_correlation_of_erf():
    """E[erf(u) erf(v)] = 2 / pi asin(2 c / 3) at variance 1: Williams, 1997."""
    found = jaxinit.activation(jax.scipy.special.erf)
    scale = 2 / math.pi * found.gain**2
    for c in (0.2, 0.7, 1.0):
        exact = scale * math.asin(2 * c / 3)
        assert found.correlation_map(c) == pytest.approx(exact, abs=1e-9)
    exact = 4 / math.pi / math.sqrt(5) * found.gain**2
    assert found.gradient_factor == pytest.approx(exact, rel=1e-10)


def test_silu_has_no_stable_scale_and_sigmoid_a_ceiling():
    silu = jaxinit.activation("silu")
    assert silu.verdict == "unstable" and silu.chi > 1
    # chi by a difference of the variance map.
    above, below = silu.variance_map(1.001), silu.variance_map(0.999)
    slope = math.log(above / below) / math.log(1.001 / 0.999)
    assert silu.chi == pytest.approx(slope, rel=1e-5)
    assert "normalize" in str(silu)
    sigmoid = jaxinit.activation("sigmoid")
    assert (sigmoid.floor, sigmoid.ceiling) == pytest.approx((0.25, 0.5), abs=1e-9)
    assert sigmoid.verdict == "ordered"
    assert "between 0.25 and 0.5" in str(sigmoid)
    assert jaxinit.activation("tanh").ceiling == pytest.approx(1.0)
    exploding = jaxinit.activation("relu", weight_variance=3.0)
    assert exploding.verdict == "exploding" and exploding.fixed_point == math.inf


def test_refused_variances():
    with pytest.raises(ValueError, match="pass weight_variance"):
        jaxinit.activation("relu", bias_variance=1.0)
    with pytest.raises(ValueError, match="at least 0"):
        jaxinit.activation("relu", weight_variance=-1.0)
    found = jaxinit.activation("relu")
    with pytest.raises(ValueError, match="at most 400"):
        found.variance_map(1e6)
    with pytest.raises(ValueError, match="<= 1"):
        found.correlation_map(1.5)


def test_activation_scaled_is_variance_scaling_with_the_gain(scratch):
    key, shape = jax.random.key(0), (30, 20)
    for name in ("relu", "silu"):
        init = jaxinit.ActivationScaled(name, "fan_out", "uniform")
        scale = jaxinit.gain(name) ** 2
        expected = jaxinit.VarianceScaling(scale, "fan_out", "uniform")(key, shape)
        np.testing.assert_array_equal(init(key, shape), expected)
        assert jaxinit.deserialize(jaxinit.serialize(init)) == init
    relu = jaxinit.ActivationScaled("relu")(key, shape)
    np.testing.assert_allclose(relu, jaxinit.HeNormal()(key, shape), rtol=1e-6)


def test_activations_of_users(scratch):
    @jaxinit.register("lab>squared")
    def squared(x):
        return jax.nn.relu(x) ** 2

    init = jaxinit.get(
        {"class_name": "ActivationScaled", "config": {"activation": "lab>squared"}}
    )
    expected = jaxinit.VarianceScaling(2 / 3)(jax.random.key(1), (8, 4))
    np.testing.assert_allclose(init(jax.random.key(1), (8, 4)), expected, rtol=1e-6)
    jaxinit.register(jnp.sin)
    assert jaxinit.gain("sin") == pytest.approx(FUNCTIONS["sin"][1], rel=1e-10)
    for name in ("lab>squared", "relu"):
        with pytest.raises(ValueError, match="known already"):
            jaxinit.register(name)(jnp.sin)
    with pytest.raises(ValueError, match="empty"):
        jaxinit.register("")(jnp.sin)
    jaxinit.register("lab>squared", override=True)(jnp.sin)
    assert jaxinit.gain("lab>squared") == jaxinit.gain("sin")
    with pytest.raises(ValueError, match="Did you mean 'lab>squared'"):
        jaxinit.ActivationScaled("lab>square")
    with pytest.raises(TypeError, match=r"jaxinit\.register"):
        jaxinit.ActivationScaled(jnp.sin)
    with pytest.raises(dataclasses.FrozenInstanceError):
        init.activation = "relu"
