"""``explain``: prints the rule of each leaf of a user's model."""

from pathlib import Path

import jax

import jaxinit

from ..planning.arguments import is_array
from ..rules.table import render
from .factories import find
from .usage import UsageError, usage_errors, user_errors


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


def load_rules(path: Path, allow_regex: bool) -> jaxinit.Rules:
    """Loads the rules of a file."""
    with usage_errors(f"read {path}"):
        return jaxinit.Rules.load(path, allow_regex=allow_regex)
