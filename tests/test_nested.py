"""Initializers inside initializers, to any depth."""

import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from cases import LAWS, ids, ulps
from jaxinit.initializers import registry

KEY = jax.random.key(14)
QKV = jaxinit.Blocks("glorot_uniform", (64, 32, 32))
DEEP = jaxinit.DepthScaled(
    jaxinit.Stacked(
        jaxinit.Concatenate(
            (
                jaxinit.Masked(QKV, np.tri(128, dtype=bool)),
                jaxinit.Clipped(jaxinit.Normalized("normal", -2), -0.1, 0.1),
                jaxinit.Scaled(jaxinit.AsDtype("he_normal", "float16"), 0.5),
            ),
            (128, 16, 112),
        )
    ),
    num_layers=3,
    mode="index",
)
SHAPE = (3, 128, 256)


def by_hand(key):
    """Draws the parts of DEEP one by one and joins them."""
    layers = []
    for layer, layer_key in enumerate(jax.random.split(key, 3)):
        masked, clipped, scaled = jax.random.split(layer_key, 3)
        keys = zip(jax.random.split(masked, 3), (64, 32, 32), strict=True)
        qkv = [jaxinit.GlorotUniform()(k, (128, n)) for k, n in keys]
        normal = np.asarray(jaxinit.RandomNormal()(clipped, (128, 16)))
        half = jaxinit.HeNormal()(scaled, (128, 112), jnp.float16)
        parts = [
            np.concatenate(qkv, 1) * np.tri(128),
            np.clip(normal / np.linalg.norm(normal, axis=0), -0.1, 0.1),
            0.5 * np.asarray(half).astype(np.float32),
        ]
        layers.append(np.concatenate(parts, 1) / (2 * (layer + 1)) ** 0.5)
    return np.stack(layers)


def test_deep_nesting_equals_its_steps_by_hand():
    np.testing.assert_allclose(DEEP(KEY, SHAPE), by_hand(KEY), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("case", LAWS, ids=ids(LAWS))
def test_an_inner_initializer_draws_its_own_values(case):
    alone = case.init(KEY, case.shape)
    np.testing.assert_array_equal(jaxinit.Scaled(case.init, 1)(KEY, case.shape), alone)
    half = jaxinit.Scaled(case.init, 0.3)(KEY, case.shape)
    np.testing.assert_array_equal(half, alone * np.float32(0.3))


def test_deep_nesting_is_data():
    config = json.loads(json.dumps(jaxinit.serialize(DEEP)))
    twins = [
        jaxinit.deserialize(config),
        pickle.loads(pickle.dumps(DEEP)),
        DEEP.clone(),
    ]
    for twin in twins:
        assert twin == DEEP and hash(twin) == hash(DEEP)
    outer = jaxinit.Scaled(config, 1.0)
    assert outer.initializer == DEEP
    changed = dataclasses.replace(DEEP, per_block=1)
    assert changed != DEEP and jaxinit.get(jaxinit.serialize(changed)) == changed


def test_deep_nesting_is_one_program_and_rounds_once(compilations):
    narrow = DEEP(KEY, SHAPE, jnp.bfloat16)
    assert len(compilations) == 1, compilations
    dataclasses.replace(DEEP, per_block=1)(KEY, SHAPE, jnp.bfloat16)
    assert len(compilations) == 1, compilations
    np.testing.assert_array_equal(narrow, DEEP(KEY, SHAPE).astype(jnp.bfloat16))


def test_deep_nesting_under_jit_and_vmap():
    keys = jax.random.split(KEY, 2)
    mapped = jax.jit(jax.vmap(lambda key: DEEP(key, SHAPE)))(keys)
    for key, values in zip(keys, mapped, strict=True):
        assert ulps(values, DEEP(key, SHAPE)) <= 2


def test_custom_initializers_nest_in_both_directions(monkeypatch):
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))

    @jaxinit.register("lab>Signs")
    @dataclasses.dataclass(frozen=True)
    class Signs(jaxinit.Initializer):
        def sample(self, key, shape, dtype):
            return jax.random.rademacher(key, shape).astype(dtype)

    init = jaxinit.Stacked(jaxinit.Scaled("lab>Signs", 0.5))
    assert init.initializer == jaxinit.Scaled(Signs(), 0.5)
    assert jaxinit.deserialize(json.loads(json.dumps(jaxinit.serialize(init)))) == init
    w = init(KEY, (2, 100, 100), jnp.bfloat16)
    np.testing.assert_array_equal(abs(w), 0.5)
    assert abs(float(w[0].astype(jnp.float32).mean())) < 5 * 0.5 / 100


def test_the_seed_is_that_of_the_outermost():
    init = jaxinit.Stacked(jaxinit.HeNormal(seed=1), seed=2)
    expected = init(jax.random.key(2), (3, 4, 5))
    np.testing.assert_array_equal(init(None, (3, 4, 5)), expected)
    with pytest.raises(TypeError, match=r"Stacked\(key=.*seed=0"):
        jaxinit.Stacked(jaxinit.HeNormal(seed=1))(None, (3, 4, 5))


@pytest.mark.parametrize(
    ("init", "needs"),
    [
        (jaxinit.Scaled("zeros", 2), False),
        (jaxinit.Stacked(jaxinit.Scaled("identity", 2)), False),
        (jaxinit.Stacked(jaxinit.Scaled("he_normal", 2)), True),
        (jaxinit.Concatenate(("zeros", "ones")), False),
        (jaxinit.Concatenate(("zeros", "normal")), True),
        (jaxinit.Masked("ones", [1, 0]), False),
        (jaxinit.Masked("ones", sparsity=0.5), True),
        (jaxinit.Scaled(jax.nn.initializers.zeros, 2), True),
    ],
)
def test_a_key_is_needed_unless_every_inner_initializer_is_deterministic(init, needs):
    assert init.deterministic is not needs
    shape = (2, 2, 2)
    if needs:
        with pytest.raises(TypeError, match="key"):
            init(None, shape)
    else:
        np.testing.assert_array_equal(init(None, shape), init(KEY, shape))


def test_depth_of_configs_is_bounded():
    init = jaxinit.Zeros()
    for _ in range(20):
        init = jaxinit.Scaled(init, 1.0)
    with pytest.raises(ValueError, match="levels deep"):
        jaxinit.deserialize(jaxinit.serialize(init))
