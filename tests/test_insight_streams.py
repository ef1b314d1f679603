"""The additions to a residual stream, and the activation that a product reads."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit.insight.tasks import branch_ends, count_branches
from jaxinit.insight.trace import trace
from test_insight_calibrate import mamba

KEY = jax.random.key(0)
WIDTH = 8
X = jax.random.normal(KEY, (4, 6, WIDTH))


def normal(i, *shape):
    return jax.random.normal(jax.random.fold_in(KEY, i), shape)


def norm(x):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def streams(fn, p, x=X):
    """Branches of the main stream; branches of its own stream, for each end."""
    traced = trace("test", fn, p, (x,))
    level = traced.level
    names = {
        p.index: traced.paths[min(p.leaves)]
        for p in level.walk()
        if hasattr(p, "leaves")
    }
    ends = {names[i]: count for i, count in branch_ends(level).items()}
    return count_branches(level)[None], ends


def square(i, *names):
    return {name: normal(i + j, WIDTH, WIDTH) for j, name in enumerate(names)}


def attention(p, x):
    q, k, v = (x @ p[name] for name in "qkv")
    weights = jax.nn.softmax(jnp.einsum("btd,bsd->bts", q, k), -1)
    return jnp.einsum("bts,bsd->btd", weights, v) @ p["out"]


def mlp(p, x):
    return jax.nn.gelu(x @ p["up"]) @ p["down"]


BLOCK = square(0, "q", "k", "v", "out", "up", "down")


def sequential(p, x):
    x = x + attention(p, norm(x))
    return x + mlp(p, norm(x))


def parallel_one_by_one(p, x):
    h = norm(x)
    return x + attention(p, h) + mlp(p, h)


def parallel_first(p, x):
    h = norm(x)
    return x + (attention(p, h) + mlp(p, h))


def parallel_of_two_depths(p, x):
    h = norm(x)
    return (attention(p, jnp.tanh(h @ p["q"])) + mlp(p, h)) + x


@pytest.mark.parametrize(
    "block", [sequential, parallel_one_by_one, parallel_first, parallel_of_two_depths]
)
@pytest.mark.parametrize("form", ["unrolled", "remat", "scan"])
def test_transformers_have_two_branches_a_block(block, form):
    body = jax.checkpoint(block) if form == "remat" else block
    layers = [BLOCK] * 3

    def unrolled(p, x):
        for layer in p:
            x = body(layer, x)
        return x

    def scanned(p, x):
        return jax.lax.scan(lambda x, p: (body(p, x), None), x, p)[0]

    fn = unrolled
    if form == "scan":
        fn, layers = scanned, jax.tree.map(lambda *x: jnp.stack(x), *layers)
    count, ends = streams(fn, layers)
    assert count == 6
    assert {name.split("/")[-1]: n for name, n in ends.items()} == {"out": 6, "down": 6}
    report = jaxinit.probe(fn, layers, X, key=KEY)
    sums = [row for row in report.rows if row.kind == "residual"]
    assert len(sums) == (3 if block in (parallel_first, parallel_of_two_depths) else 6)


@pytest.mark.parametrize("scale", [1.0, 2.0])
@pytest.mark.parametrize("start", [0.0, 1.0])
def test_the_two_parts_of_a_product_are_no_residual(scale, start):
    """As LoRA: W x + s B A x, with dropout before A."""
    key = jax.random.key(5)

    def lora(p, x):
        kept = jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)
        return x @ p["w"] + scale * ((kept @ p["a"]) @ p["b"])

    def part(i):
        low = normal(i + 2, 2, WIDTH) * start
        return {"w": normal(i, WIDTH, WIDTH), "a": normal(i + 1, WIDTH, 2), "b": low}

    def chain(p, x):
        for layer in p:
            x = jax.nn.relu(lora(layer, x))
        return x

    parts = [part(i) for i in range(0, 36, 3)]
    report = jaxinit.probe(chain, parts, X, key=KEY)
    assert {row.kind for row in report.rows} == {"dot"}
    if not start:
        (text,) = [v.text for v in report.verdicts if v.kind == "forward"]
        assert "the gain of relu is 1.414" in text

    def block(p, x):
        for up, down in p:
            x = x + lora(down, jnp.tanh(lora(up, norm(x))))
        return x

    blocks = [(part(i), part(i + 3)) for i in (0, 6, 12)]
    count, ends = streams(block, blocks)
    assert count == 6  # each part is a branch
    assert ends == {f"{i}/1/{name}": 6 for i in range(3) for name in "wb"}


def mamba_params(i=0, inner=16, state=4):
    return {
        "norm": jnp.ones(WIDTH),
        "in": normal(i, WIDTH, 2 * inner),
        "conv": normal(i + 1, 4, 1, inner),
        "conv_bias": jnp.zeros(inner),
        "dt": normal(i + 2, inner, inner) / 4,
        "dt_bias": jnp.full(inner, -0.5),
        "bc": normal(i + 3, inner, 2 * state) / 4,
        "a_log": jnp.zeros((inner, state)),
        "skip": jnp.ones(inner),
        "out": normal(i + 4, inner, WIDTH),
    }


def mamba_in_parallel(p, x):
    """Without a loop over time, and with the skip outside the recurrence."""
    u, gate = jnp.split(norm(x) @ p["in"], 2, -1)
    dt = jax.nn.softplus(u @ p["dt"] + p["dt_bias"])
    b, c = jnp.split(u @ p["bc"], 2, -1)
    decay = jnp.exp(-dt[..., None] * jnp.exp(p["a_log"]))
    added = u[..., None] * b[..., None, :]

    def join(a, b):
        return a[0] * b[0], b[0] * a[1] + b[1]

    _, h = jax.lax.associative_scan(join, (decay, added), axis=1)
    y = jnp.einsum("btis,bts->bti", h, c)
    y = y + p["skip"] * u
    return x + (y * jax.nn.silu(gate)) @ p["out"]


@pytest.mark.parametrize("block", [mamba, mamba_in_parallel])
def test_the_skip_of_mamba_is_inside_its_branch(block):
    def fn(p, x):
        for layer in p:
            x = block(layer, x)
        return x

    p = [mamba_params(0), mamba_params(9)]
    count, ends = streams(fn, p)
    assert count == 2
    assert ends == {"0/out": 2, "1/out": 2}

    def scanned(p, x):
        return jax.lax.scan(lambda x, p: (block(p, x), None), x, p)[0]

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *p)
    assert streams(scanned, stacked) == (2, {"out": 2})


def test_streams_inside_a_branch_have_counts_of_their_own():
    """As a U-Net: two blocks at the outer width, three at the inner one."""
    p = {
        "outer": [square(i, "up", "down") for i in (0, 2)],
        "narrow": normal(8, WIDTH, WIDTH),
        "inner": [square(i, "up", "down") for i in (10, 12, 14)],
        "wide": normal(9, WIDTH, WIDTH),
    }

    def fn(p, x):
        x = x + mlp(p["outer"][0], norm(x))
        y = x @ p["narrow"]
        for layer in p["inner"]:
            y = y + mlp(layer, norm(y))
        x = x + jnp.tanh(y) @ p["wide"]
        return x + mlp(p["outer"][1], norm(x))

    count, ends = streams(fn, p)
    assert count == 3
    inner = {f"inner/{i}/down": 3 for i in range(3)}
    assert ends == {"outer/0/down": 3, "wide": 3, "outer/1/down": 3} | inner

    def around(p, x):  # x + net(x), as for super-resolution
        y = x @ p["narrow"]
        for layer in p["inner"]:
            y = y + mlp(layer, norm(y))
        return x + y @ p["wide"]

    assert streams(around, p) == (1, {"wide": 1} | inner)
    made = jaxinit.calibrate(around, p, X)
    y = X @ made["narrow"]
    for layer in made["inner"]:
        added = mlp(layer, norm(y))
        assert float(jnp.mean(added**2)) == pytest.approx(1 / 3, rel=0.01)
        y = y + added
    assert float(jnp.mean((y @ made["wide"]) ** 2)) == pytest.approx(1, rel=0.01)


def test_gates_and_projections_of_the_stream():
    p = square(0, "up", "gate", "down", "a", "b", "project", "c", "d")

    def gated(p, x):
        h = norm(x)
        x = x + (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"]
        return x + jax.nn.sigmoid(norm(x) @ p["a"]) * mlp(
            {"up": p["b"], "down": p["c"]}, x
        )

    assert streams(gated, p) == (2, {"down": 2})

    def excited(p, x):  # squeeze and excite
        for up, down in (("up", "down"), ("a", "b")):
            y = jax.nn.relu(x) @ p[up]
            s = jax.nn.sigmoid(jax.nn.relu(y.mean(1) @ p["c"]) @ p["d"])
            x = x + (y * s[:, None]) @ p[down]
        return x

    assert streams(excited, p) == (2, {"down": 2, "b": 2})

    def projected(p, x):  # ResNet: the stream changes its width
        x = x + jax.nn.relu(x @ p["up"]) @ p["down"]
        x = jax.nn.relu(x)
        x = x @ p["project"] + jax.nn.relu(x @ p["a"]) @ p["b"]
        return x + jax.nn.relu(x @ p["c"]) @ p["d"]

    assert streams(projected, p) == (3, {"down": 3, "b": 3, "d": 3})


# --- the activation that a product reads ----------------------------------------------


@pytest.mark.parametrize("form", ["unrolled", "scan", "remat"])
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_the_cure_names_the_activation_before_the_product(form, name):
    f = getattr(jax.nn, name)
    scale = jaxinit.gain(name) / 3
    w = jax.random.normal(KEY, (12, 64, 64)) * scale / 8
    x = jax.random.normal(KEY, (16, 64))

    def layer(x, w):
        return f(x) @ w

    def fn(ws, x):
        body = jax.checkpoint(layer) if form == "remat" else layer
        if form == "scan":
            return jax.lax.scan(lambda x, w: (body(x, w), None), x, ws)[0]
        for w in ws:
            x = body(x, w)
        return x

    report = jaxinit.probe(fn, w if form == "scan" else list(w), x, key=KEY)
    if form != "unrolled":
        read = {row.in_activation for row in report.rows}
        assert name in read and read <= {name, None}  # tanh of tiny numbers is linear
    (verdict,) = [v for v in report.verdicts if v.kind == "forward"]
    assert f"the gain of {name} is" in verdict.text and "linear" not in verdict.text
    assert f"ActivationScaled('{name}')" in verdict.text
    if form == "scan":
        found = jaxinit.suggest(fn, w, x, key=KEY)
        assert "ActivationScaled" in repr(found.rules) and name in repr(found.rules)


def test_the_activation_before_a_product_behind_a_sum_and_a_reshape():
    """It is of no site: the sum of two products, a norm, heads in another shape."""
    p = square(0, "a", "b", "c", "d")

    def fn(p, x):
        h = jax.nn.silu(x @ p["a"] + x @ p["b"]).reshape(4, -1, 2, WIDTH // 2)
        y = h.reshape(4, -1, WIDTH) @ p["c"]
        return jnp.tanh(2 * norm(y)) @ p["d"]

    report = jaxinit.probe(fn, p, X, key=KEY)
    read = {row.path: row.in_activation for row in report.rows}
    assert read == {"a": None, "b": None, "c": "silu", "d": None}
    again = type(report).from_json(report.to_json())
    assert again == report


def test_an_activation_from_complex_to_real_numbers():
    w = jax.lax.complex(normal(0, WIDTH, WIDTH), normal(1, WIDTH, WIDTH))
    report = jaxinit.probe(lambda w, x: jnp.abs(x @ w) @ w, w, X, key=KEY)
    assert [row.activation for row in report.rows] == [None, None]
    made = np.abs(np.asarray(X @ w))
    assert report.rows[1].in_rms == pytest.approx(np.sqrt(np.mean(made**2)), rel=1e-4)
