"""Readings of a shape: the axes that an initializer counts as inputs and outputs."""

import inspect
import math
from collections.abc import Iterator
from typing import Any

from .._fans import compute_fans

Shape = tuple[int, ...]
_AXES = ("in_axis", "out_axis", "batch_axis")
_DEFAULT = (-2, -1, ())
_WINDOWS = {8, 14, 16, 32}  # sides of the square patches of vision models


def reads_layout(initializer: Any) -> bool:
    """True if the values depend on which axes are inputs and which are outputs.

    False for an initializer with axes named by arguments, and for an unknown function.
    """
    known = getattr(initializer, "reads_layout", None)
    return bool(_closure_axes(initializer)) if known is None else known


def fans_of(initializer: Any, shape: Shape) -> tuple[int, int] | None:
    """Returns fan-in and fan-out as an initializer counts them, or None.

    Args:
        initializer: The initializer; None for the unknown initializer of the model.
        shape: Shape of one call.
    """
    default = _DEFAULT if initializer is None or reads_layout(initializer) else None
    axes = next(_axes(initializer), default)
    if axes is None:
        return None
    try:
        return compute_fans("fans", shape, *axes)
    except ValueError:
        return None


def ambiguity(shape: Shape, is_known: bool) -> str | None:
    """Returns a message if a shape can be one kernel or a stack of kernels, else None.

    A matrix has one reading, and so has a shape with the window of a convolution.

    Args:
        shape: Shape of one call.
        is_known: Whether the shape is read from the graph of a function.
    """
    if len(shape) < 3 or 0 in shape or (len(shape) > 3 and _is_window(shape[:-2])):
        return None
    stacked = shape[:-2]
    fans = compute_fans("fans", shape, *_DEFAULT)
    inner = compute_fans("fans", shape[-2:], *_DEFAULT)
    axes = tuple(range(len(stacked)))
    cure = (
        "Pass the shapes of jaxinit.eval_shape(fn, ...), which know how the model "
        "draws. Or give the initializer its axes"
    )
    if is_known:  # the graph was read, and did not tell
        cure = (
            "The model computes this leaf from its draw, so the draw does not tell "
            "which. Give the initializer its axes"
        )
    return (
        f"its shape has two readings: one kernel of {math.prod(stacked)} taps, with "
        f"fan_in {fans[0]} and fan_out {fans[1]}; or {math.prod(stacked)} stacked "
        f"kernels {shape[-2:]}, with fan_in {inner[0]} and fan_out {inner[1]}. "
        f"{cure}: in_axis={len(shape) - 2}, out_axis={len(shape) - 1} for the first, "
        f"batch_axis={axes} for the second."
    )


def _is_window(sides: Shape) -> bool:
    """True if leading sizes look like the window of a convolution.

    Windows are square, or odd on each side, or 1 on one. 5 x 4 may be layers and heads.
    """
    a, b = sides[-2:]
    if a != b and 1 not in (a, b) and not a % 2 == b % 2 == 1:
        return False
    small = all(n <= 5 or (n <= 11 and n % 2) for n in sides)
    return small or (len(set(sides)) == 1 and sides[0] in _WINDOWS)


def _axes(initializer: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Yields the axes of the initializer, or of its inner initializers."""
    if hasattr(initializer, "in_axis"):
        yield tuple(getattr(initializer, name) for name in _AXES)  # pyright: ignore
        return
    found = _closure_axes(initializer)
    if found:
        yield found
    for held in vars(initializer).values() if hasattr(initializer, "__dict__") else ():
        for inner in held if isinstance(held, tuple) else (held,):
            if callable(inner):
                yield from _axes(inner)


def _closure_axes(initializer: Any) -> tuple[Any, Any, Any] | None:
    """Returns the axes of an initializer of jax.nn if they are default, else None."""
    if not inspect.isfunction(initializer):
        return None
    held = inspect.getclosurevars(initializer).nonlocals
    axes = tuple(held.get(name) for name in _AXES)
    return _DEFAULT if axes == _DEFAULT or held.get("column_axis") == -1 else None
