"""Arrays that a function closes over: the bits of jit, and programs that share them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxinit
from plans import KEY, check

RAMP = np.arange(64, dtype=np.float32).reshape(8, 8) / 57
TABLES = {
    "ones": np.ones((8, 8), np.float32),
    "one value": np.full((8, 8), 0.3, np.float32),
    "ramp": jnp.asarray(RAMP),
    "row": RAMP[1],
    "bfloat16": jnp.asarray(RAMP, jnp.bfloat16),
    "number": np.array(0.3, np.float32),
}
OPERATIONS = {
    "add": lambda d, t: d + t,
    "multiply": lambda d, t: d * t,
    "multiply and add": lambda d, t: d * t + t,
    "divide": lambda d, t: d / (t + 1),
    "exp": lambda d, t: d * jnp.exp(t),
    "tanh alone": lambda d, t: jnp.tanh(t),
    "root of squares": lambda d, t: d / jnp.sqrt((t * t).sum() + 1),
    "power": lambda d, t: d + t**2.3,
    "matmul": lambda d, t: d + jnp.broadcast_to(t, d.shape) @ jnp.full(d.shape, t),
    "where": lambda d, t: jnp.where(t > 0.4, d, t),
    "scan": lambda d, t: lax.scan(lambda c, _: (c * jnp.exp(t), None), d, length=2)[0],
    "inner jit": lambda d, t: jax.jit(lambda x: x * jnp.cos(t))(d),
}


@pytest.mark.parametrize("table", TABLES)
def test_computing_with_arrays_of_the_closure_gives_the_bits_of_jit(table):
    def init(key):
        pairs = zip(
            jax.random.split(key, len(OPERATIONS)), OPERATIONS.items(), strict=True
        )
        drawn = {name: (jax.random.normal(k, (8, 8)), f) for k, (name, f) in pairs}
        return {name: f(d, TABLES[table]) for name, (d, f) in drawn.items()}

    check(init, KEY)


def leaves(tables, f):
    def init(key):
        keys = jax.random.split(key, len(tables))
        pairs = zip(tables, keys, strict=True)
        return [f(jax.random.normal(k, (8, 8)), t) for t, k in pairs]

    return init


def test_leaves_that_add_or_select_their_own_arrays_share_a_program():
    many = [RAMP * i for i in range(1, 5)]
    check(leaves(many, lambda d, t: d * t + t.T), KEY, groups=1)
    check(
        leaves([t > 0.5 for t in many], lambda d, t: jnp.where(t, d, 0)), KEY, groups=1
    )


def test_leaves_with_equal_arrays_share_a_program():
    many = [RAMP, RAMP.copy(), jnp.asarray(RAMP), RAMP + 1]
    check(leaves(many, lambda d, t: d * jnp.exp(t)), KEY, groups=2)


def test_arrays_on_a_mesh_are_compiled_in():
    mesh = jax.make_mesh((8,), ("x",))
    rows = jax.NamedSharding(mesh, jax.P("x"))
    t = jax.device_put(RAMP, rows)
    init = leaves([RAMP], lambda d, t: d * jnp.exp(t))
    (made,) = jaxinit.init(leaves([t], lambda d, t: d * jnp.exp(t)), KEY)
    np.testing.assert_allclose(made, jax.jit(init)(KEY)[0], rtol=1e-6)
