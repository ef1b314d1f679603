"""Finds a few short globs that give every path its initializer."""

import collections
import re
from collections.abc import Iterator, Mapping
from typing import Any

from .patterns import compile_pattern


def shortest(made: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Returns globs and values that give each path its value; the first match wins.

    All paths with the same last name share the rule ``**/name``, which has their most
    frequent value. Rules for the other values come before. The glob of such a rule is
    the shortest end of the path that matches no path of another value.

    Args:
        made: The value of each path. Equal values may share a rule.

    Example:
        >>> shortest({"a/w": 1, "b_0/w": 2, "b_1/w": 2, "b_0/b": 0, "b_1/b": 0})
        [('a/w', 1), ('**/w', 2), ('**/b', 0)]
    """
    alike: dict[str, list[str]] = collections.defaultdict(list)
    for path in made:
        alike[starred(path.rpartition("/")[2])].append(path)
    special: list[tuple[str, Any]] = []
    general: list[tuple[str, Any]] = []
    for name, paths in alike.items():
        values: list[Any] = [made[path] for path in paths]
        usual = max(values, key=values.count)
        covered = set[str]()
        if _matched(_any_depth(name), made) == set(paths):
            general.append((_any_depth(name), usual))
            covered = {
                path for path, x in zip(paths, values, strict=True) if x == usual
            }
        for path in paths:
            if path not in covered:
                glob = _only(path, made)
                covered |= _matched(glob, made)
                special.append((glob, made[path]))
    if len({repr(x) for x in made.values()}) == 1:
        return [("**", x) for x in list(made.values())[:1]]
    return list(_without_idle([*special, *general], made))


def _without_idle(
    rules: list[tuple[str, Any]], made: Mapping[str, Any]
) -> Iterator[tuple[str, Any]]:
    """Yields the rules, without those whose paths all match an earlier rule."""
    taken = set[str]()
    for glob, value in rules:
        matched = _matched(glob, made)
        if not matched <= taken:
            yield glob, value
        taken |= matched


def _only(path: str, made: Mapping[str, Any]) -> str:
    """The shortest glob that matches a path and no path of another value."""
    for glob in _globs(path):
        if all(made[x] == made[path] for x in _matched(glob, made)):
            return glob
    return exact_glob(path)


def _globs(path: str) -> Iterator[str]:
    """Yields globs for the ends of a path, from general to special."""
    names = path.split("/")
    for i in reversed(range(len(names))):
        end = "/".join(names[i:])
        for glob in (starred(end), exact_glob(end)):
            yield _any_depth(glob) if i else glob


def _matched(glob: str, made: Mapping[str, Any]) -> set[str]:
    """The paths that a glob matches."""
    matches: Any = compile_pattern(glob)  # a glob does not read the array
    return {path for path in made if matches(path, None)}


def _any_depth(glob: str) -> str:
    return f"**/{glob}"


def starred(path: str) -> str:
    """The glob of a path with ``*`` for each number."""
    return re.sub(r"\d+", "*", exact_glob(path))


def exact_glob(path: str) -> str:
    """The glob that matches only this path."""
    return re.sub(r"([*?[])", r"[\1]", path)
