"""Reads plain data from YAML text, within bounds and without other tags.

PyYAML parses the text into events. This file builds the values from the events, because
PyYAML would build any object that a tag names, and expand aliases without a bound.
"""

from collections.abc import Iterator
from typing import Any

from ._checks import printable, short

_DEPTH = 100  # most levels of nesting
_NUMBER = 1000  # most characters of a number
_REPEATED = 100_000  # most values that aliases may add
_TAG = "tag:yaml.org,2002:"
_QUOTES = "Patterns need quotes: '**/bias': zeros."
_SCALARS = ("null", "bool", "int", "float", "str")


def import_yaml() -> Any:
    """Returns the module of PyYAML, or raises an error that names the extra."""
    try:
        import yaml
    except ImportError as e:
        raise ImportError(
            "YAML files need PyYAML: pip install 'jaxinit[yaml]', or use .json."
        ) from e
    return yaml


def loads(text: str) -> Any:
    """Returns the plain data in a YAML text with one document.

    Numbers, booleans and null are read as by ``yaml.safe_load``. A date is text.
    Aliases and merge keys (``<<``) may add a bounded number of values.

    Raises:
        ValueError: If the text is not YAML, has another tag, repeats a key, is nested
            too deep, or repeats too many values by aliases.
    """
    yaml = import_yaml()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Reader(yaml, yaml.parse(text, loader)).read()
    except yaml.YAMLError as e:
        raise ValueError(_message_of(e)) from None


class _Reader:
    """Builds values from events.

    Attributes:
        anchors: The value of each anchor.
        plain: The value of each plain scalar that was read.
        sizes: The number of values in each mapping or list, by its id.
        repeated: The number of values that aliases have added.
    """

    def __init__(self, yaml: Any, events: Iterator[Any]):
        self.yaml = yaml
        self.events = events
        self.resolver = yaml.resolver.Resolver()
        self.constructor = yaml.constructor.SafeConstructor()
        self.anchors: dict[str, Any] = {}
        self.plain: dict[str, Any] = {}
        self.sizes: dict[int, int] = {}
        self.repeated = 0
        self.depth = 0

    def read(self) -> Any:
        yaml = self.yaml
        value, documents = None, 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _error_at(event, "a second document begins.")
                value = self.value(next(self.events))
        return value

    def value(self, event: Any) -> Any:
        yaml = self.yaml
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        if isinstance(event, yaml.ScalarEvent):
            is_plain = event.tag is None and event.implicit[0]
            if is_plain and event.value in self.plain:
                made = self.plain[event.value]
            else:
                made = self.scalar(event)
                if is_plain:
                    self.plain[event.value] = made
        else:
            self.depth += 1
            if self.depth > _DEPTH:
                raise _error_at(event, f"nested more than {_DEPTH} levels deep.")
            is_list = isinstance(event, yaml.SequenceStartEvent)
            made = self.list(event) if is_list else self.mapping(event)
            self.depth -= 1
        if event.anchor is not None:
            self.anchors[event.anchor] = made
        return made

    def alias(self, event: Any) -> Any:
        if event.anchor not in self.anchors:
            what = f"the alias {short(event.anchor)} is undefined."
            raise _error_at(event, f"{what} {_QUOTES}")
        made = self.anchors[event.anchor]
        self.repeated += self.size(made)
        if self.repeated > _REPEATED:
            raise _error_at(event, f"aliases repeat more than {_REPEATED} values.")
        return made

    def size(self, made: Any) -> int:
        return self.sizes.get(id(made), 1) if isinstance(made, dict | list) else 1

    def list(self, event: Any) -> list[Any]:
        self.check_tag(event, "seq")
        made: list[Any] = []
        for inner in self.events:
            if isinstance(inner, self.yaml.SequenceEndEvent):
                break
            made.append(self.value(inner))
        self.sizes[id(made)] = 1 + sum(map(self.size, made))
        return made

    def mapping(self, event: Any) -> dict[str, Any]:
        self.check_tag(event, "map")
        made: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for inner in self.events:
            if isinstance(inner, self.yaml.MappingEndEvent):
                break
            if self.is_merge(inner):
                merged = self.merged(inner, self.value(next(self.events))) | merged
                continue
            name = self.value(inner)
            if not isinstance(name, str):
                raise _error_at(inner, f"the key {short(name)} is not text: quote it.")
            if name in made:
                raise _error_at(inner, f"the key {short(name)} is there twice.")
            made[name] = self.value(next(self.events))
        made = merged | made if merged else made
        self.sizes[id(made)] = 1 + sum(map(self.size, made.values()))
        return made

    def is_merge(self, event: Any) -> bool:
        plain = isinstance(event, self.yaml.ScalarEvent) and event.implicit[0]
        return plain and event.value == "<<"

    def merged(self, event: Any, value: Any) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for part in value if isinstance(value, list) else [value]:
            if not isinstance(part, dict):
                raise _error_at(event, "'<<' takes a mapping or a list of mappings.")
            made = part | made
        return made

    def scalar(self, event: Any) -> Any:
        if event.tag not in (None, "!"):
            kind = event.tag.removeprefix(_TAG)
            if kind not in _SCALARS:
                raise _error_at(event, f"the tag {short(event.tag)} is not read.")
        else:
            node = self.yaml.ScalarNode
            tag = self.resolver.resolve(node, event.value, event.implicit)
            kind = tag.removeprefix(_TAG)
            kind = kind if kind in _SCALARS else "str"
        if kind == "str":
            return event.value
        if kind == "null":
            return None
        read = getattr(self.constructor, f"construct_yaml_{kind}")
        try:
            if len(event.value) > _NUMBER:
                raise ValueError
            return read(self.yaml.ScalarNode(_TAG + kind, event.value))
        except (ValueError, LookupError, ArithmeticError):
            what = f"{short(event.value)} is not a valid {kind}."
            raise _error_at(event, what) from None

    def check_tag(self, event: Any, kind: str) -> None:
        if event.tag not in (None, "!", _TAG + kind):
            raise _error_at(event, f"the tag {short(event.tag)} is not read.")


def _error_at(event: Any, what: str) -> ValueError:
    mark = event.start_mark
    return ValueError(f"line {mark.line + 1}, column {mark.column + 1}: {what}")


def _message_of(e: Exception) -> str:
    """Returns the message of PyYAML in one line, without lines of the text."""
    mark = getattr(e, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    parts = [getattr(e, name, None) for name in ("context", "problem")]
    what = " ".join(part for part in parts if part) or str(e)
    cure = f". {_QUOTES}" if "alias" in what else ""
    return printable(f"{place}{what}", 200) + cure
