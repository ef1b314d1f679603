"""Texts of the command line as shapes, dtypes and initializers."""

import argparse
import contextlib
import difflib
from argparse import ArgumentTypeError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import jaxinit

from .. import _files
from .usage import UsageError

_DTYPES = (
    *("float32", "bfloat16", "float16", "float64", "complex64", "complex128"),
    *("float8_e4m3fn", "float8_e5m2", "int8", "int16", "int32", "int64", "bool"),
)


def shape(text: str) -> tuple[int, ...]:
    """``512,256`` or ``(512, 256)``; ``()`` for a scalar."""
    inner = text.strip().removeprefix("(").removesuffix(")").removesuffix(",").strip()
    try:
        dims = tuple(int(d) for d in inner.split(",")) if inner else ()
    except ValueError:
        dims = (-1,)
    if not (inner or "(" in text) or any(d < 0 for d in dims):
        raise ArgumentTypeError(f"{text!r} is no shape; write 512,256")
    return dims


def dtype(text: str) -> np.dtype[Any]:
    """A dtype that JAX knows by name."""
    with contextlib.suppress(TypeError, ValueError, SyntaxError):
        known = jnp.dtype(text)
        if jnp.issubdtype(known, jnp.number) or known == np.bool_:
            return known
    close = difflib.get_close_matches(text, _DTYPES, n=2)
    hint = f"; did you mean {' or '.join(close)}?" if close else f"; try {_DTYPES[0]}"
    raise ArgumentTypeError(f"{text!r} is no dtype of numbers{hint}")


def positive(text: str) -> int:
    """An int of at least 1."""
    if text.isascii() and text.isdigit() and int(text) > 0:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is no whole number above 0")


def seed(text: str) -> int:
    """A seed of `jax.random.key`."""
    with contextlib.suppress(ValueError):
        if 0 <= int(text) < 2**32:
            return int(text)
    raise ArgumentTypeError(f"{text!r} is no whole number from 0 to 2**32 - 1")


def png(text: str) -> Path:
    """A file name that says what will be in it."""
    path = Path(text)
    if path.suffix.lower() != ".png":
        raise ArgumentTypeError(f"{text!r} is no name of a .png file")
    return path


def setting(text: str) -> tuple[str, Any]:
    """``stddev=0.02``: a name and a value in JSON, or a bare word."""
    name, equals, value = text.partition("=")
    if not name.strip() or not equals:
        raise ArgumentTypeError(f"{text!r} is no setting; write stddev=0.02")
    try:
        return name.strip(), _files.loads(value)
    except ValueError:
        return name.strip(), value


def initializer(name: str, settings: Sequence[tuple[str, Any]]) -> Any:
    """The initializer registered under ``name``, with arguments set."""
    repeated = [n for n, _ in settings if [m for m, _ in settings].count(n) > 1]
    if repeated:
        raise UsageError(f"argument --set: {repeated[0]} is set more than once")
    config = {"module": "jaxinit", "class_name": name, "config": dict(settings)}
    try:
        return jaxinit.deserialize(config)
    except (TypeError, ValueError, OverflowError) as e:
        raise UsageError(e) from None


class Parser(argparse.ArgumentParser):
    """Reports an error by exception, in one line."""

    def error(self, message: str) -> Any:
        """Raises it."""
        raise UsageError(f"{message} (see {self.prog} --help)")
