r"""Identifiers with arguments, such as ``"normal(stddev=0.02)"``.

    identifier = name "(" [ argument { "," argument } [ "," ] ] ")"
    argument   = word "=" value
    value      = number | text | "True" | "False" | "None" | list | tuple

Numbers, text in quotes, lists and tuples have the syntax of Python. ``inf`` is a
number. In a text, a backslash escapes a quote or a backslash, and nothing else. The
parser makes only plain values. It evaluates nothing.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from .._checks import short

LONGEST = 1000  # most characters of an identifier with arguments
_DEPTH = 8  # most levels of lists; real arguments have two
_TOKEN = re.compile(
    r"""(?P<number> [+-]? (?: inf\b | (?: \d+\.?\d* | \.\d+ ) (?: [eE][+-]?\d+ )? ))
      | (?P<text> "(?: [^"\\] | \\. )*" | '(?: [^'\\] | \\. )*' )
      | (?P<word> [A-Za-z_]\w* )
      | (?P<mark> [=,()\[\]] )""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_SPACE = re.compile(r"\s*", re.ASCII)
_WORDS = {"True": True, "False": False, "None": None}
_CLOSING = {"(": ")", "[": "]"}


class _Token(NamedTuple):
    """A token: its kind, which is empty at the end, its text and its position."""

    kind: str
    text: str
    position: int


def has_arguments(identifier: str) -> bool:
    """True if the identifier has an opening parenthesis."""
    return "(" in identifier


def name_of(identifier: str) -> str:
    """Returns the name in front of the arguments.

    Raises:
        ValueError: If the identifier is too long.
    """
    if len(identifier) > LONGEST:
        raise ValueError(
            f"An identifier with arguments must have at most {LONGEST} characters; got "
            f"{short(identifier)}. Write a config with 'class_name' and 'config'."
        )
    return identifier.partition("(")[0].strip()


def arguments_of(identifier: str, names: Sequence[str] = ()) -> dict[str, Any]:
    """Returns the arguments by name.

    Args:
        identifier: A text with `has_arguments`, not longer than `LONGEST`.
        names: Names of the existing arguments, for error messages.

    Raises:
        ValueError: If the text is not an identifier. The message gives the position.

    Example:
        >>> arguments_of("blocks(initializer='normal(stddev=0.1)', sizes=(2, 3))")
        {'initializer': 'normal(stddev=0.1)', 'sizes': (2, 3)}
    """
    return _Parser(identifier, names).arguments()


class _Parser:
    """Reads the tokens of one identifier from left to right."""

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text = text
        self.names = names
        self.token = _Token("", "", 0)
        self.end = text.index("(")
        self.advance()

    def advance(self) -> _Token:
        """Moves to the next token, and returns the current one."""
        token = self.token
        start = _SPACE.match(self.text, self.end).end()  # pyright: ignore
        found = _TOKEN.match(self.text, start)
        if found is None and start < len(self.text):
            self.token = _Token("", self.text[start], start)
            quote = self.token.text in "\"'"
            raise self.error("the quote has no end" if quote else self.unexpected())
        self.token = _Token("", "", start)
        if found is not None:
            self.token = _Token(str(found.lastgroup), found[0], start)
            self.end = found.end()
        return token

    def accept(self, mark: str) -> bool:
        """If the current token is this mark, moves on and returns True."""
        if self.token.kind != "mark" or self.token.text != mark:
            return False
        self.advance()
        return True

    def expect(self, marks: str) -> None:
        """Raises an error if the current token is none of the marks."""
        if self.token.kind != "mark" or self.token.text not in marks:
            wanted = " or ".join(map(repr, marks))
            raise self.error(f"{wanted} is missing: {self.unexpected()}")

    def arguments(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        self.accept("(")
        while not self.accept(")"):
            word = self.token
            if word.kind != "word" or word.text in _WORDS:
                raise self.unnamed(word)
            self.advance()
            if not self.accept("="):
                raise self.unnamed(word)
            if word.text in made:
                self.token = word
                raise self.error(f"{short(word.text)} is there twice")
            made[word.text] = self.value(0)
            self.expect(",)")
            self.accept(",")
        if self.token != _Token("", "", len(self.text)):
            raise self.error(f"text follows: {self.unexpected()}")
        return made

    def value(self, depth: int) -> Any:
        token = self.token
        if token.kind == "mark" and token.text in _CLOSING:
            return self.values(depth)
        if token.kind == "word" and token.text not in _WORDS:
            cure = f"write {token.text!r} in quotes"
            lower = token.text.lower()
            if lower in ("true", "false", "none", "null"):
                cure = "write True, False or None"
            elif lower in ("inf", "infinity"):
                cure = "write inf"
            elif lower == "nan":
                cure = "write a number"
            raise self.error(f"{short(token.text)} is no value: {cure}")
        if token.kind in ("", "mark"):
            raise self.error(f"a value is missing: {self.unexpected()}")
        self.advance()
        if token.kind == "word":
            return _WORDS[token.text]
        if token.kind == "text":
            return self.unquoted(token)
        return self.number(token)

    def number(self, token: _Token) -> int | float:
        digits = token.text.lstrip("+-")
        if not digits.isdigit():
            return float(token.text)
        if digits[0] == "0" and digits.strip("0"):  # an octal number in C
            self.token = token
            raise self.error(f"{short(token.text)} starts with a zero")
        return int(token.text)

    def values(self, depth: int) -> Any:
        """Reads a list or tuple. One value in parentheses is the value itself."""
        if depth == _DEPTH:
            raise self.error(f"lists are nested more than {_DEPTH} levels deep")
        opening = self.advance().text
        closing = _CLOSING[opening]
        made: list[Any] = []
        has_comma = False
        while not self.accept(closing):
            made.append(self.value(depth + 1))
            self.expect("," + closing)
            has_comma |= self.accept(",")
        if opening == "[":
            return made
        return made[0] if len(made) == 1 and not has_comma else tuple(made)

    def unquoted(self, token: _Token) -> str:
        inner = token.text[1:-1]
        wrong = re.search(r"\\[^\\'\"]", re.sub(r"\\\\", "", inner))
        if wrong is not None:
            self.token = token
            raise self.error(f"the escape {short(wrong[0])} is not read")
        return re.sub(r"\\(.)", r"\1", inner)

    def unnamed(self, token: _Token) -> ValueError:
        names = f" The names are {', '.join(self.names)}." if self.names else ""
        self.token = token
        what = f"each argument needs its name, as in stddev=0.02: {self.unexpected()}"
        return ValueError(f"{self.error(what)}{names}")

    def unexpected(self) -> str:
        shown = short(self.token.text) if self.token.text else "the end"
        return f"{shown} stands there"

    def error(self, what: str) -> ValueError:
        """The error at the current token."""
        place = f"character {self.token.position + 1}"
        return ValueError(f"{short(self.text)}, {place}: {what}.")
