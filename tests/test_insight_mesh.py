"""On eight devices, suggest, probe and calibrate find what they find on one."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from test_insight_probe import assert_same

KEY = jax.random.key(0)
AXES = jax.sharding.AxisType


def model(p, x):
    def block(x, p):
        x = x + jax.nn.relu(x @ p["up"]) @ p["down"]
        return x, jax.nn.softmax(x, -1)

    x, _ = jax.lax.scan(block, x @ p["stem"], p["blocks"])
    return x @ p["head"]["kernel"] + p["head"]["bias"]


def of_model():
    keys = jax.random.split(KEY, 5)
    p = {
        "stem": jax.random.normal(keys[0], (16, 32)),
        "blocks": {
            "up": jax.random.normal(keys[1], (3, 32, 64)),
            "down": jax.random.normal(keys[2], (3, 64, 32)),
        },
        "head": {"kernel": jax.random.normal(keys[3], (32, 8)), "bias": jnp.zeros(8)},
    }
    return p, jax.random.normal(keys[4], (16, 16))


# Axes of the mesh for the axes of the data, of "up" and of "down".
DATA_PARALLEL = ("x",), (), ()
OVER_FEATURES = (), (None, None, "x"), ()
EVERYTHING = ("x",), (None, None, "x"), (None, "x", None)


@pytest.mark.parametrize(
    ("kind", "layout", "is_set"),
    [
        (AXES.Auto, DATA_PARALLEL, True),
        (AXES.Auto, EVERYTHING, False),
        (AXES.Explicit, DATA_PARALLEL, False),
        (AXES.Explicit, DATA_PARALLEL, True),
        (AXES.Explicit, OVER_FEATURES, False),
    ],
)
def test_eight_devices_agree_with_one(kind, layout, is_set):
    p, x = of_model()
    mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))

    def put(array, *axes):
        sharding = jax.sharding.NamedSharding(mesh, jax.P(*axes))
        return jax.device_put(array, sharding)

    data, up, down = layout
    sharded = jax.tree.map(put, p)
    blocks = {
        "up": put(p["blocks"]["up"], *up),
        "down": put(p["blocks"]["down"], *down),
    }
    sharded["blocks"] = blocks
    expected = jaxinit.suggest(model, p, x, key=KEY)
    calibrated = jaxinit.calibrate(model, p, x)
    with jax.set_mesh(mesh) if is_set else contextlib.nullcontext():
        found = jaxinit.suggest(model, sharded, put(x, *data), key=KEY)
        scaled = jaxinit.calibrate(model, sharded, put(x, *data))
    assert found.rules == expected.rules and found.kept == expected.kept
    assert found.deviation == pytest.approx(expected.deviation, rel=1e-3)
    for a, b in zip(found.rows, expected.rows, strict=True):
        assert (a.path, a.layer, a.initializer) == (b.path, b.layer, b.initializer)
        assert a.measured == pytest.approx(b.measured, rel=1e-3)
    assert_same(found.report, expected.report)
    for a, b in zip(found.report.rows, expected.report.rows, strict=True):
        assert a.activation == b.activation
        for name in ("out_mean", "cosine", "rank", "entropy", "zeros"):
            value = getattr(b, name)
            same = value if value is None else pytest.approx(value, rel=1e-3, abs=1e-5)
            assert getattr(a, name) == same, (a.name, name)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3), scaled, calibrated
    )
    for a, b in zip(jax.tree.leaves(scaled), jax.tree.leaves(sharded), strict=True):
        assert a.sharding.is_equivalent_to(b.sharding, a.ndim)
