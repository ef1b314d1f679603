"""Suggested rules make the second moments that they promise."""

import functools
import sys
import textwrap
from pathlib import Path

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit
import models
from jaxinit.__main__ import main
from jaxinit.initializers.scaled import DepthScaled
from jaxinit.insight import scaling
from jaxinit.insight.tasks import tasks_of
from jaxinit.insight.trace import trace
from jaxinit.rules.patterns import compile_pattern
from jaxinit.rules.shortest import shortest
from test_main import refused, run

KEY = jax.random.key(0)
SUGGEST = functools.partial(jaxinit.suggest, key=KEY)


def of_linen(model, *inputs):
    variables = jaxinit.init(model.init, KEY, *inputs)
    like = jaxinit.eval_shape(model.init, KEY, *inputs)
    return SUGGEST(model.apply, variables, *inputs, like=like), variables


def by_path(suggestion):
    return {row.path: row for row in suggestion.rows}


# --- chains ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["relu", "tanh", "gelu"])
def test_products_get_the_gain_of_the_activation_before(name):
    f = getattr(jax.nn, name)

    def fn(p, x):
        return f(f(x @ p["a"]["w"] + p["a"]["b"]) @ p["b"]["w"]) @ p["head"]["w"]

    wrong = 7 * jnp.ones((256, 256))
    params = {name: {"w": wrong} for name in ("a", "b", "head")}
    params["a"]["b"] = jnp.full(256, 0.01)
    x = jax.random.normal(KEY, (64, 256))
    found = SUGGEST(fn, params, x)
    assert dict(found.rules.rules) == {
        "a/w": jaxinit.LecunNormal(),
        "**/w": jaxinit.ActivationScaled(name),
        "**/b": jaxinit.Zeros(),
    }
    rows = by_path(found)
    assert list(rows) == ["a/w", "b/w", "head/w"]
    assert rows["b/w"].gain == pytest.approx(jaxinit.gain(name), rel=0.02)
    # The promise, measured without a probe.
    p = jaxinit.reinit(KEY, params, found.rules)
    hidden = x @ p["a"]["w"]
    for path, layer in (("a/w", None), ("b/w", "b"), ("head/w", "head")):
        hidden = hidden if layer is None else f(hidden) @ p[layer]["w"]
        measured = float(np.mean(np.asarray(hidden, np.float64) ** 2))
        assert rows[path].measured == pytest.approx(measured, rel=1e-3)
        assert rows[path].expected == 1 and measured == pytest.approx(1, rel=0.1)
    assert found.deviation < 1.1


def test_inputs_of_any_scale_and_frameworks():
    x = 5 * jax.random.normal(KEY, (64, 64))
    net = eqx.nn.MLP(64, 64, 64, 2, jax.nn.relu, key=KEY)
    found = SUGGEST(lambda net, x: jax.vmap(net)(x), net, x)
    (first, init), *_ = found.rules.rules
    assert first == "**/0/weight" and isinstance(init, jaxinit.VarianceScaling)
    assert init.scale == pytest.approx(1 / 25, rel=0.05)
    assert dict(found.rules.rules)["**/weight"] == jaxinit.ActivationScaled("relu")
    assert found.deviation < 1.5

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.first = nnx.Linear(64, 64, rngs=rngs)
            self.second = nnx.Linear(64, 64, rngs=rngs)

        def __call__(self, x):
            return self.second(jax.nn.silu(self.first(x)))

    found = SUGGEST(lambda net, x: net(x), Net(nnx.Rngs(0)), x / 5)
    assert dict(found.rules.rules)["second/kernel"] == jaxinit.ActivationScaled("silu")
    assert found.deviation < 1.5


# --- graphs ---------------------------------------------------------------------------


