"""``list``: every registered initializer."""

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

import jaxinit


def catalogue() -> Iterator[str]:
    """Lines for each class: its names, its call with the defaults, its first line."""
    names: dict[Any, list[str]] = {}
    for name, cls in jaxinit.names().items():
        names.setdefault(cls, []).append(name)
    for cls in sorted(names, key=lambda cls: cls.__name__):
        yield ", ".join(sorted(names[cls], key=lambda name: (not name.islower(), name)))
        doc = (cls.function or cls).__doc__ or ""
        summary = doc.strip().partition("\n")[0].partition(". ")[0].replace("`", "")
        for text in (_call(cls), summary):
            yield from textwrap.wrap(
                text, 88, initial_indent=" " * 4, subsequent_indent=" " * 8
            )
    yield f"\n{len(names)} initializers; try: jaxinit show he_normal"


def _call(cls: type) -> str:
    fields = [
        f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default!r}"
        for f in dataclasses.fields(cls)
    ]
    return f"{cls.__name__}({', '.join(fields)})"
