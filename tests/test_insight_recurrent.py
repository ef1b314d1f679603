"""Recurrent kernels are orthogonal, gate by gate, in suggested rules."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit

KEY = jax.random.key(0)
SUGGEST = functools.partial(jaxinit.suggest, key=KEY)
WIDTH = 8
XS = jax.random.normal(KEY, (4, 5, 6))  # 4 sequences of 5 steps


def normal(i, *shape):
    return jax.random.normal(jax.random.fold_in(KEY, i), shape)


def orthogonal_paths(params, found):
    """The kernels that the rules draw with orthogonal square blocks."""
    made = jaxinit.reinit(KEY, params, found.rules)
    paths = jaxinit.Rules({}, default="zeros").assign(params).rows
    leaves = jax.tree.leaves(made)
    return {
        row.path
        for row, x in zip(paths, leaves, strict=True)
        if x.ndim >= 2 and _has_orthogonal_blocks(np.asarray(x, np.float64))
    }


def _has_orthogonal_blocks(x):
    n = min(x.shape[-2:])
    wide = x if x.shape[-2] == n else np.swapaxes(x, -1, -2)
    blocks = np.split(wide, wide.shape[-1] // n, -1) if wide.shape[-1] % n == 0 else []
    products = [block @ np.swapaxes(block, -1, -2) for block in blocks]
    return bool(blocks) and all(np.allclose(y, np.eye(n), atol=1e-5) for y in products)


def check(params, found, recurrent):
    """Just these kernels are orthogonal, and no row deviates from a promise."""
    assert orthogonal_paths(params, found) == set(recurrent)
    for row in found.rows:
        if row.path in recurrent:
            assert row.expected is None
            assert isinstance(row.initializer, jaxinit.Orthogonal | jaxinit.Blocks)
            assert row.gain == pytest.approx(1, rel=1e-3)
        else:
            bias = row.path.replace("kernel", "bias") in found.kept  # ones, of MGU
            assert row.expected == 1 + (bias and "cell" in row.path)


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        (nn.LSTMCell, ["hf", "hg", "hi", "ho"]),
        (nn.GRUCell, ["hn", "hr", "hz"]),
        (nn.SimpleCell, ["h"]),
        (nn.MGUCell, ["hf", "hn"]),
    ],
)
def test_cells_of_linen(cell, names):
    model = nn.RNN(cell(WIDTH))
    variables = model.init(KEY, XS)
    like = jaxinit.eval_shape(model.init, KEY, XS)
    found = SUGGEST(model.apply, variables, XS, like=like)
    check(variables, found, {f"params/cell/{name}/kernel" for name in names})
    assert found.deviation < 1.7


@pytest.mark.parametrize("cell", [nnx.LSTMCell, nnx.OptimizedLSTMCell, nnx.GRUCell])
def test_cells_of_nnx(cell):
    model = nnx.RNN(cell(6, WIDTH, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    found = SUGGEST(lambda model, x: model(x), model, XS)
    recurrent = [row for row in found.rows if row.expected is None]
    assert recurrent and all(
        isinstance(row.initializer, jaxinit.Orthogonal | jaxinit.Blocks)
        and row.gain == pytest.approx(1, rel=1e-3)
        for row in recurrent
    )
    others = [row for row in found.rows if row.expected is not None]
    assert others and not any("dense_h" in row.path for row in others)


@pytest.mark.parametrize("kind", [eqx.nn.LSTMCell, eqx.nn.GRUCell])
def test_cells_of_equinox(kind):
    cell = kind(6, WIDTH, key=KEY)

    def fn(cell, xs):
        zeros = jnp.zeros(WIDTH)
        start = (zeros, zeros) if kind is eqx.nn.LSTMCell else zeros

        def run(xs):
            return jax.lax.scan(lambda h, x: (cell(x, h), None), start, xs)[0]

        return jax.vmap(run)(xs)

    found = SUGGEST(fn, cell, XS)
    check(cell, found, {"weight_hh"})
    gates = 4 if kind is eqx.nn.LSTMCell else 3
    expected = jaxinit.Blocks(jaxinit.Orthogonal(), sizes=gates, axis=-2)
    assert {row.path: row.initializer for row in found.rows}["weight_hh"] == expected


def lstm(p, state, x):
    """The step of Keras: one kernel for the gates of the input, one of the state."""
    h, c = state
    z = x @ p["kernel"] + h @ p["recurrent_kernel"] + p["bias"]
    i, f, g, o = jnp.split(z, 4, -1)
    c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return h, c


def lstm_params(i, inputs, *stack):
    return {
        "kernel": normal(i, *stack, inputs, 4 * WIDTH),
        "recurrent_kernel": normal(i + 1, *stack, WIDTH, 4 * WIDTH),
        "bias": jnp.zeros((*stack, 4 * WIDTH)),
    }


ZERO = jnp.zeros((4, WIDTH))


@pytest.mark.parametrize("remat", [False, True])
def test_a_stack_of_cells_in_one_loop(remat):
    """The input of the second cell is a state, but the next one of the first cell."""
    p = {
        "a": lstm_params(0, 6),
        "b": lstm_params(2, WIDTH),
        "head": normal(4, WIDTH, WIDTH),
    }
    cell = jax.checkpoint(lstm) if remat else lstm

    def fn(p, xs):
        def step(states, x):
            a = cell(p["a"], states[0], x)
            b = cell(p["b"], states[1], a[0])
            return (a, b), b[0] @ p["head"]

        return jax.lax.scan(step, ((ZERO, ZERO), (ZERO, ZERO)), xs.swapaxes(0, 1))[1]

    found = SUGGEST(fn, p, XS)
    check(p, found, {"a/recurrent_kernel", "b/recurrent_kernel"})
    gates = jaxinit.Blocks(jaxinit.Orthogonal(), sizes=4, axis=-1)
    assert dict(found.rules.rules)["**/recurrent_kernel"] == gates


@pytest.mark.parametrize("layers_inside", [False, True])
def test_stacked_cells(layers_inside):
    """A loop over layers around the loop over time, or inside it."""
    p = lstm_params(0, WIDTH, 3)
    xs = normal(9, 5, 4, WIDTH)

    def around(p, xs):
        def layer(xs, p):
            def step(state, x):
                state = lstm(p, state, x)
                return state, state[0]

            return jax.lax.scan(step, (ZERO, ZERO), xs)[1], None

        return jax.lax.scan(layer, xs, p)[0]

    def inside(p, xs):
        def step(states, x):
            def layer(x, of):
                p, state = of
                state = lstm(p, state, x)
                return state[0], state

            x, states = jax.lax.scan(layer, x, (p, states))
            return states, x

        zeros = jnp.zeros((3, 4, WIDTH))
        return jax.lax.scan(step, (zeros, zeros), xs)[1]

    found = SUGGEST(inside if layers_inside else around, p, xs)
    check(p, found, {"recurrent_kernel"})
    gate = jaxinit.Orthogonal(batch_axis=(0,))
    rows = [row for row in found.rows if row.path == "recurrent_kernel"]
    assert rows[0].initializer == jaxinit.Blocks(gate, sizes=4, axis=-1)
    assert [row.layer for row in rows] == [0, 1, 2]  # not one for each step


def test_the_reset_before_the_product():
    """The data of the candidate is r * h, and r depends on a product of h."""
    names = ("wz", "uz", "wr", "ur", "w", "u")
    p = {n: normal(i, 6 if n[0] == "w" else WIDTH, WIDTH) for i, n in enumerate(names)}

    def fn(p, xs):
        def step(h, x):
            z = jax.nn.sigmoid(x @ p["wz"] + h @ p["uz"])
            r = jax.nn.sigmoid(x @ p["wr"] + h @ p["ur"])
            new = jnp.tanh(x @ p["w"] + (r * h) @ p["u"])
            return (1 - z) * h + z * new, None

        return jax.lax.scan(step, ZERO, xs.swapaxes(0, 1))[0]

    found = SUGGEST(fn, p, XS)
    check(p, found, {"uz", "ur", "u"})
    assert not [row for row in found.report.rows if row.kind == "residual"]


def test_gates_that_the_model_splits():
    """As the GRU of Haiku: one kernel, but two products."""
    p = {"w": normal(0, 6, 3 * WIDTH), "u": normal(1, WIDTH, 3 * WIDTH)}

    def fn(p, xs):
        u_gates, u_new = jnp.split(p["u"], [2 * WIDTH], 1)

        def step(h, x):
            gates, new = jnp.split(x @ p["w"], [2 * WIDTH], -1)
            z, r = jnp.split(jax.nn.sigmoid(gates + h @ u_gates), 2, -1)
            return (1 - z) * h + z * jnp.tanh(new + (r * h) @ u_new), None

        return jax.lax.scan(step, ZERO, xs.swapaxes(0, 1))[0]

    found = SUGGEST(fn, p, XS)
    check(p, found, {"u"})
    gates = jaxinit.Blocks(jaxinit.Orthogonal(), sizes=3, axis=-1)
    assert dict(found.rules.rules)["**/u"] == gates
    # One factor for both parts, so the first product has the target of calibrate.
    made = jaxinit.calibrate(fn, p, XS)
    factor = np.asarray(made["u"] / p["u"])
    np.testing.assert_allclose(factor, factor[0, 0], rtol=1e-5)


def test_a_loop_that_indexes_its_inputs():
    p = {"w": normal(0, 6, WIDTH), "u": normal(1, WIDTH, WIDTH)}

    def fn(p, xs):
        def step(t, h):
            return jnp.tanh(xs[:, t] @ p["w"] + h @ p["u"])

        return jax.lax.fori_loop(0, xs.shape[1], step, ZERO)

    check(p, SUGGEST(fn, p, XS), {"u"})


def test_other_products_in_a_loop_are_none():
    """A readout of the old state, wide states, and layers that share weights."""
    p = {"w": normal(0, 6, WIDTH), "u": normal(1, WIDTH, WIDTH)}
    p |= {"read": normal(2, WIDTH, WIDTH), "up": normal(3, WIDTH, 12)}
    p |= {"down": normal(4, 12, WIDTH)}

    def fn(p, xs):
        def step(h, x):
            y = h @ p["read"]
            hidden = jnp.tanh(h @ p["up"])
            return jnp.tanh(x @ p["w"] + h @ p["u"] + hidden @ p["down"]), y

        return jax.lax.scan(step, ZERO, xs.swapaxes(0, 1))[1]

    check(p, SUGGEST(fn, p, XS), {"u"})

    def shared(w, x):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=3)[0]

    found = SUGGEST(shared, normal(5, WIDTH, WIDTH), normal(6, 4, WIDTH))
    assert "orthogonal" not in repr(found.rules).lower()
