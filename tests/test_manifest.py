"""Manifests: digests depend on values and not on shardings; reproduction."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from jaxinit.manifests import digest
from jaxinit.manifests.digest import digests
from plans import MODELS, assert_same

pytestmark = pytest.mark.accelerator

KEY = jax.random.key(0)
BITS = np.random.default_rng(0).integers(0, 2**32, 4096, np.uint32)
DTYPES = [
    *("float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"),
    *("int8", "uint8", "int16", "int32", "uint32", "bool", "int4", "uint4"),
    *("float4_e2m1fn", "complex64", "float64", "int64", "complex128"),
]
SHAPE = (16, 24)


def array(dtype):
    """Returns a NumPy array of many values, which JAX has not narrowed."""
    size = math.prod(SHAPE)
    if dtype == "key":
        return jax.random.split(KEY, SHAPE)
    if dtype == "bool":
        return (BITS[:size] % 2 == 0).reshape(SHAPE)
    values = (BITS[:size] % 251 - 125.0) / 8
    if jnp.dtype(dtype).kind in "iu" or "int" in dtype:
        values = np.abs(values) % 7
    return values.astype(jnp.dtype(dtype)).reshape(SHAPE)


def by_definition(x):
    """Computes the digest as the docstring defines it, in Python integers."""

    def mix(h, first, by, second):
        h = (h ^ h >> 16) * first % 2**32
        h = (h ^ h >> by) * second % 2**32
        return h ^ h >> 16

    def m(h):
        return mix(h, 0x85EBCA6B, 13, 0xC2B2AE35)

    def n(h):
        return mix(h, 0x7FEB352D, 15, 0x846CA68B)

    words = np.ascontiguousarray(x).reshape(-1, 1)
    words = words.view(f"<u{min(x.itemsize, 4)}").tolist()
    a_sum = b_sum = 0
    for i, element in enumerate(words):
        for p, word in enumerate(element):
            k = m((i + (p + 1) * 0x9E3779B9) % 2**32)
            a = n(word ^ k)
            a_sum, b_sum = a_sum + a, b_sum + m((a + k) % 2**32)
    return f"{a_sum % 2**32:08x}{b_sum % 2**32:08x}"


@pytest.fixture(params=["host", "device"])
def place(request, monkeypatch):
    """Digests arrays of any size on the host, or on the device."""
    monkeypatch.setattr(digest, "_SMALL", 2**30 if request.param == "host" else 0)


@pytest.mark.parametrize(
    "dtype", ["float32", "bfloat16", "int8", "int64", "complex128"]
)
def test_the_definition(dtype, place):
    x = array(dtype)
    assert digests([x]) == [by_definition(x)]


@pytest.mark.parametrize("dtype", [*DTYPES[::2], "key"])
def test_one_digest_for_host_device_and_mesh(dtype, monkeypatch):
    x = array(dtype)
    expected = digests([x])
    monkeypatch.setattr(digest, "_SMALL", 0)
    with jax.enable_x64(True):
        x = jnp.asarray(x)
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    specs = [P(), P("a"), P(None, "b"), P("a", "b"), P(("b", "a")), P("b", "a")]
    specs = specs if dtype in ("float32", "key") else specs[1:2]
    with jax.enable_x64(True):
        placed = [jax.device_put(x, NamedSharding(mesh, spec)) for spec in specs]
        placed.append(jax.device_put(x, jax.devices()[3]))
    assert digests([x, *placed]) == expected * (2 + len(specs))


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_devices_exchange_only_sums(kind, monkeypatch):
    """Devices exchange only sums, and store nothing of the array's size."""
    monkeypatch.setattr(digest, "_programs", {})
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(kind,) * 2)
    x = jnp.ones((256, 512), jnp.bfloat16)
    placed = jax.device_put(x, NamedSharding(mesh, P("b", "a")))
    assert digests([x]) == digests([placed])
    for program in digest._programs.values():
        assert program.memory_analysis().temp_size_in_bytes < 1024


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_single_change_is_found(dtype):
    x = array(dtype)
    (before,) = digests([x])
    for i in range(0, x.size, 7):
        changed = x.copy()
        raw = changed.reshape(-1).view(np.uint8)
        sub_byte = dtype in ("int4", "uint4", "float4_e2m1fn")
        raw[i * x.itemsize + i % x.itemsize] ^= (
            1 if sub_byte or dtype == "bool" else 128
        )
        assert digests([changed]) != [before], i


@given(st.integers(0, 383), st.integers(0, 383), st.integers(0, 2**32 - 1))
def test_swapped_values_change_the_digest(i, j, bits):
    x = BITS[:384].copy()
    x[i] = bits
    swapped = x.copy()
    swapped[[i, j]] = swapped[[j, i]]
    assert (digests([x]) == digests([swapped])) == bool(x[i] == x[j])


