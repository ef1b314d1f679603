"""Keys of leaves depend on the base key and the path, and on nothing else."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

import jaxinit
from jaxinit._paths import parts_of
from jaxinit.rules.leaf_keys import path_words

KEY = jax.random.key(0)
# The words of version 1, which must never change.
GOLDEN = {
    (): (4023675865, 3954624901),
    ("",): (1219881458, 244853211),
    ("head", "kernel"): (3931689213, 2115587961),
    ("head/kernel",): (2512330772, 1648434051),
    ("params", "block_0", "attention", "out", "kernel"): (2549421984, 3760031169),
    ("päth", "权重", "0"): (888775870, 3247623771),
}
names = st.lists(st.text(max_size=4), max_size=5).map(tuple)


def test_golden_words():
    assert {parts: path_words(parts) for parts in GOLDEN} == GOLDEN


def test_golden_words_in_another_process():
    """PYTHONHASHSEED and the locale have no effect."""
    code = "import sys; from jaxinit.rules.leaf_keys import path_words\n"
    code += f"print([path_words(p) for p in {list(GOLDEN)!a}])"
    env = os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "C", "PYTHONUTF8": "0"}
    out = subprocess.check_output([sys.executable, "-c", code], text=True, env=env)
    assert out.strip() == str(list(GOLDEN.values()))


@given(names, names)
def test_other_paths_have_other_words(a, b):
    assert (path_words(a) == path_words(b)) == (a == b)


def test_separators_are_safe():
    alike = [("a", "b"), ("a/b",), ("a/", "b"), ("a", "/b"), ("ab",), ("a", "b", "")]
    alike += [("", "a", "b"), ("b", "a"), ("a\0b",), ("a", "\0b")]
    assert len({path_words(parts) for parts in alike}) == len(alike)


def test_no_collisions_in_a_large_model():
    places = [(i, j) for i in range(300) for j in range(300)]
    paths = [(f"block_{i}", f"layer_{j}", "kernel") for i, j in places]
    assert len({path_words(parts) for parts in paths}) == len(paths)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_any_implementation(impl):
    key = jax.random.key(3, impl=impl)
    derived = jaxinit.leaf_key(key, "head/kernel")
    assert derived.dtype == key.dtype and derived.shape == ()
    words = map(np.uint32, GOLDEN["head", "kernel"])
    expected = key
    for word in words:
        expected = jax.random.fold_in(expected, word)
    assert (jax.random.key_data(derived) == jax.random.key_data(expected)).all()
    tree = {"a": jax.ShapeDtypeStruct((8, 4), jnp.float32)}
    made = jaxinit.init_tree(key, tree, {"a": "he_normal"})
    drawn = jax.jit(lambda key: jaxinit.HeNormal()(key, (8, 4)))
    assert (made["a"] == drawn(jaxinit.leaf_key(key, "a"))).all()


def test_names_that_hold_a_slash_need_a_sequence():
    """The names of Haiku's modules contain slashes."""
    tree = {"mlp/~/linear_0": {"w": jax.ShapeDtypeStruct((8, 4), jnp.float32)}}
    made = jaxinit.init_tree(KEY, tree, {"**/w": "he_normal"})["mlp/~/linear_0"]["w"]
    key = jaxinit.leaf_key(KEY, ("mlp/~/linear_0", "w"))
    assert jnp.all(made == jax.jit(jaxinit.HeNormal(), static_argnums=1)(key, (8, 4)))
    split = jaxinit.leaf_key(KEY, "mlp/~/linear_0/w")
    assert jnp.any(jax.random.key_data(split) != jax.random.key_data(key))


def test_raw_keys_are_the_same_keys():
    raw = jax.random.PRNGKey(3)
    derived = jaxinit.leaf_key(raw, ("head", "kernel"))
    assert derived.dtype == jnp.uint32
    typed = jaxinit.leaf_key(jax.random.key(3), "head/kernel")
    assert (derived == jax.random.key_data(typed)).all()
    tree = {"a": jax.ShapeDtypeStruct((8, 4), jnp.float32)}
    made = [jaxinit.init_tree(k, tree, {"a": "he_normal"}) for k in (raw, KEY)]
    same = jaxinit.init_tree(jax.random.key(3), tree, {"a": "he_normal"})
    assert (made[0]["a"] == same["a"]).all() and (made[1]["a"] != same["a"]).any()


