"""Probes against closed forms, direct computation and jax.grad."""

import functools
import json
import math
import re

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
import models
from jaxinit.insight import recognition, statistics
from jaxinit.insight.recognition import FORMULAS
from jaxinit.insight.report import Report

KEY = jax.random.key(0)
PROBE = functools.partial(jaxinit.probe, key=KEY)


def rms(x) -> float:
    return float(np.sqrt(np.mean(np.asarray(x, np.float64) ** 2)))


def near(x, tolerance=1e-4):
    return pytest.approx(x, rel=tolerance, abs=1e-7)


def chain(f, depth, width, scale, init=jaxinit.RandomNormal, seed=0):
    """Weights of standard deviation scale / sqrt(width), and their network."""
    keys = jax.random.split(jax.random.key(seed), depth)
    made = init(stddev=scale / math.sqrt(width))
    weights = [made(key, (width, width)) for key in keys]

    def fn(weights, x):
        for w in weights:
            x = f(x @ w)
        return x

    return fn, weights


# --- closed forms ---------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 0.8, 1.3])
def test_deep_linear_networks(scale):
    """Orthogonal matrices times a scale: every rate is the scale, exactly."""
    keys = jax.random.split(KEY, 12)
    weights = [jaxinit.Orthogonal(gain=scale)(key, (16, 16)) for key in keys]
    fn, _ = chain(lambda x: x, 12, 16, 1.0)
    x = jax.random.normal(KEY, (32, 16))
    report = PROBE(fn, weights, x)
    assert [row.path for row in report.rows] == [str(i) for i in range(12)]
    for growth in (report.forward, report.backward):
        assert growth.rate == near(scale) and growth.error < 1e-4
        assert growth.layers == 12 and growth.of == "product"
    assert report.jacobian == near(scale**24)
    assert report.rows[-1].out_rms == near(rms(x) * scale**12)
    assert report.rows[-1].grad_rms == near(1.0)
    assert report.rows[0].grad_rms == near(scale**11)
    assert report.rows[3].gain == near(scale)
    assert report.rows[3].activation is None
    report.check()


def test_relu_is_at_the_edge_of_chaos_with_its_gain():
    fn, weights = chain(jax.nn.relu, 24, 256, jaxinit.gain("relu"))
    report = PROBE(fn, weights, jax.random.normal(KEY, (64, 256)))
    for growth in (report.forward, report.backward):
        assert growth.rate == pytest.approx(1, abs=0.03)
    report.check()
    assert {row.activation for row in report.rows} == {"relu"}
    assert report.rows[0].zeros == pytest.approx(0.5, abs=0.02)


def test_phases_of_tanh_are_those_of_theory():
    def probe(sigma):
        fn, weights = chain(jnp.tanh, 12, 256, sigma)
        x = jax.random.normal(KEY, (32, 256)) + 1.0  # of correlation 1/2
        theory = jaxinit.activation("tanh", weight_variance=sigma**2)
        return PROBE(fn, weights, x), theory

    ordered, _ = probe(0.5)
    assert ordered.backward.rate == pytest.approx(0.5, rel=0.03)
    assert {verdict.kind for verdict in ordered.verdicts} == {"forward", "backward"}
    with pytest.raises(ValueError, match=r"gain of tanh is 1\.593 .*yours 0\.(49|5)"):
        ordered.check()
    chaotic, theory = probe(2.5)
    assert chaotic.forward.rate == pytest.approx(1, abs=0.04)
    last = chaotic.rows[-1]
    assert last.out_rms and last.saturation and last.cosine is not None
    assert last.out_rms**2 == pytest.approx(theory.fixed_point, rel=0.05)
    assert chaotic.backward.rate == pytest.approx(
        math.sqrt(theory.gradient_factor), rel=0.05
    )
    assert chaotic.rows[0].cosine == pytest.approx(0.5, abs=0.1)
    c = 0.5
    for _ in range(11):
        c = theory.correlation_map(c)
    assert last.cosine == pytest.approx(c, abs=0.08)
    assert last.activation == "tanh" and last.saturation > 0.2


# --- direct computation ---------------------------------------------------------------


def small(p, x, mask=None):
    """A lookup, a norm, a residual branch, an attention, a projection and its bias."""
    table, scale, w1, b1, w2, q = (
        p[k] for k in ("table", "scale", "w1", "b1", "w2", "q")
    )
    h = table[x]
    n = h * jax.lax.rsqrt(jnp.mean(h * h, -1, keepdims=True) + 1e-6) * scale
    y = jax.nn.silu(n @ w1 + b1)
    h = h + y @ w2
    a = jax.nn.softmax(jnp.einsum("btd,bsd->bts", h @ q, h), -1)
    return jnp.einsum("bts,bsd->btd", a, h) + p["shift"]


