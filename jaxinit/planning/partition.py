"""Cuts a program at its PRNG keys, and the rest into components.

Nothing is executed here. The nodes that compute keys are the key program. The others
fall into connected components, most of them one leaf each.
"""

import dataclasses
import graphlib
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import jax.numpy as jnp

from .._compat import is_key
from .ir import Node, Program, Signatures, Value, live, values

_KEY_OPERATIONS = {
    "random_clone",
    "random_fold_in",
    "random_seed",
    "random_split",
    "random_unwrap",
    "random_wrap",
}
# Operations that move or combine key words and counters without drawing.
_ON_KEYS = {
    "add",
    "and",
    "broadcast_in_dim",
    "concatenate",
    "convert_element_type",
    "copy",
    "dynamic_slice",
    "expand_dims",
    "gather",
    "mul",
    "or",
    "reshape",
    "select_n",
    "slice",
    "split",
    "squeeze",
    "unstack",
    "xor",
}
# Operations that read their operands from memory, whatever made them.
_READING = {"conv_general_dilated", "dot_general"}


@dataclasses.dataclass(frozen=True)
class Component:
    """Nodes that share intermediate values, in order.

    Attributes:
        nodes: The operations.
        inputs: The keys, arguments, constants and results of other components that
            they read, in order of first use.
        outputs: The values that are results of the function.
        signature: Equal for components that are the same program.
    """

    nodes: Sequence[Node]
    inputs: Sequence[Value]
    outputs: Sequence[Value]
    signature: Hashable


@dataclasses.dataclass(frozen=True)
class Partition:
    """The key program and the components of a program."""

    program: Program
    keys: Sequence[Node]
    components: Sequence[Component]


class Unanalyzable(Exception):
    """Raised for a program that cannot be cut into components."""


def partition(program: Program) -> Partition:
    """Cuts a program at its keys into components with signatures.

    Raises:
        Unanalyzable: If keys depend on more than keys and integers.
    """
    nodes = [node for node, _ in live(program.nodes, program.outputs)]
    program = dataclasses.replace(program, nodes=nodes)
    on_keys = _key_nodes(program)
    keys = [node for i, node in enumerate(nodes) if i in on_keys]
    rest = [node for i, node in enumerate(nodes) if i not in on_keys]
    components = _components(program, rest, apart=True)
    if not _are_ordered(components):
        components = _components(program, rest, apart=False)
    return Partition(program, keys, components)


def _key_nodes(program: Program) -> set[int]:
    """Positions of the nodes that compute keys, and all that those need."""
    avals = program.avals
    derived = {v for v in program.inputs if is_key(avals[v])}
    on_keys = set[int]()
    for i, node in enumerate(program.nodes):
        read = values(node.inputs)
        moves = node.name in _ON_KEYS and read and derived.issuperset(read)
        if node.name in _KEY_OPERATIONS or moves:
            derived.update(node.outputs)
            on_keys.add(i)
    made_by = _makers(program.nodes)
    found = _upstream(program.nodes, on_keys, made_by)
    for i in found:
        for out in program.nodes[i].outputs:
            if not is_key(avals[out]) and jnp.issubdtype(avals[out].dtype, jnp.inexact):
                raise Unanalyzable("a PRNG key is computed from floating-point data")
    return found


def _makers(nodes: Sequence[Node]) -> dict[Value, int]:
    """Position of the node that makes each value."""
    return {v: i for i, node in enumerate(nodes) for v in node.outputs}


def _upstream(
    nodes: Sequence[Node], positions: Iterable[int], made_by: Mapping[Value, int]
) -> set[int]:
    """Positions of nodes and of all nodes that they need, among those that make."""
    found, pending = set(positions), list(positions)
    while pending:
        read = values(nodes[pending.pop()].inputs)
        new = {made_by[v] for v in read if v in made_by} - found
        found |= new
        pending += new
    return found


def _are_ordered(components: Sequence[Component]) -> bool:
    """True if the components can run one after the other."""
    maker = {v: i for i, c in enumerate(components) for v in c.outputs}
    needs = {
        i: {maker[v] for v in c.inputs if v in maker} for i, c in enumerate(components)
    }
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError:
        return False
    return True


def _components(
    program: Program, nodes: Sequence[Node], *, apart: bool
) -> list[Component]:
    """Components, in no order.

    Args:
        program: The program they are part of.
        nodes: Its nodes without those of the key program.
        apart: Whether a result that is multiplied with data, as by the forward
            pass of a data-dependent initialization, is made by itself and read.
    """
    made_by = _makers(nodes)
    results = list(dict.fromkeys(values(program.outputs)))
    leaves = set(results)
    repeated = _repeated(program, nodes, leaves)
    scalars = {v: i for v, i in made_by.items() if i in repeated}
    root = _Roots(len(nodes))
    for i, node in enumerate(nodes):
        reads = apart and node.name in _READING
        for v in values(node.inputs):
            cut = v not in made_by or v in scalars or (reads and v in leaves)
            if i not in repeated and not cut:
                root.join(i, made_by[v])
    members: dict[int, list[int]] = defaultdict(list)
    for i in range(len(nodes)):
        if i not in repeated:
            members[root(i)].append(i)
    outputs: dict[int, list[Value]] = defaultdict(list)
    for v in results:
        if v in made_by:
            outputs[root(made_by[v])].append(v)
    sign = Signatures()

    def component(i: int, positions: list[int]) -> Component:
        needed = sorted(_upstream(nodes, positions, scalars))
        part = [nodes[j] for j in needed]
        signature, inputs = sign(part, outputs[i], program.avals)
        return Component(part, inputs, outputs[i], signature)

    return [component(i, positions) for i, positions in members.items()]


def _repeated(program: Program, nodes: Sequence[Node], leaves: set[Value]) -> set[int]:
    """Positions of the nodes that make scalars from literals alone.

    They are repeated wherever they are used, so that a shared constant does not tie
    leaves together.
    """
    found, made = set[int](), set[Value]()
    for i, node in enumerate(nodes):
        scalar = all(math.prod(program.avals[v].shape) <= 1 for v in node.outputs)
        known = made.issuperset(values(node.inputs))
        if scalar and known and leaves.isdisjoint(node.outputs):
            found.add(i)
            made.update(node.outputs)
    return found


class _Roots:
    """Sets of connected numbers, each named by one of them (union-find)."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def __call__(self, i: int) -> int:
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        self._parent[self(i)] = self(j)