def test_order_size_and_form():
    x = jnp.arange(24.0)
    many = [x, x[::-1], x[:23], jnp.concatenate([x, jnp.zeros(1)]), jnp.zeros(24)]
    many += [-jnp.zeros(24), jnp.zeros(24).at[3].set(jnp.nan)]
    assert len(set(digests(many))) == len(many)
    assert digests([x]) == digests([x.reshape(4, 6)])  # a manifest holds the shape
    assert digests([jnp.zeros((0, 3))]) == digests([np.zeros(0)]) == ["0" * 16]
    assert digests([np.arange(24, dtype=">f4")]) == digests([x])
    assert digests([]) == []


def test_more_elements_than_one_word_counts(monkeypatch):
    """Leading axes have their own index; here from 2**4 elements, not from 2**32."""
    monkeypatch.setattr(digest, "_COUNTED", 16)
    monkeypatch.setattr(digest, "_SMALL", 0)
    monkeypatch.setattr(digest, "_programs", {})
    assert [digest._split(s) for s in [(16,), (4, 4), (5, 4), (3, 5, 4)]] == [
        0,
        0,
        1,
        2,
    ]
    x = BITS[:60].reshape(3, 5, 4).copy()
    seen = {*digests([jnp.asarray(x)])}
    for i in range(1, 60):
        swapped = x.copy().reshape(-1)
        swapped[[0, i]] = swapped[[i, 0]]
        seen |= {*digests([jnp.asarray(swapped.reshape(x.shape))])}
    assert len(seen) == 60


def test_programs_are_compiled_once(monkeypatch, compilations):
    monkeypatch.setattr(digest, "_SMALL", 0)
    leaves = [jnp.ones((33, 7)) * i for i in range(4)]
    jax.block_until_ready(leaves)
    before = len(compilations)
    digests(leaves)
    digests(leaves)
    assert len(compilations) == before + 1


# Manifests

RULES = jaxinit.Rules(
    {"**/kernel": "he_normal", "**/bias": "zeros"}, default=jaxinit.RandomNormal()
)


@pytest.fixture(scope="module")
def params():
    model, x = MODELS["small"]
    rules = jaxinit.Rules({"**/bias": "zeros", "**/embedding": "he_normal"})
    return jaxinit.init(model.init, KEY, x, rules=rules), rules


def test_a_manifest_records_the_initializer_of_each_leaf(params, tmp_path):
    tree, rules = params
    made = jaxinit.manifest(tree, rules, KEY)
    path = tmp_path / "run.json"
    made.save(path)
    data = json.loads(path.read_text())
    assert data == json.loads(made.to_json()) == made.get_config()
    leaf = data["leaves"]["params/block_0/up/bias"]
    assert leaf["shape"] == [32] and leaf["dtype"] == "float32"
    assert leaf["initializer"] == jaxinit.serialize(jaxinit.Zeros())
    assert data["leaves"]["params/block_0/up/kernel"]["initializer"] is None
    assert len(leaf["digest"]) == 16 and len(data["leaves"]) == len(
        jax.tree.leaves(tree)
    )
    assert data["key"] == {
        "implementation": "threefry2x32",
        "data": [0, 0],
        "typed": True,
    }
    assert data["made_by"]["jax"] == jax.__version__
    assert data["made_by"]["device"] == "cpu" and data["made_by"]["jaxinit"]
    again = jaxinit.Manifest.load(path)
    assert again == made and again.rules == rules and again.key == KEY
    assert again.verify(tree) == []


def test_verify_lists_exactly_what_differs(params):
    tree, rules = params
    made = jaxinit.manifest(tree, rules, KEY)
    other = jax.tree.map(lambda x: x, tree)
    block = other["params"]["block_0"]
    kernel = block["down"]["kernel"]
    block["down"]["kernel"] = kernel.at[5, 3].set(jnp.nextafter(kernel[5, 3], 1.0))
    block["up"]["kernel"] = block["up"]["kernel"].T
    block["up"]["bias"] = block["up"]["bias"].astype(jnp.bfloat16)
    del block["LayerNorm_0"]["scale"]
    block["new"] = jnp.ones(2)
    found = made.verify(other)
    assert {(d.path.removeprefix("params/block_0/"), d.what) for d in found} == {
        ("down/kernel", "values"),
        ("up/kernel", "shape"),
        ("up/bias", "dtype"),
        ("LayerNorm_0/scale", "missing"),
        ("new", "extra"),
    }
    said = {str(d) for d in found}
    assert "params/block_0/up/bias: dtype bfloat16 instead of float32" in said
    assert "params/block_0/up/kernel: shape (32, 8) instead of (8, 32)" in said
    assert "params/block_0/new: extra" in said