def small_params():
    keys = iter(jax.random.split(KEY, 9))
    normal = jax.random.normal
    return {
        "table": normal(next(keys), (11, 8)),
        "scale": 1 + normal(next(keys), (8,)) / 4,
        "w1": normal(next(keys), (8, 16)) / 3,
        "b1": normal(next(keys), (16,)) / 5,
        "w2": normal(next(keys), (16, 8)) / 2,
        "q": normal(next(keys), (8, 8)) / 4,
        "shift": normal(next(keys), (5, 8)),
        "unused": jnp.ones(3),
    }


TOKENS = jax.random.randint(jax.random.key(3), (4, 5), 0, 11)


def test_every_number_of_a_small_model():
    p = small_params()
    weights = jax.random.normal(jax.random.key(5), (4, 5, 8))

    def loss(y):
        return jnp.sum(weights * jnp.square(y))

    report = PROBE(small, p, TOKENS, loss=loss)
    kinds = [(row.path, row.kind) for row in report.rows]
    assert kinds == [
        ("table", "lookup"),
        ("scale", "scale"),
        ("w1", "dot"),
        ("w2", "dot"),
        ("", "residual"),
        ("q", "dot"),
        ("", "softmax"),
        ("shift", "add"),
    ]
    row = dict(zip([path or kind for path, kind in kinds], report.rows, strict=True))

    q = {name: np.asarray(x, np.float64) for name, x in p.items()}
    h = q["table"][np.asarray(TOKENS)]
    n = h / np.sqrt(np.mean(h * h, -1, keepdims=True) + 1e-6) * q["scale"]
    pre = n @ q["w1"] + q["b1"]
    y = pre / (1 + np.exp(-pre))
    branch = y @ q["w2"]
    stream = h + branch
    logits = np.exp(np.einsum("btd,bsd->bts", stream @ q["q"], stream))
    a = logits / logits.sum(-1, keepdims=True)

    assert row["table"].out_rms == near(rms(h)) and row["table"].in_rms is None
    assert row["scale"].in_rms == near(rms(n / q["scale"]))
    assert row["scale"].out_rms == near(rms(n))
    assert row["w1"].in_rms == near(rms(n))
    assert row["w1"].out_rms == near(rms(pre))  # with the bias
    assert row["w1"].out_mean == near(float(np.mean(pre)))
    assert row["w1"].out_std == near(float(np.std(pre)))
    assert row["w1"].activation == "silu"
    assert row["w1"].weight_rms == near(rms(p["w1"]))
    assert row["w1"].gain == near(rms(p["w1"]) * math.sqrt(8))
    assert row["w2"].in_rms == near(rms(y))
    assert row["residual"].branch == near(rms(branch) / rms(h))
    assert row["residual"].in_rms == near(rms(h))
    assert row["residual"].out_rms == near(rms(stream))
    entropy = -np.sum(a * np.log(a), -1).mean() / math.log(5)
    assert row["softmax"].entropy == near(float(entropy))
    unit = np.asarray(pre.reshape(20, 16))
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    pairs = unit @ unit.T
    assert row["w1"].cosine == near((pairs.sum() - 20) / 380)
    values = np.linalg.eigvalsh(np.asarray(pre.reshape(20, 16).T @ pre.reshape(20, 16)))
    assert row["w1"].rank == near(values.sum() ** 2 / (values**2).sum() / 16)

    grads = jax.jit(jax.grad(lambda p: loss(small(p, TOKENS))))(p)
    for name in ("table", "w1", "w2", "q", "scale", "shift"):
        assert row[name].weight_grad_rms == near(rms(grads[name])), name

    def after(delta):  # by the result of w1
        y = jax.nn.silu(n @ p["w1"] + p["b1"] + delta)
        h = p["table"][TOKENS] + y @ p["w2"]
        a = jax.nn.softmax(jnp.einsum("btd,bsd->bts", h @ p["q"], h), -1)
        return loss(jnp.einsum("bts,bsd->btd", a, h) + p["shift"])

    n = jnp.float32(n)
    gradient = jax.jit(jax.grad(after))(jnp.zeros((4, 5, 16)))
    assert row["w1"].grad_rms == near(rms(gradient))
    assert row["w1"].grad_std == near(float(np.std(gradient)))

    out = jax.jit(small)(p, TOKENS)
    assert report.loss == near(float(loss(out)))
    assert report.output_variance == near(float(np.var(out)))
    assert report.jacobian is None
    parameters = {x.path: x for x in report.parameters}
    assert list(parameters) == sorted(p)
    for name, x in parameters.items():
        assert x.rms == near(rms(q[name])) and x.shape == p[name].shape
        assert x.grad_rms == near(rms(grads[name]))
        assert x.sgd_step == near(rms(grads[name]) / rms(p[name]))
    reached = np.mean(np.asarray(grads["table"]) != 0)
    assert parameters["table"].adam_step == near(math.sqrt(reached) / rms(p["table"]))
    assert [x.path for x in report.parameters if not x.is_used] == ["unused"]
    assert [v.kind for v in report.verdicts] == ["unused"]
    with pytest.raises(ValueError, match="does not depend on unused"):
        report.check()


