"""Initializers in the config systems of other libraries, without adapters."""

import copy
import dataclasses
import pickle

import jax
import numpy as np
import pytest

import jaxinit

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


def test_yaml():
    yaml = pytest.importorskip("yaml")
    text = yaml.safe_dump(jaxinit.serialize(INIT))
    assert jaxinit.deserialize(yaml.safe_load(text)) == INIT


def test_as_a_leafless_part_of_a_pytree_and_a_dict_key():
    table = {INIT: 1}
    assert table[copy.copy(INIT)] == 1
    leaves = jax.tree.leaves({"init": INIT})
    assert leaves == [INIT]
