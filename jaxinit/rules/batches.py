"""Batch axes: axes of a value along which each draw has its own key, as in vmap."""

import itertools
from collections.abc import Sequence
from operator import mul
from typing import Any

from .._compat import is_literal
from ..planning.ir import Node, Program, Value

Axes = tuple[int, ...]


def find_batches(program: Program) -> dict[Value, Axes]:
    """Returns the batch axes of each value that has some.

    Batch axes begin at random bits that are drawn with an array of keys. From there
    they are followed through the operations of an initializer.
    """
    found: dict[Value, Axes] = {}
    for node in program.nodes:
        if node.name == "random_bits":
            axes = tuple(range(len(program.avals[node.inputs[0]].shape)))
        else:
            axes = ()
        for out in node.outputs:
            shape = tuple(program.avals[out].shape)
            here = (
                axes
                if node.name == "random_bits"
                else _follow(node, shape, program, found)
            )
            if here:
                found[out] = here
    return found


def _follow(
    node: Node, shape: tuple[int, ...], program: Program, found: dict[Value, Axes]
) -> Axes:
    """Returns the batch axes of a result, from the batch axes of the operands."""
    union: set[int] = set()
    for atom in node.inputs:
        axes = () if is_literal(atom) else found.get(atom, ())
        if axes:
            operand = tuple(program.avals[atom].shape)
            rule = _RULES.get(node.name, _in_place)
            union.update(rule(node.params, operand, axes, shape))
    return tuple(sorted(union))


def _in_place(params: Any, operand: Sequence[int], axes: Axes, shape: Sequence[int]):
    """Returns all axes if the operation is elementwise, else unchanged leading ones."""
    if tuple(operand) == tuple(shape):
        return axes
    kept: list[int] = []
    for i in axes:
        if i != len(kept) or i >= len(shape) or operand[i] != shape[i]:
            break
        kept.append(i)
    return tuple(kept)


def _broadcast(params: Any, operand: Sequence[int], axes: Axes, shape: Sequence[int]):
    places = params["broadcast_dimensions"]
    return [places[i] for i in axes if operand[i] == shape[places[i]]]


def _transpose(params: Any, operand: Sequence[int], axes: Axes, shape: Sequence[int]):
    return [new for new, old in enumerate(params["permutation"]) if old in axes]


def _squeeze(params: Any, operand: Sequence[int], axes: Axes, shape: Sequence[int]):
    kept = [i for i in range(len(operand)) if i not in params["dimensions"]]
    return [new for new, old in enumerate(kept) if old in axes]


def _reshape(params: Any, operand: Sequence[int], axes: Axes, shape: Sequence[int]):
    """Returns the axes of the result that consist of batch axes only."""
    if 0 in operand:
        return _in_place(params, operand, axes, shape)
    kept = set(_in_place(params, operand, axes, shape))
    # An axis covers the range from the product of the sizes before it to the product
    # that includes it.
    old, new = ([*itertools.accumulate(x, mul, initial=1)] for x in (operand, shape))
    for i in axes:
        if old[i] in new and old[i + 1] in new:
            first, end = new.index(old[i]), new.index(old[i + 1])
            kept.update(j for j in range(first, end) if shape[j] > 1)
    return kept


_RULES = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
}