def rows_of(report):
    return {(row.path, row.kind, row.layer): row for row in report.rows}


def assert_same(a: Report, b: Report):
    """The same numbers at the same places."""
    assert len(a.rows) == len(b.rows)
    for x, y in zip(a.rows, b.rows, strict=True):
        assert (x.kind, x.depth) == (y.kind, y.depth)
        for name in ("out_rms", "in_rms", "grad_rms", "weight_grad_rms", "branch"):
            if getattr(x, name) is not None:
                assert getattr(x, name) == near(getattr(y, name), 1e-3), (x, name)
    assert a.backward == b.backward or a.backward.rate == near(b.backward.rate, 1e-3)


def test_inside_jit_remat_vmap_and_custom_rules():
    p = small_params()
    plain = PROBE(small, p, TOKENS)
    assert_same(PROBE(jax.jit(small), p, TOKENS), plain)
    assert_same(PROBE(jax.checkpoint(small), p, TOKENS), plain)
    single = jax.vmap(lambda p, x: small(p, x[None])[0], (None, 0))
    assert_same(PROBE(single, p, TOKENS), plain)
    ruled = jax.custom_jvp(small)
    ruled.defjvp(lambda primals, tangents: jax.jvp(small, primals, tangents))
    found = PROBE(lambda p, x: ruled(p, x), p, TOKENS)
    assert_same(found, plain)


def test_a_custom_vjp_is_one_site_and_its_rule_is_used():
    @jax.custom_vjp
    def doubled(x, w):
        return x @ w

    doubled.defvjp(
        lambda x, w: (x @ w, (x, w)), lambda res, g: (2 * g @ res[1].T, res[0].T @ g)
    )
    w = jaxinit.Orthogonal()(KEY, (8, 8))
    x = jax.random.normal(KEY, (4, 8))
    report = PROBE(lambda p, x: doubled(x @ p["a"], p["b"]), {"a": w, "b": w}, x)
    first, second = report.rows
    assert second.path == "b" and second.kind.startswith("custom_vjp")
    assert second.out_rms == near(rms(x @ w @ w))
    assert first.grad_rms == near(2.0) and second.grad_rms == near(1.0)


def test_relu_keeps_its_rule_at_zero():
    """The gradient of relu at 0 is 0, not that of max, which is 1/2."""
    report = PROBE(lambda w, x: jax.nn.relu(x @ w), jnp.zeros((4, 4)), jnp.ones((2, 4)))
    assert report.rows[0].grad_rms == 0 and report.rows[0].zeros == 1


def test_scanned_and_unrolled_layers_agree():
    keys = jax.random.split(KEY, 5)
    w = jax.vmap(lambda k: jaxinit.LecunNormal()(k, (2, 8, 8)))(keys)
    b = jax.random.normal(KEY, (5, 8)) / 9
    x = jax.random.normal(KEY, (6, 8))

    def layer(x, w, b):
        y = jnp.tanh(x @ w[0] + b)
        return x + y @ w[1]

    def scanned(p, x):
        body = jax.checkpoint(lambda x, p: (layer(x, p["w"], p["b"]), None))
        return jax.lax.scan(body, x, p)[0]

    def unrolled(p, x):
        for w0, w1, b in zip(p["w0"], p["w1"], p["b"], strict=True):
            x = layer(x, (w0, w1), b)
        return x

    inside = PROBE(scanned, {"w": w, "b": b}, x)
    flat = {"w0": list(w[:, 0]), "w1": list(w[:, 1]), "b": list(b)}
    outside = PROBE(unrolled, flat, x)
    assert_same(inside, outside)
    assert [row.layer for row in inside.rows] == [i for i in range(5) for _ in range(3)]
    assert inside.rows[0].path == "w" and inside.forward.of == "residual"
    assert inside.forward.rate == near(outside.forward.rate, 1e-3)
    assert inside.rows[4].name == "w[1]"


