"""Errors that the user can mend, and where they commonly come from."""

import importlib
import os
from pathlib import Path
from types import ModuleType


class UsageError(Exception):
    """A bad argument or a missing extra: one line, and exit code 2."""

    def __init__(self, message: object) -> None:
        """Folds ``message`` into one line."""
        super().__init__(" ".join(str(message).split()))


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
    """Writes a file so that it is never seen half-made."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise UsageError(f"cannot write {path}: it is not a regular file")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            part.write_bytes(data)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as e:
        raise UsageError(f"cannot write {path}: {e.strerror}") from None
