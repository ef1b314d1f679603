"""Arguments that other libraries' functions of the same name read otherwise."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from .._checks import short


@dataclasses.dataclass(frozen=True)
class _Other:
    """A positional argument that jax.nn.initializers reads otherwise.

    Attributes:
        function: The function of ``jax.nn.initializers``.
        position: Position of the argument, from 0.
        theirs: Its name there.
        ours: Its name here.
        cure: What to write for the argument of that function.
    """

    function: str
    position: int
    theirs: str
    ours: str
    cure: str


# Only calls that both libraries take and read in two ways: TruncatedNormal(0.0, 0.02)
# is none, as the second argument of jax.nn's function is a dtype.
_OTHERS = {
    "TruncatedNormal": _Other("truncated_normal", 0, "stddev", "mean", "stddev={}"),
    "DeltaOrthogonal": _Other(
        "delta_orthogonal", 1, "column_axis", "batch_axis", "nothing"
    ),
}


def refuse_arguments(cls: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuses arguments that a built-in class lacks, or that jax.nn reads otherwise.

    Raises:
        TypeError: If there is one.
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
            f"{cls.__name__}({', '.join(map(short, args))}): {short(value)} would be "
            f"its {other.ours}, and is the {other.theirs} of "
            f"jax.nn.initializers.{other.function}. Write "
            f"{other.cure.format(short(value))} for the latter, else "
            f"{other.ours}={short(value)}."
        )