@pytest.mark.parametrize("scan", [False, True])
def test_a_transformer(scan):
    tokens = jax.random.randint(KEY, (4, 8), 0, 32)
    model = models.GPT(2, 64, 32, tied=not scan, scan=scan)
    found, variables = of_linen(model, tokens)
    rules = dict(found.rules.rules)
    down = jaxinit.ActivationScaled("gelu")
    assert rules["**/down/kernel"] == DepthScaled(down, num_layers=4, per_block=1)
    assert rules["**/kernel"] == jaxinit.LecunNormal()
    assert rules["**/scale"] == jaxinit.Ones() and rules["**/bias"] == jaxinit.Zeros()
    if not scan:  # one matrix for tokens and logits
        tied = jaxinit.VarianceScaling(mode="fan_out")
        assert rules["**/embedding"] == tied
    else:
        assert rules["**/embedding"] == jaxinit.RandomNormal(stddev=1.0)
    for row in found.rows:
        is_end = "out/" in row.path or "down/" in row.path
        assert row.expected == (0.25 if is_end else 1)
        assert row.measured == pytest.approx(row.expected, rel=0.5)
    assert any(path.endswith("Embed_1/embedding") for path in found.kept)
    # The rules are for the model's own init as well.
    made = jaxinit.init(model.init, KEY, tokens, rules=found.rules)
    assert jax.tree.structure(made) == jax.tree.structure(variables)
    found.report.check()


def test_scales_that_end_branches_and_padded_convolutions():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.Conv(16, (3, 3), name="stem")(x)
            for i in range(2):
                y = nn.Conv(16, (3, 3), name=f"conv_{i}")(nn.relu(x))
                x = x + nn.LayerNorm(name=f"norm_{i}")(y)
            return x

    x = jax.random.normal(KEY, (4, 4, 4, 16))
    found, _ = of_linen(Net(), x)
    rows = by_path(found)
    for i in range(2):
        assert rows[f"params/norm_{i}/scale"].measured == pytest.approx(0.5, rel=0.02)
    # Of 4 x 4 pixels a window of 3 x 3 sees (10 / 12)^2: the gain makes up for this.
    assert rows["params/stem/kernel"].gain == pytest.approx(12 / 10, rel=0.05)
    assert found.deviation < 1.4