def test_a_scan_from_the_last_layer_to_the_first():
    w = jax.random.normal(KEY, (6, 8, 8)) * 0.5 / math.sqrt(8)
    x = jax.random.normal(KEY, (16, 8))

    def fn(w, x, reverse):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, w, reverse=reverse)[0]

    last = PROBE(functools.partial(fn, reverse=True), w, x)
    first = PROBE(functools.partial(fn, reverse=False), w[::-1], x)
    assert [row.layer for row in last.rows] == [5, 4, 3, 2, 1, 0]
    assert [row.depth for row in last.rows] == [1, 2, 3, 4, 5, 6]
    assert_same(last, first)
    assert last.forward.rate == near(first.forward.rate) and last.forward.rate < 0.6
    assert last.backward.rate == near(first.backward.rate)


def test_steps_of_a_recurrence_are_one_place():
    p = {"x": jax.random.normal(KEY, (3, 4)), "h": jnp.eye(4) / 2}
    xs = jax.random.normal(KEY, (7, 2, 3))

    def fn(p, xs):
        def step(h, x):
            h = jnp.tanh(x @ p["x"] + h @ p["h"])
            return h, h

        return jax.lax.scan(step, jnp.zeros((2, 4)), xs)[1]

    report = PROBE(fn, p, xs)
    found = {row.path: row for row in report.rows}
    assert set(found) == {"x", "h"} and len(report.rows) == 2
    assert found["x"].layer is None
    assert found["x"].in_rms == near(rms(xs))
    states = fn(p, xs)
    before = np.concatenate([np.zeros((1, 2, 4)), states[:-1]])
    assert found["h"].in_rms == near(rms(before))