def test_containers_boxes_and_shardings_do_not_matter(params):
    tree, rules = params
    made = jaxinit.manifest(tree, rules, KEY)
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    names = (None,)
    boxed = jax.tree.map(lambda x: nn.Partitioned(x, names * x.ndim), tree)

    def place(x):
        return jax.device_put(
            x, NamedSharding(mesh, P("a" if x.shape[0] % 8 == 0 else None))
        )

    for same in (
        boxed,
        jax.tree.map(place, tree),
        jax.tree.map(np.asarray, tree),
        {"params": tree["params"]},
    ):
        assert made.verify(same) == []
    assert made.verify_across_hosts() == []


@pytest.mark.parametrize(
    "key", [jax.random.PRNGKey(7), jax.random.key(5, impl="rbg")], ids=str
)
def test_an_experiment_from_its_manifest(key, tmp_path):
    model, x = MODELS["small"]
    first = jaxinit.init(model.init, key, x, rules=RULES)
    jaxinit.manifest(first, RULES, key).save(tmp_path / "run.json")
    old = jaxinit.Manifest.load(tmp_path / "run.json")
    assert old.key.dtype == key.dtype
    again = jaxinit.init(model.init, old.key, x, rules=old.rules)
    assert old.verify(again) == []
    assert_same(first, again)
    without = jaxinit.init_tree(
        old.key, jaxinit.eval_shape(model.init, key, x), old.rules
    )
    assert old.verify(without) == []
    other = jaxinit.init(model.init, jax.random.key(99), x, rules=old.rules)
    drawn = [path for path in old.leaves if not path.endswith("bias")]
    assert [d.path for d in old.verify(other)] == drawn


def test_refused_manifests(params, tmp_path):
    tree, _ = params
    with pytest.raises(ValueError, match=r"rule 1 \(a/\*\) matches no leaf"):
        jaxinit.manifest(tree, {"a/*": "zeros"})
    with pytest.raises(TypeError, match="predicate"):
        jaxinit.manifest(tree, [(lambda path, leaf: True, "zeros")])
    with pytest.raises(TypeError, match=r"manifest\(key=...\)"):
        jaxinit.manifest(tree, key=3)
    shapes = jax.eval_shape(lambda: tree)
    with pytest.raises(TypeError, match=r"params/.*array with values.*ShapeDtype"):
        jaxinit.manifest(shapes)
    good = jaxinit.manifest(tree, key=KEY).get_config()
    path = tmp_path / "run.json"
    leaf = {"shape": [1], "dtype": "float32", "digest": "0" * 16, "initializer": None}
    words = {"implementation": "threefry2x32", "data": [0, 1], "typed": True}
    for change, message in [
        ({"versions": {"manifest": 2}}, "versions"),
        ({"leaves": {"a": {}}}, "lacks 'shape'"),
        ({"leaves": {"a": leaf | {"digest": ""}}}, "is not the record of a leaf"),
        ({"leaves": {"a": leaf | {"digest": "x" * 16}}}, "is not the record of a leaf"),
        ({"leaves": {"a": leaf | {"shape": "12"}}}, "is not the record of a leaf"),
        ({"leaves": {"a": leaf | {"shape": [2.7]}}}, "is not the record of a leaf"),
        ({"key": words | {"typed": "no"}}, "is not the config of a key"),
        ({"key": words | {"data": [0, -1]}}, "is not the config of a key"),
        (
            {"leaves": {"a": leaf | {"shape": [2**63]}}},
            "leaf 'a': .*is not the record of a leaf",
        ),
        (
            {"leaves": {"a": leaf | {"dtype": "f" * 10**6}}},
            "is not the record of a leaf",
        ),
        (
            {"key": words | {"implementation": "x" * 10**6}},
            "is not the config of a key",
        ),
        ({"key": words | {"data": "12"}}, "is not the config of a key"),
        ({"made_by": [["a", 1]]}, "'made_by' must be a dict"),
        ({"rules": {"rules": [{"regex": "a", "initializer": None}]}}, "allow_regex"),
        ({"leaves": 3}, "no manifest"),
        ({"key": {"data": ["x"]}}, "no manifest"),
        ({"rules": {"rules": {"a": "os.system"}}}, "names no registered"),
    ]:
        path.write_text(json.dumps(good | change))
        with pytest.raises(ValueError, match=message) as e:
            jaxinit.Manifest.load(path)
        assert "run.json" in str(e.value) and len(str(e.value)) < 1000
    path.write_text("[]")
    with pytest.raises(ValueError, match="no manifest"):
        jaxinit.Manifest.load(path)
