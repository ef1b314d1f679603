"""``python -m jaxinit probe``."""

import re
import sys
import textwrap

import pytest

import jaxinit
from jaxinit.__main__ import main
from jaxinit.insight.report import Report
from test_main import refused, run

MODELS = """
import equinox as eqx, jax, jax.numpy as jnp
from flax import linen as nn, nnx

KEY = jax.random.key(0)
X = jax.random.normal(KEY, (4, 8))

def apply(params, x, times=1):
    return times * (jnp.tanh(x @ params["a"]) @ params["b"])

def params():
    return {"a": jnp.eye(8) * 2, "b": jnp.eye(8)}

def plain():
    return apply, params(), X

def two_inputs():
    return apply, params(), (X, 3.0)

def unused():
    return apply, params() | {"c": jnp.ones(3)}, X

def linen():
    return nn.Sequential([nn.Dense(6), nn.tanh, nn.Dense(2)]), X

def network():
    return nnx.Linear(8, 4, rngs=nnx.Rngs(0)), X

def module():
    return eqx.nn.MLP(8, 4, 8, 1, key=KEY), X

def not_a_tuple():
    return params()

def not_a_model():
    return apply, X

def no_parameters():
    return (lambda params, x: 2 * x), {"a": 3}, X

def fails_to_make():
    return 1 / 0

def fails_to_run():
    return apply, params(), X[:, :3]

class Broken(nn.Module):
    def __call__(self, x):
        raise KeyError("no such layer")

def fails_to_init():
    return Broken(), X
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A folder with a module of models."""
    (tmp_path / "probed_models.py").write_text(textwrap.dedent(MODELS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "probed_models", raising=False)
    return tmp_path


def probe(capsys, factory, *argv, code=0):
    return run(capsys, "probe", f"probed_models:{factory}", *argv, code=code)


@pytest.mark.parametrize(
    ("factory", "paths"),
    [
        ("plain", ["a", "b"]),
        ("linen", ["params/layers_0/kernel", "params/layers_2/kernel"]),
        ("network", ["kernel"]),
        ("module", ["layers/0/weight", "layers/1/weight"]),
    ],
)
def test_models_of_every_framework(capsys, models, factory, paths):
    out = probe(capsys, factory)
    assert out[0] == "no fault found" and out[2].startswith("place  ")
    assert [line.split()[:2] for line in out[3:]] == [[path, "dot"] for path in paths]


def test_inputs_may_be_several(capsys, models):
    probe(capsys, "plain", "--json", "one.json")
    probe(capsys, "two_inputs", "--json", "three.json")
    one, three = (
        Report.from_json((models / name).read_text())
        for name in ("one.json", "three.json")
    )
    assert three.output_rms == pytest.approx(3 * one.output_rms)


def test_a_fault_is_exit_code_1(capsys, models):
    out = probe(capsys, "unused", code=1)
    assert out[0].startswith("fault: The result does not depend on c.")


def test_the_page_and_the_json(capsys, models):
    out = probe(capsys, "plain", "--html", "report.html", "--json", "report.json")
    report = Report.from_json((models / "report.json").read_text())
    assert str(report).splitlines() == out
    page = models / "report.html"
    title = "<title>probed_models:plain</title>"
    assert title in page.read_text()
    report.save(models / "again.html", title="probed_models:plain")
    assert page.read_text() == (models / "again.html").read_text()
    assert sorted(p.suffix for p in models.iterdir() if p.is_file()) == [
        *(".html", ".html", ".json", ".py")
    ]


def test_the_seed_is_that_of_signs_and_draws(capsys, models):
    same = [probe(capsys, "linen", "--seed", seed) for seed in (5, 5, 6)]
    assert same[0] == same[1] != same[2]


@pytest.mark.parametrize("factory", ["plain", "linen", "network", "module"])
def test_rules_draw_the_parameters_first(capsys, models, factory):
    constant = {"class_name": "Constant", "config": {"value": 0.25}}
    jaxinit.Rules({"**/[!b]*": jaxinit.get(constant)}).save("rules.json")
    probe(capsys, factory, "--rules", "rules.json", "--json", "r.json")
    rows = Report.from_json((models / "r.json").read_text()).rows
    for row in rows:  # "b" of the plain model is as it was
        expected = 8**-0.5 if row.path == "b" else 0.25
        assert row.weight_rms == pytest.approx(expected)


def test_comparison_with_an_earlier_report(capsys, models):
    probe(capsys, "plain", "--json", "before.json")
    out = probe(capsys, "plain", "--compare", "before.json")
    assert out[0] == "no fault found" and len(out) == 2 and "  ->  " in out[1]
    jaxinit.Rules({"a": "zeros"}).save("rules.json")
    rules = "--rules", "rules.json"
    out = probe(capsys, "plain", *rules, "--compare", "before.json")
    (line,) = (line for line in out if line.startswith("a dot: "))
    assert re.search(r"out_std [\d.]+ -> 0,", line)


def test_errors_of_the_command(capsys, models):
    name = "probed_models:plain"
    (models / "bad.json").write_text('{"version": 1, "rows": 3}')
    (models / "deep.json").write_text("[" * 100_000)
    jaxinit.Rules({"**/nothing": "zeros"}).save("dead.json")
    jaxinit.Rules({"a": "he_normal", "b": jaxinit.Dirac()}).save("unfit.json")
    for argv, message in {
        ("probed_models",): "write MODULE:FACTORY",
        ("probed_models:nothing",): "cannot import probed_models:nothing",
        ("probed_models:not_a_tuple",): "returned dict: return (fn, params, inputs)",
        ("probed_models:not_a_model",): "returned (function, ArrayImpl): return (fn,",
        ("probed_models:no_parameters",): "a tree with floating parameters",
        (name, "--compare", "no.json"): "cannot read no.json",
        (name, "--compare", "bad.json"): "bad.json: from_json(text=...) is no report",
        (name, "--compare", "deep.json"): "levels deep",
        (name, "--rules", "no.json"): "cannot read no.json",
        (name, "--rules", "dead.json"): "matches no leaf",
        (name, "--rules", "unfit.json"): "Dirac",
        (name, "--html", "no/report.html"): "cannot write no/report.html",
        (name, "--json", "no/report.json"): "cannot write no/report.json",
        (name, "--seed", "-1"): "--seed",
    }.items():
        assert message in refused(capsys, "probe", *argv), argv


@pytest.mark.parametrize(
    ("factory", "kind", "line"),
    [
        ("fails_to_make", "ZeroDivisionError", "return 1 / 0"),
        ("fails_to_run", "TypeError", 'x @ params["a"]'),
        ("fails_to_init", "KeyError", 'raise KeyError("no such layer")'),
    ],
)
def test_a_failing_model_shows_where(capsys, models, factory, kind, line):
    assert main(["probe", f"probed_models:{factory}"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and line in err
    last = err.splitlines()[-1]
    assert last.startswith(f"jaxinit: probed_models:{factory} failed: {kind}")


def test_a_terminal_shows_the_progress(capsys, models, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert main(["probe", "probed_models:linen"]) == 0
    shown = re.split(r"\r\x1b\[K", capsys.readouterr().err)
    assert shown[1] == "probing probed_models:linen" and shown[-1] == ""
    assert any(line.startswith("compiled 1 of") for line in shown)