def test_places_of_other_kinds():
    p = {
        "v": jax.random.normal(KEY, (6, 8)),
        "g": jnp.ones(8),
        "kernel": jax.random.normal(KEY, (3, 3, 2, 6)) / 4,
        "a": jnp.full((8,), 0.1),
    }

    def fn(p, x):
        y = jax.lax.conv_general_dilated(
            x, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        w = p["g"] * p["v"] / jnp.linalg.norm(p["v"], axis=0)  # weight norm
        return y.mean((1, 2)) @ w * p["a"]

    x = jax.random.normal(KEY, (2, 4, 4, 2))
    conv, dot, scale = PROBE(fn, p, x).rows
    assert (conv.path, conv.kind, conv.fan_in) == ("kernel", "conv", 18)
    assert (dot.path, dot.kind, dot.fan_in) == ("v", "dot", 6)
    assert dot.weight_rms == near(math.sqrt(1 / 6))
    assert (scale.path, scale.kind) == ("a", "scale")
    assert scale.out_rms == near(rms(fn(p, x)))


@pytest.mark.parametrize("form", ["rsqrt", "divided", "power"])
def test_the_data_of_a_scale(form):
    """A normalization by 1 / std times scale; a gate with a scale is no norm."""
    inverse = {
        "rsqrt": jax.lax.rsqrt,
        "divided": lambda v: 1 / jnp.sqrt(v),
        "power": lambda v: v**-0.5,
    }[form]
    p = {"norm": 1 + jax.random.normal(KEY, (8,)) / 4, "gate": jnp.full(8, 3.0)}
    x = 2 * jax.random.normal(KEY, (4, 5, 8)) + 1

    def fn(p, x):
        y = x * (inverse(jnp.mean(x * x, -1, keepdims=True)) * p["norm"])
        return y * (jax.nn.sigmoid(y.mean(1, keepdims=True)) * p["gate"])

    norm, gate = PROBE(fn, p, x).rows
    y = x * (inverse(jnp.mean(x * x, -1, keepdims=True)) * p["norm"])
    assert (norm.in_rms, norm.out_rms) == (near(rms(x)), near(rms(y)))
    sigmoid = jax.nn.sigmoid(y.mean(1))
    assert (gate.in_rms, gate.out_rms) == (near(rms(sigmoid)), near(rms(3 * sigmoid)))


@pytest.mark.parametrize("form", ["plain", "scan", "remat"])
def test_a_parameter_that_only_dead_code_reads_is_unused(form):
    def layer(x, p):
        _ = x @ p["dead"]
        return jnp.tanh(x @ p["w"])

    def fn(p, x):
        if form == "scan":
            stacked = jax.tree.map(lambda w: w[None], p)
            return jax.lax.scan(lambda x, p: (layer(x, p), None), x, stacked)[0]
        return (jax.checkpoint(layer) if form == "remat" else layer)(x, p)

    w = jax.random.normal(KEY, (8, 8))
    found = verdicts(fn, {"dead": w, "w": w}, jax.random.normal(KEY, (4, 8)))
    assert "does not depend on dead" in found["unused"].text
    assert "no gradient" not in found


def test_a_weight_that_is_also_a_result():
    w, x = (jax.random.normal(KEY, shape) for shape in ((8, 8), (4, 8)))
    report = PROBE(lambda w, x: (x @ w, w), w, x)
    signs = jax.random.rademacher(KEY, (4, 8), jnp.float32)
    assert report.rows[0].weight_grad_rms == near(rms(x.T @ signs))
    more = jax.random.rademacher(jax.random.fold_in(KEY, 1), (8, 8), jnp.float32)
    assert report.parameters[0].grad_rms == near(rms(x.T @ signs + more))


def test_one_output_is_no_reason_for_a_finding():
    """Rows of one number have the cosine 1 or -1, and their signs may cancel."""
    keys = jax.random.split(KEY, 5)
    p = {
        "w": [jaxinit.HeNormal()(key, (8, 8)) for key in keys[:3]],
        "head": jaxinit.HeNormal()(keys[3], (8, 1)),
        "bias": jnp.full(1, 5.0),
    }
    x = jax.random.normal(keys[4], (2, 8))

    def fn(p, x):
        for w in p["w"]:
            x = jax.nn.relu(x @ w)
        return x @ p["head"] + p["bias"]

    for seed in range(4):
        report = jaxinit.probe(fn, p, x, key=jax.random.key(seed))
        assert report.rows[-1].cosine is None and not report.verdicts
    dead = jaxinit.probe(lambda p, x: 0 * fn(p, x), p, x, key=KEY)
    assert [v.kind for v in dead.verdicts] == ["no gradient"]
    assert "bias" in dead.verdicts[0].text


def test_attention_to_one_key_is_not_sharp():
    def fn(w, x):
        scores = jax.nn.softmax(x @ w @ jnp.swapaxes(x, -1, -2))
        return scores @ x @ w

    w, x = (jax.random.normal(KEY, shape) for shape in ((8, 8), (4, 1, 8)))
    found = PROBE(fn, w, x)
    assert [row.entropy for row in found.rows if row.kind == "softmax"] == [1]
    assert "attention" not in {v.kind for v in found.verdicts}
    sharp = PROBE(fn, 99 * w, jax.random.normal(KEY, (4, 6, 8)))
    assert "one-hot at the softmax (" in str(sharp)


# --- frameworks -----------------------------------------------------------------------


def test_linen_as_capture_intermediates_sees_it():
    model = models.GPT(1, 16, 32)
    tokens = jax.random.randint(KEY, (2, 6), 0, 32)
    variables = jax.jit(model.init)(KEY, tokens)
    report = PROBE(model.apply, variables, tokens)
    captured = functools.partial(model.apply, capture_intermediates=True)
    _, state = jax.jit(captured)(variables, tokens)
    seen = state["intermediates"]
    rows = rows_of(report)
    for block in ("block_0",):
        for name, leaf in (
            ("up", "kernel"),
            ("down", "kernel"),
            ("LayerNorm_1", "scale"),
            ("attention/query", "kernel"),
            ("attention/out", "kernel"),
        ):
            outputs = seen[block]
            for part in name.split("/"):
                outputs = outputs[part]
            kind = "scale" if leaf == "scale" else "dot"
            row = rows[f"params/{block}/{name}/{leaf}", kind, None]
            assert row.out_rms == near(rms(outputs["__call__"][0]), 1e-3)
        stream = seen[block]["__call__"][0]
        residual = rows[f"params/{block}/down", "residual", None]
        assert residual.out_rms == near(rms(stream), 1e-3)
        softmax = rows[f"params/{block}/attention", "softmax", None]
        assert softmax.entropy and 0.5 < softmax.entropy < 1
    assert rows["params/block_0/up/kernel", "dot", None].activation == "gelu"
    assert len(report.parameters) == len(jax.tree.leaves(variables))
    report.check()


def test_running_statistics_are_no_parameters():
    model = models.ResNet((), 4)
    x = jax.random.normal(KEY, (2, 16, 16, 3))
    variables = jax.jit(model.init)(KEY, x)

    def fn(variables, x):
        return model.apply(variables, x, mutable=["batch_stats"])[0]

    report = PROBE(fn, variables, x)
    assert not any("batch_stats" in p.path for p in report.parameters)
    norm = rows_of(report)["params/BatchNorm_0/scale", "scale", None]
    assert norm.out_rms == near(1.0, 1e-3) and norm.activation == "relu"
    assert norm.zeros == pytest.approx(0.5, abs=0.1)


def test_nnx_and_equinox():
    x = jax.random.normal(KEY, (5, 6))

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(6, 8, rngs=rngs)
            self.second = nnx.Linear(8, 3, rngs=rngs)

        def __call__(self, x):
            return self.second(jax.nn.relu(self.first(x)))

    net = Net(nnx.Rngs(0))
    first, second = PROBE(lambda net, x: net(x), net, x).rows
    hidden = jax.nn.relu(net.first(x))
    assert (first.path, second.path) == ("first/kernel", "second/kernel")
    assert first.out_rms == near(rms(net.first(x)))
    assert first.zeros == near(float(np.mean(np.asarray(hidden) == 0)))
    assert second.in_rms == near(rms(hidden))
    assert second.out_rms == near(rms(net(x)))

    mlp = eqx.nn.MLP(6, 3, 8, 1, jax.nn.tanh, key=KEY)
    first, second = PROBE(lambda mlp, x: jax.vmap(mlp)(x), mlp, x).rows
    hidden = jax.nn.tanh(jax.vmap(mlp.layers[0])(x))
    assert first.path == "layers/0/weight" and first.activation == "tanh"
    assert first.fan_in == 6 and second.fan_in == 8
    assert second.in_rms == near(rms(hidden))
    assert second.out_rms == near(rms(jax.vmap(mlp)(x)))
    unit = np.asarray(jax.vmap(mlp.layers[0])(x))
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    assert first.cosine == near(((unit @ unit.T).sum() - 5) / 20)


def test_adapters_take_the_model():
    x = jax.random.normal(KEY, (5, 6))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.BatchNorm(not train)(nn.Dense(4)(x))
            return 2 * x if train else x

        def hidden(self, x):
            return nn.tanh(self(x))

    net = Net()
    variables = net.init(KEY, x)
    linen = functools.partial(jaxinit.linen.probe, net, variables, x, key=KEY)
    plain = PROBE(net.apply, variables, x)
    assert linen() == plain
    options = {"train": True, "mutable": ["batch_stats"]}
    trained = PROBE(lambda v, x: net.apply(v, x, **options)[0], variables, x)
    assert linen(**options) == trained != plain

    assert linen(method="hidden").output_rms < plain.output_rms

    def loss(y):
        return jnp.sum(y**2)

    assert linen(loss=loss) == PROBE(net.apply, variables, x, loss=loss)

    class Live(nnx.Module):
        def __init__(self):
            self.layer = nnx.Linear(6, 4, rngs=nnx.Rngs(0))

        def __call__(self, x, scale=1.0):
            return scale * self.layer(x)

    live = Live()
    direct = PROBE(lambda live, x: live(x, scale=3.0), live, x)
    assert jaxinit.nnx.probe(live, x, key=KEY, scale=3.0) == direct
    mlp = eqx.nn.MLP(6, 4, 8, 1, key=KEY)
    direct = PROBE(lambda mlp, x: jax.vmap(mlp)(x), mlp, x)
    assert jaxinit.equinox.probe(mlp, x, key=KEY) == direct
    assert jaxinit.equinox.probe(mlp, x, key=KEY, loss=loss) != direct


def test_eight_devices_measure_the_rows_of_one():
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))

    def put(x, *axes):
        return jax.device_put(x, jax.sharding.NamedSharding(mesh, jax.P(*axes)))

    keys = jax.random.split(KEY, 3)
    w = jax.random.normal(keys[0], (3, 16, 32)) / 4
    v = jax.random.normal(keys[1], (3, 32, 16)) / 6
    x = jax.random.normal(keys[2], (16, 16))

    def fn(p, x):
        def body(x, p):
            return x + jax.nn.relu(x @ p["w"]) @ p["v"], None

        return jax.lax.scan(body, x, {"w": p["w"], "v": p["v"]})[0] @ p["out"]

    one = {"w": w, "v": v, "out": jnp.eye(16)}
    sharded = {
        "w": put(w, None, None, "x"),
        "v": put(v, None, "x", None),
        "out": put(one["out"], "x"),
    }
    expected = PROBE(fn, one, x)
    found = PROBE(fn, sharded, put(x, "x"))
    assert_same(found, expected)
    for a, b in zip(found.rows, expected.rows, strict=True):
        for name in ("out_mean", "zeros", "cosine", "rank", "activation"):
            value = getattr(b, name)
            same = near(value, 1e-3) if isinstance(value, float) else value
            assert getattr(a, name) == same, (a.name, name)
    assert found.jacobian == near(expected.jacobian, 1e-3)


