"""Patterns of paths: globs, regular expressions and predicates."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import jax

from .._checks import printable, short
from .globs import Name, match_levels, parse_name

# The pattern of a rule, and its compiled form: matches(path, abstract array) -> bool.
Pattern: TypeAlias = Any
Matches: TypeAlias = Callable[[str, jax.ShapeDtypeStruct], bool]

_MOST = 120  # most characters of a pattern that are shown
_LONGEST = 1000  # most characters of a regular expression in a config
_FLAGS = {"a": re.A, "i": re.I, "m": re.M, "s": re.S, "x": re.X}


def compile_pattern(pattern: Pattern) -> Matches:
    """Returns the function that tells whether the pattern matches a leaf.

    Raises:
        TypeError: If the pattern is no glob, compiled regex of text or callable.
        ValueError: If "**" is part of a longer name.
    """
    if isinstance(pattern, str):
        return _glob(pattern)
    if isinstance(pattern, re.Pattern) and isinstance(pattern.pattern, str):
        return lambda path, leaf: pattern.search(path) is not None
    if callable(pattern) and not isinstance(pattern, type):
        return lambda path, leaf: bool(pattern(path, leaf))
    raise TypeError(
        "The pattern of a rule must be a glob (a str), re.compile(...) or a predicate "
        f"(path, ShapeDtypeStruct) -> bool; got {short(pattern)}."
    )


def describe(pattern: Pattern) -> str:
    """Returns a pattern as tables and errors show it."""
    if isinstance(pattern, re.Pattern):
        return f"/{printable(pattern.pattern, _MOST)}/"
    if isinstance(pattern, str):
        return printable(pattern, _MOST)
    return printable(getattr(pattern, "__qualname__", None) or repr(pattern), _MOST)


def pattern_config(pattern: Pattern) -> dict[str, Any]:
    """Returns a glob or regular expression as plain data.

    Raises:
        TypeError: If the pattern is a predicate, which is code.
    """
    if isinstance(pattern, str):
        return {"glob": pattern}
    if isinstance(pattern, re.Pattern):
        letters = "".join(x for x, flag in _FLAGS.items() if pattern.flags & flag)
        flags = {"flags": letters} if letters else {}
        return {"regex": pattern.pattern, **flags}
    raise TypeError(
        f"A config cannot hold the predicate {describe(pattern)}, which is code: write "
        "a glob or a regular expression."
    )


def pattern_from_config(config: Mapping[str, Any]) -> Pattern:
    """Returns the pattern of a config that `pattern_config` wrote.

    Raises:
        TypeError, ValueError: If the config is invalid.
    """
    kinds = [kind for kind in ("glob", "regex") if kind in config]
    if len(kinds) != 1 or not isinstance(config[kinds[0]], str):
        raise ValueError(
            "A rule in a config must have either 'glob' or 'regex', a str; got "
            f"{short(dict(config))}."
        )
    if "glob" in config:
        if "flags" in config:
            raise ValueError("'flags' belong to a 'regex'; a 'glob' has no flags.")
        return config["glob"]
    flags = config.get("flags", "")
    if not isinstance(flags, str) or set(flags) - set(_FLAGS):
        raise ValueError(
            f"'flags' of a 'regex' must be letters of {''.join(_FLAGS)!r}; got "
            f"{short(flags)}."
        )
    combined = sum((_FLAGS[letter] for letter in set(flags)), re.NOFLAG)
    regex = config["regex"]
    if len(regex) > _LONGEST:
        raise ValueError(
            f"A 'regex' must have at most {_LONGEST} characters; got {short(regex)}."
        )
    try:
        return re.compile(regex, combined)
    except (re.error, ValueError, OverflowError, RecursionError) as e:
        raise ValueError(
            f"{short(regex)} is no regular expression: {printable(str(e))}"
        ) from None


def _glob(pattern: str) -> Matches:
    levels: list[Name | None] = []
    for level in map(_level, pattern.split("/") if pattern else ()):
        if level is not None or levels[-1:] != [None]:  # "**/**" matches as "**" does
            levels.append(level)

    def matches(path: str, leaf: Any) -> bool:
        return match_levels(levels, path.split("/") if path else [])

    return matches


def _level(name: str) -> Name | None:
    """Returns the glob of one level of a path; None for "**"."""
    if name == "**":
        return None
    if "**" in name:
        raise ValueError(
            f"The glob part {short(name)} contains '**', which means whole levels: "
            "write it between slashes, as in 'head/**' or '**/kernel'."
        )
    return parse_name(name)
