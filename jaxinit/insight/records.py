"""Converts dataclasses to JSON data and back. Infinities and NaN become text."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from .._checks import short

_TEXTS = "inf", "-inf", "nan"


def plain(record: Any) -> dict[str, Any]:
    """Returns a dataclass, and the dataclasses in it, as JSON data."""
    return _plain(dataclasses.asdict(record))


def read(kind: type[Any], data: Any) -> Any:
    """Builds a dataclass from its JSON data.

    Raises:
        TypeError: If a field is missing, unknown or of another type.
        OverflowError: If an integer is too large for a float.
    """
    if not isinstance(data, dict):
        raise TypeError(f"{short(data)} is no {kind.__name__}")
    hints = typing.get_type_hints(kind)
    fields: dict[str, Any] = {}
    for name, x in data.items():
        hint = hints.get(name)
        allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else [hint]
        x = tuple(x) if isinstance(x, list) else x
        if float in allowed and (x in _TEXTS or type(x) is int):
            x = float(x)
        if hint is not None and not any(_is_a(x, one) for one in allowed):
            raise TypeError(f"{kind.__name__}.{name} is {short(x)}")
        fields[name] = x
    return kind(**fields)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(x) for key, x in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(x) for x in value]
    return value


def _is_a(x: Any, hint: Any) -> bool:
    """True if a value has a type, such as ``tuple[int, ...]``."""
    if typing.get_origin(hint) is tuple:
        of = typing.get_args(hint)[0]
        return isinstance(x, tuple) and all(isinstance(y, of) for y in x)
    return isinstance(x, hint)
