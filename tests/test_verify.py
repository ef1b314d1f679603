"""``python -m jaxinit verify``, and the notes of a manifest."""

import json
import re
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit.__main__ import main
from test_main import refused, run

KEY = jax.random.key(7)
TREE = {
    "kernel": jax.ShapeDtypeStruct((4, 3), "float32"),
    "bias": jax.ShapeDtypeStruct((3,), "float32"),
}
RULES = {"kernel": "he_normal", "bias": "zeros"}
MODELS = """
import jax, jax.numpy as jnp
import jaxinit

TREE = {
    "kernel": jax.ShapeDtypeStruct((4, 3), "float32"),
    "bias": jax.ShapeDtypeStruct((3,), "float32"),
}
RULES = {"kernel": "he_normal", "bias": "zeros"}

def same():
    return jaxinit.init_tree(jax.random.key(7), TREE, RULES)

def of_key(key, rules=RULES):
    return jaxinit.init_tree(key, TREE, rules)

def of_keys(*, key=None):
    return same()

def of_named(*, key, rules=RULES, **options):
    assert not options
    return of_key(key, rules)

def of_any(key, /, *args):
    assert not args
    return of_key(key)

def of_two(rules, *, key):
    return of_key(key, rules)

class Models:
    @staticmethod
    def other():
        return of_key(jax.random.key(8)) | {"scale": jnp.ones(3)}

def narrow():
    return {"kernel": same()["kernel"].astype("bfloat16"), "bias": jnp.zeros(4)}

def nothing():
    return {}

def shapes():
    return TREE

def fails():
    return 1 / 0

def ends():
    raise SystemExit(0)

number = 3
"""


