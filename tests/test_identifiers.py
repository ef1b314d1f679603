"""Identifiers with arguments: "normal(stddev=0.02)"."""

import ast
import json
import math
import time

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxinit
from cases import CASES
from jaxinit.__main__ import main
from jaxinit.initializers import identifiers
from jaxinit.initializers.identifiers import arguments_of

READ = {
    "normal(stddev=0.02)": jaxinit.RandomNormal(stddev=0.02),
    " normal ( stddev = 0.02 , ) ": jaxinit.RandomNormal(stddev=0.02),
    "HeNormal()": jaxinit.HeNormal(),
    "he_normal(seed=3)": jaxinit.HeNormal(seed=3),
    "variance_scaling(scale=2.0, mode='fan_out')": jaxinit.VarianceScaling(
        2.0, "fan_out"
    ),
    # The distribution is jaxinit's: "normal" is not cut, as it is in Keras.
    'VarianceScaling(distribution="normal", in_axis=(0, 1), out_axis=[2])': (
        jaxinit.VarianceScaling(distribution="normal", in_axis=(0, 1), out_axis=(2,))
    ),
    "STFT(window=None, periodic=True)": jaxinit.STFT(window=None, periodic=True),
    "constant(value=[[1, 2.5], [-3e2, inf]])": jaxinit.Constant(
        np.array([[1, 2.5], [-3e2, math.inf]])
    ),
    "scaled(initializer='he_normal(seed=1)', factor=0.5)": jaxinit.Scaled(
        jaxinit.HeNormal(seed=1), 0.5
    ),
    "scaled(factor=2, initializer=\"scaled(factor=3, initializer='zeros')\")": (
        jaxinit.Scaled(jaxinit.Scaled("zeros", 3), 2)
    ),
    "stacked(initializer='normal(\nstddev=1)')": jaxinit.Stacked(
        jaxinit.RandomNormal(stddev=1)
    ),
}


@pytest.mark.parametrize("text", READ)
def test_every_reader_builds_the_initializer(text, tmp_path):
    expected = READ[text]
    assert jaxinit.get(text) == jaxinit.deserialize(text) == expected
    assert jaxinit.serialize(jaxinit.get(text)) == jaxinit.serialize(expected)
    assert jaxinit.Stacked(text) == jaxinit.Stacked(expected)
    rules = jaxinit.Rules({"**/kernel": text}, default=text)
    assert rules.rules[0][1] == rules.default == expected
    config = {"rules": {"**/kernel": text}, "default": text}
    nested = {"class_name": "Stacked", "config": {"initializer": text}}
    assert jaxinit.deserialize(nested).initializer == expected
    assert jaxinit.Rules.from_config(config) == rules
    for suffix in ("json", "yaml"):  # JSON is YAML, too
        path = tmp_path / f"rules.{suffix}"
        path.write_text(json.dumps(config))
        assert jaxinit.Rules.load(path) == rules


def test_yaml_needs_no_quotes(tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "rules.yaml"
    path.write_text("rules:\n  '**/kernel': normal(stddev=1e-3)\n")
    rules = jaxinit.Rules.load(path)
    assert rules.rules[0][1] == jaxinit.RandomNormal(stddev=1e-3)


def is_plain(value):
    if isinstance(value, tuple):
        return all(map(is_plain, value))
    return isinstance(value, int | float | str | None)


def test_the_repr_of_an_initializer_is_an_identifier():
    """It is, unless it holds an array, a function or another initializer."""
    inits = [
        case.init for case in CASES if all(map(is_plain, vars(case.init).values()))
    ]
    assert len({*map(type, inits)}) > 20
    for init in inits:
        assert jaxinit.get(repr(init)) == init


plain_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="ascii", exclude_categories=["C"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from("abcd"), plain_values, max_size=3))
def test_values_are_read_as_python_writes_them(arguments):
    text = f"f({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"
    if len(text) < identifiers.LONGEST:
        made = arguments_of(text)
        assert made == arguments and repr(made) == repr(arguments)


@settings(max_examples=500, deadline=None)
@given(st.text("f(=,)[]'\"\\ 01e.-+abTrue", max_size=30).map("f({}".format))
def test_values_equal_those_of_python(text):
    """Whatever is accepted is a call in Python with the same literals."""
    try:
        made = arguments_of(text)
    except ValueError as e:
        assert "character" in str(e)
        return
    call = ast.parse(text.replace("\n", " "), mode="eval").body
    assert isinstance(call, ast.Call) and not call.args
    expected = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    assert made == expected


