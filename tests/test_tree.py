"""Parameters from rules without a model: init_tree, reinit, fill_missing."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from plans import MODELS, assert_same

pytestmark = pytest.mark.accelerator

KEY = jax.random.key(0)
RULES = jaxinit.Rules({"**/bias": "zeros", "**/scale": "ones"}, jaxinit.RandomNormal())


def leaf(*shape, dtype=jnp.float32, sharding=None):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def mesh():
    return jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))


# init_tree


def test_values_are_those_of_the_initializers():
    """Values are those of jit in every dtype; each kind of leaf compiles once."""
    tree = {
        "a": [leaf(8, 4), leaf(8, 4, dtype=jnp.bfloat16), leaf(8, 4)],
        "b": {"c": leaf(4, dtype=jnp.int8), "d": leaf(2, 3, dtype=jnp.complex64)},
    }
    rules = {"a/1": "glorot_uniform", "b/c": "ones", "**": "he_normal"}
    made = jaxinit.init_tree(KEY, tree, rules)
    names = {"a/0": "he_normal", "a/1": "glorot_uniform", "b/c": "ones"}
    for path, x in jax.tree_util.tree_leaves_with_path(made):
        path = jax.tree_util.keystr(path, simple=True, separator="/")
        init = jaxinit.get(names.get(path, "he_normal"))
        key = jaxinit.leaf_key(KEY, path)
        draw = jax.jit(lambda k, init=init, x=x: init(k, x.shape, x.dtype))
        assert (x == draw(key)).all() and x.dtype == draw(key).dtype, path


def test_one_compilation_for_each_kind(compilations):
    tree = {f"{i}": {"w": leaf(13, 6), "v": leaf(7, 13)} for i in range(50)}
    jaxinit.init_tree(KEY, tree, {"**": "he_normal"})
    assert len(compilations) == 2, compilations


def test_inside_jit_vmap_and_plan():
    tree = {"w": leaf(8, 4), "b": leaf(4)}
    rules = {"w": "he_normal", "b": "zeros"}
    expected = jaxinit.init_tree(KEY, tree, rules)

    def init(key):
        return jaxinit.init_tree(key, tree, rules)

    assert_same(jax.jit(init)(KEY), expected)
    planned = jaxinit.plan(init, KEY)
    assert_same(planned(KEY), expected)
    assert len(planned.groups) == 2
    many = jax.vmap(init)(jax.random.split(KEY, 3))
    one = init(jax.random.split(KEY, 3)[1])
    np.testing.assert_allclose(many["w"][1], one["w"], rtol=1e-6)
    assert jax.eval_shape(init, KEY)["w"].shape == (8, 4)


def test_shardings_of_the_shapes():
    rows = NamedSharding(mesh(), P("data"))
    everywhere = NamedSharding(mesh(), P())
    model, x = MODELS["gpt2"]

    def place(leaf):
        sharding = rows if leaf.shape[0] % 8 == 0 else everywhere
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    shapes = jax.eval_shape(model.init, KEY, x)
    placed = jax.tree.map(place, shapes)
    made = jaxinit.init_tree(KEY, placed, RULES)
    assert_same(made, jaxinit.init_tree(KEY, shapes, RULES))
    jax.tree.map(lambda a, b: a.sharding == b.sharding or 1 / 0, made, placed)
    # Arrays say where they are, too.
    again = jaxinit.init_tree(jax.random.key(1), made, RULES)
    jax.tree.map(lambda a, b: a.sharding == b.sharding or 1 / 0, again, placed)
    with pytest.raises(ValueError, match=r"at head: .*does not fit"):
        jaxinit.init_tree(KEY, {"head": leaf(3, sharding=rows)}, {"*": "ones"})


def test_other_leaves_and_progress():
    said = []
    tree = {"w": leaf(2, 2), "name": "net", "f": jnp.tanh, "none": None, "n": 3}
    made = jaxinit.init_tree(
        KEY, tree, {"w": "he_normal"}, progress=lambda *x: said.append(x)
    )
    assert made["name"] == "net" and made["f"] is jnp.tanh and made["n"] == 3
    assert said == [(1, 1, "compiled")]
    assert jaxinit.init_tree(KEY, {}, {}) == {}
    for bad in (None, jnp.zeros(2), 3):
        with pytest.raises((TypeError, ValueError), match=r"init_tree.*key"):
            jaxinit.init_tree(bad, tree, {"w": "he_normal"})


# reinit


def test_reinit_touches_nothing_else(compilations):
    model, x = MODELS["gpt2"]
    params = jaxinit.init(model.init, KEY, x)["params"]
    before = len(compilations)
    new = jaxinit.reinit(KEY, params, {"block_1/down/*": "zeros", "**/up/**": None})
    assert len(compilations) == before  # zeros need no program
    pairs = zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(new), strict=True
    )
    for (path, old), leaf in pairs:
        if [part.key for part in path][:2] == ["block_1", "down"]:
            assert not leaf.any() and leaf.shape == old.shape
        else:
            assert leaf is old, path


def test_reinit_keeps_shardings():
    rows = NamedSharding(mesh(), P("data"))
    params = {"a": jax.device_put(jnp.ones((8, 8)), rows), "b": jnp.ones((8, 8))}
    new = jaxinit.reinit(KEY, params, {"*": "he_normal"})
    assert new["a"].sharding == rows and not new["b"].committed
    expected = jaxinit.init_tree(
        KEY, {"a": leaf(8, 8), "b": leaf(8, 8)}, {"*": "he_normal"}
    )
    assert_same(new, expected)
    inside = jax.jit(lambda p: jaxinit.reinit(KEY, p, {"b": "zeros"}))(params)
    assert not inside["b"].any() and inside["a"].all()
    constant = jax.jit(lambda: jaxinit.init_tree(KEY, params, {"*": "he_normal"}))
    assert_same(constant(), expected)


def test_reinit_default_covers_every_leaf():
    params = {"a": jnp.ones(2), "b": jnp.ones(2)}
    new = jaxinit.reinit(KEY, params, jaxinit.Rules({"a": None}, default="zeros"))
    assert new["a"] is params["a"] and not new["b"].any()


# fill_missing


class Body(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(8, name="body")(x)
        return nn.Dense(self.classes, name=f"head_{self.classes}")(x)


X = jnp.ones((1, 4))
HEAD = {"**/head_*/kernel": "glorot_uniform", "**/head_*/bias": "zeros"}


def test_a_checkpoint_with_a_new_head():
    loaded: Any = Body(10).init(jax.random.key(1), X)
    shapes = jax.eval_shape(Body(3).init, KEY, X)
    with pytest.raises(ValueError, match=r"no place for:\n  params/head_10/bias\n"):
        jaxinit.fill_missing(KEY, loaded, shapes, HEAD)
    with pytest.warns(UserWarning, match="no place for"):
        jaxinit.fill_missing(KEY, loaded, shapes, jaxinit.Rules(HEAD, strict=False))
    del loaded["params"]["head_10"]
    made = jaxinit.fill_missing(KEY, loaded, shapes, HEAD)
    assert made["params"]["body"]["kernel"] is loaded["params"]["body"]["kernel"]
    head = made["params"]["head_3"]
    assert head["kernel"].shape == (8, 3) and not head["bias"].any()
    alone = jaxinit.init_tree(
        KEY, {"params": {"head_3": shapes["params"]["head_3"]}}, HEAD
    )
    assert_same(alone["params"]["head_3"], head)
    assert Body(3).apply(made, X).shape == (1, 3)


def test_extra_leaves_have_a_switch_of_their_own():
    """And they are listed even where a shape does not fit."""
    extra = {"a": jnp.ones(3), "old": {"head": jnp.ones(2)}}
    shapes = {"a": leaf(3), "b": leaf(2)}
    rules = {"b": "ones"}
    with pytest.raises(ValueError, match=r"for:\n  old/head\non_extra=\"ignore\" "):
        jaxinit.fill_missing(KEY, extra, shapes, rules)
    for strict in (True, False):
        strictly = jaxinit.Rules(rules, strict=strict)
        made = jaxinit.fill_missing(KEY, extra, shapes, strictly, on_extra="ignore")
        assert made["a"] is extra["a"] and made["b"].tolist() == [1, 1]
        with pytest.warns(UserWarning, match=r"no place for:\n  old/head$") as caught:
            made = jaxinit.fill_missing(KEY, extra, shapes, strictly, on_extra="warn")
        assert caught[0].filename == __file__ and made.keys() == {"a", "b"}
        with pytest.raises(ValueError, match="no place for"):
            jaxinit.fill_missing(KEY, extra, shapes, strictly, on_extra="raise")
    both = extra | {"a": jnp.ones(4)}
    shape = r"another shape was loaded for:\n  a: \(4,\) instead of \(3,\)\n"
    for name, rest in {"raise": r"(.*\n)*.*\n  old/head\n", "ignore": ".*$"}.items():
        with pytest.raises(ValueError, match=shape + rest):
            jaxinit.fill_missing(KEY, both, shapes, rules, on_extra=name)
    with pytest.raises(ValueError, match=r"on_extra=\.\.\.\) must be one of 'raise'"):
        jaxinit.fill_missing(KEY, extra, shapes, rules, on_extra="drop")


def test_leaves_of_another_shape_may_be_replaced():
    loaded = {"head": jnp.full((8, 10), 5.0), "body": jnp.full((4, 8), 5.0)}
    shapes = {"head": leaf(8, 3), "body": leaf(4, 8)}
    made = jaxinit.fill_missing(
        KEY, loaded, shapes, {"head": "he_normal"}, on_mismatch="replace"
    )
    assert made["body"] is loaded["body"]
    alone = jaxinit.init_tree(KEY, {"head": leaf(8, 3)}, {"head": "he_normal"})
    np.testing.assert_array_equal(made["head"], alone["head"])
    with pytest.raises(ValueError, match=r"gives an initializer to:\n  head \(8, 3\)"):
        jaxinit.fill_missing(KEY, loaded, shapes, {}, on_mismatch="replace")
    with pytest.raises(ValueError, match='\non_mismatch="replace" makes these by'):
        jaxinit.fill_missing(KEY, loaded, shapes, {"head": "he_normal"})


@pytest.mark.parametrize("raw", [False, True])
def test_a_dict_of_keys_is_taken_as_init_takes_it(raw):
    make = jax.random.PRNGKey if raw else jax.random.key
    key, other = make(3), make(4)
    shapes, rules = {"w": leaf(4, 3)}, {"w": "he_normal"}

    def model(keys):
        return {"w": jnp.zeros((4, 3))}

    dicts = [{"params": key, "dropout": other}, {"default": key, "dropout": other}]
    dicts += [] if raw else [{"dropout": key}]
    for keys in dicts:
        expected = jaxinit.init(model, keys, rules=rules)["w"]
        assert (
            expected == jaxinit.HeNormal()(jaxinit.leaf_key(key, "w"), (4, 3))
        ).all()
        for made in (
            jaxinit.init_tree(keys, shapes, rules),
            jaxinit.reinit(keys, {"w": jnp.zeros((4, 3))}, rules),
            jaxinit.fill_missing(keys, {}, shapes, rules),
        ):
            np.testing.assert_array_equal(made["w"], expected)
    for take in (jaxinit.init_tree, jaxinit.reinit):
        with pytest.raises(TypeError, match=r"one base key|the key comes first"):
            take({"a": jax.random.key(0), "b": jax.random.key(1)}, shapes, rules)


def test_rules_may_match_loaded_leaves():
    """The rules are for the whole tree; a typo is still found."""
    loaded = {"body": jnp.ones((4, 8))}
    shapes = {"body": leaf(4, 8), "head": leaf(8, 3)}
    rules = {"body": "he_normal", "head": "glorot_uniform"}
    made = jaxinit.fill_missing(KEY, loaded, shapes, rules)
    assert made["body"] is loaded["body"]
    with pytest.raises(ValueError, match=r"rule 2 \(haed\) matches no leaf"):
        jaxinit.fill_missing(KEY, loaded, shapes, {"*": "he_normal", "haed": "zeros"})
    complete = jaxinit.fill_missing(KEY, made, shapes, {})
    assert complete["head"] is made["head"]


def test_shapes_that_differ_are_named():
    loaded = {"a": jnp.ones((4, 8)), "b": jnp.ones(3)}
    shapes = {"a": leaf(8, 4), "b": leaf(3), "c": leaf(2)}
    with pytest.raises(ValueError, match=r"a: \(4, 8\) instead of \(8, 4\)\n"):
        jaxinit.fill_missing(KEY, loaded, shapes, {"c": "zeros"})
    with pytest.raises(ValueError, match=r"no default gives .*\n  c \(2,\)$"):
        jaxinit.fill_missing(KEY, {"b": loaded["b"]}, {"b": leaf(3), "c": leaf(2)}, {})


def test_containers_boxes_and_placeholders():
    """Leaves are identified by path, in any containers."""
    box = nn.Partitioned(leaf(4, 2), names=("data", None))
    shapes = {"layers": [box, leaf(2)], "step": leaf(dtype=jnp.int32)}
    kernel = np.ones((4, 2), np.float16)
    loaded = {"layers": {"0": kernel, "1": leaf(2)}, "step": jnp.int32(7)}
    made = jaxinit.fill_missing(KEY, loaded, shapes, {"layers/1": "ones"})
    assert isinstance(made["layers"][0], nn.Partitioned)
    assert made["layers"][0].value is kernel and made["layers"][1].all()
    assert made["step"] is loaded["step"]


def test_loaded_leaves_get_the_shardings_of_the_shapes():
    rows = NamedSharding(mesh(), P("data"))
    shapes = {k: leaf(8, 2, sharding=rows) for k in "abc"}
    loaded = {"a": np.ones((8, 2)), "b": jax.device_put(jnp.ones((8, 2)), rows)}
    made = jaxinit.fill_missing(KEY, loaded, shapes, {"c": "he_normal"})
    assert all(x.sharding == rows for x in made.values())
    assert made["b"] is loaded["b"] and (made["a"] == 1).all()