def test_dropout_keys_are_no_data():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, key):
            x = jax.nn.relu(nn.Dense(8)(x))
            return nn.Dense(4)(nn.Dropout(0.5, deterministic=False)(x, rng=key))

    x = jax.random.normal(KEY, (3, 5))
    variables = Net().init(KEY, x, KEY)
    first, second = PROBE(Net().apply, variables, x, jax.random.key(1)).rows
    assert first.activation == "relu" and first.kind == second.kind == "dot"


# --- verdicts and reports -------------------------------------------------------------


def verdicts(fn, params, x):
    return {v.kind: v for v in PROBE(fn, params, x).verdicts}


def test_verdicts_have_numbers_and_a_cure():
    x = jax.random.normal(KEY, (16, 64))
    fn, weights = chain(jax.nn.silu, 20, 64, 1.2)
    text = verdicts(fn, weights, x)["forward"].text
    assert "The signal shrinks by" in text and "after 20" in text
    assert re.search(r"gain of silu is 1\.677 \(jaxinit\.gain\), yours 1\.[12]", text)
    fn, weights = chain(jax.nn.relu, 12, 64, 3.0)
    assert "grows by 2" in verdicts(fn, weights, x)["forward"].text
    fn, weights = chain(jnp.tanh, 1, 64, 30.0)
    assert "saturated after 0" in verdicts(fn, weights, x)["saturated"].text
    dead = verdicts(lambda w, x: jax.nn.relu(x @ w - 9.0), jnp.eye(64), x)["dead"]
    assert dead.is_fault and "are 0 after" in dead.text
    fn, weights = chain(jax.nn.sigmoid, 6, 64, 1.85)
    alike = verdicts(fn, weights, x)["alike"]
    assert not alike.is_fault and "cosine similarity" in alike.text
    broken = verdicts(lambda w, x: (x @ w) * jnp.inf @ w, jnp.eye(64), x)
    assert list(broken) == ["not finite"]
    zero = verdicts(lambda p, x: x @ p[0] @ p[1], (jnp.eye(64), jnp.zeros((64, 2))), x)
    assert not zero["no gradient"].is_fault and "0" in zero["no gradient"].text

    def attention(w, x):
        return jax.nn.softmax(1e3 * (x @ w) @ x.T) @ x

    assert "one-hot" in verdicts(attention, jnp.eye(64), x)["attention"].text

    def growing(ws, x):
        for w in ws:
            x = x + 5 * x @ w
        return x

    _, weights = chain(jnp.tanh, 6, 64, 1.0)
    assert "jaxinit.DepthScaled" in verdicts(growing, weights, x)["forward"].text