REFUSED = {
    "normal(0.02)": (
        "character 8: each argument needs its name, as in stddev=0.02: '0.02' stands "
        r"there\. The names are mean, stddev, seed\."
    ),
    "normal(stddev)": r"character 8: each argument needs its name.*'stddev' stands",
    "normal(stddev=1, 2)": "character 18: each argument needs its name",
    "normal(**{})": r"unexpected|'\*' stands there",
    "normal(stddev=0.02": r"character 19: ',' or '\)' is missing: the end stands there",
    "normal(stddev=0.02))": "character 20: text follows",
    "normal(stddev=0.02) or 1": "character 21: text follows: 'or' stands there",
    "normal(stddev=1)(seed=2)": "text follows",
    "normal(stddev=1, stddev=2)": "'stddev' is there twice",
    "normal(stddev=)": "a value is missing",
    "normal(stddev=1+1)": r"',' or '\)' is missing: '\+1' stands there",
    "normal(stddev=2**9)": r"'\*' stands there",
    "normal(stddev=1_000)": "is missing: '_000' stands there",
    "normal(seed=010)": "'010' starts with a zero",
    "normal(stddev=0x10)": "'x10' stands there",
    "normal(stddev=1j)": "'j' stands there",
    "normal(stddev=1e999)": "finite",
    "normal(stddev=a.b)": "'a' is no value: write 'a' in quotes",
    "normal(stddev=(1).real)": "'.' stands there",
    "normal(stddev=true)": "write True, False or None",
    "normal(stddev=nan)": "'nan' is no value: write a number.",
    "normal(stddev=NaN)": "'NaN' is no value: write a number.",
    "clipped(initializer='ones', low=0, high=Infinity)": "write inf.",
    "normal(sttdev=1)": r"no field 'sttdev'",
    "normal(stddev='0.02')": "a finite real number",
    "normal(stddev={'a': 1})": "'{' stands there",
    "normal(stddev=f'{1}')": "'f' is no value",
    "normal(stddev='a' 'b')": "is missing",
    "normal(stddev='a\\n')": "the escape .* is not read",
    "normal(stddev='a)": "the quote has no end",
    "normal(stddev=__import__('os'))": "'__import__' is no value",
    "normal(True=1)": "needs its name",
    "normal(stddev=\u0661)": "stands there",
    "norml(stddev=1)": "'norml' names no registered initializer. Did you mean 'normal'",
    "os.system('id')": "'os.system' names no registered",
    "(stddev=1)": "'' names no registered",
    "lambda: normal(stddev=1)": "names no registered",
    "scaled(initializer=he_normal(seed=1), factor=1)": "write 'he_normal' in quotes",
    "scaled(initializer='normal(1)', factor=1)": "'normal\\(1\\)', character 8",
    "depth_scaled(num_layers=2)": "lacks 'initializer'",
    f"constant(value={'[' * 9}{']' * 9})": "nested more than 8 levels deep",
    f"constant(value='{'x' * 2000}')": "at most 1000 characters",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_invalid_identifiers_name_a_cure(text):
    with pytest.raises((ValueError, TypeError), match=REFUSED[text]) as caught:
        jaxinit.get(text)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "inner",
    ["(" * 990, "[" * 990, "a=" * 450, "a=(" * 300, "'" * 981, "\\" * 980, "a=-" * 320,
     "a='" + "\\'" * 450, "a=" + "9" * 900, "(" * 10**6, "a=1," * 10**6, "\0" * 900],
    ids=lambda inner: f"{inner[:4]!r}-{len(inner)}",
)  # fmt: skip
def test_hostile_texts_are_refused_quickly(inner):
    for text in (f"normal({inner}", f"normal({inner})", f"constant(value={inner})"):
        start = time.process_time()
        with pytest.raises((ValueError, TypeError)) as caught:
            jaxinit.get(text)
        assert time.process_time() - start < 1
        assert len(str(caught.value)) < 1000


def test_nested_identifiers_are_bounded_by_their_length():
    """Quotes inside quotes double the text, so that nesting ends soon."""
    text = "zeros()"
    depth = 0
    while len(text) < 900:
        inner = text.replace("\\", "\\\\").replace("'", "\\'")
        text = f"scaled(initializer='{inner}', factor=1)"
        depth += 1
    found = jaxinit.get(text) if len(text) <= 1000 else None
    assert depth < 12 and (found is None or isinstance(found, jaxinit.Scaled))


def test_a_registered_name_may_hold_a_parenthesis(monkeypatch):
    import dataclasses

    from jaxinit.initializers import registry

    monkeypatch.setattr(registry, "_classes", dict(registry._classes))

    @jaxinit.register("doc>Half(1)")
    @dataclasses.dataclass(frozen=True)
    class Half(jaxinit.Initializer):
        power: int = 1

        def sample(self, key, shape, dtype):
            return jax.numpy.full(shape, 0.5**self.power, dtype)

    assert jaxinit.get("doc>Half(1)") == Half()
    jaxinit.register("doc>Half")(Half)
    assert jaxinit.get("doc>Half(power=2)") == Half(2)


def test_keras_configs_take_them_with_the_meaning_of_keras():
    pytest.importorskip("keras")
    from jaxinit.keras import from_keras

    text = "variance_scaling(scale=2.0, distribution='normal')"
    config = {"scale": 2.0, "distribution": "normal"}
    same = from_keras({"class_name": "VarianceScaling", "config": config})
    assert same.distribution == "truncated_normal"
    assert from_keras(text) == same
    layer = {"name": "dense", "kernel_initializer": text, "bias_initializer": "zeros"}
    assert from_keras(layer)["kernel_initializer"] == same
    with pytest.raises(ValueError, match="needs its name"):
        from_keras({**layer, "kernel_initializer": "variance_scaling(2.0)"})


def test_show_takes_an_identifier(capsys):
    assert main(["show", "normal(stddev=0.02)", "--shape", "8,4"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("RandomNormal(stddev=0.02), shape (8, 4), float32\n")
    assert main(["show", "normal", "--set", "stddev=0.02", "--shape", "8,4"]) == 0
    assert capsys.readouterr().out == shown
    assert main(["show", "normal(stddev=1)", "--set", "mean=1"]) == 2
    assert "has arguments; write all there" in capsys.readouterr().err
    assert main(["show", "normal(0.02)"]) == 2
    assert "each argument needs its name" in capsys.readouterr().err
