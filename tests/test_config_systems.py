"""Initializers in the config systems of other libraries, without adapters."""

import copy
import dataclasses
import pickle
import types

import jax
import numpy as np
import pytest

import jaxinit
from jaxinit._plain import plain

INIT = jaxinit.VarianceScaling(2.0, "fan_out", in_axis=(0, 1), seed=3)


def test_dataclasses():
    changed = dataclasses.replace(INIT, scale=3.0)
    assert changed == jaxinit.VarianceScaling(3.0, "fan_out", in_axis=(0, 1), seed=3)
    assert jaxinit.VarianceScaling(**dataclasses.asdict(INIT)) == INIT
    with pytest.raises(ValueError, match="scale"):
        dataclasses.replace(INIT, scale=-1.0)

    @dataclasses.dataclass(frozen=True)
    class Config:
        width: int = 8
        kernel: jaxinit.Initializer = dataclasses.field(default=INIT)

    assert dataclasses.asdict(Config())["kernel"] == dataclasses.asdict(INIT)
    assert hash(Config()) == hash(Config(8, copy.deepcopy(INIT)))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol):
    for init in (INIT, jaxinit.Constant(np.arange(3.0)), jaxinit.Zeros()):
        assert pickle.loads(pickle.dumps(init, protocol)) == init


def test_hydra():
    hydra = pytest.importorskip("hydra.utils")
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create(
        {
            "_target_": "jaxinit.VarianceScaling",
            "scale": 2.0,
            "mode": "fan_out",
            "in_axis": [0, 1],
            "seed": 3,
        }
    )
    assert hydra.instantiate(config) == INIT
    named = omegaconf.OmegaConf.create(
        {"_target_": "jaxinit.get", "identifier": "ones"}
    )
    assert hydra.instantiate(named) == jaxinit.Ones()


def test_ml_collections():
    ml_collections = pytest.importorskip("ml_collections")
    config = ml_collections.ConfigDict(
        {"kernel": jaxinit.serialize(INIT), "init": INIT, "bias": "zeros"}
    )
    read = ml_collections.ConfigDict(config).to_dict()
    assert jaxinit.get(read["kernel"]) == INIT == read["init"]
    assert jaxinit.get(config.bias) == jaxinit.Zeros()
    frozen = ml_collections.FrozenConfigDict({"kernel": INIT})
    assert hash(frozen) and frozen.kernel == INIT


# Nodes of OmegaConf and ml_collections stand for dicts and lists.

SCALED = {
    "module": "jaxinit",
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "in_axis": [0, 1], "seed": 3},
}
BLOCKS = {
    "module": "jaxinit",
    "class_name": "Blocks",
    "config": {"initializer": SCALED, "sizes": [2, 3]},
}
RULES = {
    "rules": {"**/bias": "zeros", "**/kernel": SCALED, "a": "normal(stddev=0.5)"},
    "default": {"class_name": "Ones"},
    "strict": False,
}


@pytest.fixture(params=["OmegaConf", "ConfigDict", "FrozenConfigDict", "Mapping"])
def node(request):
    """Makes a node of a dict."""
    if request.param == "Mapping":
        return types.MappingProxyType
    if request.param == "OmegaConf":
        return pytest.importorskip("omegaconf").OmegaConf.create
    return getattr(pytest.importorskip("ml_collections"), request.param)


def test_nodes_are_read_as_dicts_and_lists(node):
    for config, expected in ((SCALED, INIT), (BLOCKS, jaxinit.Blocks(INIT, (2, 3)))):
        assert (
            jaxinit.get(node(config)) == jaxinit.deserialize(node(config)) == expected
        )
        again = type(expected).from_config(node(config["config"]))
        assert again == expected and hash(again) == hash(expected)
        assert jaxinit.serialize(again) == jaxinit.serialize(expected)
    assert jaxinit.Stacked(node(SCALED)) == jaxinit.Stacked(INIT)
    # A node inside a dict, and a dict inside a node.
    mixed = {**SCALED, "config": node(SCALED["config"])}
    assert jaxinit.get(mixed) == jaxinit.get(node({"a": SCALED})["a"]) == INIT


def test_rules_of_nodes(node):
    expected = jaxinit.Rules.from_config(RULES)
    assert expected.rules[2][1] == jaxinit.RandomNormal(stddev=0.5)
    assert jaxinit.Rules.from_config(node(RULES)) == expected
    made = jaxinit.Rules(node(RULES)["rules"], node(RULES)["default"], strict=False)
    assert made == expected
    tree = {"kernel": jax.ShapeDtypeStruct((3, 3, 2, 4), "float32")}
    key = jax.random.key(0)
    drawn = jaxinit.init_tree(key, tree, node({"kernel": SCALED}))["kernel"]
    np.testing.assert_array_equal(
        drawn, INIT(jaxinit.leaf_key(key, "kernel"), (3, 3, 2, 4))
    )


