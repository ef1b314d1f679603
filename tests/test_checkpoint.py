"""fill_missing with checkpoints of Orbax and safetensors, on eight devices."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit

pytestmark = pytest.mark.accelerator

KEY = jax.random.key(0)
X = jnp.ones((1, 16))
HEAD = {"**/head/kernel": "glorot_uniform", "**/head/bias": "zeros"}


class Model(nn.Module):
    classes: int = 8

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm(name="norm")(nn.Dense(24, name="body")(x))
        return nn.Dense(self.classes, name="head")(x)


def shapes_of(classes=8, dtype=None, place=None):
    """The shapes of the model, in a dtype and with a sharding for each."""

    def change(leaf):
        sharding = None if place is None else place(leaf)
        return jax.ShapeDtypeStruct(leaf.shape, dtype or leaf.dtype, sharding=sharding)

    return jax.tree.map(change, jax.eval_shape(Model(classes).init, KEY, X))


def columns(leaf):
    """The last axis over eight devices."""
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, P(*[None] * (leaf.ndim - 1), "x"))


def rows(leaf):
    """The first axis over four of eight devices, or a copy on each."""
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    return NamedSharding(mesh, P("x") if leaf.shape[0] % 4 == 0 else P())


@pytest.fixture
def params():
    """Parameters with no two equal values, on the host."""
    leaves, tree = jax.tree.flatten(shapes_of())
    starts = np.cumsum([0, *(leaf.size for leaf in leaves[:-1])])
    made = [
        np.arange(start, start + leaf.size, dtype=np.float32).reshape(leaf.shape) / 7
        for start, leaf in zip(starts, leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, made)


def flat(params, separator):
    pairs = jax.tree_util.tree_leaves_with_path(params["params"])
    return {separator.join(part.key for part in path): leaf for path, leaf in pairs}


def assert_same(made, expected):
    jax.tree.map(np.testing.assert_array_equal, made, expected)
    assert jax.tree.map(lambda x: x.dtype, made) == jax.tree.map(
        lambda x: x.dtype, expected
    )


def assert_placed(made, shapes):
    """Every leaf has its sharding, and every device only its own part."""
    for leaf, wanted in zip(
        jax.tree.leaves(made), jax.tree.leaves(shapes), strict=True
    ):
        assert leaf.sharding == wanted.sharding
        part = wanted.sharding.shard_shape(leaf.shape)
        assert {shard.data.shape for shard in leaf.addressable_shards} == {part}


# Orbax


@pytest.fixture
def orbax():
    return pytest.importorskip("orbax.checkpoint")


@pytest.mark.parametrize("place", [None, columns, rows])
def test_orbax_restores_onto_another_mesh(orbax, params, place, tmp_path):
    shapes = shapes_of(place=columns)
    saved = jax.device_put(params, jax.tree.map(lambda s: s.sharding, shapes))
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", saved)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "run")
        targeted = checkpointer.restore(tmp_path / "run", shapes)
    wanted = shapes_of(place=place)
    for loaded in (restored, targeted):
        made = jaxinit.fill_missing(KEY, loaded, wanted, {})
        assert_same(made, params)
        if place is not None:
            assert_placed(made, wanted)
    made = jaxinit.fill_missing(KEY, targeted, shapes, {})
    for new, old in zip(jax.tree.leaves(made), jax.tree.leaves(targeted), strict=True):
        assert new is old


def test_a_new_head_on_an_orbax_checkpoint(orbax, params, tmp_path):
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", params)
        checkpointer.wait_until_finished()
        loaded = checkpointer.restore(tmp_path / "run")
    wanted = shapes_of(16, place=columns)
    with pytest.raises(ValueError, match=r"head/kernel: \(24, 8\) instead of \(24, 16"):
        jaxinit.fill_missing(KEY, loaded, wanted, HEAD)
    made = jaxinit.fill_missing(KEY, loaded, wanted, HEAD, on_mismatch="replace")
    assert_placed(made, wanted)
    for name in ("body", "norm"):
        assert_same(made["params"][name], params["params"][name])
    new = jaxinit.init_tree(KEY, wanted, jaxinit.Rules(HEAD, "ones"))
    assert_same(made["params"]["head"], new["params"]["head"])
    assert Model(16).apply(made, X).shape == (1, 16)


def test_an_nnx_state_that_orbax_restored_without_a_target(orbax, tmp_path):
    model = nnx.List([nnx.Linear(16, 8, rngs=nnx.Rngs(i)) for i in range(2)])
    state = nnx.state(model, nnx.Param)
    with orbax.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "run", state)
        checkpointer.wait_until_finished()
        loaded = checkpointer.restore(tmp_path / "run")
    rules = {"1/bias": "ones"}
    made = jaxinit.fill_missing(KEY, loaded, state, rules)
    assert_same(made, state)
    made = jaxinit.fill_missing(
        KEY, loaded, state, rules, rename={"0/bias": None, "1/bias": "0/bias"}
    )
    np.testing.assert_array_equal(made[0]["bias"].get_value(), state[1]["bias"])
    np.testing.assert_array_equal(made[1]["bias"].get_value(), np.ones(8))


# safetensors


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("place", [None, columns])
@pytest.mark.parametrize("framework", ["numpy", "flax"])
def test_the_flat_keys_of_safetensors(params, separator, place, framework, tmp_path):
    safetensors = pytest.importorskip(f"safetensors.{framework}")
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file(flat(params, separator), tmp_path / "model.safetensors")
    loaded = safetensors.load_file(tmp_path / "model.safetensors")
    wanted = shapes_of(place=place)["params"]
    made = jaxinit.fill_missing(KEY, loaded, wanted, {})
    assert_same(made, params["params"])
    if place is None:
        assert made["body"]["kernel"] is loaded[f"body{separator}kernel"]
    else:
        assert_placed(made, wanted)


def test_keys_of_another_library(params, tmp_path):
    """Torch-like names, a prefix, a dropped buffer, a new head and another dtype."""
    numpy = pytest.importorskip("safetensors.numpy")
    saved = {
        "model.encoder.weight": params["params"]["body"]["kernel"],
        "model.encoder.bias": params["params"]["body"]["bias"],
        "model.ln.weight": params["params"]["norm"]["scale"],
        "model.ln.bias": params["params"]["norm"]["bias"],
        "model.steps": np.array([3], np.int64),
    }
    numpy.save_file(saved, tmp_path / "model.safetensors")
    loaded = numpy.load_file(tmp_path / "model.safetensors")
    wanted = shapes_of(16, jnp.bfloat16, columns)
    rename = {
        "model.encoder.weight": "params/body/kernel",
        "model.encoder.bias": "params.body.bias",
        "model.ln.weight": "params/norm/scale",
        "model.ln.bias": "params/norm/bias",
        "model.steps": None,
    }
    rounded = jax.tree.map(lambda x: x.astype(ml_dtypes.bfloat16), params)
    made = jaxinit.fill_missing(KEY, loaded, wanted, HEAD, rename=rename, cast=True)
    assert_placed(made, wanted)
    for name in ("body", "norm"):
        assert_same(made["params"][name], rounded["params"][name])
    assert made["params"]["head"]["kernel"].dtype == jnp.bfloat16
    assert not any("float32" in str(x.dtype) for x in jax.tree.leaves(made))

    def function(name):
        layer, end = name.removeprefix("model.").split(".")
        kinds = {"weight": "kernel"} if layer == "encoder" else {"weight": "scale"}
        layers = {"encoder": "body", "ln": "norm"}
        return f"params/{layers[layer]}/{kinds.get(end, end)}"

    del loaded["model.steps"]
    again = jaxinit.fill_missing(KEY, loaded, wanted, HEAD, rename=function, cast=True)
    assert_same(again, made)


def test_bfloat16_files_keep_their_bits(params, tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    half = {k: v.astype(ml_dtypes.bfloat16) for k, v in flat(params, ".").items()}
    numpy.save_file(half, tmp_path / "model.safetensors")
    loaded = numpy.load_file(tmp_path / "model.safetensors")
    wanted = shapes_of(place=columns)["params"]
    made = jaxinit.fill_missing(KEY, loaded, wanted, {})
    kernel = half["body.kernel"]
    np.testing.assert_array_equal(made["body"]["kernel"], kernel)
    assert made["body"]["kernel"].dtype == jnp.bfloat16
    made = jaxinit.fill_missing(KEY, loaded, wanted, {}, cast=True)
    np.testing.assert_array_equal(made["body"]["kernel"], kernel.astype(np.float32))
    assert made["body"]["kernel"].dtype == jnp.float32


def test_an_npz_file_is_flat(params, tmp_path):
    np.savez(tmp_path / "model.npz", **flat(params, "/"))
    with np.load(tmp_path / "model.npz") as loaded:
        made = jaxinit.fill_missing(KEY, loaded, shapes_of()["params"], {})
    assert_same(made, params["params"])


# Flat keys


def leaf(*shape, dtype="float32", sharding=None):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def test_a_dot_is_a_level_only_if_the_tree_has_it():
    ones, twos = np.ones(2, np.float32), np.full(2, 2, np.float32)
    shapes = {"a.b": leaf(2), "c": {"d": leaf(2)}}
    made = jaxinit.fill_missing(KEY, {"a.b": ones, "c.d": twos}, shapes, {})
    assert made["a.b"] is ones and made["c"]["d"] is twos
    both = {"a.b": leaf(2), "a": {"b": leaf(2)}}
    rules = jaxinit.Rules({"**": "zeros"})
    with pytest.raises(ValueError, match=r"'a\.b' may be 'a\.b' or 'a/b', .* rename="):
        jaxinit.fill_missing(KEY, {"a.b": ones}, both, rules)
    for path, made_by in (("a.b", (1, 0)), ("a/b", (0, 1))):
        made = jaxinit.fill_missing(
            KEY, {"a.b": ones}, both, rules, rename={"a.b": path}
        )
        assert (made["a.b"][0], made["a"]["b"][0]) == made_by
    # In a tree of levels a dot is part of a name.
    with pytest.raises(ValueError, match=r"no place for:\n  x/c\.d\n"):
        jaxinit.fill_missing(
            KEY, {"x": {"c.d": twos}}, {"x": {"c": {"d": leaf(2)}}}, rules
        )


def test_a_dict_may_stand_for_a_box():
    ones = np.ones(2, np.float32)
    assert jaxinit.fill_missing(KEY, {"value": ones}, leaf(2), {}) is ones
    for loaded in ({"a": {"value": ones}}, {"a.value": ones}, {"a/value": ones}):
        assert jaxinit.fill_missing(KEY, loaded, {"a": leaf(2)}, {})["a"] is ones
        kept = jaxinit.fill_missing(KEY, loaded, {"a": {"value": leaf(2)}}, {})
        assert kept["a"]["value"] is ones
        with pytest.raises(ValueError, match=r"no place for:\n  a[./]value\n"):
            jaxinit.fill_missing(KEY, loaded, {"b": leaf(2)}, {"b": "zeros"})


def test_two_keys_of_one_path_are_refused():
    ones = np.ones(2, np.float32)
    loaded = {"a.b": ones, "a/b": ones}
    message = (
        r"two loaded leaves are for a/b: 'a\.b' and 'a/b'\. rename=\{'a/b': None\}"
    )
    with pytest.raises(ValueError, match=message):
        jaxinit.fill_missing(KEY, loaded, {"a": {"b": leaf(2)}}, {})
    with pytest.raises(ValueError, match="two loaded leaves are for a/b: 'a/b' and"):
        jaxinit.fill_missing(
            KEY, {"a/b": ones, "a": {"b": ones}}, {"a": {"b": leaf(2)}}, {}
        )


# rename


def test_rename_swaps_and_drops_paths():
    ones, twos = np.ones(2, np.float32), np.full(2, 2, np.float32)
    shapes = {"a": leaf(2), "b": leaf(2)}
    swapped = jaxinit.fill_missing(
        KEY, {"a": ones, "b": twos}, shapes, {}, rename={"a": "b", "b": "a"}
    )
    assert swapped["a"] is twos and swapped["b"] is ones
    dropped = jaxinit.fill_missing(
        KEY,
        {"a": ones, "old": {"b": twos}},
        shapes,
        {"b": "zeros"},
        rename=lambda path: None if path.startswith("old/") else path,
    )
    assert dropped["a"] is ones and dropped["b"].tolist() == [0, 0]


def test_errors_of_rename_name_the_paths():
    ones = np.ones(2, np.float32)
    loaded = {"enc": {"w": ones}, "dec": {"w": ones}}
    shapes = {"a": {"w": leaf(2)}, "b": {"w": leaf(2)}}
    for rename, kind, message in (
        ({"enc/w": "a/w", "dec/v": "b/w", "x": None}, ValueError,
         r"no loaded leaf is:\n  dec/v\n  x\nThere is 'dec/w'\."),
        ({"enc/w": "a/w", "dec/w": "a/w"}, ValueError,
         "two loaded leaves are for a/w: 'dec/w' and 'enc/w'"),
        (lambda path: "a/w", ValueError, "two loaded leaves are for a/w"),
        ({"enc/w": "a/w", "dec/w": "c/w"}, ValueError,
         r"no place for:\n  c/w \(loaded as dec/w\)\n"),
        ({"enc/w": "a/w"}, ValueError,
         r"no place for:\n  dec/w\n.*\nrename=\{path: path of the tree\} gives"),
        ({"enc/w": 3}, TypeError, r"rename=.* a path or None for 'enc/w'; got 3"),
        (lambda path: 3, TypeError, "a path or None for 'dec/w'; got 3"),
        ("enc", TypeError, "a dict from path to path, or a function"),
    ):  # fmt: skip
        with pytest.raises(kind, match=message):
            jaxinit.fill_missing(KEY, loaded, shapes, {}, rename=rename)
    typo = {"enc/w": "a/w", "dec/w": "c/w"}
    with pytest.raises(ValueError, match=r"place for:\n  c/w \(loaded as dec/w\)\n"):
        rules = {"**": "zeros"}
        jaxinit.fill_missing(KEY, loaded, shapes, rules, rename=typo, on_extra="ignore")
    wrong = {"enc/w": "a/w", "dec/w": None}
    narrow = {"a": {"w": leaf(3)}}
    with pytest.raises(
        ValueError, match=r"\n  a/w \(loaded as enc/w\): \(2,\) instead"
    ):
        jaxinit.fill_missing(KEY, loaded, narrow, {}, rename=wrong)


# sharding and form


def test_fill_missing_inside_jit():
    shapes = {"a": leaf(2, dtype="bfloat16"), "b": leaf(3)}

    @jax.jit
    def fill(x):
        return jaxinit.fill_missing(KEY, {"a": x}, shapes, {"b": "ones"}, cast=True)

    made = fill(jnp.array([1.2345678, 2]))
    assert made["a"].dtype == jnp.bfloat16 and made["b"].tolist() == [1, 1, 1]


def test_a_loaded_leaf_has_the_mesh_of_its_shape():
    auto, explicit = (
        NamedSharding(jax.make_mesh((8,), ("x",), axis_types=(kind,)), P("x"))
        for kind in (AxisType.Auto, AxisType.Explicit)
    )
    values = np.arange(8, dtype=np.float32)
    shapes = {name: leaf(8, sharding=explicit) for name in "ab"}
    for start in auto, explicit:
        loaded = {"a": jax.device_put(values, start)}
        made = jaxinit.fill_missing(KEY, loaded, shapes, {"b": "ones"})
        assert made["a"].sharding == explicit
        assert (made["a"] is loaded["a"]) == (start is explicit)
        with jax.set_mesh(explicit.mesh):  # where arrays of Auto axes are an error
            total = jax.jit(lambda x: x["a"] + x["b"])(made)
        assert np.array_equal(total, values + 1)


def test_a_sharding_that_does_not_fit_names_its_leaf():
    wide = NamedSharding(jax.make_mesh((8,), ("x",), (AxisType.Auto,)), P("x"))
    loaded, shapes = {"a": {"w": np.ones(6)}}, {"a": {"w": leaf(6, sharding=wide)}}
    with pytest.raises(ValueError, match=r"at a/w: .* does not fit shape \(6,\)"):
        jaxinit.fill_missing(KEY, loaded, shapes, {})


def test_what_is_no_array_of_jax_is_refused():
    shapes = {"a": {"w": leaf(2)}}
    for wrong in np.array(["x", "y"]), np.array([None, None]):
        with pytest.raises(TypeError, match=r"a\.w must be an array.*got dtype"):
            jaxinit.fill_missing(KEY, {"a.w": wrong}, shapes, {})
        loaded, rules = {"names": wrong}, {"a/w": "zeros"}
        jaxinit.fill_missing(KEY, loaded, shapes, rules, on_extra="ignore")


def test_bytes_in_another_order_and_python_numbers():
    values = np.array([1.5, -2], ">f4")
    loaded = {"a.w": values, "n": 3, "old": None}
    one = NamedSharding(jax.make_mesh((1,), ("x",), (AxisType.Auto,)), P())
    for place in None, one:
        shapes = {"a": {"w": leaf(2, sharding=place)}, "n": leaf(sharding=place)}
        made = jaxinit.fill_missing(KEY, loaded, shapes, {})
        assert made["a"]["w"].dtype == np.float32 and made["a"]["w"].dtype.isnative
        assert made["a"]["w"].tolist() == [1.5, -2]
        assert made["n"] == 3 and not made["n"].weak_type


# progress


def test_progress_counts_programs_and_loaded_leaves(params):
    said = []
    loaded = {"params": {k: v for k, v in params["params"].items() if k != "head"}}
    jaxinit.fill_missing(
        KEY, loaded, shapes_of(place=columns), HEAD, progress=lambda *x: said.append(x)
    )
    compiled = [x for x in said if x[2] == "compiled"]
    assert [x[:2] for x in compiled] == [
        (i + 1, len(compiled)) for i in range(len(compiled))
    ]
    assert said == compiled + [(i, 4, "loaded") for i in range(1, 5)]


def test_an_exception_of_progress_comes_back(params):
    def stop(done, total, what):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jaxinit.fill_missing(KEY, params, shapes_of(), {}, progress=stop)


def test_text_beside_the_arrays_is_extra():
    params, shapes = {"a": np.ones(2, np.float32)}, {"a": leaf(2)}
    named = {**params, "run": {"name": "x"}}
    made = jaxinit.fill_missing(KEY, named, shapes, {}, on_extra="ignore")
    assert made["a"].tolist() == [1, 1]
    with pytest.raises(ValueError, match="no place for:\n  run/name"):
        jaxinit.fill_missing(KEY, named, shapes, {})
    with pytest.raises(TypeError, match="'a': None} drops"):
        jaxinit.fill_missing(KEY, {"a": "x"}, shapes, {})


def test_one_cure_for_a_missing_collection():
    shapes = {"params": {"a": {"kernel": leaf(2)}, "b": leaf(2)}}
    flat = {"a.kernel": np.ones(2, np.float32), "b": np.ones(2, np.float32)}
    with pytest.raises(ValueError) as e:
        jaxinit.fill_missing(KEY, flat, shapes, {})
    cure = "rename=lambda path: 'params/' + path"
    assert cure in str(e.value)
    rename = eval(cure.removeprefix("rename="))
    made = jaxinit.fill_missing(KEY, flat, shapes, {}, rename=rename)
    assert made["params"]["a"]["kernel"].tolist() == [1, 1]
    with pytest.raises(ValueError) as e:
        jaxinit.fill_missing(KEY, flat | {"c": flat["b"]}, shapes, {})
    assert "lambda" not in str(e.value)


def test_a_replaced_leaf_without_a_rule_is_explained():
    given = {"a": np.ones(3, np.float32), "b": np.ones(2, np.float32)}
    shapes = {"a": leaf(2), "b": leaf(2)}
    with pytest.raises(ValueError, match=r"a \(2,\) \(loaded as \(3,\)\)"):
        jaxinit.fill_missing(KEY, given, shapes, {}, on_mismatch="replace")
