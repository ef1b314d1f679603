"""Values, operations and programs, and the passes that read them.

One word has one meaning in all of `planning`:

value        an argument, a constant or an intermediate of a program
node         one primitive operation, which reads and makes values
program      nodes in order, with inputs, outputs and constants
key program  the nodes that compute PRNG keys; the host runs it
component    the other nodes, cut into parts that share no intermediate values
signature    a hashable form of a component, equal for equal programs
leaf         one array of the result of the planned function
maker        a strategy: it makes the leaves of components of one signature
group        a maker and its members, which are these components
operand      what a compiled program is called with: a value as the host holds it
place        the device and mesh on which results lie for which no other is asked
"""

import dataclasses
import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import jax
import numpy as np

from .._compat import bind, drop_unused, is_literal, sub_jaxpr
from .._exact import exact

_CALLABLE_PARAMS = {"jvp_jaxpr_fun", "jvp_jaxpr_thunk", "fwd_jaxpr_thunk", "bwd"}


class Value:
    """A value of a program; equal to itself alone."""

    __slots__ = ()  # tens of thousands of them are nothing to garbage collection


Atom: TypeAlias = Any  # a Value or a Literal of JAX's
Avals: TypeAlias = Mapping[Value, Any]
Rule: TypeAlias = "Callable[[Node, list[Any]], Sequence[Any] | None]"


class _Operation(Protocol):
    @property
    def effects(self) -> Any: ...


T = TypeVar("T", bound=_Operation)


