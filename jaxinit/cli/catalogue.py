"""``list``: every registered initializer."""

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

import jaxinit


def catalogue() -> Iterator[str]:
    """Lines: identifiers, call with its defaults, and what it does."""
    by_class: dict[type, list[str]] = {}
    for name, cls in jaxinit.names().items():
        by_class.setdefault(cls, []).append(name)
    for cls in sorted(by_class, key=lambda cls: cls.__name__):
        names = sorted(by_class[cls], key=lambda name: (not name.islower(), name))
        yield ", ".join(names)
        yield from _wrapped(_call(cls))
        yield from _wrapped(_summary(cls))
    yield ""
    yield f"{len(by_class)} initializers; try: python -m jaxinit show he_normal"


def _call(cls: type) -> str:
    fields = [
        f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default!r}"
        for f in dataclasses.fields(cls)
    ]
    return f"{cls.__name__}({', '.join(fields)})"


def _summary(cls: Any) -> str:
    doc = (cls.function or cls).__doc__ or ""
    return doc.strip().partition("\n")[0].partition(". ")[0].replace("`", "")


def _wrapped(text: str) -> list[str]:
    indent = " " * 4
    return textwrap.wrap(
        text, 88, initial_indent=indent, subsequent_indent=indent + " " * 4
    )
