"""From a traced function to groups of leaves made by the same program.

Nothing is executed here. The graph is cut at its PRNG keys: all that computes
keys is the key program. What remains falls into connected components, and
components that differ in nothing but their inputs form a group.
"""

import dataclasses
import functools
import graphlib
import math
from collections import defaultdict
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import is_key, is_literal, scan_parts, sub_jaxpr
from .flatten import Atom, Node, Program, Value, flatten

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
_CALLABLE_PARAMS = {"jvp_jaxpr_fun", "jvp_jaxpr_thunk", "fwd_jaxpr_thunk", "bwd"}


@dataclasses.dataclass
class Component:
    """Operations that share intermediate values, in order.

    Attributes:
        nodes: The operations.
        inputs: Keys, arguments and constants they read, in order of first use.
        outputs: The values that are results of the function.
        signature: Equal for components that are the same program.
    """

    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Value]
    signature: Hashable


@dataclasses.dataclass
class Partition:
    """The key program and the components of a program."""

    program: Program
    keys: list[Node]
    components: list[Component]


class Unanalyzable(Exception):
    """The program cannot be cut; it has to be compiled as it stands."""


def partition(program: Program) -> Partition:
    """Cuts a program at its keys into components with signatures.

    Raises:
        Unanalyzable: If keys depend on more than keys and integers.
    """
    live = [part for node in _live(program) for part in _unstack(node)]
    program = dataclasses.replace(program, nodes=live)
    on_keys = _key_nodes(program)
    keys = [n for i, n in enumerate(program.nodes) if i in on_keys]
    rest = [n for i, n in enumerate(program.nodes) if i not in on_keys]
    components = _components(program, rest, apart=True)
    if not _ordered(components):
        components = _components(program, rest, apart=False)
    return Partition(program, keys, components)


def _live(program: Program) -> list[Node]:
    """The nodes that some result needs."""
    needed = {v for v in program.outputs if isinstance(v, Value)}
    kept: list[Node] = []
    for node in reversed(program.nodes):
        if any(out in needed for out in node.outputs):
            needed.update(v for v in node.inputs if isinstance(v, Value))
            kept.append(node)
    return kept[::-1]


def _unstack(node: Node) -> list[Node]:
    """A scan without carry, as over layers, as one scan for each independent leaf."""
    if node.name != "scan" or len(node.outputs) < 2:
        return [node]
    _, carry, stacked = scan_parts(node.params, node.inputs)
    if carry or not stacked:
        return [node]
    body = flatten(node.params["jaxpr"])
    try:
        components = partition(body).components
    except Unanalyzable:
        return [node]
    parts = [set[Value | None](c.outputs) for c in components if c.outputs]
    values = [v if isinstance(v, Value) else None for v in body.outputs]
    made = set[Value | None]().union(*parts)
    parts.append({v for v in values if v not in made})
    masks = [[v in part for v in values] for part in parts]
    return [node.keep(mask) for mask in masks if any(mask)]


def _key_nodes(program: Program) -> set[int]:
    """Positions of the nodes that compute keys, and all that those need."""
    made_by = {out: i for i, n in enumerate(program.nodes) for out in n.outputs}
    avals = program.avals
    derived = {v for v in program.inputs if is_key(avals[v])}
    found: set[int] = set()
    for i, node in enumerate(program.nodes):
        name = node.name
        values = [v for v in node.inputs if isinstance(v, Value)]
        moves = name in _ON_KEYS and values and all(v in derived for v in values)
        if name in _KEY_OPERATIONS or moves:
            derived.update(node.outputs)
            found.add(i)
    pending = list(found)
    while pending:
        for v in program.nodes[pending.pop()].inputs:
            i = made_by.get(v) if isinstance(v, Value) else None
            if i is not None and i not in found:
                found.add(i)
                pending.append(i)
    for i in found:
        for out in program.nodes[i].outputs:
            if not is_key(avals[out]) and jnp.issubdtype(avals[out].dtype, jnp.inexact):
                raise Unanalyzable("a PRNG key is computed from floating-point data")
    return found


def _ordered(components: list[Component]) -> bool:
    """Whether components can be run one after the other."""
    maker = {v: i for i, c in enumerate(components) for v in c.outputs}
    needs = {
        i: {maker[v] for v in c.inputs if v in maker} for i, c in enumerate(components)
    }
    try:
        graphlib.TopologicalSorter(needs).prepare()
    except graphlib.CycleError:
        return False
    return True