def test_lists_of_rules():
    pairs = [[glob, init] for glob, init in RULES["rules"].items()]
    dicts = [{"glob": glob, "initializer": init} for glob, init in pairs]
    omegaconf = pytest.importorskip("omegaconf")
    ml_collections = pytest.importorskip("ml_collections")
    for make in (dict, omegaconf.OmegaConf.create, ml_collections.ConfigDict):
        for rules in (pairs, dicts):
            made = jaxinit.Rules.from_config(make({**RULES, "rules": rules}))
            assert made == jaxinit.Rules.from_config(RULES)
        if make is not dict:
            assert jaxinit.Rules(make({"a": pairs})["a"]).rules == made.rules
    texts = (("a", "ones"), ("*", "normal(stddev=0.5)"))
    frozen = ml_collections.FrozenConfigDict({"rules": texts})
    assert jaxinit.Rules.from_config(frozen) == jaxinit.Rules(texts)
    with pytest.raises(TypeError, match=r"rule 1: .*A rule in a config must be a dict"):
        jaxinit.Rules.from_config({"rules": [["a", "zeros", "ones"]]})


def test_a_dict_that_sorts_its_keys_needs_no_order():
    """Two rules that match one leaf are an error, in whatever way they come."""
    ml_collections = pytest.importorskip("ml_collections")
    tree = {"a": jax.ShapeDtypeStruct((2,), "float32")}
    key = jax.random.key(0)
    rules = {"a": "ones", "*": "zeros"}
    node = ml_collections.ConfigDict({"rules": rules})
    for made in (jaxinit.Rules(node.rules), jaxinit.Rules.from_config(node)):
        with pytest.raises(ValueError, match=r"rule 2 \(a\) and rule 1 \(\*\) match"):
            jaxinit.init_tree(key, tree, made)
    kept = ml_collections.ConfigDict(rules, sort_keys=False)
    pairs = ml_collections.ConfigDict({"rules": list(rules.items())})
    for ordered in (kept, pairs.rules):
        loose = jaxinit.Rules(ordered, strict=False)
        assert [pattern for pattern, _ in loose.rules] == ["a", "*"]
        with pytest.warns(UserWarning, match=r"\(\*\) matches 1 leaf, all taken"):
            assert jaxinit.init_tree(key, tree, loose)["a"].tolist() == [1, 1]
    apart = ml_collections.ConfigDict({"b": "ones", "a": "zeros"})
    both = {"a": tree["a"], "b": tree["a"]}
    assert jaxinit.init_tree(key, both, apart)["b"].tolist() == [1, 1]


def test_pairs_of_nodes():
    omegaconf = pytest.importorskip("omegaconf")
    pairs = omegaconf.OmegaConf.create([["**/bias", "zeros"], ["**", SCALED]])
    assert jaxinit.Rules(pairs) == jaxinit.Rules([("**/bias", "zeros"), ("**", INIT)])
    with pytest.raises(TypeError, match="rule 1 must be a pair"):
        jaxinit.Rules(omegaconf.OmegaConf.create([["**/bias"]]))


def test_interpolations_and_references_are_resolved():
    create = pytest.importorskip("omegaconf").OmegaConf.create
    config = create({"std": 0.25, "init": {"class_name": "RandomNormal"}})
    config.init.config = {"stddev": "${std}"}
    assert jaxinit.get(config.init) == jaxinit.RandomNormal(stddev=0.25)
    ml_collections = pytest.importorskip("ml_collections")
    config = ml_collections.ConfigDict({"std": 0.25})
    inner = {"class_name": "RandomNormal", "config": {"stddev": config.get_ref("std")}}
    config.init = ml_collections.ConfigDict(inner)
    config.std = 0.5
    assert jaxinit.get(config.init) == jaxinit.RandomNormal(stddev=0.5)


def test_an_error_names_the_place_without_a_value():
    create = pytest.importorskip("omegaconf").OmegaConf.create
    normal = {"class_name": "RandomNormal"}
    for config, place, reason in (
        ({**normal, "config": {"stddev": "???"}}, "config/stddev", "Missing mandatory"),
        ({**normal, "config": {"stddev": "${no}"}}, "config/stddev", "key 'no' not"),
        ({**normal, "config": "???"}, "config", "Missing mandatory"),
        ({"class_name": "Constant", "config": {"value": [1, "???"]}},
         "config/value/1", "Missing mandatory"),
    ):  # fmt: skip
        message = f"^{place} has no value: .*{reason}"
        with pytest.raises(ValueError, match=message) as caught:
            jaxinit.get(create(config))
        assert "\n" not in str(caught.value)
        with pytest.raises(ValueError, match=f"rule 1: {message[1:]}"):
            jaxinit.Rules.from_config(create({"rules": {"a": config}}))
    for rules, place in (
        ("???", "rules"),
        ({"a": "zeros", "b": "???"}, "rules/b"),
        ("${no}", "rules"),
    ):
        with pytest.raises(ValueError, match=f"^{place} has no value"):
            jaxinit.Rules.from_config(create({"rules": rules}))
    with pytest.raises(ValueError, match=r"^b has no value: Missing mandatory"):
        jaxinit.Rules(create({"a": "zeros", "b": "???"}))
    ml_collections = pytest.importorskip("ml_collections")
    required = ml_collections.config_dict.required_placeholder(float)
    config = ml_collections.ConfigDict({**normal, "config": {"stddev": required}})
    with pytest.raises(ValueError, match=r"^config/stddev has no value: None value"):
        jaxinit.get(config)


