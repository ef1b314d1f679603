"""A function that cannot be cut: one program makes all leaves."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Sharding

from ..._compat import is_key, jaxpr_as_fun
from .. import host_keys
from ..ir import Program, Value, live, values
from ..partition import Component
from .base import Member, temporary_bytes


def whole_program(closed: Any, program: Program) -> tuple[Program, Component]:
    """A traced function without its nodes, and the one component that makes all.

    Args:
        closed: The traced function.
        program: The same as a program.
    """
    outputs = [Value() for _ in closed.out_avals]
    avals = {v: program.avals[v] for v in program.inputs}
    avals |= dict(zip(outputs, closed.out_avals, strict=True))
    nodes = [node for node, _ in live(program.nodes, program.outputs)]
    used = set(values([a for x in nodes for a in x.inputs] + [*program.outputs]))
    read = [v for v in program.inputs if v in used or is_key(avals[v])]
    member = Component([], read, outputs, None)
    return Program([], program.inputs, outputs, {}, avals), member


class Whole:
    """Compiles the whole function as one program."""

    def __init__(
        self,
        closed: Any,
        program: Program,
        member: Component,
        shardings: Sequence[Sharding | None],
    ):
        """Stores the function, the inputs that it reads and the result shardings."""
        self._function = jaxpr_as_fun(closed)
        self._program = program
        self._read = member.inputs
        self._shardings = shardings

    def lower(self) -> Callable[[], Any]:
        """Traces the program."""
        jitted = jax.jit(self._run, out_shardings=list(self._shardings))
        avals = [self._program.avals[v] for v in self._read]
        return jitted.lower(*map(host_keys.operand, avals)).compile

    def start(
        self, compiled: Any, members: Sequence[Member]
    ) -> Callable[[], list[list[jax.Array]]]:
        """Launches the program."""
        made = [compiled(*member.operands) for member in members]
        return lambda: made

    def temporary_bytes(self, compiled: Any) -> int:
        """The temporary memory of the program."""
        return temporary_bytes(compiled)

    def note(self) -> str:
        """Nothing."""
        return ""

    def _run(self, *operands: Any) -> list[Any]:
        given = dict(zip(self._read, operands, strict=True))
        avals = [(v, self._program.avals[v]) for v in self._program.inputs]
        return self._function(
            *(
                # XLA removes inputs that nothing reads.
                host_keys.to_device(given[v], aval)
                if v in given
                else jnp.zeros(aval.shape, aval.dtype)
                for v, aval in avals
            )
        )
