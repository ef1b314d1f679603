"""Patterns of paths: globs, regular expressions, predicates."""

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax

# What a rule may start with, and what decides it: matches(path, abstract array).
Pattern: TypeAlias = Any
Matches: TypeAlias = Callable[[str, jax.ShapeDtypeStruct], bool]

_FLAGS = {"a": re.A, "i": re.I, "m": re.M, "s": re.S, "x": re.X}


def compile_pattern(pattern: Pattern) -> Matches:
    """What decides whether a leaf is meant.

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
        f"(path, ShapeDtypeStruct) -> bool; got {pattern!r}."
    )


def describe(pattern: Pattern) -> str:
    """A pattern as tables and errors show it."""
    if isinstance(pattern, re.Pattern):
        return f"/{pattern.pattern}/"
    if isinstance(pattern, str):
        return pattern
    return getattr(pattern, "__qualname__", repr(pattern))


def pattern_config(pattern: Pattern) -> dict[str, Any]:
    """A glob or regular expression as plain data.

    Raises:
        TypeError: If it is a predicate, which is code.
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
    """The pattern that `pattern_config` wrote.

    Raises:
        TypeError, ValueError: If it is none.
    """
    kinds = [kind for kind in ("glob", "regex") if kind in config]
    if len(kinds) != 1 or not isinstance(config[kinds[0]], str):
        raise ValueError(
            "A rule in a config must have either 'glob' or 'regex', a str; got "
            f"{dict(config)!r}."
        )
    if "glob" in config:
        if "flags" in config:
            raise ValueError("'flags' are of a 'regex'; a 'glob' has none.")
        return config["glob"]
    flags = config.get("flags", "")
    if not isinstance(flags, str) or set(flags) - set(_FLAGS):
        raise ValueError(
            f"'flags' of a 'regex' must be letters of {''.join(_FLAGS)!r}; got "
            f"{flags!r}."
        )
    combined = sum((_FLAGS[letter] for letter in set(flags)), re.NOFLAG)
    try:
        return re.compile(config["regex"], combined)
    except (re.error, OverflowError, RecursionError) as e:
        raise ValueError(f"{config['regex']!r} is no regular expression: {e}") from None


def _glob(pattern: str) -> Matches:
    levels = [_level(name) for name in pattern.split("/")] if pattern else []

    def matches(path: str, leaf: Any) -> bool:
        return _match(levels, path.split("/") if path else [])

    return matches


def _level(name: str) -> Callable[[str], Any] | None:
    """Whether a name of a path is meant; None for "**", which stands for any."""
    if name == "**":
        return None
    if "**" in name:
        raise ValueError(
            f"The glob part {name!r} holds '**', which stands for whole levels: write "
            "it between slashes, as in 'head/**' or '**/kernel'."
        )
    if not set("*?[") & set(name):
        return name.__eq__
    return re.compile(fnmatch.translate(name)).match


def _match(levels: Sequence[Callable[[str], Any] | None], names: list[str]) -> bool:
    i = j = 0
    retry: tuple[int, int] | None = None  # after the last "**", and what it took
    while j < len(names):
        if i < len(levels) and levels[i] is None:
            i += 1
            retry = i, j
        elif i < len(levels) and levels[i](names[j]):  # pyright: ignore[reportOptionalCall]
            i, j = i + 1, j + 1
        elif retry is not None:
            i, j = retry[0], retry[1] + 1
            retry = i, j
        else:
            return False
    return all(level is None for level in levels[i:])
