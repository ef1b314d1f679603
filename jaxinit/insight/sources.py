"""Finds the parameter of a weight: a factor of the parameter scales the weight."""

import collections
import dataclasses
from collections.abc import Iterator
from typing import TypeAlias

from .._compat import scan_parts
from ..planning.ir import Atom, Node, Program, Value, values
from .places import Inner, Level, Site

# Operations that pass a factor of their first input on to the result.
_KEEPING = {
    *("broadcast_in_dim", "convert_element_type", "copy", "dynamic_slice"),
    *("expand_dims", "reshape", "slice", "split", "squeeze", "transpose"),
}
_NO_FACTOR = "its weight is computed from parameters, and a factor does not scale it"


@dataclasses.dataclass(frozen=True)
class Source:
    """The parameter of a site. A factor of the parameter scales the weight.

    Attributes:
        leaf: Position of the parameter among the inputs of the function.
        is_whole: True if the weight is this parameter in another form, or a part of
            it. False if the weight has several parameters, such as g v / |v| of weight
            norm.
        axes: Axis of the parameter for each scan over its layers, the outer scan first.
        loops: For each scan around the site, the outer scan first: True if it is a scan
            over layers of the parameter.
        is_alone: True if only the site reads the parameter, and each iteration of the
            scans around the site reads another layer. The factor of the site can then
            be applied during the evaluation that finds it.
    """

    leaf: int
    is_whole: bool
    axes: tuple[int, ...]
    loops: tuple[bool, ...]
    is_alone: bool


Around: TypeAlias = tuple[tuple[Level, Inner], ...]


def sites_of(level: Level, around: Around = ()) -> Iterator[tuple[Site, Around, Level]]:
    """Yields each site, the loops and remats around it, and its own level."""
    for place in level.places:
        if isinstance(place, Inner):
            yield from sites_of(place.level, (*around, (level, place)))
        elif isinstance(place, Site):
            yield place, around, level


def sources_of(level: Level) -> Iterator[tuple[Site, Source | str]]:
    """Yields each site and its parameter, or the reason why it has none."""
    for site, around, level_of in sites_of(level):
        node, i = site.weight
        yield site, _source(level_of, around, node.inputs[i], site.leaves)


def biases_of(level: Level) -> Iterator[tuple[Site, Source | str]]:
    """Yields each site that has a bias and the parameter of the bias; see above."""
    for site, around, level_of in sites_of(level):
        if site.bias is not None:
            node, i = site.bias
            yield site, _source(level_of, around, node.inputs[1 - i], None)


def _source(
    level: Level, around: Around, weight: Atom, leaves: frozenset[int] | None
) -> Source | str:
    axes: list[int] = []
    loops: list[bool] = []
    is_alone = is_whole = True
    for outer, inner in reversed(around):
        program = level.program
        found = _Search(program, None).find(weight, axes)
        if found is None:
            return _NO_FACTOR
        is_alone &= found.is_read_once
        is_whole &= found.is_whole
        position, axes = found.position, found.axes
        level, weight = outer, inner.node.inputs[position]
        if inner.length is None:
            continue
        indices = list(range(len(inner.node.inputs)))
        consts, carry, xs = scan_parts(inner.node.params, indices)
        if position in carry:  # NNX carries the parameters of a cell, as they are
            is_kept = program.outputs[carry.index(position)] is program.inputs[position]
            consts += [position] if is_kept else []
        if position not in (*consts, *xs):
            return "its weight is a value that a loop carries"
        loops.insert(0, position in xs)
        if position in xs:
            axes = [0, *(axis + 1 for axis in axes)]
        else:
            is_alone = False  # every iteration reads the same weight
    found = _Search(level.program, leaves).find(weight, axes)
    if found is None:
        return _NO_FACTOR
    return Source(
        found.position,
        is_whole and found.is_whole,
        tuple(found.axes),
        tuple(loops),
        is_alone and found.is_read_once,
    )


@dataclasses.dataclass(frozen=True)
class _Input:
    """The input of a program behind a value. A factor of the input scales the value.

    Attributes:
        position: Position of the input.
        axes: Axes of the input over which scans run.
        is_read_once: True if nothing else reads the input.
        is_whole: True if the value is the input in another form, or a part of it.
    """

    position: int
    axes: list[int]
    is_read_once: bool
    is_whole: bool


class _Search:
    """Walks from a value back to an input.

    Args:
        program: The program.
        among: Positions of the inputs to look for; None for any.
    """

    def __init__(self, program: Program, among: frozenset[int] | None):
        self._among = among
        self._inputs = {v: i for i, v in enumerate(program.inputs)}
        self._makers = {v: n for n in program.nodes for v in n.outputs}
        self._readers = collections.Counter(
            v for node in program.nodes for v in values(node.inputs)
        )

    def find(self, atom: Atom, axes: list[int]) -> _Input | None:
        """Finds the input behind a value; scans run over these axes of the value."""
        is_read_once = True
        while type(atom) is Value:
            is_read_once &= self._readers[atom] <= 1
            if atom in self._inputs:
                position = self._inputs[atom]
                if self._among is not None and position not in self._among:
                    return None
                return _Input(position, axes, is_read_once, True)
            node = self._makers.get(atom)
            if node is None:
                return None
            if node.name in ("mul", "div"):
                return None if axes else self._factor(node, is_read_once)
            if node.name not in _KEEPING:
                return None
            if node.name == "transpose":
                axes = [node.params["permutation"][axis] for axis in axes]
            elif axes and node.name not in ("convert_element_type", "copy"):
                return None
            is_read_once &= len(node.outputs) == 1  # the parts of a split
            atom = node.inputs[0]
        return None

    def _factor(self, node: Node, is_read_once: bool) -> _Input | None:
        """The input behind a factor, if the other factor does not depend on it."""
        a, b = node.inputs
        for factor, other in ((a, b), (b, a))[: 1 if node.name == "div" else 2]:
            found = self.find(factor, [])
            others = self._inputs_behind(other)
            if found is not None and found.position not in others:
                alone = is_read_once and found.is_read_once
                is_whole = found.is_whole and not others
                return _Input(found.position, found.axes, alone, is_whole)
        return None

    def _inputs_behind(self, atom: Atom) -> set[int]:
        """Positions of the inputs on which a value depends."""
        pending, seen = list(values([atom])), set[Value]()
        while pending:
            value = pending.pop()
            if value not in seen:
                seen.add(value)
                node = self._makers.get(value)
                pending += [] if node is None else values(node.inputs)
        return {self._inputs[v] for v in seen if v in self._inputs}
