"""``explain``: which rule makes which leaf of a user's model."""

import contextlib
import importlib
import sys
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import jax

import jaxinit

from ..planning.arguments import is_array
from ..rules.table import render
from .usage import UsageError, usage_errors


def explain(factory: str, rules: Path, *, allow_regex: bool = False) -> int:
    """Prints the table of leaf, rule and initializer.

    The factory is traced: nothing is computed. Returns 1 if a rule makes no leaf or an
    initializer cannot make its leaf, else 0.
    """
    given = load_rules(rules, allow_regex)
    with user_errors(factory):
        shapes = jaxinit.eval_shape(find(factory))
    leaves = jax.tree.leaves(shapes)
    if not any(map(is_array, leaves)):
        kinds = ", ".join(sorted({type(leaf).__name__ for leaf in leaves})[:3])
        raise UsageError(
            f"{factory} returned no arrays but {kinds or 'nothing'}; return the "
            "parameters, or shapes as of jaxinit.eval_shape(model.init, key, x)"
        )
    with usage_errors(f"explain {factory}"):
        assignment = given.assign(shapes)
        text = render(assignment)
    print(text)
    return 1 if assignment.idle() or assignment.unfit() else 0


@contextlib.contextmanager
def user_errors(factory: str) -> Generator[None]:
    """Prints the traceback of an error in the user's code, which is no verdict."""
    try:
        yield
    except UsageError:
        raise
    except Exception as e:  # the user's code may raise anything
        traceback.print_exc()
        raise UsageError(f"{factory} failed: {type(e).__name__}") from None


def load_rules(path: Path, allow_regex: bool) -> jaxinit.Rules:
    """Loads the rules of a file."""
    with usage_errors(f"read {path}"):
        return jaxinit.Rules.load(path, allow_regex=allow_regex)


def find(factory: str) -> Any:
    """Imports the function that ``MODULE:FACTORY`` names; the current folder counts."""
    module, _, name = factory.partition(":")
    if not module or not name:
        raise UsageError(f"{factory!r} names no factory; write MODULE:FACTORY")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, TypeError) as e:
        raise UsageError(f"cannot import {factory}: {e}") from None
    if not callable(found):
        raise UsageError(f"{factory} is not callable")
    return found
