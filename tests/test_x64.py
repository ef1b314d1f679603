"""float64 and complex128, in a separate process."""

import os
import pathlib
import subprocess
import sys

import pytest

from cases import EXACT, ids
from x64_process import WIDE

SCRIPT = pathlib.Path(__file__).with_name("x64_process.py")


@pytest.fixture(scope="module")
def outcomes():
    """Returns the line that the process printed for each case."""
    done = subprocess.run(
        [sys.executable, SCRIPT],
        env=os.environ | {"JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


@pytest.mark.parametrize("case", [*ids(EXACT + WIDE), "same_as_jax"])
def test_in_an_x64_process(case, outcomes):
    assert outcomes[case] == "ok"
