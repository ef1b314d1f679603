"""A traced function as one flat list of live operations."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from .._compat import bind, drop_unused, is_literal, sub_jaxpr
from .._program import PROGRAM_PREFIX

# The parameter that holds the callee of each primitive that only calls it.
_CALLEES = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
_FUNCTIONS = {"jit", "pjit", "closed_call", "core_call"}  # functions for XLA, too


@dataclasses.dataclass(eq=False, slots=True)
class Value:
    """A value of a flat program; equal to itself alone."""

    id: int


Atom: TypeAlias = Any  # a Value or a Literal of JAX's


@dataclasses.dataclass(slots=True)
class Node:
    """One primitive operation: an equation of JAX's on values of a program.

    Attributes:
        eqn: The equation.
        inputs: What it reads.
        outputs: What it makes.
        passed: Whether it makes a number from constants that a function was given.
    """

    eqn: Any
    inputs: list[Atom]
    outputs: list[Value]
    passed: bool = False

    @property
    def name(self) -> str:
        """Name of the primitive."""
        return self.eqn.primitive.name

    @property
    def params(self) -> dict[str, Any]:
        """Parameters of the primitive."""
        return self.eqn.params

    def bind(self, inputs: Sequence[Any]) -> list[Any]:
        """Applies the operation to values.

        XLA expands some, such as erf and tanh, in a function before it sees the
        constants that the function is given, and folds those it sees, which rounds
        otherwise: what a function was given is given to one again.
        """

        def apply(*inputs: Any) -> list[Any]:
            return bind(self.eqn.primitive, inputs, self.params)

        return (jax.jit(apply) if self.passed else apply)(*inputs)

    def keep(self, used: Sequence[bool]) -> "Node":
        """The node without unused outputs and what only they need, if it can."""
        dropped = None if all(used) or self.eqn.effects else drop_unused(self.eqn, used)
        if dropped is None:
            return self
        used_inputs, eqn = dropped
        inputs = [v for v, use in zip(self.inputs, used_inputs, strict=True) if use]
        place = dict(zip(map(id, self.eqn.outvars), self.outputs, strict=True))
        outputs = [place[id(v)] for v in eqn.outvars]
        return Node(eqn, inputs, outputs, self.passed)


@dataclasses.dataclass
class Program:
    """Operations in order, with everything that no output needs removed.

    Attributes:
        nodes: The operations.
        inputs: The arguments.
        outputs: The results.
        constants: Arrays of the closure.
        avals: Shape and dtype of each value.
        drawn: Results of jaxinit's own initializers.
    """

    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Atom]
    constants: dict[Value, Any]
    avals: dict[Value, Any]
    drawn: set[Value] = dataclasses.field(default_factory=set[Value])


def flatten(closed: Any) -> Program:
    """Inlines every call of a closed jaxpr and removes dead code.

    Control flow (scan, while, cond) stays one operation each, without the
    outputs that nothing uses and what only they needed inside.
    """
    flat = _Flattener()
    jaxpr, _ = sub_jaxpr(closed)
    inputs = [flat.new(v.aval) for v in jaxpr.invars]
    used = (True,) * len(jaxpr.outvars)
    outputs = flat.inline(closed, inputs, used, set())
    return Program(flat.nodes, inputs, outputs, flat.constants, flat.avals, flat.drawn)


class _Flattener:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.avals: dict[Value, Any] = {}
        self.constants: dict[Value, Any] = {}
        self.drawn = set[Value]()
        self._known = set[Value]()  # computed from literals alone
        # JAX traces a function once per shape, so callees recur.
        self._live: dict[tuple[int, tuple[bool, ...]], list[Any]] = {}

    def new(self, aval: Any) -> Value:
        value = Value(len(self.avals))
        self.avals[value] = aval
        return value

    def inline(
        self,
        closed: Any,
        arguments: Sequence[Atom],
        used: tuple[bool, ...],
        given: set[Any],
    ) -> list[Atom]:
        """Adds what the used outputs need; None stands for an unused output.

        Args:
            closed: What is called.
            arguments: What it is called with.
            used: Which of its outputs are used.
            given: Its arguments that are those of a function for XLA, too; what is
                computed from them is added.
        """
        jaxpr, constants = sub_jaxpr(closed)
        env: dict[Any, Atom] = dict(zip(jaxpr.invars, arguments, strict=True))
        for var, constant in zip(jaxpr.constvars, constants, strict=True):
            env[var] = self.new(var.aval)
            self.constants[env[var]] = constant
        key = (id(jaxpr), used)
        if key not in self._live:
            self._live[key] = _live(jaxpr, used)
        for eqn, eqn_used in self._live[key]:
            inputs = [v if is_literal(v) else env.get(v) for v in eqn.invars]
            of_given = any(v in given for v in eqn.invars if not is_literal(v))
            given.update(eqn.outvars if of_given else ())
            callee = _CALLEES.get(eqn.primitive.name)
            if callee in eqn.params:
                called = eqn.params[callee]
                inner = _given_inside(eqn, called, given)
                outputs = self.inline(called, inputs, eqn_used, inner)
                if str(eqn.params.get("name")).startswith(PROGRAM_PREFIX):
                    self.drawn.update(v for v in outputs if isinstance(v, Value))
            else:
                outputs = [self.new(v.aval) for v in eqn.outvars]
                node = Node(eqn, inputs, outputs)
                if all(is_literal(v) or v in self._known for v in inputs):
                    self._known.update(outputs)
                    node.passed = of_given and _is_number(eqn)
                self.nodes.append(node.keep(eqn_used))
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [v if is_literal(v) else env.get(v) for v in jaxpr.outvars]


def _given_inside(eqn: Any, called: Any, given: set[Any]) -> set[Any]:
    """Arguments of what an equation calls that are those of a function for XLA."""
    arguments = sub_jaxpr(called)[0].invars
    if eqn.primitive.name in _FUNCTIONS:
        return set(arguments)
    pairs = zip(arguments, eqn.invars, strict=True)
    return {v for v, a in pairs if not is_literal(a) and a in given}


def _is_number(eqn: Any) -> bool:
    """Whether an operation makes one number that is rounded."""
    avals = [v.aval for v in eqn.outvars]
    inexact = all(jnp.issubdtype(aval.dtype, jnp.inexact) for aval in avals)
    return inexact and all(math.prod(aval.shape) == 1 for aval in avals)


def _live(jaxpr: Any, used: tuple[bool, ...]) -> list[tuple[Any, tuple[bool, ...]]]:
    """The equations that the used outputs need, each with its used outputs.

    Inputs of a call count as needed even where its callee ignores them; their
    operations are dropped in `partition`, which starts from the results.
    """
    pairs = zip(jaxpr.outvars, used, strict=True)
    needed = {v for v, use in pairs if use and not is_literal(v)}
    kept: list[tuple[Any, tuple[bool, ...]]] = []
    for eqn in reversed(jaxpr.eqns):
        eqn_used = tuple(v in needed for v in eqn.outvars)
        if not any(eqn_used) and not eqn.effects:
            continue
        needed.update(v for v in eqn.invars if not is_literal(v))
        kept.append((eqn, eqn_used))
    return kept[::-1]