def test_the_expected_moment_of_convolutions():
    """Against the mean over many draws, in float64."""

    def fn(w, x):
        return jax.lax.conv_general_dilated(
            x, w, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    w, x = jnp.ones((3, 3, 4, 8)), 3 + jax.random.normal(KEY, (2, 5, 5, 4))
    traced = trace("test", fn, w, (x,))
    tasks = tasks_of(traced, None, 1.0, None).by_site
    _, _, found = scaling.scale(traced, tasks, 0.01, 1, with_inputs=True)
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    expected = np.mean(np.sum(windows[:, ::2, ::2] ** 2, (-1, -2, -3))) / 36
    (numbers,) = found.values()
    assert numbers["input"] == pytest.approx(expected, rel=1e-5)


def test_experts_whose_rows_come_in_groups():
    x = jax.random.normal(KEY, (64, 32))
    params = {"up": jnp.zeros((2, 32, 48)), "down": jnp.zeros((2, 48, 32))}

    def fn(p, x):
        sizes = jnp.array([24, 40])
        y = jax.nn.relu(jax.lax.ragged_dot(x, p["up"], sizes))
        return jax.lax.ragged_dot(y, p["down"], sizes)

    found = SUGGEST(fn, params, x)
    assert [row.fan_in for row in found.report.rows] == [32, 48]
    assert found.rows[0].gain == pytest.approx(1, rel=0.1)
    assert found.rows[1].gain == pytest.approx(2**0.5, rel=0.1)
    assert found.deviation < 1.3


def test_parameters_that_the_model_makes():
    p = {
        "cell": {"w": jnp.eye(64), "b": jnp.full(64, 2.0)},
        "v": jnp.eye(64),
        "g": jnp.ones(64),
        "position": jnp.ones((4, 64)),
    }

    def fn(p, x):
        x = jnp.tanh((x + p["position"]) @ p["cell"]["w"] + p["cell"]["b"])
        return x @ (p["g"] * p["v"] / jnp.linalg.norm(p["v"], axis=0))

    found = SUGGEST(fn, p, jax.random.normal(KEY, (8, 4, 64)))
    assert set(found.kept) == {"cell/b", "v", "g", "position"}
    # The product has the moment 1; the bias that the model keeps adds its own.
    assert [row.expected for row in found.rows] == [1 + 2**2, None]
    assert found.rows[0].measured == pytest.approx(5, rel=0.3)
    made = jaxinit.reinit(KEY, p, found.rules)
    assert made["v"] is p["v"] and made["cell"]["w"] is not p["cell"]["w"]


def test_stacked_kernels_of_a_bare_tree():
    """Without a model that tells how it draws, the axes are named."""
    w = jnp.ones((3, 64, 4, 16))

    def fn(w, x):
        def body(x, w):
            return jnp.einsum("bi,iho->bho", x, w).reshape(x.shape), None

        return jax.lax.scan(body, x, w)[0]

    found = SUGGEST(
        lambda p, x: fn(p["w"], x), {"w": w}, jax.random.normal(KEY, (32, 64))
    )
    ((glob, init),) = found.rules.rules
    assert glob == "**" and init.batch_axis == (0,)
    assert (init.in_axis, init.out_axis) == ((1,), (2, 3))
    assert [row.layer for row in found.rows] == [0, 1, 2]


def test_no_scalar_helps_silu_at_depth_50():
    keys = jax.random.split(KEY, 50)
    params = [jax.random.normal(key, (32, 32)) for key in keys]

    def fn(params, x):
        for w in params:
            x = jax.nn.silu(x @ w)
        return x

    found = SUGGEST(fn, params, jax.random.normal(KEY, (16, 32)))
    assert found.deviation > 2 and any("silu" in str(x) for _, x in found.rules.rules)
    assert jaxinit.activation("silu").verdict == "unstable"


# --- globs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "rules"),
    [
        ({"a/w": 1, "b/w": 1}, {"**": 1}),
        ({"a/w": 1, "b/w": 1, "b/b": 0}, {"**/w": 1, "**/b": 0}),
        ({"w1": 1, "weird": 2}, {"w1": 1, "**/weird": 2}),
        ({"x/0": 1, "x/1": 1, "y/0": 2, "y/1": 3}, {"y/0": 2, "y/1": 3, "**/*": 1}),
        ({"a[0]/w": 1, "a0/w": 2, "b/w": 2}, {"a[[]*]/w": 1, "**/w": 2}),
        (
            {"m/block_0/up/w": 1, "m/block_1/up/w": 2, "m/block_1/down/w": 1},
            {"**/block_1/up/w": 2, "**/w": 1},
        ),
        ({"a/b1": 0, "a/b2": 0, "bp": 0, "w": 1}, {"**/b*": 0, "**/w": 1}),
        ({"a/n1": 1, "nf": 1, "norm/b": 2}, {"**/n*": 1, "**/b": 2}),
    ],
)
def test_shortest(made, rules):
    found = shortest(made)
    taken = [
        next(glob for glob, _ in found if compile_pattern(glob)(path, None))
        for path in made
    ]
    assert set(taken) == set(dict(found))  # a strict rule must make a parameter
    for path, value in made.items():
        assert value == next(
            x for glob, x in found if compile_pattern(glob)(path, None)
        )
    assert dict(found) == rules


# --- the command ----------------------------------------------------------------------

