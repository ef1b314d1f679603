"""A traced function as one flat list of live operations."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from .._compat import dce_rule, is_literal, sub_jaxpr

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


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """The number of a value in a flat program."""

    id: int


Atom = Value | Any  # or a Literal of JAX's


@dataclasses.dataclass(slots=True)
class Node:
    """One primitive operation."""

    primitive: Any
    params: dict[str, Any]
    inputs: list[Atom]
    outputs: list[Value]


@dataclasses.dataclass
class Program:
    """Operations in order, with everything that no output needs removed."""

    nodes: list[Node]
    inputs: list[Value]
    outputs: list[Atom]
    constants: dict[Value, Any]
    avals: dict[Value, Any]


def flatten(closed: Any) -> Program:
    """Inlines every call of a closed jaxpr and removes dead code.

    Control flow (scan, while, cond) stays one operation each, without the
    outputs that nothing uses and what only they needed inside.
    """
    flat = _Flattener()
    inputs = [flat.new(v.aval) for v in closed.jaxpr.invars]
    used = (True,) * len(closed.jaxpr.outvars)
    outputs = flat.inline(closed, inputs, used)
    return Program(flat.nodes, inputs, outputs, flat.constants, flat.avals)


class _Flattener:
    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.avals: dict[Value, Any] = {}
        self.constants: dict[Value, Any] = {}
        # JAX traces a function once per shape, so callees recur.
        self._live: dict[tuple[int, tuple[bool, ...]], list[Any]] = {}

    def new(self, aval: Any) -> Value:
        value = Value(len(self.avals))
        self.avals[value] = aval
        return value

    def inline(
        self, closed: Any, arguments: Sequence[Atom], used: tuple[bool, ...]
    ) -> list[Atom]:
        """Adds what the used outputs need; None stands for an unused output."""
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
            callee = _CALLEES.get(eqn.primitive.name)
            if callee in eqn.params:
                outputs = self.inline(eqn.params[callee], inputs, eqn_used)
            else:
                outputs = [self.new(v.aval) for v in eqn.outvars]
                self.nodes.append(
                    Node(eqn.primitive, eqn.params, inputs, list(outputs))
                )
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [v if is_literal(v) else env.get(v) for v in jaxpr.outvars]


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
        rule = dce_rule(eqn.primitive)
        if rule is not None and not all(eqn_used) and not eqn.effects:
            if eqn.primitive.name not in _CALLEES:
                _, eqn = rule(list(eqn_used), eqn)
                eqn_used = tuple(v in needed for v in eqn.outvars)
        needed.update(v for v in eqn.invars if not is_literal(v))
        kept.append((eqn, eqn_used))
    return kept[::-1]
