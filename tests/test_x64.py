"""float64 and complex128, in a process of their own."""

import os
import pathlib
import subprocess
import sys

from cases import CASES

SCRIPT = pathlib.Path(__file__).with_name("x64_process.py")


def test_every_case_in_an_x64_process():
    done = subprocess.run(
        [sys.executable, SCRIPT],
        env=os.environ | {"JAX_ENABLE_X64": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == ["ok", str(len(CASES))]
