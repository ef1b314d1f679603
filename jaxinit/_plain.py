"""Reads the configs of any library as plain data: dicts, lists and tuples.

A node of OmegaConf is a Mapping or a Sequence. A ``ConfigDict`` of ml_collections has
``keys`` and ``[]``, which are enough for ``dict()``. This module imports neither.
"""

import itertools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ._checks import printable, short

DEPTH = 32  # most levels of the config of an initializer; real configs have far fewer
_LONGEST = 1000  # most characters of a key of a config
_SIZE = 2_000_000  # most values of a config, array elements included
_SCALARS = frozenset({int, float, bool, str, type(None)})
_TEXTS = (str, bytes, bytearray, memoryview)


def is_mapping(value: Any) -> bool:
    """True for a Mapping, and for an object that ``dict()`` reads as one."""
    kind = type(value)
    if kind in _SCALARS:
        return False
    has_keys = hasattr(kind, "keys") and hasattr(kind, "__getitem__")
    return has_keys or isinstance(value, Mapping)


def is_sequence(value: Any) -> bool:
    """True for a Sequence that is not text."""
    return isinstance(value, Sequence) and not isinstance(value, _TEXTS)


def is_sorted(mapping: Any) -> bool:
    """True if a mapping may have lost the order in which the user wrote its keys.

    A ConfigDict sorts its keys; ``ConfigDict(..., sort_keys=False)`` does not.
    """
    if isinstance(mapping, Mapping) or not getattr(mapping, "_sort_keys", True):
        return False
    keys = list(mapping.keys())
    return len(keys) > 1 and all(a <= b for a, b in itertools.pairwise(keys))


def items(mapping: Any, place: str = "") -> list[tuple[Any, Any]]:
    """Returns the keys and values of a mapping.

    Args:
        mapping: An object for which `is_mapping` is True.
        place: Place of the mapping in its config, for errors.

    Raises:
        ValueError: If OmegaConf or ml_collections has no value for a key or for the
            mapping: for ``"???"``, or an interpolation of an unknown name.
    """
    if isinstance(mapping, dict):
        return list(mapping.items())
    keys = _read(lambda: list(mapping.keys()), place)
    if not keys:
        _check_empty(mapping, place)
    return [
        (key, _read(lambda key=key: mapping[key], _below(place, key))) for key in keys
    ]


def elements(sequence: Any, place: str = "") -> list[Any]:
    """Returns the elements of a sequence; see `items`."""
    if isinstance(sequence, list | tuple):
        return list(sequence)
    length = _read(lambda: len(sequence), place)
    if not length:
        _check_empty(sequence, place)
    return [_read(lambda i=i: sequence[i], _below(place, i)) for i in range(length)]


def plain(config: Any, depth: int = DEPTH) -> Any:
    """Returns a config as dicts, lists and tuples.

    Args:
        config: A mapping, a sequence or a scalar, nested as you like. Values of other
            classes stay unchanged.
        depth: Largest number of levels.

    Raises:
        TypeError: If a key is not a string.
        ValueError: If a value is missing, a key is too long, or the config is too deep
            or too large.
    """
    return _Reader(depth).read(config, "", depth)


class _Reader:
    """Copies one config, and counts its values."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.left = _SIZE

    def read(self, value: Any, place: str, levels: int) -> Any:
        if is_mapping(value):
            pairs = items(value, place)
            self.count(len(pairs), levels)
            made: dict[str, Any] = {}
            for key, inner in pairs:
                made[key] = self.read(inner, _below(place, _checked(key)), levels - 1)
            return made
        if not is_sequence(value):
            return value
        is_plain = type(value) in (list, tuple)
        inners = value if is_plain else elements(value, place)
        self.count(len(inners), levels)
        if is_plain and _SCALARS.issuperset(map(type, inners)):
            return value  # a row of an array
        copies: list[Any] = []
        for i, inner in enumerate(inners):
            copies.append(self.read(inner, _below(place, i), levels - 1))
        return tuple(copies) if isinstance(value, tuple) else copies

    def count(self, length: int, levels: int) -> None:
        self.left -= length
        if self.left < 0:
            raise ValueError(f"The config holds more than {_SIZE} values.")
        if length and levels < 2:
            raise ValueError(
                f"The config is nested more than {self.depth} levels deep."
            )


def _checked(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"Keys of a config must be str; got {short(key)}.")
    if len(key) > _LONGEST:
        raise ValueError(
            f"Keys of a config must have at most {_LONGEST} characters; got "
            f"{short(key)}."
        )
    return key


def _below(place: str, name: Any) -> str:
    return f"{place}/{name}" if place else str(name)


def _check_empty(node: Any, place: str) -> None:
    """Raises an error for a node of OmegaConf that only looks empty.

    A node has no keys and the length 0 if its value is missing, None or an
    interpolation.
    """
    omegaconf: Any = sys.modules.get("omegaconf")
    if omegaconf is None or not omegaconf.OmegaConf.is_config(node):
        return

    def check() -> None:
        config = omegaconf.OmegaConf
        found = config.to_container(node, resolve=True, throw_on_missing=True)
        if found is None or found:
            raise ValueError(f"the node holds {node}")

    _read(check, place)


def _read(get: Any, place: str) -> Any:
    """Returns ``get()``; an error gets the place in the config."""
    try:
        return get()
    except Exception as e:  # the errors of these libraries have no common class
        reason = printable(str(e).strip().partition("\n")[0] or type(e).__name__)
        where = printable(place) or "the config"
        raise ValueError(f"{where} has no value: {reason}") from None
