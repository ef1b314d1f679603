"""Fan-in and fan-out, from a shape and its axes."""

import math
from typing import Any

from ._checks import (
    Axes,
    BatchAxes,
    FanAxis,
    check_axes,
    check_batch_axes,
    check_shape,
    error,
)


def fans(
    shape: Any,
    in_axis: FanAxis = -2,
    out_axis: FanAxis = -1,
    batch_axis: BatchAxes = (),
) -> tuple[int, int]:
    """Returns the numbers of inputs of one output and of outputs of one input.

    Axes that are neither input, output nor batch axes are taps: the receptive field of
    a convolution. Both fans count them:

        fan_in  = prod(shape[in_axis])  * prod(taps)
        fan_out = prod(shape[out_axis]) * prod(taps)

    Args:
        shape: Shape of the weight.
        in_axis: Axis or axes of inputs. None is Keras's rule: the axes are -2 and -1,
            and if the shape has fewer than two dimensions, both fans are its size.
        out_axis: Axis or axes of outputs; None if ``in_axis`` is None.
        batch_axis: Axis or axes of stacked weights (layers, experts), which no fan
            counts. ``"rest"``: every axis that is neither input nor output.

    Returns:
        ``(fan_in, fan_out)``, ints.

    Raises:
        ValueError: If an axis is out of range, if two arguments name the same axis, or
            if the axes are the default and the shape has fewer than two dimensions.

    Example:
        >>> fans((3, 3, 64, 128))
        (576, 1152)
        >>> fans((8, 512, 256), batch_axis=0)
        (512, 256)
    """
    axes = check_fan_axes(
        "fans", in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis
    )
    return compute_fans("fans", check_shape("fans", shape), **axes)


def compute_fans(
    where: str,
    shape: tuple[int, ...],
    in_axis: FanAxis,
    out_axis: FanAxis,
    batch_axis: BatchAxes,
) -> tuple[int, int]:
    """Computes `fans` of checked arguments; error messages name ``where``."""
    if in_axis is None or out_axis is None:
        if len(shape) < 2:
            n = math.prod(shape)
            return n, n
        in_axis, out_axis = -2, -1
    if len(shape) < 2 and in_axis == -2:
        cure = "Pass in_axis=0, out_axis=() to count the only axis as inputs."
        if not shape:
            cure = "Pass in_axis=(), out_axis=() for fans of 1."
        rule = "of two or more dimensions if in_axis and out_axis are the default"
        raise error(ValueError, where, "shape", rule, shape, cure)
    inputs = resolve_axes(where, "in_axis", in_axis, shape)
    outputs = resolve_axes(where, "out_axis", out_axis, shape)
    if batch_axis == "rest":
        batch = set(range(len(shape))) - inputs - outputs
    else:
        batch = resolve_axes(where, "batch_axis", batch_axis, shape)
    pairs = (
        ("out_axis", out_axis, outputs & inputs, "in_axis"),
        ("batch_axis", batch_axis, batch & inputs, "in_axis"),
        ("batch_axis", batch_axis, batch & outputs, "out_axis"),
    )
    for name, value, shared, other in pairs:
        if shared:
            rule = f"disjoint from {other} for shape {shape}"
            cure = f"Axis {min(shared)} is in both; () stands for no axis."
            raise error(ValueError, where, name, rule, value, cure)

    def size(axes: set[int]) -> int:
        return math.prod(shape[axis] for axis in axes)

    field = size(set(range(len(shape))) - inputs - outputs - batch)
    return size(inputs) * field, size(outputs) * field


def einsum_axes(equation: str, operand: int = 1) -> dict[str, Axes]:
    """Returns the axes of the kernel in an einsum, as arguments of an initializer.

    A kernel axis is an input axis if the result does not have its letter, a batch axis
    if the result and the data have it, and an output axis if only the result has it.

    Args:
        equation: An einsum with ``->`` and a result, such as ``"btd,dhk->bthk"``.
        operand: Index of the operand that is the kernel.

    Returns:
        A dict of ``in_axis``, ``out_axis`` and ``batch_axis``.

    Raises:
        ValueError: If the equation has no ``->`` or no such operand, or if the kernel
            has repeated letters or an ellipsis.

    Example:
        >>> einsum_axes("btd,dhk->bthk")
        {'in_axis': (0,), 'out_axis': (1, 2), 'batch_axis': ()}
    """
    where = "einsum_axes"
    if not isinstance(equation, str):
        raise error(TypeError, where, "equation", "a str", equation)
    left, arrow, result = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    if not arrow or len(operands) < 2 or not set(result) <= set(left) - {","}:
        rule = "an einsum of two or more operands with a result, as 'ab,bc->ac'"
        raise error(ValueError, where, "equation", rule, equation)
    if isinstance(operand, bool) or not isinstance(operand, int):
        raise error(TypeError, where, "operand", "an int", operand)
    if not -len(operands) <= operand < len(operands):
        rule = f"one of the {len(operands)} operands"
        raise error(ValueError, where, "operand", rule, operand)
    kernel = operands.pop(operand)
    if len(set(kernel)) != len(kernel) or not kernel.isalpha():
        rule = "an einsum with a kernel of distinct letters, without an ellipsis"
        raise error(ValueError, where, "equation", rule, equation)
    data = "".join(operands)
    axes: dict[str, Axes] = {}
    axes["in_axis"] = tuple(i for i, c in enumerate(kernel) if c not in result)
    axes["out_axis"] = tuple(
        i for i, c in enumerate(kernel) if c in result and c not in data
    )
    axes["batch_axis"] = tuple(
        i for i, c in enumerate(kernel) if c in result and c in data
    )
    return axes


def check_fan_axes(
    where: str, *, in_axis: Any, out_axis: Any, batch_axis: Any
) -> dict[str, Any]:
    """Checks the three axis arguments without a shape."""
    if in_axis is None or out_axis is None:
        if in_axis is not out_axis:
            rule = "None if in_axis is None, else axes"
            raise error(ValueError, where, "out_axis", rule, out_axis)
        if batch_axis != ():
            rule = "() if in_axis and out_axis are None"
            raise error(ValueError, where, "batch_axis", rule, batch_axis)
        return {"in_axis": None, "out_axis": None, "batch_axis": ()}
    return {
        "in_axis": check_axes(where, "in_axis", in_axis),
        "out_axis": check_axes(where, "out_axis", out_axis),
        "batch_axis": check_batch_axes(where, "batch_axis", batch_axis),
    }


def resolve_axes(where: str, name: str, axes: Axes, shape: tuple[int, ...]) -> set[int]:
    """Returns the axes, checked against the shape, as a set of non-negative ints."""
    found: set[int] = set()
    for axis in axes if isinstance(axes, tuple) else (axes,):
        if not -len(shape) <= axis < len(shape):
            rule = f"within the {len(shape)} dimensions of shape {shape}"
            raise error(ValueError, where, name, rule, axes)
        if axis % len(shape) in found:
            rule = f"distinct axes of shape {shape}"
            raise error(ValueError, where, name, rule, axes)
        found.add(axis % len(shape))
    return found