def test_a_node_without_a_value_is_not_empty():
    """OmegaConf gives such a node no keys and the length 0."""
    omegaconf = pytest.importorskip("omegaconf")
    tree = {"a": jax.ShapeDtypeStruct((2,), "float32")}
    key, params = jax.random.key(0), {"a": np.ones(2)}
    for content, reason in (
        ("???", "Missing mandatory value"),
        ("${nope}", "Cannot resolve interpolation"),
        (None, "the node holds None"),
    ):
        mapping, sequence = omegaconf.DictConfig(content), omegaconf.ListConfig(content)
        message = f"the config has no value: {reason}"
        for read in (
            jaxinit.Rules,
            jaxinit.Rules.from_config,
            jaxinit.get,
            jaxinit.deserialize,
            jaxinit.Constant.from_config,
            lambda node: jaxinit.init_tree(key, tree, node),
        ):
            with pytest.raises(ValueError, match=f"^{message}"):
                read(mapping)
        with pytest.raises(ValueError, match=f"no manifest: {message}"):
            jaxinit.Manifest.from_config(mapping)
        with pytest.raises(ValueError, match=f"^{message}"):
            jaxinit.Rules(sequence)
        with pytest.raises(ValueError, match=f"rule 1: {message}"):
            jaxinit.Rules({"a": mapping})
        for node in (mapping, sequence):
            with pytest.raises(ValueError, match=rf"^rules has no value: {reason}"):
                jaxinit.Rules.from_config({"rules": node})
            with pytest.raises(ValueError, match=rf"notes=.*: {message}"):
                jaxinit.manifest(params, notes=node)
            with pytest.raises(ValueError, match=f"notes=.*: x/1 has no .*{reason}"):
                jaxinit.manifest(params, notes={"x": [1, node]})
            with pytest.raises(ValueError, match=f"^config has no value: {reason}"):
                jaxinit.get({"class_name": "Constant", "config": node})
    # A node with an empty value is read.
    create = omegaconf.OmegaConf.create
    config = create({"full": {}, "also": "${full}", "list": []})
    for empty in (config.full, config.also, config.list):
        assert jaxinit.Rules(empty) == jaxinit.Rules({})
    assert jaxinit.manifest(params, notes=config).notes == {
        "full": {},
        "also": {},
        "list": [],
    }


def test_limits_hold_for_nodes(node):
    deep = 0
    for _ in range(40):
        deep = {"a": deep}
    with pytest.raises(ValueError, match="more than 32 levels deep"):
        jaxinit.get(node({"class_name": "Constant", "config": deep}))
    with pytest.raises(ValueError, match="at most 1000 characters"):
        jaxinit.get(node({"class_name": "Constant", "config": {"x" * 1001: 1}}))


def test_the_depth_limit_is_exact():
    """A scalar on level 32 is read, and one below is not."""

    def nested(levels):
        value = 0
        for _ in range(levels - 1):
            value = [value]
        return value

    assert plain(nested(32)) == nested(32)
    with pytest.raises(ValueError, match="levels deep"):
        plain(nested(33))


def test_yaml():
    yaml = pytest.importorskip("yaml")
    text = yaml.safe_dump(jaxinit.serialize(INIT))
    assert jaxinit.deserialize(yaml.safe_load(text)) == INIT


def test_as_a_leafless_part_of_a_pytree_and_a_dict_key():
    table = {INIT: 1}
    assert table[copy.copy(INIT)] == 1
    leaves = jax.tree.leaves({"init": INIT})
    assert leaves == [INIT]


def test_manifests_are_read_from_nodes():
    omegaconf = pytest.importorskip("omegaconf")
    ml_collections = pytest.importorskip("ml_collections")
    made = jaxinit.manifest({"a": np.ones(2)}, rules={"a": "he_normal"})
    config = made.get_config()
    nodes = omegaconf.OmegaConf.create(config), ml_collections.ConfigDict(config)
    for node in nodes:
        assert jaxinit.Manifest.from_config(node) == made
