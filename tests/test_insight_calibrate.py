"""Calibration reaches its targets, layer by layer, or says why not."""

import math

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
import models

KEY = jax.random.key(0)


def moment(x) -> float:
    return float(np.mean(np.asarray(x, np.float64) ** 2))


def mlp(f):
    def fn(layers, x):
        for layer in layers:
            x = f(x @ layer["w"] + layer["b"])
        return x

    return fn


def layers_of(depth, width, init="orthogonal", bias=0.0):
    keys = jax.random.split(KEY, depth)
    made = jaxinit.get(init)
    bias = jnp.full((width,), bias)
    return [{"w": made(key, (width, width)), "b": bias} for key in keys]


@pytest.mark.parametrize("f", [jax.nn.relu, jax.nn.silu, jnp.tanh, jax.nn.sigmoid])
def test_one_pass_calibrates_fifty_layers(f):
    params = layers_of(50, 24)
    x = jax.random.normal(KEY, (16, 24))
    made = jaxinit.calibrate(mlp(f), params, x, target=0.7, passes=2)
    assert jax.tree.structure(made) == jax.tree.structure(params)
    for before, after in zip(params, made, strict=True):
        y = x @ after["w"] + after["b"]
        assert moment(y) == pytest.approx(0.7, rel=0.01)
        x = f(y)
        factor = after["w"][0, 0] / before["w"][0, 0]  # orthogonal, but for a number
        np.testing.assert_allclose(after["w"], factor * before["w"], rtol=1e-5)
        np.testing.assert_array_equal(after["b"], before["b"])


def test_biases_count():
    params = layers_of(4, 16, bias=0.5)
    x = jax.random.normal(KEY, (32, 16))
    made = jaxinit.calibrate(mlp(jnp.tanh), params, x)
    for layer in made:
        y = x @ layer["w"] + layer["b"]
        assert moment(y) == pytest.approx(1, rel=0.01)
        x = jnp.tanh(y)


def residual(p, x):
    def body(x, w):
        return x + jnp.tanh(x @ w["up"]) @ w["down"], None

    return jax.lax.scan(jax.checkpoint(body), x @ p["in"], p["layers"])[0] @ p["out"]


def residual_params(depth):
    keys = jax.random.split(KEY, depth)
    draw = jax.vmap(lambda k: 3 * jax.random.normal(k, (2, 8, 8)))(keys)
    return {
        "in": 5 * jnp.eye(8),
        "layers": {"up": draw[:, 0], "down": draw[:, 1]},
        "out": jnp.eye(8),
    }


@pytest.mark.parametrize(("branch", "expected"), [(None, 1 / 6), (0.5, 0.5)])
def test_layers_of_a_scan_and_branches(branch, expected):
    x = jax.random.normal(KEY, (64, 8))
    made = jaxinit.calibrate(residual, residual_params(6), x, branch=branch)
    stream = x @ made["in"]
    assert moment(stream) == pytest.approx(1, rel=0.01)
    for up, down in zip(made["layers"]["up"], made["layers"]["down"], strict=True):
        assert moment(stream @ up) == pytest.approx(1, rel=0.01)
        added = jnp.tanh(stream @ up) @ down
        assert moment(added) == pytest.approx(expected, rel=0.01)
        stream = stream + added
    assert moment(stream @ made["out"]) == pytest.approx(1, rel=0.01)


def test_only_what_a_pattern_matches():
    params = {"a": jnp.eye(4) * 3, "b": jnp.eye(4) * 3}
    x = jax.random.normal(KEY, (8, 4))

    def fn(p, x):
        return x @ p["a"] @ p["b"]

    made = jaxinit.calibrate(fn, params, x, only="b")
    np.testing.assert_array_equal(made["a"], params["a"])
    assert moment(fn(made, x)) == pytest.approx(1, rel=0.01)
    with pytest.raises(ValueError, match="matches the weight of a product"):
        jaxinit.calibrate(fn, params, x, only="**/kernel")


