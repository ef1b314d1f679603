"""Errors that the user can correct."""

import contextlib
import importlib
import traceback
from collections.abc import Generator
from types import ModuleType

from .._checks import printable
from . import progress

_MOST = 2000  # most characters of an error


class UsageError(Exception):
    """A bad argument, a bad file or a missing extra: one line, and exit code 2."""

    def __init__(self, message: object) -> None:
        """Puts ``message`` on one line."""
        super().__init__(printable(" ".join(str(message).split()), _MOST))


@contextlib.contextmanager
def usage_errors(task: str) -> Generator[None]:
    """Turns errors into a `UsageError`. For an OSError, the message names the task."""
    try:
        yield
    except OSError as e:
        raise UsageError(f"cannot {task}: {e.strerror}") from None
    except (TypeError, ValueError, OverflowError, ImportError) as e:
        raise UsageError(e) from None


@contextlib.contextmanager
def user_errors(factory: str, ours: str | None = None) -> Generator[None]:
    """Prints the traceback of any exception of the user's code, then a `UsageError`.

    Args:
        factory: ``MODULE:FACTORY``.
        ours: Start of the messages of jaxinit, which need no traceback.
    """
    try:
        yield
    except UsageError:
        raise
    except SystemExit as e:  # of a script without a guard: its code is not ours
        raise UsageError(f"{factory} ended the program: SystemExit({e.code})") from None
    except Exception as e:
        if ours is not None and str(e).startswith(ours):
            raise UsageError(e) from None
        progress.show("")
        traceback.print_exc()
        raise UsageError(f"{factory} failed: {type(e).__name__}") from None


def require(module: str, extra: str) -> ModuleType:
    """Imports a module; an error names the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as e:
        package, cure = module.partition(".")[0], f"pip install 'jaxinit[{extra}]'"
        raise UsageError(f"this command needs {package} ({e}): {cure}") from None