def test_the_place_that_overflows_first_is_named():
    x = jnp.ones((2, 4))
    fn, _ = chain(jnp.tanh, 3, 4, 1.0)
    overflow = [jnp.eye(4), jnp.eye(4) * jnp.inf, jnp.eye(4)]
    (verdict,) = PROBE(fn, overflow, x).verdicts
    assert "The result of 1 is not finite: the signal overflows" in verdict.text

    def steep(ws, x):  # finite itself, but not its slope after the second weight
        x = x @ ws[0] @ ws[1]
        return jnp.sqrt(x * 0) @ ws[2]

    (verdict,) = PROBE(steep, [jnp.eye(4)] * 3, x).verdicts
    assert "The gradient of 1 is not finite: the gradient overflows" in verdict.text


def test_reports_are_data():
    fn, weights = chain(jnp.tanh, 3, 8, 1.0)
    x = jax.random.normal(KEY, (4, 8))
    report = PROBE(fn, weights, x)
    again = Report.from_json(report.to_json())
    assert again == report
    json.loads(report.to_json())
    assert str(report).count("\n") >= 4 and "0 dot" in str(report)
    for text in ("[]", '{"version": 0}', '{"version": 1}'):
        with pytest.raises(ValueError, match="report"):
            Report.from_json(text)
    weights[1] = 2 * weights[1]
    other = PROBE(fn, weights, x)
    comparison = report.compare(other)
    pairs = comparison.pairs
    assert [(a.path, b.path) for a, b in pairs] == [(str(i),) * 2 for i in range(3)]
    assert pairs[1][1].weight_rms == near(2 * pairs[1][0].weight_rms)
    lines = str(comparison).splitlines()
    assert any(line.startswith("1 dot: ") and "w rms" not in line for line in lines)
    assert not any(line.startswith("0 dot:") and "out_std" in line for line in lines)
    fn2, shorter = chain(jnp.tanh, 2, 8, 1.0)
    assert [r.path for r in report.compare(PROBE(fn2, shorter, x)).missing] == ["2"]


