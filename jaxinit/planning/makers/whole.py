"""A function that cannot be cut: one program makes all leaves."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Sharding

from ..._compat import jaxpr_as_fun
from .. import host_keys
from ..ir import Program, Value
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
    member = Component([], program.inputs, outputs, None)
    return Program([], program.inputs, outputs, {}, avals), member


class Whole:
    """The function as it stands, compiled as one program."""

    def __init__(
        self, closed: Any, program: Program, shardings: Sequence[Sharding | None]
    ):
        """Of a traced function, its inputs and the shardings of its results."""
        self._function = jaxpr_as_fun(closed)
        self._avals = [program.avals[v] for v in program.inputs]
        self._shardings = shardings

    def lower(self) -> Callable[[], Any]:
        """Traces the program."""
        jitted = jax.jit(self._run, out_shardings=list(self._shardings))
        return jitted.lower(*map(host_keys.operand, self._avals)).compile

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
        return self._function(*map(host_keys.to_device, operands, self._avals))