@pytest.mark.parametrize("bad", [None, 3, jnp.zeros(3), jax.random.split(KEY)])
def test_values_that_are_not_keys_are_refused(bad):
    with pytest.raises((TypeError, ValueError), match="key"):
        jaxinit.leaf_key(bad, "a")


class Old(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(4, name="head")(nn.Dense(8, name="up")(x))


class New(nn.Module):
    """Another model around the same head."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="renamed")(nn.LayerNorm(name="norm")(x))
        x = nn.Dense(8, name="added")(x)
        head = nn.Dense(4, name="head")
        nn.Dense(2, name="another_head")(x)
        return head(x)


def test_a_model_changes_around_a_leaf():
    rules = {"**/head/kernel": "he_normal"}
    x = jnp.ones((1, 8))
    old = jaxinit.init(Old().init, KEY, x, rules=rules)["params"]["head"]
    new = jaxinit.init(New().init, KEY, x, rules=rules)["params"]["head"]
    assert (old["kernel"] == new["kernel"]).all()
    # The same leaf without any model.
    shape = jax.ShapeDtypeStruct((8, 4), jnp.float32)
    alone = {"params": {"head": {"kernel": shape}}}
    alone = jaxinit.init_tree(KEY, alone, rules)["params"]["head"]
    assert (old["kernel"] == alone["kernel"]).all()
    # Of another path, other values.
    moved = jaxinit.init_tree(KEY, {"head": {"kernel": shape}}, rules)["head"]
    assert (old["kernel"] != moved["kernel"]).any()


def test_initializers_at_different_paths_are_independent():
    leaf = jax.ShapeDtypeStruct((100, 100), jnp.float32)
    made = jaxinit.init_tree(KEY, [leaf] * 20, {"*": jaxinit.RandomNormal(0.0, 1.0)})
    draws = np.stack([np.asarray(x).ravel() for x in made])
    correlation = np.corrcoef(draws) - np.eye(20)
    assert np.abs(correlation).max() < 5 / np.sqrt(draws.shape[1])


def test_places_of_the_base_key():
    rules = {"w": "he_normal"}
    expected = jaxinit.HeNormal()(jaxinit.leaf_key(KEY, "w"), (4, 2))

    def init(*args, **kwargs):
        return {"w": jnp.zeros((4, 2))}

    other = jax.random.key(1)
    for args in [
        (KEY,),
        (KEY, other),
        ({"params": KEY, "dropout": other},),
        ({"default": KEY, "dropout": other},),
        (jax.random.PRNGKey(0), jnp.ones(2)),
        (jnp.ones(3), KEY),
        ({"step": 1, "inner": KEY},),
    ]:
        made = jaxinit.init(init, *args, rules=rules)["w"]
        np.testing.assert_allclose(made, expected, rtol=1e-6)
    with pytest.raises(TypeError, match=r"one base key.*there are 2 keys"):
        jaxinit.init(init, {"a": KEY, "b": other}, rules=rules)
    with pytest.raises(TypeError, match=r"one base key.*there are 0 keys"):
        jaxinit.init(init, jnp.ones(3), rules=rules)


def test_parts_of_any_container():
    box = nn.Partitioned(jnp.ones(2), names=("a",))
    tree = {"p": [box, (1, {"q": 2})], "r": nn.Partitioned({"s": 3, "t": box}, ("b",))}
    expected = [("p", "0"), ("p", "1", "0"), ("p", "1", "1", "q")]
    assert parts_of(tree) == [*expected, ("r", "s"), ("r", "t")]
    assert parts_of(box) == [()]
    assert len(parts_of(tree)) == len(jax.tree.leaves(tree))
