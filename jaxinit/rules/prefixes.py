"""Prefixes by which the paths of a checkpoint and of a tree differ, as "params/"."""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

_MOST = 4  # prefixes that are tried, the most frequent ones


def prefix_cure(
    names: Sequence[str], known: Iterable[str], has_place: Callable[[str], bool]
) -> tuple[str, int] | None:
    """Returns a function for ``rename`` that gives names a place in the tree.

    Args:
        names: The paths of the checkpoint.
        known: The paths of the tree.
        has_place: True for a path of the checkpoint that the tree has.

    Returns:
        The function as text, and the number of names to which it gives a place. It is
        the function with most of them; None if there is none.

    Example:
        >>> known = {"params/w", "params/b"}
        >>> prefix_cure(["model/w", "model/b"], known, known.__contains__)
        ("lambda path: 'params/' + path.removeprefix('model/')", 2)
    """
    starts = ["", *_frequent(re.findall(r"^[^./]*[./]", name) for name in names)]
    tops = ["", *_frequent(re.findall(r"^[^/]*/", path) for path in known)]
    best = None
    for start, top in itertools.product(starts, tops):
        count = sum(has_place(top + name.removeprefix(start)) for name in names)
        if (start or top) and count > (best[1] if best else 0):
            best = _text(start, top), count
    return best


def _frequent(found: Iterable[list[str]]) -> list[str]:
    """Returns the most frequent prefixes, of those found in each name."""
    counts = Counter(prefix for prefixes in found for prefix in prefixes)
    return [prefix for prefix, _ in counts.most_common(_MOST)]


def _text(start: str, top: str) -> str:
    added = f"{top!r} + " if top else ""
    return f"lambda path: {added}path{f'.removeprefix({start!r})' if start else ''}"
