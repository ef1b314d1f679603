"""Globs of names and paths, parsed and matched without expensive cases.

For some globs `fnmatch` takes quadratic time, and a rule may come from a file that
somebody else wrote.
"""

import bisect
import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import TypeAlias

# A star, a question mark, brackets (their first character may be a "]"), or text.
_TOKEN = re.compile(r"[*?]|\[!?+.[^]]*]|\[|[^*?[]+", re.DOTALL)
_PLAIN = re.compile(r"[*?]|[^*?]+")

# A pattern for one character: the character, or a set of characters.
Item: TypeAlias = "str | Charset"


@dataclasses.dataclass(frozen=True)
class Charset:
    """The characters that a pair of brackets matches.

    Attributes:
        starts: First characters of the ranges, ascending; ranges are disjoint.
        ends: Last characters of the ranges.
        negated: Whether the brackets match the characters outside of the ranges.
    """

    starts: tuple[str, ...]
    ends: tuple[str, ...]
    negated: bool

    def __contains__(self, character: str) -> bool:
        """True if the brackets match a character."""
        i = bisect.bisect_right(self.starts, character) - 1
        return (i >= 0 and character <= self.ends[i]) != self.negated


@dataclasses.dataclass(frozen=True)
class Name:
    """A glob of one level of a path.

    Attributes:
        parts: The parts between stars. A part is a text, or a list of items if it has
            a "?" or brackets.
    """

    parts: tuple[str | list[Item], ...]

    def matches(self, name: str) -> bool:
        """True if the glob matches a name."""
        first, *middle = self.parts
        if not middle:
            return len(first) == len(name) and _is_at(first, name, 0)
        last = middle.pop()
        end = len(name) - len(last)
        start = len(first)
        if start > end or not (_is_at(first, name, 0) and _is_at(last, name, end)):
            return False
        # A part has a fixed length. So its leftmost place leaves most to the rest.
        for part in middle:
            at = _find(part, name, start, end)
            if at < 0:
                return False
            start = at + len(part)
        return True


def parse_name(text: str) -> Name:
    """Parses a glob of a name: ``*``, ``?``, ``[a-z]`` and ``[!a-z]``, as in `fnmatch`.

    Example:
        >>> parse_name("block_[0-9]*").matches("block_12")
        True
    """
    if "*" not in text and "?" not in text and "[" not in text:
        return Name((text,))
    # After the last "]" a "[" is plain text. So no search for its end is needed.
    end = text.rfind("]") + 1
    parts: list[str | list[Item]] = []
    part: list[Item] = []
    for token in (*_TOKEN.findall(text, 0, end), *_PLAIN.findall(text, end)):
        if token == "*":
            parts.append(_joined(part))
            part = []
        elif token == "?":
            part.append(_ANY)
        elif len(token) > 2 and token[0] == "[" and token[-1] == "]":
            part.append(_charset(token[1:-1]))
        else:
            part.append(token)
    return Name((*parts, _joined(part)))


def match_levels(levels: Sequence[Name | None], names: Sequence[str]) -> bool:
    """True if globs match the levels of a path; None matches any number of levels.

    Example:
        >>> match_levels([None, parse_name("kernel")], ["block", "mlp", "kernel"])
        True
    """
    i = j = 0
    retry: tuple[int, int] | None = None  # positions after the last None
    while j < len(names):
        level = levels[i] if i < len(levels) else _END
        if level is None:
            i += 1
            retry = i, j
        elif level.matches(names[j]):
            i, j = i + 1, j + 1
        elif retry is not None:
            i, j = retry[0], retry[1] + 1
            retry = i, j
        else:
            return False
    return all(levels[k] is None for k in range(i, len(levels)))


@functools.lru_cache(1024)
def _charset(text: str) -> Charset:
    negated = text[0] == "!"
    text = text.removeprefix("!")
    ranges: list[tuple[str, str]] = []
    i = 0
    while i < len(text):
        if text[i + 1 : i + 2] == "-" and i + 2 < len(text):
            low, high = text[i], text[i + 2]
            i += 3
        else:
            low = high = text[i]
            i += 1
        if low <= high:
            ranges.append((low, high))
    starts: list[str] = []
    ends: list[str] = []
    for low, high in sorted(set(ranges)):
        if ends and low <= ends[-1]:
            ends[-1] = max(ends[-1], high)
        else:
            starts.append(low)
            ends.append(high)
    return Charset(tuple(starts), tuple(ends), negated)


def _joined(part: list[Item]) -> str | list[Item]:
    """Returns a part as one text if it has no "?" and no brackets, else as items."""
    texts = [item for item in part if isinstance(item, str)]
    if len(texts) == len(part):
        return "".join(texts)
    return [c for item in part for c in (item if isinstance(item, str) else (item,))]


def _is_at(part: str | list[Item], name: str, at: int) -> bool:
    if isinstance(part, str):
        return name.startswith(part, at)
    return all(name[at + k] in item for k, item in enumerate(part))


def _find(part: str | list[Item], name: str, start: int, end: int) -> int:
    """Returns the leftmost place of a part between two positions, or -1."""
    if isinstance(part, str):
        return name.find(part, start, end)
    places = range(start, end - len(part) + 1)
    return next((at for at in places if _is_at(part, name, at)), -1)


_ANY = Charset((), (), negated=True)
_END = Name(("/",))  # matches no name, because names have no slash