def test_shared_weights_and_recurrences():
    p = {"x": 4 * jax.random.normal(KEY, (3, 8)), "h": jnp.eye(8) * 3}
    xs = jax.random.normal(KEY, (7, 4, 3))

    def fn(p, xs):
        def step(h, x):
            h = jnp.tanh(x @ p["x"] + h @ p["h"])
            return h, h

        return jax.lax.scan(step, jnp.ones((4, 8)), xs)[1]

    made = jaxinit.calibrate(fn, p, xs)
    assert moment(xs @ made["x"]) == pytest.approx(1, rel=0.01)
    states = fn(made, xs)
    before = jnp.concatenate([jnp.ones((1, 4, 8)), states[:-1]])
    assert moment(before @ made["h"]) == pytest.approx(1, rel=0.01)

    def tied(w, x):
        return jnp.tanh(x @ w) @ w.T

    made = jaxinit.calibrate(tied, 3 * jnp.eye(8), states[0])
    assert moment(states[0] @ made) == pytest.approx(1, rel=0.01)


def test_linen_in_a_narrow_dtype():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Dense(16, param_dtype=jnp.bfloat16, name="first")(x)
            y = nn.LayerNorm()(nn.gelu(x))
            return x + nn.Dense(16, param_dtype=jnp.bfloat16, name="last")(y)

    x = jax.random.normal(KEY, (64, 8))
    variables = Net().init(KEY, x)
    made = jaxinit.calibrate(Net().apply, variables, x, only="**/kernel", branch=0.25)
    assert jax.tree.map(lambda x: x.dtype, made) == jax.tree.map(
        lambda x: x.dtype, variables
    )
    rows = jaxinit.probe(Net().apply, made, x, key=KEY).rows
    found = {row.path: row.out_rms for row in rows}
    assert found["params/first/kernel"] == pytest.approx(1, rel=0.01)
    assert found["params/last/kernel"] == pytest.approx(0.5, rel=0.01)


def test_equinox_on_a_mesh():
    net = eqx.nn.MLP(4, 2, 8, 2, key=KEY)
    x = jax.random.normal(KEY, (16, 4))
    mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.sharding.NamedSharding(mesh, jax.P("x"))
    net = eqx.tree_at(
        lambda n: n.layers[0].weight,
        net,
        replace_fn=lambda w: jax.device_put(w, sharded),
    )
    made = jaxinit.calibrate(lambda n, x: jax.vmap(n)(x), net, x)
    assert made.layers[0].weight.sharding.is_equivalent_to(sharded, 2)
    assert moment(jax.vmap(made)(x)) == pytest.approx(1, rel=0.01)
    hidden = jax.vmap(made.layers[0])(x)
    assert moment(hidden) == pytest.approx(1, rel=0.01)