def test_the_same_key_gives_the_same_report():
    fn, weights = chain(jnp.tanh, 2, 8, 1.0)
    x = jax.random.normal(KEY, (4, 8))
    assert PROBE(fn, weights, x) == PROBE(fn, weights, x)
    other = jaxinit.probe(fn, weights, x, key=jax.random.key(1))
    assert other.rows[0].grad_rms != PROBE(fn, weights, x).rows[0].grad_rms


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: PROBE(3, {}), TypeError, "must be a function"),
        (lambda: PROBE(lambda p: 0.0, {}), ValueError, "floating parameters"),
        (lambda: PROBE(lambda p: 0, jnp.ones(2)), ValueError, "floating result"),
        (
            lambda: PROBE(lambda p: p @ p, jnp.ones(2)),
            ValueError,
            "one array.*constant",
        ),
        (lambda: jaxinit.probe(jnp.sum, jnp.ones(2), key=0), TypeError, "key"),
    ],
)
def test_refused(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


@pytest.mark.parametrize(
    "loss", [lambda y: y, jnp.argmax, lambda y: (y.sum(), y), lambda y: None]
)
def test_a_loss_that_is_no_number_is_refused(loss):
    with pytest.raises(ValueError, match=r"loss=...\) must be a function from the res"):
        PROBE(jnp.dot, jnp.eye(2), jnp.eye(2), loss=loss)


def test_an_empty_batch_has_no_signal():
    report = PROBE(lambda w, x: jax.nn.softmax(x @ w), jnp.eye(4), jnp.ones((0, 4)))
    assert [row.out_rms for row in report.rows] == [0, None]
    assert report.rows[0].cosine == report.rows[1].entropy == 0


# --- statistics -----------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1.0, 1e-28, 1e28])
def test_moments_survive_squares_that_do_not(scale):
    x = np.asarray(jax.random.normal(KEY, (50, 41))) + 3
    found = statistics.moments(jnp.asarray(x * scale, jnp.float32))
    assert float(found.mean) / scale == near(float(x.mean()))
    assert float(found.std) / scale == near(float(x.std()))


def test_moments_of_constants_long_and_narrow_arrays():
    assert float(statistics.moments(jnp.full((1000,), 0.1)).std) == 0
    x = jax.random.normal(KEY, (2**15, 3)) * 2
    found = statistics.moments(x.at[:100].set(0))
    y = np.asarray(x.at[:100].set(0), np.float64)
    assert float(found.std) == near(float(y.std()), 1e-5)
    assert float(found.zeros) == near(100 / 2**15)
    narrow = statistics.moments(x.astype(jnp.bfloat16))
    assert narrow.mean.dtype == jnp.float32


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_are_recognized(name):
    x = np.random.default_rng(0).normal(size=512) * 2
    y = np.asarray(getattr(jax.nn, name)(jnp.asarray(x, jnp.float32)))
    assert recognition.recognize(x, y) == name
    slope = np.asarray(jax.vmap(jax.grad(getattr(jax.nn, name)))(jnp.float32(x)))
    expected = float(np.mean(np.abs(slope) < 0.05))
    assert recognition.saturation(x, y) == pytest.approx(expected, abs=0.03)


def test_a_factor_does_not_hide_an_activation():
    """As that of dropout after it."""
    x = np.random.default_rng(0).normal(size=512)
    assert recognition.recognize(x, 2 * np.maximum(x, 0)) == "relu"
    assert recognition.recognize(x, 3 * FORMULAS["selu"](x)) == "selu"


def test_what_is_no_activation_is_not_named():
    x = np.random.default_rng(0).normal(size=512)
    assert recognition.recognize(x, x**2) is None
    assert recognition.recognize(x / 100, np.tanh(x / 100)) is None
    assert recognition.recognize(x / 100, np.abs(x) / 100) is None
    positive = np.abs(x) / 100
    assert recognition.recognize(positive, positive) is None


def test_kinks_are_recognized_at_any_scale():
    x = np.random.default_rng(0).normal(size=4096)
    for scale in (1e-6, 1e-2, 100):
        assert recognition.recognize(scale * x, scale * np.maximum(x, 0)) == "relu"
        y = scale * np.maximum(x, 0.01 * x)
        assert recognition.recognize(scale * x, y) == "leaky_relu"
