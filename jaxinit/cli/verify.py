"""``verify``: compares the parameters of a user's model with a manifest."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

import jaxinit

from .._checks import check_key
from .._paths import check_tree
from ..planning.arguments import is_array
from .factories import find
from .usage import UsageError, usage_errors, user_errors


def verify(path: Path, factory: str, *, allow_regex: bool = False) -> int:
    """Prints a line for each leaf that differs from the manifest.

    Returns 1 if a leaf differs, else 0.
    """
    with usage_errors(f"read {path}"):
        record = jaxinit.Manifest.load(path, allow_regex=allow_regex)
    with user_errors(factory):
        make = find(factory)
        parameter = _key_parameter(make)
        key = None if parameter is None else _key_of(record, path)
        if parameter is None:
            params = make()
        elif key is None:
            raise UsageError(f"{factory} takes a key, and {path} has none")
        elif parameter.kind is parameter.KEYWORD_ONLY:
            params = make(**{parameter.name: key})
        else:
            params = make(key)
    with usage_errors(f"verify {factory}"):
        check_tree(params)
    leaves = jax.tree.leaves(params)
    if not any(map(is_array, leaves)):
        raise UsageError(f"{factory} returned no arrays but a {type(params).__name__}")
    deleted = [x for x in leaves if isinstance(x, jax.Array) and x.is_deleted()]
    if deleted:
        raise UsageError(f"{factory} returned an array that was deleted or donated")
    with usage_errors(f"verify {factory}"):
        differences = record.verify(params)
    for difference in differences:
        print(difference)
    if not differences:
        print(f"equal leaves: {len(record.leaves)}")
    return 1 if differences else 0


def _key_of(record: jaxinit.Manifest, path: Path) -> jax.Array | None:
    """The key of a manifest, which JAX checks."""
    try:
        key = record.key
        return None if key is None else check_key("verify", key)
    except (TypeError, ValueError) as e:
        raise UsageError(f"{path} has no valid key: {e}") from None


def _key_parameter(make: Callable[..., Any]) -> inspect.Parameter | None:
    """The parameter of a function that needs exactly one argument, else None.

    The parameter may be positional, or keyword-only as in Equinox's layers.
    """
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # some callables have no signature
        return None
    several = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = [p for p in parameters if p.default is p.empty and p.kind not in several]
    return required[0] if len(required) == 1 else None
