"""What fill_missing refuses or leaves alone: unused checkpoints, files, settings."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxinit

pytestmark = pytest.mark.accelerator

KEY = jax.random.key(0)


def leaf(*shape, dtype="float32", sharding=None):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


# A checkpoint of which nothing is used

ONES = np.ones(2, np.float32)


@pytest.mark.parametrize(
    ("loaded", "options", "message"),
    [
        (
            {"a.w": ONES},
            {"rename": lambda path: None},
            "a function may lack its return",
        ),
        ({"a.w": ONES}, {"rename": {"a.w": None}}, "rename gave None for all"),
        (
            {"x": ONES, "n": 3},
            {"on_extra": "ignore"},
            r"got:\n  n\n  x\nabs.*\n  a/w\n",
        ),
        ({"x": ONES}, {"on_extra": "warn"}, "none|got:\n  x\n"),
        ({"a": {"w": np.ones(3)}}, {"on_mismatch": "replace"}, r"a/w: \(3,\) instead"),
    ],
)
def test_a_checkpoint_of_which_nothing_fits_is_refused(loaded, options, message):
    shapes = {"a": {"w": leaf(2)}}
    with pytest.raises(ValueError, match=message) as e:
        jaxinit.fill_missing(KEY, loaded, shapes, {"**": "zeros"}, **options)
    assert "loaded={} makes all leaves" in str(e.value)


def test_an_empty_checkpoint_is_valid():
    shapes = {"a": {"w": leaf(2)}}
    for loaded in {}, [], {"a": {"w": leaf(2)}}, {"a": None}:
        made = jaxinit.fill_missing(KEY, loaded, shapes, {"**": "ones"})
        assert made["a"]["w"].tolist() == [1, 1]
    few = {str(i): ONES for i in range(9)}
    with pytest.raises(ValueError, match=r"got:\n  0\n  1\n  2\n  and 6 more\nabs"):
        jaxinit.fill_missing(KEY, few, shapes, {"**": "ones"}, on_extra="ignore")


@pytest.mark.parametrize("on_extra", ["raise", "ignore"])
@pytest.mark.parametrize(
    ("prefix", "top", "cure"),
    [
        ("model.", "", "lambda path: path.removeprefix('model.')"),
        ("", "params/", "lambda path: 'params/' + path"),
        ("model/", "params/", "lambda path: 'params/' + path.removeprefix('model/')"),
    ],
)
def test_a_prefix_that_differs_is_named(prefix, top, cure, on_extra):
    inner = {"a": {"kernel": leaf(2)}, "b": {"kernel": leaf(2)}}
    shapes = {top[:-1]: inner} if top else inner
    loaded = {f"{prefix}a.kernel": ONES, f"{prefix}b.kernel": 2 * ONES}
    if prefix == "model/":
        loaded = {"model": {"a": {"kernel": ONES}, "b": {"kernel": 2 * ONES}}}
    rules = {"**": "zeros"}
    with pytest.raises(ValueError) as e:
        jaxinit.fill_missing(KEY, loaded, shapes, rules, on_extra=on_extra)
    gives = "all of them one" if on_extra == "raise" else "2 of 2 leaves a place"
    assert f"rename={cure} gives {gives}." in str(e.value)
    made = jaxinit.fill_missing(KEY, loaded, shapes, rules, rename=eval(cure))
    made = made[top[:-1]] if top else made
    assert made["a"]["kernel"].tolist() == [1, 1]
    assert made["b"]["kernel"].tolist() == [2, 2]
    extra = loaded | {"step": np.int32(3)}
    with pytest.raises(ValueError) as e:
        jaxinit.fill_missing(KEY, extra, shapes, rules, on_extra="ignore")
    assert f"rename={cure} gives 2 of 3 leaves a place." in str(e.value)


# Arguments of another type


def test_what_is_no_checkpoint_is_refused(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "m.safetensors"
    numpy.save_file({"a": ONES}, path)
    shapes, rules = {"a": leaf(2)}, {"a": "zeros"}
    for wrong in str(path), path, open, None:
        with pytest.raises(TypeError, match=r"fill_missing\(loaded=\.\.\.\) must") as e:
            jaxinit.fill_missing(KEY, wrong, shapes, rules, on_extra="ignore")
        assert ("load_file(path)" in str(e.value)) == (wrong is not None)
    with pytest.importorskip("safetensors").safe_open(path, "np") as handle:
        with pytest.raises(TypeError, match=r"safetensors\.numpy\.load_file\(path\)"):
            jaxinit.fill_missing(KEY, handle, shapes, rules)
    made = jaxinit.fill_missing(KEY, numpy.load_file(path), shapes, rules)
    assert made["a"].tolist() == [1, 1]


def test_progress_must_be_a_function():
    shapes, rules = {"a": leaf(2)}, {"a": "zeros"}
    for where, call in (
        ("fill_missing", lambda x: jaxinit.fill_missing(KEY, {}, shapes, rules, **x)),
        ("init_tree", lambda x: jaxinit.init_tree(KEY, shapes, rules, **x)),
        ("reinit", lambda x: jaxinit.reinit(KEY, {"a": jnp.ones(2)}, rules, **x)),
        ("plan", lambda x: jaxinit.plan(lambda k: jnp.ones(2), KEY, **x)),
    ):
        for wrong in 3, 0, "bar":
            with pytest.raises(TypeError, match=rf"{where}\(progress=.*None or a func"):
                call({"progress": wrong})


def test_the_cure_for_two_leaves_at_one_path_suits_rename():
    loaded = {"a": ONES, "b": ONES}
    with pytest.raises(ValueError, match="rename must give them different paths") as e:
        jaxinit.fill_missing(KEY, loaded, {"c": leaf(2)}, {}, rename=lambda path: "c")
    assert "rename={" not in str(e.value)


# Settings: leaves that are no arrays


def test_the_settings_of_an_equinox_model_are_its_own(tmp_path):
    eqx = pytest.importorskip("equinox")

    def make(rate, activation):
        def build(key):
            mlp = eqx.nn.MLP(4, 2, 8, 1, activation=activation, key=key)
            return eqx.nn.Sequential([mlp, eqx.nn.Dropout(rate)])

        return build

    old, new = make(0.5, jax.nn.relu), make(0.1, jax.nn.gelu)
    model = eqx.nn.inference_mode(old(jax.random.key(3)))
    eqx.tree_serialise_leaves(tmp_path / "m.eqx", model)
    read = eqx.tree_deserialise_leaves(tmp_path / "m.eqx", old(KEY))
    for loaded in model, read:
        made = jaxinit.fill_missing(KEY, loaded, jaxinit.eval_shape(new, KEY), {})
        assert made.layers[1].p == 0.1 and made.layers[1].inference is False
        assert made.layers[0].activation is new(KEY).layers[0].activation
        got, want = (
            jax.tree.leaves(eqx.filter(x, eqx.is_array)) for x in (made, model)
        )
        assert len(got) == 4
        for x, y in zip(got, want, strict=True):
            np.testing.assert_array_equal(x, y)
    partly = {"m": model, "head": leaf(2)}
    shapes = {"m": jaxinit.eval_shape(new, KEY), "head": leaf(2)}
    made = jaxinit.fill_missing(KEY, partly, shapes, {"head": "ones"})
    assert made["m"].layers[1].p == 0.1 and made["head"].tolist() == [1, 1]


def test_settings_of_other_trees():
    tree = {"w": leaf(2), "act": jax.nn.relu, "name": "new", "step": 3}
    loaded = {"w": ONES, "act": jax.nn.gelu, "name": "old", "step": 3}
    made = jaxinit.fill_missing(KEY, loaded, tree, {})
    assert made == tree | {"w": ONES} or made["w"] is ONES
    assert made["act"] is jax.nn.relu and (made["name"], made["step"]) == ("new", 3)
    # The step of a run is not lost in silence.
    text = (
        r"for:\n  step \(7; the tree .*, but 3\)\n(?s:.*)step has a place if .* array"
    )
    with pytest.raises(ValueError, match=text):
        jaxinit.fill_missing(KEY, loaded | {"step": 7}, tree, {})
    made = jaxinit.fill_missing(KEY, loaded | {"step": 7}, tree, {}, on_extra="ignore")
    assert made["step"] == 3
    made = jaxinit.fill_missing(
        KEY, {"w": ONES, "step": 7}, tree | {"step": leaf()}, {}
    )
    assert made["step"] == 7
    with pytest.raises(ValueError, match=r"for:\n  name \(an array; the tree"):
        jaxinit.fill_missing(KEY, loaded | {"name": ONES}, tree, {})
    with pytest.raises(TypeError, match="w must be an array"):
        jaxinit.fill_missing(KEY, loaded | {"w": "x"}, tree, {})


# The random state of NNX


def test_the_cures_for_the_random_state_of_nnx_work():
    class Net(nnx.Module):
        def __init__(self, rngs):
            self.linear = nnx.Linear(2, 2, rngs=rngs)
            self.dropout = nnx.Dropout(0.5, rngs=rngs)

    flat = {"linear.kernel": np.full((2, 2), 3, np.float32), "linear.bias": ONES}
    model = Net(nnx.Rngs(0))
    shapes = nnx.eval_shape(lambda: Net(nnx.Rngs(0)))
    with pytest.raises(ValueError) as e:
        jaxinit.fill_missing(KEY, flat, shapes, {})
    name, rule = re.search(
        r"the rule \{'(.*?)': (.*)\} makes it", str(e.value)
    ).groups()
    assert name == "**/key" and "pattern that names 'key'" not in str(e.value)
    assert "nnx.state(model, nnx.Param) is a tree of the parameters alone" in str(
        e.value
    )

    rules = {name: eval(rule), "**/count": "zeros"}
    made = jaxinit.fill_missing(KEY, flat, shapes, rules)
    assert made.dropout(jnp.ones((1, 2))).shape == (1, 2)
    assert jnp.issubdtype(made.dropout.rngs.key.dtype, jax.dtypes.prng_key)
    np.testing.assert_array_equal(made.linear.kernel.get_value(), flat["linear.kernel"])
    with pytest.raises(ValueError, match="PRNG keys are made by a function: lambda"):
        rules = {name: "zeros", "**/count": "zeros"}
        jaxinit.fill_missing(KEY, flat, shapes, rules)

    state = jaxinit.fill_missing(KEY, flat, nnx.state(shapes, nnx.Param), {})
    nnx.update(model, state)
    np.testing.assert_array_equal(
        model.linear.kernel.get_value(), flat["linear.kernel"]
    )
    many = {"key": jax.eval_shape(lambda: jax.random.split(KEY, (2, 3)))}
    made = jaxinit.init_tree(KEY, many, {name: eval(rule)})
    assert len(np.unique(jax.random.key_data(made["key"]).reshape(6, -1), axis=0)) == 6