@pytest.fixture
def record(tmp_path, monkeypatch):
    """Writes a manifest beside a module of models."""
    (tmp_path / "verify_models.py").write_text(textwrap.dedent(MODELS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "verify_models", raising=False)

    def write(name="run.json", rules=RULES, key=KEY, **kwargs):
        params = jaxinit.init_tree(KEY, TREE, RULES)
        jaxinit.manifest(params, rules, key, **kwargs).save(name)
        return name

    return write


@pytest.mark.parametrize("factory", ["same", "of_key", "of_keys", "of_named", "of_any"])
@pytest.mark.parametrize("name", ["run.json", "run.yaml"])
def test_the_same_parameters_are_code_0(capsys, record, factory, name):
    command = ["verify", record(name), f"verify_models:{factory}"]
    assert run(capsys, *command) == ["equal leaves: 2"]


def test_differences_are_listed_and_code_1(capsys, record):
    name = record()
    out = run(capsys, "verify", name, "verify_models:Models.other", code=1)
    assert len(out) == 2 and out[1] == "scale: extra"
    assert re.fullmatch("kernel: values [0-9a-f]{16} instead of [0-9a-f]{16}", out[0])
    out = run(capsys, "verify", name, "verify_models:narrow", code=1)
    assert out == [
        "bias: shape (4,) instead of (3,)",
        "kernel: dtype bfloat16 instead of float32",
    ]


def test_a_typed_and_a_raw_key_of_the_manifest(capsys, record):
    raw = jax.random.key_data(KEY)
    name = record(key=raw)
    for factory in ("of_key", "of_named"):
        run(capsys, "verify", name, f"verify_models:{factory}")
    name = record(key=jax.random.key(8))
    for factory in ("of_key", "of_named"):
        out = run(capsys, "verify", name, f"verify_models:{factory}", code=1)
        assert [line.split(":")[0] for line in out] == ["kernel"]


def test_bad_input_is_code_2(capsys, record, tmp_path):
    name = record()
    for factory, message in {
        "verify_models": "write MODULE:FACTORY",
        "verify_models:none": "cannot import",
        "verify_models:number": "is not callable",
        "verify_models:nothing": "returned no arrays but a dict",
        "verify_models:shapes": "an array with values",
    }.items():
        assert message in refused(capsys, "verify", name, factory)
    keyless = record("keyless.json", key=None)
    for factory in ("verify_models:of_key", "verify_models:of_named"):
        line = refused(capsys, "verify", keyless, factory)
        assert f"{factory} takes a key, and keyless.json has none" in line
    assert "cannot read no.json" in refused(
        capsys, "verify", "no.json", "verify_models:same"
    )
    (tmp_path / "bad.json").write_text('{"versions": 3}')
    line = refused(capsys, "verify", "bad.json", "verify_models:same")
    assert "bad.json: This is no manifest" in line
    assert "SystemExit(0)" in refused(capsys, "verify", name, "verify_models:ends")
    for change in (
        {"implementation": "none"},
        {"data": [1]},
        {"typed": False, "data": [1]},
    ):
        config = json.loads((tmp_path / name).read_text())
        config["key"] |= change
        (tmp_path / "key.json").write_text(json.dumps(config))
        line = refused(capsys, "verify", "key.json", "verify_models:of_key")
        assert "key.json has no valid key: " in line
        run(capsys, "verify", "key.json", "verify_models:same")
    assert main(["verify", name, "verify_models:of_two"]) == 2
    assert "missing 1 required positional" in capsys.readouterr().err
    assert main(["verify", name, "verify_models:fails"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "return 1 / 0" in err
    assert err.endswith("jaxinit: verify_models:fails failed: ZeroDivisionError\n")


def test_regular_expressions_need_a_flag(capsys, record):
    name = record(rules=[(re.compile("kernel$"), "he_normal"), ("bias", "zeros")])
    command = ["verify", name, "verify_models:same"]
    assert "--allow-regex" in refused(capsys, *command)
    run(capsys, *command, "--allow-regex")


# Notes

NOTES = {
    "commit": "3f2a9c1",
    "comment": "größerer Kopf",
    "seeds": [1, 2.5, None, True],
    "machine": {"devices": 8},
}


@pytest.mark.parametrize("name", ["run.json", "run.yaml"])
def test_notes_are_saved_and_never_compared(tmp_path, name):
    params = jaxinit.init_tree(KEY, TREE, RULES)
    made = jaxinit.manifest(params, RULES, KEY, notes=NOTES)
    assert made.notes == NOTES and made.notes is not NOTES
    made.save(tmp_path / name)
    again = jaxinit.Manifest.load(tmp_path / name)
    assert again.notes == NOTES and again == made
    assert again.verify(params) == [] and again.verify_across_hosts() == []
    other = jaxinit.manifest(params, RULES, KEY, notes="another")
    assert other.verify(params) == [] and other.notes == "another"
    assert other.leaves == made.leaves


def test_a_manifest_without_notes_is_read():
    config = jaxinit.manifest({"w": jnp.ones(2)}).get_config()
    assert config.pop("notes") is None
    assert jaxinit.Manifest.from_config(config).notes is None
    config = json.loads(json.dumps(config)) | {"notes": {"a": [1]}}
    assert jaxinit.Manifest.from_config(config).notes == {"a": [1]}


def test_notes_of_config_systems():
    ml_collections = pytest.importorskip("ml_collections")
    omegaconf = pytest.importorskip("omegaconf")
    for make in (ml_collections.ConfigDict, omegaconf.OmegaConf.create):
        made = jaxinit.manifest({"w": jnp.ones(2)}, notes=make(NOTES))
        assert made.notes == NOTES and type(made.notes) is dict
    pair = jaxinit.manifest({"w": jnp.ones(2)}, notes=(1, (2, 3)))
    assert pair.notes == [1, [2, 3]]


def test_notes_must_be_plain_data():
    deep = 0
    for _ in range(40):
        deep = [deep]
    for notes, kind, message in (
        ({1: "a"}, TypeError, "Keys of a config must be str"),
        ({"a": np.ones(2)}, TypeError, "not JSON serializable"),
        ({"a": {3}}, TypeError, "not JSON serializable"),
        (jaxinit.HeNormal(), TypeError, "not JSON serializable"),
        (deep, ValueError, "levels deep"),
    ):
        with pytest.raises(
            kind, match=rf"^manifest\(notes=\.\.\.\) must be.*{message}"
        ):
            jaxinit.manifest({"w": jnp.ones(2)}, notes=notes)
