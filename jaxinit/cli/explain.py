"""``explain``: which rule makes which leaf of a user's model."""

import importlib
import sys
import traceback
from pathlib import Path
from typing import Any

import jax

import jaxinit

from ..planning.arguments import is_array
from ..rules.table import render
from .usage import UsageError


def explain(factory: str, rules: Path, *, allow_regex: bool = False) -> int:
    """Prints the table of leaf, rule and initializer.

    Args:
        factory: ``MODULE:FACTORY``, a function without arguments that returns the
            parameters or their shapes. It is traced: nothing is computed.
        rules: File of the rules.
        allow_regex: True to accept regular expressions in the rules.

    Returns:
        0, or 1 if a rule makes no leaf or an initializer cannot make its leaf.

    Raises:
        UsageError: If the factory or the file cannot be used.
    """
    given = load_rules(rules, allow_regex)
    try:
        shapes = jaxinit.eval_shape(find(factory))
    except UsageError:
        raise
    except Exception as e:  # the user's code may raise anything; no verdict on rules
        traceback.print_exc()
        raise UsageError(f"{factory} failed: {type(e).__name__}") from None
    leaves = jax.tree.leaves(shapes)
    if not any(map(is_array, leaves)):
        kinds = sorted({type(leaf).__name__ for leaf in leaves})
        instead = f" but {', '.join(kinds[:3])}" if kinds else ""
        raise UsageError(
            f"{factory} returned no arrays{instead}; return the parameters or their "
            "shapes, as jaxinit.eval_shape(model.init, key, x)"
        )
    try:
        assignment = given.assign(shapes)
        print(render(assignment))
    except (TypeError, ValueError) as e:
        raise UsageError(e) from None
    return 1 if assignment.idle() or assignment.unfit() else 0


def load_rules(path: Path, allow_regex: bool) -> jaxinit.Rules:
    """Loads the rules of a file."""
    try:
        return jaxinit.Rules.load(path, allow_regex=allow_regex)
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}") from None
    except (TypeError, ValueError, ImportError) as e:
        raise UsageError(e) from None


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
