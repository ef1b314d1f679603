"""Hostile configs are refused without any side effect; see hostile_configs.py."""

import json
import pathlib
import subprocess
import sys

import pytest

import hostile_configs

KINDS = ("deserialize", "get", "from_keras", "layer", "model", "wrapper", "keras")


@pytest.fixture(scope="module")
def outcomes():
    pytest.importorskip("keras")
    program = pathlib.Path(hostile_configs.__file__)
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_form_of_every_config_was_read(outcomes):
    names = [name for name, *_ in outcomes]
    assert len(set(names)) == len(names)
    for config in hostile_configs.INITIALIZERS:
        assert {f"{kind}: {config}" for kind in KINDS} <= set(names)
    assert len(names) > 1000


def test_each_is_refused_with_one_clear_error(outcomes):
    for name, kind, message, _ in outcomes:
        assert kind in ("ValueError", "TypeError"), (name, kind, message)
        # Keras itself repeats whole configs in its messages.
        theirs = name.startswith("keras:")
        assert theirs or 10 < len(message) < 500, (name, message)
        assert theirs or "\x1b" not in message, name


def test_no_config_imports_opens_connects_or_runs_anything(outcomes):
    for name, _, _, events in outcomes:
        assert not events, (name, events)


def test_the_hook_sees_hostile_actions():
    """The actions that the configs ask for do raise the audit events."""
    code = """
import base64, marshal, os, sys, types
import hostile_configs
seen = []
sys.addaudithook(lambda event, args: seen.append(event))
code = marshal.loads(base64.b64decode(hostile_configs._payload()[0]))
types.FunctionType(code, {})
os.system("true")
open(os.devnull).close()
import wave
print(*seen)
"""
    here = pathlib.Path(__file__).parent
    command = [sys.executable, "-c", code]
    seen = subprocess.check_output(command, cwd=here, text=True).split()
    assert {"marshal.loads", "os.system", "open", "import"} <= set(seen)


def test_a_window_loads_scipy_only_when_it_is_drawn():
    pytest.importorskip("scipy")
    code = """
import sys
import jaxinit
window = jaxinit.deserialize({"class_name": "STFT", "config": {"window": "hamming"}})
print("scipy" in sys.modules, end=" ")
window(None, (4, 1, 3))
print("scipy" in sys.modules)
"""
    seen = subprocess.check_output(
        [sys.executable, "-W", "ignore", "-c", code], text=True
    )
    assert seen == "False True\n"
