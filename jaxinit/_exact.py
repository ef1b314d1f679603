"""Keys of caches that tell apart values which Python takes for equal.

These are -0.0 and 0.0, and 1, 1.0 and True, also in tuples and frozen dataclasses.
"""

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np

_PLAIN = {bool, int, str, type(None)}


@dataclasses.dataclass(frozen=True)
class Exact:
    """A value to be a key of a cache.

    Attributes:
        key: Equal for equal values whose numbers have the same types and bits.
        value: The value.
    """

    key: Hashable
    value: Any = dataclasses.field(compare=False)

    @classmethod
    def of(cls, value: Any) -> "Exact":
        """The key of a hashable value, or of a dict of them."""
        if isinstance(value, dict):
            return cls((*value, *map(exact, value.values())), value)
        return cls(exact(value), value)


def exact(value: Any) -> Hashable:
    """A form that is equal for equal values whose numbers have the same bits.

    It has a hash if the value has one.

    Example:
        >>> exact((1, -0.0)) == exact((1, -0.0))
        True
        >>> exact((1, 0.0)) in (exact((1, -0.0)), exact((True, 0.0)), exact((1.0, 0.0)))
        False
    """
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if isinstance(value, float | complex | np.inexact):
        return kind, repr(value)
    if isinstance(value, tuple):
        return kind, tuple(map(exact, value))
    if isinstance(value, frozenset):
        return kind, frozenset(map(exact, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        held = [getattr(value, f.name) for f in dataclasses.fields(value) if f.compare]
        return kind, value, tuple(exact(x) for x in held if _has_hash(x))
    return kind, value


def _has_hash(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
