"""Errors that the user can mend, and where they commonly come from."""

import importlib
from pathlib import Path
from types import ModuleType

from .. import _files
from .._checks import printable

_MOST = 2000  # characters of an error


class UsageError(Exception):
    """A bad argument or a missing extra: one line, and exit code 2."""

    def __init__(self, message: object) -> None:
        """Folds ``message`` into one line."""
        super().__init__(printable(" ".join(str(message).split()), _MOST))


def require(module: str, extra: str) -> ModuleType:
    """The module, or an error that names the extra that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        package = module.partition(".")[0]
        raise UsageError(
            f"this command needs {package} ({e}): pip install 'jaxinit[{extra}]'"
        ) from None


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file, or says in one line why not."""
    try:
        _files.write_whole(path, data)
    except OSError as e:
        raise UsageError(f"cannot write {path}: {e.strerror}") from None