@dataclasses.dataclass(eq=False, slots=True)  # frozen, it would take twice as long
class Node:
    """One primitive operation: an equation of JAX's on values of a program.

    Attributes:
        eqn: The equation.
        inputs: The atoms that it reads.
        outputs: The values that it makes.
        from_call_constants: A scalar computed from constants passed to an inner jit,
            which XLA rounds differently.
    """

    eqn: Any
    inputs: Sequence[Atom]
    outputs: Sequence[Value]
    from_call_constants: bool = False

    @property
    def name(self) -> str:
        """Name of the primitive."""
        return self.eqn.primitive.name

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of the primitive."""
        return self.eqn.params

    @property
    def effects(self) -> Any:
        """Side effects."""
        return self.eqn.effects

    def bind(self, inputs: Sequence[Any]) -> list[Any]:
        """Applies the operation to values.

        XLA expands some operations, such as erf and tanh, inside a function before it
        sees the constants that callers pass, and folds constants that it sees at once.
        The two ways round differently, so a scalar that was computed in a function
        from passed constants is computed in a function again.
        """

        def apply(*inputs: Any) -> list[Any]:
            return bind(self.eqn.primitive, inputs, self.params)

        return (jax.jit(apply) if self.from_call_constants else apply)(*inputs)

    def keep(self, used: Sequence[bool]) -> "Node":
        """The node without unused outputs and what only they need, if it can."""
        dropped = None if all(used) or self.effects else drop_unused(self.eqn, used)
        if dropped is None:
            return self
        used_inputs, eqn = dropped
        inputs = [v for v, use in zip(self.inputs, used_inputs, strict=True) if use]
        kept = dict(zip(map(id, self.eqn.outvars), self.outputs, strict=True))
        outputs = [kept[id(v)] for v in eqn.outvars]
        return dataclasses.replace(self, eqn=eqn, inputs=inputs, outputs=outputs)


@dataclasses.dataclass(frozen=True)
class Program:
    """Nodes in order, with what they read and what they make.

    Attributes:
        nodes: The operations.
        inputs: The arguments.
        outputs: The results.
        constants: Arrays that the function closes over.
        avals: Shape and dtype of each value.
        drawn: Results of jaxinit's own initializers.
    """

    nodes: Sequence[Node]
    inputs: Sequence[Value]
    outputs: Sequence[Atom]
    constants: Mapping[Value, Any]
    avals: Avals
    drawn: frozenset[Value] = frozenset()


def program_of(closed: Any, eqns: Sequence[Any] | None = None) -> Program:
    """The program of a jaxpr, its calls left as they stand.

    Args:
        closed: The jaxpr.
        eqns: Those of its equations that the program has, or None for all. An output
            that none of them makes is None.
    """
    jaxpr, constants = sub_jaxpr(closed)
    env: dict[Any, Value] = {}

    def new(var: Any) -> Value:
        return env.setdefault(var, Value())

    def read(var: Any) -> Atom:
        return var if is_literal(var) else env.get(var)

    held = dict(zip(map(new, jaxpr.constvars), constants, strict=True))
    inputs = list(map(new, jaxpr.invars))
    nodes = [
        Node(eqn, list(map(read, eqn.invars)), list(map(new, eqn.outvars)))
        for eqn in (jaxpr.eqns if eqns is None else eqns)
    ]
    outputs = list(map(read, jaxpr.outvars))
    avals = {value: var.aval for var, value in env.items()}
    return Program(nodes, inputs, outputs, held, avals)


def values(atoms: Iterable[Atom]) -> list[Value]:
    """The atoms that are values."""
    return [v for v in atoms if type(v) is Value]


def literal(atom: Any) -> np.ndarray:
    """A literal with the dtype that it has in its program."""
    return np.asarray(atom.val, atom.aval.dtype)


def live(
    operations: Sequence[T],
    results: Iterable[Atom],
    inputs: Callable[[T], Sequence[Any]] = operator.attrgetter("inputs"),
    outputs: Callable[[T], Sequence[Any]] = operator.attrgetter("outputs"),
) -> list[tuple[T, tuple[bool, ...]]]:
    """The operations that results need, each with which of its outputs are used.

    Args:
        operations: Nodes, or equations of JAX's.
        results: What is needed.
        inputs: The atoms that an operation reads.
        outputs: The values that it makes.
    """
    needed = {a for a in results if not is_literal(a)}
    kept: list[tuple[T, tuple[bool, ...]]] = []
    for operation in reversed(operations):
        used = tuple([v in needed for v in outputs(operation)])
        if any(used) or operation.effects:
            needed.update([a for a in inputs(operation) if not is_literal(a)])
            kept.append((operation, used))
    return kept[::-1]


def evaluate(
    nodes: Iterable[Node],
    env: Mapping[Value, Any],
    rules: Mapping[str, Rule],
    otherwise: Rule,
) -> dict[Value, Any]:
    """Runs nodes in order.

    Args:
        nodes: The operations.
        env: The values that they read from outside.
        rules: How to apply an operation, by the name of its primitive. A rule gets
            the node and its inputs, literals as they are held by JAX. It gives the
            outputs, or None where it does not apply.
        otherwise: The rule for all other operations.

    Returns:
        ``env`` and the values that the nodes make; without those of nodes whose
        inputs are not known, or for which ``otherwise`` gives None.
    """
    found = dict(env)
    for node in nodes:
        try:
            inputs = [found[a] if type(a) is Value else a.val for a in node.inputs]
        except KeyError:
            continue
        rule = rules.get(node.name)
        made = None if rule is None else rule(node, inputs)
        made = otherwise(node, inputs) if made is None else made
        if made is not None:
            found.update(zip(node.outputs, made, strict=True))
    return found


class Signatures:
    """Writes signatures, in which a number stands for each operation and literal.

    The numbers are those of this writer: signatures of two writers do not compare.
    """

    def __init__(self, describe: Callable[[Node, Avals], Hashable] | None = None):
        """Describes operations, their inputs apart, as ``describe`` does."""
        self._describe = describe or _describe
        self._numbers: dict[Hashable, int] = {}  # small integers compare fast
        self._seen: dict[int, tuple[Any, int]] = {}

    def __call__(
        self,
        nodes: Iterable[Node],
        outputs: Iterable[Atom],
        avals: Avals,
        inputs: Iterable[Value] = (),
    ) -> tuple[Hashable, list[Value]]:
        """The signature of nodes, and what they read, in the order of first use.

        Args:
            nodes: The operations.
            outputs: Their results.
            avals: Shape and dtype of each value.
            inputs: What they read whose order is given.
        """
        order = {v: i for i, v in enumerate(inputs)}
        read = list(order)
        lines: list[Hashable] = [tuple(_aval(avals[v]) for v in read)]

        def number(atom: Atom) -> Hashable:
            if type(atom) is not Value:
                return "literal", self._known(atom) or self._new(atom, _literal(atom))
            if atom not in order:
                order[atom] = len(order)
                read.append(atom)
                return order[atom], _aval(avals[atom])
            return order[atom]

        for node in nodes:
            numbers = tuple([number(a) for a in node.inputs])
            for v in node.outputs:
                order[v] = len(order)
            eqn = node.eqn
            what = self._known(eqn) or self._new(eqn, self._describe(node, avals))
            lines.append((what, numbers, node.from_call_constants))
        return (tuple(lines), tuple([number(a) for a in outputs])), read

    @property
    def meanings(self) -> tuple[Hashable, ...]:
        """The values behind the numbers of a signature, in order."""
        return tuple(self._numbers)

    def _known(self, thing: Any) -> int | None:
        """The number of the description of an object, from 1, if it has one."""
        seen = self._seen.get(id(thing))
        return None if seen is None else seen[1]

    def _new(self, thing: Any, description: Hashable) -> int:
        number = self._numbers.setdefault(description, len(self._numbers) + 1)
        self._seen[id(thing)] = thing, number  # held, so that its id stays its own
        return number


def _describe(node: Node, avals: Avals) -> Hashable:
    made = tuple(_aval(avals[v]) for v in node.outputs)
    return node.name, params_signature(node.params), made


def _aval(aval: Any) -> Hashable:
    """Shape and dtype."""
    return aval.shape, aval.dtype, getattr(aval, "weak_type", False)


def _literal(atom: Any) -> Hashable:
    """Value and dtype of a literal."""
    value = np.asarray(atom.val)
    return "literal", value.tobytes(), _aval(atom.aval)


def params_signature(params: Mapping[str, Any]) -> Hashable:
    """Parameters of an operation in a form that is equal where the meaning is."""
    return tuple(
        (name, _param(value))
        for name, value in sorted(params.items())
        if name not in _CALLABLE_PARAMS
    )


def _param(value: Any) -> Hashable:
    if hasattr(value, "jaxpr") or hasattr(value, "eqns"):
        inner, writer = program_of(value), Signatures()
        inputs = (*inner.constants, *inner.inputs)
        lines, _ = writer(inner.nodes, inner.outputs, inner.avals, inputs)
        return lines, writer.meanings, tuple(map(_param, inner.constants.values()))
    if isinstance(value, dict):
        return params_signature(value)
    if isinstance(value, (list, tuple)):
        return type(value).__name__, tuple(map(_param, value))
    if isinstance(value, np.ndarray | jax.Array):
        array = np.asarray(value)
        return array.shape, str(array.dtype), array.tobytes()
    try:
        hash(value)
    except TypeError:
        return _Unhashable(value)
    return exact(value)


@dataclasses.dataclass(frozen=True, eq=False)
class _Unhashable:
    """A parameter that equals itself alone: it shares nothing and is never wrong."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashable) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)
