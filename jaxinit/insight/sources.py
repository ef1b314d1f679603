"""Finds the parameter of a weight: a factor on one is a factor on the other."""

import dataclasses
from collections.abc import Iterator

from .._compat import scan_parts
from ..planning.ir import Atom, Node, Program, Value
from .places import Inner, Level, Site

# Operations whose result has every factor of their first input.
_KEEPING = {
    *("broadcast_in_dim", "convert_element_type", "copy", "dynamic_slice"),
    *("expand_dims", "reshape", "slice", "squeeze", "transpose"),
}
_NO_FACTOR = "its weight is computed from parameters in a way that keeps no factor"


@dataclasses.dataclass(frozen=True)
class Source:
    """The parameter of a site, of which its weight is a part or another form.

    Attributes:
        leaf: Position of the parameter among the inputs of the function.
        axes: Axis of the parameter for each scan that goes through its layers, from
            the outer to the inner one.
        loops: For each scan around the site, the same way, whether it does.
        is_alone: Whether nothing else reads the parameter, and every iteration of a
            scan around the site has layers of its own, so that a factor that is found
            at the site can be applied there at once.
    """

    leaf: int
    axes: tuple[int, ...]
    loops: tuple[bool, ...]
    is_alone: bool


def sources_of(level: Level) -> Iterator[tuple[Site, Source | str]]:
    """The parameter of every site, or the reason why it has none."""
    yield from _sources(level, ())


def _sources(
    level: Level, around: tuple[tuple[Level, Inner], ...]
) -> Iterator[tuple[Site, Source | str]]:
    for place in level.places:
        if isinstance(place, Inner):
            yield from _sources(place.level, (*around, (level, place)))
        elif isinstance(place, Site):
            node, i = place.weight
            yield place, _source(level, around, node.inputs[i])


def _source(
    level: Level, around: tuple[tuple[Level, Inner], ...], weight: Atom
) -> Source | str:
    axes: list[int] = []
    loops: list[bool] = []
    is_alone = True
    for outer, inner in reversed(around):
        found = _input_of(level.program, weight, axes)
        if found is None:
            return _NO_FACTOR
        position, axes, is_read_once = found
        is_alone &= is_read_once
        level, weight = outer, inner.node.inputs[position]
        if inner.length is None:
            continue
        indices = list(range(len(inner.node.inputs)))
        consts, _, xs = scan_parts(inner.node.params, indices)
        if position not in (*consts, *xs):
            return "its weight is a value that a loop carries"
        loops.insert(0, position in xs)
        if position in xs:
            axes = [0, *(axis + 1 for axis in axes)]
        else:
            is_alone = False  # every iteration reads the same weight
    found = _input_of(level.program, weight, axes)
    if found is None:
        return _NO_FACTOR
    position, axes, is_read_once = found
    return Source(position, tuple(axes), tuple(loops), is_alone and is_read_once)


def _input_of(
    program: Program, atom: Atom, axes: list[int]
) -> tuple[int, list[int], bool] | None:
    """The input of a program of which a value is another form.

    Args:
        program: The program.
        atom: The value.
        axes: Its axes that scans go through.

    Returns:
        Position of the input, its axes that correspond to these, and whether nothing
        else reads it.
    """
    makers: dict[Value, Node] = {v: n for n in program.nodes for v in n.outputs}
    readers: dict[Value, int] = {}
    for node in program.nodes:
        for v in node.inputs:
            if type(v) is Value:
                readers[v] = readers.get(v, 0) + 1
    is_read_once = True
    while True:
        if type(atom) is not Value:
            return None
        is_read_once &= readers.get(atom, 0) <= 1
        if atom in program.inputs:
            return program.inputs.index(atom), axes, is_read_once
        node = makers.get(atom)
        if node is None or node.name not in _KEEPING:
            return None
        if node.name == "transpose":
            axes = [node.params["permutation"][axis] for axis in axes]
        elif axes and node.name not in ("convert_element_type", "copy"):
            return None
        atom = node.inputs[0]
