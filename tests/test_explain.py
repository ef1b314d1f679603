"""``python -m jaxinit explain`` and ``demo --rules``."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

import jaxinit
from jaxinit.__main__ import main
from test_main import TINY, refused, run, table

MODELS = """
import equinox as eqx, jax, jax.numpy as jnp
from flax import linen as nn, nnx
import jaxinit

KEY = jax.random.key(0)

def linen():
    return nn.Dense(4).init(KEY, jnp.ones((1, 8)))

def large():  # would not fit into memory
    return {"head": {"kernel": jnp.ones((1 << 20, 1 << 20)), "bias": jnp.ones(4)}}

def shapes():
    return jax.eval_shape(linen)

def attention():
    heads = nn.MultiHeadDotProductAttention(2, qkv_features=8)
    return jaxinit.eval_shape(heads.init, jax.random.key(0), jnp.ones((1, 3, 8)))

def network():
    return nnx.Linear(8, 4, rngs=nnx.Rngs(0))

class Models:
    @staticmethod
    def module():
        return eqx.nn.MLP(8, 4, 8, 1, key=KEY)

number = 3

def module():
    return nn.Dense(4)

def empty():
    return {}

def fails():
    return 1 / 0
"""
LINEN = ["params/bias", "params/kernel"]
COLUMNS = ["fan_in", "fan_out", "std"]


@pytest.fixture
def rules(tmp_path, monkeypatch):
    """Writes rules to a file beside a module of models."""
    (tmp_path / "rules_models.py").write_text(textwrap.dedent(MODELS))
    (tmp_path / "broken.py").write_text("def f(")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "rules_models", raising=False)

    def write(rules, name="rules.json"):
        jaxinit.Rules(rules).save(tmp_path / name)
        return name

    return write


@pytest.mark.parametrize(
    ("factory", "paths"),
    [
        ("linen", LINEN),
        ("shapes", LINEN),
        ("large", ["head/bias", "head/kernel"]),
        ("network", ["bias", "kernel"]),
        (
            "Models.module",
            [f"layers/{i}/{x}" for i in "01" for x in ("weight", "bias")],
        ),
    ],
)
def test_explain(capsys, rules, factory, paths):
    path = rules({"**/bias": "zeros"}, "rules.yaml")
    out = run(capsys, "explain", f"rules_models:{factory}", "--rules", path)
    assert out[0].split() == [*"leaf array drawn as rule initializer".split(), *COLUMNS]
    assert [line.split()[0] for line in out[1:]] == paths
    for line in out[1:]:
        made = "1 **/bias  Zeros()" if "bias" in line else "-          the model's own"
        assert made in line


def test_a_factory_may_return_shapes_that_know_their_draws(capsys, rules):
    path = rules({"**/kernel": "he_normal"})
    out = run(capsys, "explain", "rules_models:attention", "--rules", path)
    (line,) = (line for line in out if line.startswith("params/query/kernel"))
    assert "float32[8, 2, 4]  (8, 8)" in line  # stored shape, and shape of the draw


def test_explain_matches_and_tries_each_rule_once(capsys, rules, monkeypatch):
    assigned, tried = [], []
    assign, he_normal = jaxinit.Rules.assign, jaxinit.HeNormal.__call__

    def count(*args):
        tried.append(args)
        return he_normal(*args)

    monkeypatch.setattr(jaxinit.HeNormal, "__call__", count)
    monkeypatch.setattr(
        jaxinit.Rules, "assign", lambda *args: assigned.append(args) or assign(*args)
    )
    path = rules({"**/bias": "he_normal"})
    run(capsys, "explain", "rules_models:linen", "--rules", path, code=1)
    assert (len(assigned), len(tried)) == (1, 1)


def test_a_dead_rule_is_exit_code_1(capsys, rules):
    path = rules({"**/bias": "zeros", "**/kernl": "he_normal"})
    out = run(capsys, "explain", "rules_models:linen", "--rules", path, code=1)
    assert out[-1].startswith("! rule 2 (**/kernl) matches no leaf (there is params/k")
    path = rules({"**": "he_normal"})
    out = run(capsys, "explain", "rules_models:linen", "--rules", path, code=1)
    assert "HeNormal()  !" in out[1] and "!" not in out[2]
    assert out[3].startswith("! params/bias: float32[4] by HeNormal() of rule 1 (**): ")


def test_what_explain_refuses(capsys, rules, tmp_path):
    path = rules({})
    for factory, message in {
        "rules_models": "write MODULE:FACTORY",
        "rules_models:nothing": "cannot import rules_models:nothing",
        "no_such_module:f": "No module named 'no_such_module'",
        "rules_models:number": "is not callable",
        ".:f": "cannot import .:f",
    }.items():
        assert message in refused(capsys, "explain", factory, "--rules", path)
    name = "rules_models:linen"
    assert "--rules" in refused(capsys, "explain", name)
    assert "cannot read no.json" in refused(
        capsys, "explain", name, "--rules", "no.json"
    )
    (tmp_path / "bad.json").write_text('{"rules": {"a": "zeroes"}}')
    assert "bad.json: rule 1: 'zeroes' names" in refused(
        capsys, "explain", name, "--rules", "bad.json"
    )


@pytest.mark.parametrize(
    ("factory", "kind", "line"),
    [
        ("broken:f", "SyntaxError", "def f("),
        ("rules_models:fails", "ZeroDivisionError", "return 1 / 0"),
    ],
)
def test_a_failing_factory_shows_where_and_is_no_verdict(
    capsys, rules, factory, kind, line
):
    assert main(["explain", factory, "--rules", rules({})]) == 2
    out, err = capsys.readouterr()
    assert out == "" and line in err
    assert err.endswith(f"jaxinit: {factory} failed: {kind}\n")


def test_explain_as_a_command(rules):
    command = [sys.executable, "-m", "jaxinit", "explain", "rules_models:linen"]
    package = os.path.dirname(os.path.dirname(jaxinit.__file__))
    done = subprocess.run(
        [*command, "--rules", rules({"**/bias": "ones"})],
        env=os.environ | {"PYTHONPATH": package},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "Ones()" in done.stdout, done.stderr


def test_demo_with_rules(capsys, rules):
    path = rules({"**/head/kernel": "lecun_uniform", "params/dense_0/bias": "ones"})
    out = run(capsys, "demo", *TINY["mlp"], "--rules", path)
    found = table(out)
    head, dense = "rule 1 **/head/kernel", "rule 2 params/dense_0/bias"
    assert found["head/kernel", "32,10"][0] == f"{head}: LecunUniform()"
    assert found["dense_*/bias", "32"][:2] == [f"{dense}: Ones()", "1"]
    assert found["**/bias", "various"][:2] == ["bias: Zeros()", "2"]
    assert found["dense_*/kernel", "32,32"][0] == "kernel: HeNormal()"
    assert "Parameters by jit(init): 6 of 6 equal, bit for bit" in out
    assert out[-1].startswith("All checks passed")
    path = rules({"dense_0/*": "zeros"})
    err = refused(capsys, "demo", *TINY["mlp"], "--rules", path)
    assert "rule 1 (dense_0/*) matches no leaf" in err


def test_a_factory_that_returns_no_arrays(capsys, rules):
    pytest.importorskip("flax")
    rules({"**": None})
    for name, kind in (("module", "Dense"), ("empty", "")):
        line = refused(
            capsys, "explain", f"rules_models:{name}", "--rules", "rules.json"
        )
        assert f"rules_models:{name} returned no arrays" in line and kind in line
        assert "jaxinit.eval_shape(model.init, key, x)" in line


def test_regular_expressions_need_a_flag(capsys, rules):
    pytest.importorskip("flax")
    name = rules([(re.compile("bias$"), "zeros"), ("**", None)])
    command = ["explain", "rules_models:shapes", "--rules", name]
    assert "--allow-regex" in refused(capsys, *command)
    assert any("/bias$/" in line for line in run(capsys, *command, "--allow-regex"))


@pytest.mark.parametrize(
    "text",
    [
        "rules: {a: !!bool x}",
        "rules: {a: 0x" + "f" * 6000 + "}",
        '{"rules": {"\\ud800": "zeros"}}',
        '{"rules": {"\\u001b[2J**": "zeros"}}',
        '{"rules": {"a": ' + "[" * 5000 + "]" * 5000 + "}}",
        '{"rules": {}, "strict": ' + "[" * 250 + "]" * 250 + "}",
        '{"rules": {"' + "x" * 10**6 + '": 3}}',
    ],
)
@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_hostile_files_are_one_line_and_code_2(capsys, rules, text, suffix, tmp_path):
    (tmp_path / f"bad.{suffix}").write_text(text)
    command = ["explain", "rules_models:empty", "--rules", f"bad.{suffix}"]
    line = refused(capsys, *command)
    assert f"bad.{suffix}: " in line and "\x1b" not in line and len(line) < 2100


def test_a_fault_of_the_library_is_not_code_1(capsys, rules, monkeypatch):
    rules({"**": None})
    monkeypatch.setattr(jaxinit.Rules, "assign", lambda *_: 1 / 0)
    command = ["explain", "rules_models:shapes", "--rules", "rules.json"]
    assert main(command) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "show normal"])
def test_nobody_reads_on(command):
    """As in ``python -m jaxinit list | head``: no traceback, a shell's code."""
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-W", "ignore", "-m", "jaxinit", *command.split()]
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