FACTORIES = """
import equinox as eqx, flax.linen as nn, jax, jax.numpy as jnp
from flax import nnx

X = jax.random.normal(jax.random.key(0), (32, 32))

class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.BatchNorm(use_running_average=False)(nn.Dense(32)(x)))
        return nn.Dense(32)(nn.Dropout(0.1, deterministic=False)(x))

def linen():
    return Net(), X

def plain():
    return (lambda p, x: x @ p["w"]), {"w": jnp.ones((32, 32))}, (X,)

def network():
    return nnx.Linear(32, 32, rngs=nnx.Rngs(0)), (X,)

def equinox():
    return eqx.nn.Linear(32, 32, key=jax.random.key(0)), X

def one_example():
    return eqx.nn.Linear(32, 32, key=jax.random.key(0)), X[0]

def number():
    return 3

def pair():
    return 3, X

def integers():
    return (lambda p, x: x), {"w": jnp.ones(3, int)}, X

def fails():
    return 1 / 0
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    (tmp_path / "suggested.py").write_text(textwrap.dedent(FACTORIES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "suggested", raising=False)


@pytest.mark.parametrize("name", ["linen", "plain", "network", "equinox"])
def test_the_command(capsys, factories, name):
    out = run(capsys, "suggest", f"suggested:{name}", "--out", "rules.yaml")
    assert out[0].split() == ["rule", "initializer"] and out[-1] == "wrote rules.yaml"
    rules = jaxinit.Rules.load("rules.yaml")
    with open("rules.yaml") as file:
        text = file.read()
    assert "# place" in text and "\nrules:\n" in text
    if name == "linen":
        assert dict(rules.rules)["**/bias"] == jaxinit.Zeros()
        assert "'**/bias': zeros" in text or '"**/bias": zeros' in text
    else:
        assert jaxinit.LecunNormal() in dict(rules.rules).values()
    again = run(capsys, "suggest", f"suggested:{name}")
    start = again.index("{")
    with open("rules.json", "w") as file:
        file.write("\n".join(again[start:]))
    assert jaxinit.Rules.load("rules.json") == rules


def test_errors_of_the_command(capsys, factories):
    for name, message in {
        "number": "returned int: return (fn, params, inputs)",
        "pair": "returned (int, ",
        "integers": "floating parameters",
        "nothing": "cannot import",
    }.items():
        assert message in refused(capsys, "suggest", f"suggested:{name}")
    err = refused(capsys, "suggest", "suggested:plain", "--out", "no/x.json")
    assert "cannot write no/x.json" in err
    err = refused(capsys, "suggest", "suggested:plain", "--out", "x.txt")
    assert "must end in .json" in err
    Path("old.yaml").write_text("edited")
    err = refused(capsys, "suggest", "suggested:plain", "--out", "old.yaml")
    assert "old.yaml exists" in err and Path("old.yaml").read_text() == "edited"
    assert main(["suggest", "suggested:one_example"]) == 2
    err = capsys.readouterr().err
    assert "needs an axis of examples first" in err.replace("\n", " ")
    assert err.endswith("suggested:one_example failed: ValueError\n")


# --- what the graph does not say ------------------------------------------------------


def normal(i, *shape):
    return jax.random.normal(jax.random.fold_in(KEY, i), shape)


def test_a_factor_that_is_no_scale_keeps_its_value():
    """With ones for its slope PReLU would be linear, and all frequencies one."""

    def fn(p, x):
        x = x @ p["a"]["kernel"]
        x = jnp.where(x > 0, x, p["slope"] * x)
        x = jnp.sin(x[..., :8] * p["frequency"]) @ p["b"]["kernel"]
        return x * p["scale"]

    kernels = {"a": {"kernel": normal(0, 16, 64)}, "b": {"kernel": normal(1, 8, 64)}}
    p = {
        "slope": jnp.float32(0.25),
        "frequency": 9 * normal(2, 8),
        "scale": jnp.ones(64),
    }
    found = SUGGEST(fn, p | kernels, normal(3, 32, 16))
    assert set(found.kept) == {"slope", "frequency"}
    assert dict(found.rules.rules)["**/scale"] == jaxinit.Ones()


def test_positions_added_to_a_product_are_no_bias():
    def fn(p, x):
        x = x @ p["patch"]["kernel"] + p["patch"]["bias"] + p["position"]
        x = x @ p["next"]["kernel"] + p["next"]["position"]
        return (
            jnp.einsum("bni,eio->bneo", x, p["expert"]["kernel"]) + p["expert"]["bias"]
        )

    p = {
        "patch": {"kernel": normal(0, 16, 32), "bias": jnp.zeros(32)},
        "position": 0.02 * normal(1, 8, 32),
        "next": {"kernel": normal(2, 32, 32), "position": 0.02 * normal(3, 8, 32)},
        "expert": {"kernel": normal(4, 3, 32, 16), "bias": 0.01 * normal(5, 3, 16)},
    }
    found = SUGGEST(fn, p, normal(6, 2, 8, 16))
    assert set(found.kept) == {"position", "next/position"}
    assert dict(found.rules.rules)["**/bias"] == jaxinit.Zeros()


def branches(p, x):
    """A block whose branches are summed before the stream, as that of GPT-J."""
    h = x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True))
    return jnp.tanh(h @ p["a"]) @ p["out_a"] + jax.nn.relu(h @ p["b"]) @ p["out_b"] + x


def test_branches_summed_before_the_stream():
    names = ("a", "out_a", "b", "out_b")
    p = [{name: normal(i, 64, 64) for name in names} for i in range(4)]

    def fn(p, x):
        for block in p:
            x = branches(block, x)
        return x

    x = normal(9, 64, 64)
    found = SUGGEST(fn, p, x)
    for row in found.rows:
        assert row.expected == (1 / 8 if "out" in row.path else 1)
    made = jaxinit.reinit(KEY, p, found.rules)
    assert float(jnp.mean(fn(made, x) ** 2)) < 2.5


def test_layers_that_share_their_weights_count():
    p = {name: normal(i, 64, 64) for i, name in enumerate(("a", "out_a", "b", "out_b"))}

    def scanned(p, x):
        return jax.lax.scan(lambda x, _: (branches(p, x), None), x, length=4)[0]

    def unrolled(p, x):
        for _ in range(4):
            x = branches(p, x)
        return x

    x = normal(9, 64, 64)
    assert SUGGEST(scanned, p, x).rules == SUGGEST(unrolled, p, x).rules


def test_a_sum_of_an_input_and_a_state_is_no_residual():
    def fn(p, x):
        def step(h, x):
            h = jnp.tanh(x @ p["w"] + h @ p["u"])
            return h, h

        return jax.lax.scan(step, jnp.zeros((8, 32)), x @ p["embed"])[1] @ p["head"]

    p = {"w": normal(0, 32, 32), "u": normal(1, 32, 32), "embed": normal(2, 16, 32)}
    found = SUGGEST(fn, p | {"head": normal(3, 32, 8)}, normal(4, 6, 8, 16))
    assert not [row for row in found.report.rows if row.kind == "residual"]
    expected = {row.path: row.expected for row in found.rows}
    assert expected == {"embed": 1, "w": 1, "u": None, "head": 1}


@pytest.mark.filterwarnings("error")
def test_complex_numbers():
    """The second moment of z is E|z|^2, as in the variance of an initializer."""

    def fn(p, x):
        return (x @ p["a"] + p["bias"]) @ p["b"]

    p = {
        "a": jax.lax.complex(normal(0, 64, 64), normal(1, 64, 64)),
        "b": jax.lax.complex(normal(2, 64, 64), normal(3, 64, 64)),
        "bias": jax.lax.complex(normal(4, 64), normal(5, 64)) / 4,
    }
    x = normal(6, 64, 64)

    def moments(p):
        y = x @ p["a"] + p["bias"]
        return [np.mean(np.abs(np.asarray(z)) ** 2) for z in (y, y @ p["b"])]

    assert moments(jaxinit.calibrate(fn, p, x)) == pytest.approx([1, 1], rel=0.02)
    found = SUGGEST(fn, p, x)
    made = jaxinit.reinit(KEY, p, found.rules)
    assert [row.measured for row in found.rows] == pytest.approx(
        moments(made), rel=0.01
    )
    assert found.deviation < 1.2
    report = jaxinit.probe(fn, p, x, key=KEY)
    assert isinstance(report.loss, float)


def test_a_tied_embedding_is_drawn_as_it_is_measured():
    """The correlation of the head with its own embedding must not scale the lookups."""
    keys = jax.random.split(KEY, 4)
    params = {
        "emb": jax.random.normal(keys[0], (64, 32)),
        "a": jax.random.normal(keys[1], (32, 64)),
        "b": jax.random.normal(keys[2], (64, 32)),
    }

    def fn(p, tokens):
        h = p["emb"][tokens] * 32**0.5
        h = h + jax.nn.relu(h @ p["a"]) @ p["b"]
        h = h / jnp.sqrt(jnp.mean(h**2, -1, keepdims=True))
        return h @ p["emb"].T

    made = SUGGEST(fn, params, jax.random.randint(keys[3], (8, 16), 0, 64))
    rules = dict(made.rules.rules)
    assert rules["**/a"] == jaxinit.LecunNormal()
    assert rules["**/b"] == jaxinit.ActivationScaled("relu")
    assert rules["**/emb"] == jaxinit.VarianceScaling(mode="fan_out")
    assert by_path(made)["a"].measured == pytest.approx(1, rel=0.2)
