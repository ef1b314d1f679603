"""Parses the arguments of the command line."""

import argparse
import contextlib
import difflib
import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxinit

from .. import _files
from .usage import UsageError, usage_errors

_SHAPE = r"\(\s*\)|\(?\s*\d+(\s*,\s*\d+)*\s*,?\s*\)?"
_DTYPES = (
    *("float32", "bfloat16", "float16", "float64", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "int8", "int16", "int32", "int64", "bool"),
)


def shape(text: str) -> tuple[int, ...]:
    """Parses ``512,256`` or ``(512, 256)``; ``()`` is the shape of a scalar."""
    if not re.fullmatch(_SHAPE, text.strip()):
        raise ArgumentTypeError(f"{text!r} is no shape; write 512,256")
    return tuple(map(int, re.findall(r"\d+", text)))


def dtype(text: str) -> np.dtype[Any]:
    """Parses the name of a dtype."""
    with contextlib.suppress(TypeError, ValueError, SyntaxError):
        known = jnp.dtype(text)
        if jnp.issubdtype(known, jnp.number) or known == np.bool_:
            return known
    close = difflib.get_close_matches(text, _DTYPES, n=2)
    hint = f"; did you mean {' or '.join(close)}?" if close else "; try float32"
    raise ArgumentTypeError(f"{text!r} is no dtype of numbers{hint}")


def positive(text: str) -> int:
    """Parses a whole number above 0."""
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no whole number above 0")


def seed(text: str) -> int:
    """Parses a seed of `jax.random.key`."""
    if text.isascii() and text.isdigit() and int(text) < 2**32:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no whole number from 0 to 2**32 - 1")


def png(text: str) -> Path:
    """Parses the name of a .png file."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise ArgumentTypeError(f"{text!r} is no name of a .png file")
    return path


def setting(text: str) -> tuple[str, Any]:
    """Parses ``stddev=0.02``: a name and a value, which is JSON or a bare word."""
    name, equals, value = text.partition("=")
    if not name.strip() or not equals:
        raise ArgumentTypeError(f"{text!r} is no setting; write stddev=0.02")
    try:
        return name.strip(), _files.loads(value)
    except ValueError:
        return name.strip(), value


def initializer(name: str, settings: Sequence[tuple[str, Any]]) -> Any:
    """Builds the initializer registered under ``name`` with these arguments.

    The name may have arguments of its own: "normal(stddev=0.02)".
    """
    if "(" in name:
        if settings:
            raise UsageError(f"argument --set: {name!r} has arguments; write all there")
        with usage_errors(f"build {name}"):
            return jaxinit.get(name)
    repeated = [n for n, _ in settings if [m for m, _ in settings].count(n) > 1]
    if repeated:
        raise UsageError(f"argument --set: {repeated[0]} is set more than once")
    config = {"module": "jaxinit", "class_name": name, "config": dict(settings)}
    with usage_errors(f"build {name}"):
        return jaxinit.deserialize(config)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises a `UsageError` instead of exiting."""

    def error(self, message: str) -> Any:
        """Raises the error, which main prints in one line."""
        raise UsageError(f"{message} (see {self.prog} --help)")