def test_convolutions_and_normalization():
    def fn(p, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        for w in p:
            x = jax.lax.conv_general_dilated(
                x, w, (1, 1), "SAME", dimension_numbers=numbers
            )
            x = jax.nn.relu(x / jnp.std(x))
        return x

    params = [jax.random.normal(k, (3, 3, 4, 4)) for k in jax.random.split(KEY, 3)]
    x = jax.random.normal(KEY, (2, 6, 6, 4))
    made = jaxinit.calibrate(fn, params, x)
    rows = jaxinit.probe(fn, made, x, key=KEY).rows
    assert [row.out_rms for row in rows] == [pytest.approx(1, rel=0.01)] * 3


def products(fn, params, x):
    """The second moments of all products, by path, measured by a probe."""
    rows = jaxinit.probe(fn, params, x, key=KEY).rows
    found = {row.name: row.out_rms or 0 for row in rows if row.kind in ("dot", "conv")}
    return {name: x**2 for name, x in found.items()}


def test_resnet_50():
    model = models.ResNet(width=4)  # 53 convolutions and a head
    x = jax.random.normal(KEY, (8, 32, 32, 3))
    variables = jaxinit.init(model.init, KEY, x)

    def fn(variables, x):
        return model.apply(variables, x, mutable=["batch_stats"])[0]

    made = jaxinit.calibrate(fn, variables, x)

    @jax.jit
    def outputs(variables):
        options = {"mutable": ["batch_stats", "intermediates"]}
        _, seen = model.apply(variables, x, capture_intermediates=True, **options)
        return [
            jnp.mean(leaf**2)
            for path, leaf in jax.tree_util.tree_leaves_with_path(seen["intermediates"])
            if "Conv" in (name := jax.tree_util.keystr(path)) or "Dense" in name
        ]

    moments = [float(x) for x in outputs(made)]
    assert len(moments) == 54
    assert moments == pytest.approx([1] * 54, rel=0.01)


@pytest.mark.parametrize("scan", [False, True])
def test_gpt_2(scan):
    model = models.GPT(3, 32, 64, scan=scan)
    tokens = jax.random.randint(KEY, (4, 8), 0, 64)
    made = jaxinit.calibrate(model.apply, model.init(KEY, tokens), tokens)
    moments = products(model.apply, made, tokens)
    assert len(moments) == 3 * 6 + 1
    for name, moment in moments.items():
        is_end = "/out/" in name or "/down/" in name
        assert moment == pytest.approx(1 / 6 if is_end else 1, rel=0.01), name


def mamba(p, x):
    """A block with a gate, a causal convolution of each channel, and a scan."""

    def step(h, inputs):
        u, dt, b, c = inputs
        h = jnp.exp(-dt[..., None] * jnp.exp(p["a_log"])) * h
        h = h + (dt * u)[..., None] * b[..., None, :]
        return h, jnp.sum(h * c[..., None, :], -1) + p["skip"] * u

    scale = jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)
    u, gate = jnp.split(x * scale * p["norm"] @ p["in"], 2, -1)
    u = jax.lax.conv_general_dilated(
        u,
        p["conv"],
        (1,),
        [(p["conv"].shape[0] - 1, 0)],
        dimension_numbers=("NTC", "TIO", "NTC"),
        feature_group_count=u.shape[-1],
    )
    u = jax.nn.silu(u + p["conv_bias"])
    dt = jax.nn.softplus(u @ p["dt"] + p["dt_bias"])
    b, c = jnp.split(u @ p["bc"], 2, -1)
    inputs = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), (u, dt, b, c))
    h = jnp.zeros((*u[:, 0].shape, b.shape[-1]))
    _, y = jax.lax.scan(step, h, inputs)
    return x + jnp.moveaxis(y, 0, 1) * jax.nn.silu(gate) @ p["out"]


def test_a_block_of_mamba():
    width, inner, state = 16, 32, 4
    keys = iter(jax.random.split(KEY, 8))
    normal = jax.random.normal
    p = {
        "norm": jnp.ones(width),
        "in": normal(next(keys), (width, 2 * inner)),
        "conv": normal(next(keys), (4, 1, inner)),
        "conv_bias": jnp.full(inner, 0.1),
        "dt": normal(next(keys), (inner, inner)),
        "dt_bias": jnp.full(inner, -0.5),
        "bc": normal(next(keys), (inner, 2 * state)),
        "a_log": jnp.log(jnp.arange(1.0, state + 1)) * jnp.ones((inner, 1)),
        "skip": jnp.ones(inner),
        "out": normal(next(keys), (inner, width)),
    }
    x = normal(next(keys), (4, 12, width))
    made = jaxinit.calibrate(mamba, p, x)
    moments = products(mamba, made, x)
    assert set(moments) == {"in", "conv", "dt", "bc", "out"}
    # One addition to the stream: the skip lies inside the branch.
    added = np.asarray(mamba(made, x) - x, np.float64)
    assert moment(added) == pytest.approx(1, rel=0.01)
    assert moments.pop("out") == pytest.approx(1, rel=0.01)
    assert all(m == pytest.approx(1, rel=0.01) for m in moments.values())
    for name in ("norm", "conv_bias", "dt_bias", "a_log", "skip"):
        np.testing.assert_array_equal(made[name], p[name])


