"""Refuses arguments that mean something else in jax.nn.initializers."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from .._checks import short


@dataclasses.dataclass(frozen=True)
class _Other:
    """A positional argument with another meaning in jax.nn.initializers.

    Attributes:
        function: The function of ``jax.nn.initializers``.
        position: Position of the argument, from 0.
        theirs: Name of the argument in jax.nn.
        ours: Name of the argument here.
        cure: The argument to write for the meaning of jax.nn.
    """

    function: str
    position: int
    theirs: str
    ours: str
    cure: str


# Only calls that are valid in both libraries and mean different things. For instance
# TruncatedNormal(0.0, 0.02) is not valid in jax.nn, where a dtype comes second.
_OTHERS = {
    "TruncatedNormal": _Other("truncated_normal", 0, "stddev", "mean", "stddev={}"),
    "DeltaOrthogonal": _Other(
        "delta_orthogonal", 1, "column_axis", "batch_axis", "nothing"
    ),
}


def refuse_arguments(cls: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuses arguments that a class lacks, or that mean something else in jax.nn.

    Raises:
        TypeError: If there is such an argument.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    for name in kwargs:
        if name not in names:
            close = difflib.get_close_matches(name[:80], names, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise TypeError(
                f"{cls.__name__} has no argument {short(name)}.{hint} Its arguments "
                f"are: {', '.join(names) or 'none'}."
            )
    other = _OTHERS.get(cls.__name__)
    if other is None or len(args) != other.position + 1:
        return
    value = args[-1]
    if isinstance(value, int | float) and names[len(args)] not in kwargs:
        raise TypeError(
            f"{cls.__name__}({', '.join(map(short, args))}): {short(value)} is the "
            f"{other.ours} here, but the {other.theirs} in "
            f"jax.nn.initializers.{other.function}. For {other.theirs} write "
            f"{other.cure.format(short(value))}; for {other.ours} write "
            f"{other.ours}={short(value)}."
        )
