"""Finds recurrent products: those of the state in a scan over time."""

from collections.abc import Sequence
from typing import Any

from .._compat import scan_parts
from ..initializers.blocks import Blocks
from ..initializers.orthogonal import Orthogonal
from ..planning.ir import Atom, Program, Value, values
from .operations import RESHAPING, is_elementwise
from .places import Level, Site
from .sources import Around, Source, sites_of

_PARTS = {"slice", "split", "dynamic_slice"}


def recurrent_sites(level: Level) -> set[int]:
    """The numbers of the matrix products whose data is a state of a scan over time.

    The data is what the loop carries, or elementwise functions of it, as the reset
    state of a GRU. What the loop carries next depends on the product. The input of the
    second cell in a stack of cells is the next state of the first one, and no state.
    """
    return {
        site.index
        for site, around, own in sites_of(level)
        if site.kind == "dot" and _is_recurrent(site, around, own)
    }


def orthogonal(site: Site, source: Source, shape: Sequence[int]) -> Any:
    """The initializer of a recurrent kernel; None if it has no square blocks.

    Args:
        site: The product.
        source: Its parameter.
        shape: Shape of the parameter.
    """
    fan_in = site.fan_in or 1
    sides = [axis for axis in range(len(shape)) if axis not in source.axes]
    if len(sides) != 2 or fan_in not in [shape[axis] for axis in sides]:
        return None
    axes: dict[str, Any] = {"batch_axis": source.axes} if source.axes else {}
    long = max(sides, key=lambda axis: shape[axis])
    gates, rest = divmod(shape[long], fan_in)
    short = sides[1] if long == sides[0] else sides[0]
    if rest or shape[short] != fan_in:
        return None
    # The last axis holds the columns, unless a scan runs over it.
    axes |= {} if sides[1] == len(shape) - 1 else {"column_axis": sides[1]}
    gate = Orthogonal(**axes)
    return gate if gates == 1 else Blocks(gate, sizes=gates, axis=long - len(shape))


def _is_recurrent(site: Site, around: Around, level: Level) -> bool:
    node, i = site.data
    reached, made = {node.inputs[i]}, {site.output}
    for outer, inner in reversed(around):
        program, loop = level.program, inner.node
        if inner.length is None:
            inputs = enumerate(program.inputs)
            ends = _behind(program, reached, set())
            reached = {loop.inputs[j] for j, v in inputs if v in ends}
            after = _after(program, made)
            made = _results(loop.outputs, program.outputs, after)
        else:
            _, carry, xs = scan_parts(loop.params, list(range(len(program.inputs))))
            nexts = program.outputs[: len(carry)]
            states = [program.inputs[j] for j in carry]
            ends = _behind(program, reached, _changed(states, nexts))
            after = _after(program, made)
            if inner.reads and inner.index not in site.loops:
                pairs = zip(states, nexts, strict=True)
                if any(v in ends and a in after for v, a in pairs):
                    return True
            reached = {loop.inputs[j] for j in xs if program.inputs[j] in ends}
            made = _results(loop.outputs, program.outputs, after)
        level = outer
    return False


def _changed(states: Sequence[Value], nexts: Sequence[Atom]) -> set[Value]:
    """The next states, without those that are another state unchanged."""
    return set(values(nexts)) - set(states)


def _results(
    outer: Sequence[Value], inner: Sequence[Atom], after: set[Value]
) -> set[Value]:
    pairs = zip(outer, inner, strict=True)
    return {v for v, a in pairs if type(a) is Value and a in after}


def _behind(program: Program, atoms: set[Atom], stops: set[Value]) -> set[Value]:
    """The values of which atoms are elementwise functions, but not beyond stops."""
    makers = {v: node for node in program.nodes for v in node.outputs}
    pending, seen = values(atoms), set[Value]()
    while pending:
        value = pending.pop()
        if value in seen or value in stops:
            continue
        seen.add(value)
        node = makers.get(value)
        if node is not None and (
            node.name in RESHAPING | _PARTS or is_elementwise(node)
        ):
            pending += values(node.inputs)
    return seen


def _after(program: Program, made: set[Value]) -> set[Value]:
    """The values that depend on values."""
    found = set(made)
    for node in program.nodes:
        if not found.isdisjoint(values(node.inputs)):
            found.update(node.outputs)
    return found