def test_weight_norm_is_scaled_by_its_length():
    p = {"v": jax.random.normal(KEY, (8, 16)), "g": jnp.full(16, 3.0), "b": jnp.eye(16)}

    def fn(p, x):
        w = p["g"] * p["v"] / jnp.linalg.norm(p["v"], axis=0)
        return jnp.tanh(x @ w) @ p["b"] * 1.0

    x = jax.random.normal(KEY, (32, 8))
    made = jaxinit.calibrate(fn, p, x)
    np.testing.assert_array_equal(made["v"], p["v"])
    factor = made["g"] / p["g"]
    np.testing.assert_allclose(factor, factor[0], rtol=1e-6)
    w = made["g"] * made["v"] / jnp.linalg.norm(made["v"], axis=0)
    assert moment(x @ w) == pytest.approx(1, rel=0.01)
    assert moment(fn(made, x)) == pytest.approx(1, rel=0.01)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.WeightNorm(nn.Dense(16, use_bias=False))(x)

    variables = Net().init(KEY, x)
    made = jaxinit.calibrate(Net().apply, variables, x)
    assert moment(Net().apply(made, x)) == pytest.approx(1, rel=0.01)


def test_weights_with_constant_factors_are_scaled():
    mask = jnp.tri(8)

    def fn(p, x):
        return x @ (mask * p["w"] / 4)

    x = jax.random.normal(KEY, (32, 8))
    made = jaxinit.calibrate(fn, {"w": jnp.ones((8, 8))}, x)
    assert moment(fn(made, x)) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(("name", "shown"), [("a", "a"), ("a\x1b", r"a\\x1b")])
def test_computed_weights_are_named(name, shown):
    p = {"w": 3 * jnp.eye(8), name: jnp.ones((8, 2)), "b": jnp.ones((2, 8))}

    def fn(p, x):
        return x @ (p["w"] + p[name] @ p["b"]) @ p["w"]

    with pytest.warns(
        UserWarning, match=f"left {shown} as it is: its weight is computed from"
    ):
        made = jaxinit.calibrate(fn, p, jnp.eye(8))
    assert not np.array_equal(made["w"], p["w"])


def test_targets_that_cannot_be_reached():
    x = jax.random.normal(KEY, (8, 4))
    zeros = {"a": jnp.eye(4), "b": jnp.zeros((4, 4))}
    with pytest.warns(UserWarning, match="b: no factor reaches 1, because its"):
        made = jaxinit.calibrate(lambda p, x: x @ p["a"] @ p["b"], zeros, x)
    np.testing.assert_array_equal(made["b"], zeros["b"])
    assert moment(x @ made["a"]) == pytest.approx(1, rel=0.01)
    with pytest.warns(UserWarning, match="its bias alone is larger"):
        jaxinit.calibrate(
            lambda p, x: x @ p[0] + p[1], (jnp.eye(4), jnp.full(4, 9.0)), x
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 0.0}, "target"),
        ({"branch": -1.0}, "branch"),
        ({"tolerance": math.nan}, "tolerance"),
        ({"passes": 0}, "passes"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        jaxinit.calibrate(lambda w, x: x @ w, jnp.eye(2), jnp.eye(2), **options)


def test_a_model_without_products_is_refused():
    params, x = jnp.eye(2), jnp.eye(2)

    def fn(w, x):
        return jax.lax.cond(x.sum() > 0, lambda x: x @ w, lambda x: x, x)

    with pytest.raises(ValueError, match=r"fn=...\) must be a function with products"):
        jaxinit.calibrate(fn, params, x)
    with pytest.raises(ValueError, match=r"only=...\) must be a pattern"):
        jaxinit.calibrate(lambda w, x: x @ w, params, x, only="bias")


def test_the_warning_names_parameters_that_are_one_array():
    w = jnp.eye(4)
    with pytest.warns(UserWarning, match="left the array: no factor reaches 1"):
        made = jaxinit.calibrate(lambda w, x: 0 * x @ w, w, jnp.ones((2, 4)))
    np.testing.assert_array_equal(made, w)