def _components(program: Program, nodes: list[Node], *, apart: bool) -> list[Component]:
    """Components, in no order.

    Args:
        program: The program they are part of.
        nodes: Its operations without those on keys.
        apart: Whether a result that is multiplied with data, as by the forward
            pass of a data-dependent initialization, is made by itself and read.
    """
    made_by = {out: i for i, n in enumerate(nodes) for out in n.outputs}
    leaves = {v for v in program.outputs if isinstance(v, Value)}
    # Scalars computed from literals alone are repeated wherever they are used,
    # so that a shared constant does not tie leaves together.
    repeated: set[int] = set()
    for i, node in enumerate(nodes):
        values = (v for v in node.inputs if isinstance(v, Value))
        if not all(made_by.get(v) in repeated for v in values):
            continue
        scalar = all(math.prod(program.avals[o].shape) <= 1 for o in node.outputs)
        if scalar and leaves.isdisjoint(node.outputs):
            repeated.add(i)

    parent = list(range(len(nodes)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, node in enumerate(nodes):
        reads = apart and node.name in _READING
        for v in node.inputs:
            j = made_by.get(v) if isinstance(v, Value) else None
            if j is None or (reads and v in leaves):
                continue
            if i not in repeated and j not in repeated:
                parent[root(i)] = root(j)
    members: dict[int, list[int]] = defaultdict(list)
    for i in range(len(nodes)):
        if i not in repeated:
            members[root(i)].append(i)

    def with_scalars(positions: list[int]) -> list[Node]:
        needed, pending = set(positions), list(positions)
        while pending:
            for v in nodes[pending.pop()].inputs:
                j = made_by.get(v) if isinstance(v, Value) else None
                if j in repeated and j not in needed:
                    needed.add(j)
                    pending.append(j)
        return [nodes[i] for i in sorted(needed)]

    ordered = list(dict.fromkeys(v for v in program.outputs if isinstance(v, Value)))
    made_in = {o: root(i) for o, i in made_by.items()}
    outputs: dict[int, list[Value]] = defaultdict(list)
    for v in ordered:
        if v in made_in:
            outputs[made_in[v]].append(v)
    names = _Names()
    return [
        _component(program, with_scalars(positions), outputs[i], names)
        for i, positions in members.items()
    ]


class _Names:
    """Small integers for what recurs in signatures, so that they compare fast."""

    def __init__(self) -> None:
        self._meanings: dict[Hashable, int] = {}
        self._seen: dict[int, int] = {}

    def __call__(self, thing: Any, meaning: Callable[[], Hashable]) -> int:
        """The number of ``meaning()``, worked out once for each object."""
        number = self._seen.get(id(thing))
        if number is None:
            number = self._meanings.setdefault(meaning(), len(self._meanings))
            self._seen[id(thing)] = number
        return number


def _component(
    program: Program, nodes: list[Node], outputs: list[Value], names: _Names
) -> Component:
    numbers: dict[Value, int] = {}
    inputs: list[Value] = []
    avals = program.avals
    lines: list[Hashable] = []

    def number(atom: Atom) -> Hashable:
        if not isinstance(atom, Value):
            return "literal", names(atom, lambda: _literal(atom))
        if atom in numbers:
            return numbers[atom]
        numbers[atom] = len(numbers)
        inputs.append(atom)
        return numbers[atom], _aval(avals[atom])

    def line(node: Node) -> Hashable:
        made = tuple(_aval(avals[out]) for out in node.outputs)
        return node.name, describe(node.params), made

    for node in nodes:
        read = tuple([number(atom) for atom in node.inputs])
        for out in node.outputs:
            numbers[out] = len(numbers)
        name = names(node.eqn, functools.partial(line, node))
        lines.append((name, read, node.passed))
    results = tuple(numbers[v] for v in outputs)
    return Component(nodes, inputs, outputs, (tuple(lines), results))


def _aval(aval: Any) -> Hashable:
    return aval.shape, aval.dtype, getattr(aval, "weak_type", False)


def _literal(atom: Any) -> Hashable:
    value = np.asarray(atom.val)
    return "literal", value.tobytes(), _aval(atom.aval)


def describe(params: dict[str, Any]) -> Hashable:
    """Parameters of an operation in a form that is equal where the meaning is."""
    return tuple(
        (name, _param(value))
        for name, value in sorted(params.items())
        if name not in _CALLABLE_PARAMS
    )


def _param(value: Any) -> Hashable:
    """A parameter in a form that is equal where the meaning is."""
    if hasattr(value, "jaxpr") or hasattr(value, "eqns"):
        return _jaxpr(value)
    if isinstance(value, dict):
        return describe(value)
    if isinstance(value, (list, tuple)):
        return type(value).__name__, tuple(_param(v) for v in value)
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        return array.shape, str(array.dtype), array.tobytes()
    try:
        hash(value)
    except TypeError:
        return id(value)  # equal to itself alone: shares nothing, is never wrong
    return value


def _jaxpr(closed: Any) -> Hashable:
    jaxpr, constants = sub_jaxpr(closed)
    numbers: dict[Any, int] = {}
    for var in (*jaxpr.constvars, *jaxpr.invars):
        numbers[var] = len(numbers)

    def number(atom: Any) -> Hashable:
        return _literal(atom) if is_literal(atom) else numbers[atom]

    lines: list[Hashable] = [tuple(_aval(v.aval) for v in numbers)]
    for eqn in jaxpr.eqns:
        read = tuple(number(atom) for atom in eqn.invars)
        for var in eqn.outvars:
            numbers[var] = len(numbers)
        avals = tuple(_aval(v.aval) for v in eqn.outvars)
        lines.append((eqn.primitive.name, describe(eqn.params), read, avals))
    results = tuple(number(atom) for atom in jaxpr.outvars)
    return tuple(lines), results, tuple(_param(c) for c in constants)
