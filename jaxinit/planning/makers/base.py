"""The interface of makers: how the leaves of a group are made."""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import jax
from jax.sharding import Sharding

from ..._compat import Place
from ..ir import Program, Value
from ..partition import Component


@dataclasses.dataclass(frozen=True)
class Member:
    """A component whose inputs are there.

    Attributes:
        component: The component.
        operands: Its inputs, as the host holds them or on a device.
    """

    component: Component
    operands: Sequence[Any]


class Maker(Protocol):
    """Makes the leaves of one group; owns its programs, threads and buffers."""

    def lower(self) -> Callable[[], Any] | None:
        """Returns a function that compiles the program, in any thread.

        It is None where there is nothing to compile.
        """
        ...

    def start(
        self, compiled: Any, members: Sequence[Member]
    ) -> Callable[[], list[list[jax.Array]]]:
        """Begins to make the outputs of members.

        Args:
            compiled: The result of the function that `lower` returned, or None.
            members: Some members of the group.

        Returns:
            A function that waits for the outputs and returns those of each member.
        """
        ...

    def temporary_bytes(self, compiled: Any) -> int:
        """Bytes that one device needs beside the leaves, while they are made."""
        ...

    def note(self) -> str:
        """Returns the text that ``print(plan)`` adds to the line of the group."""
        ...


Factory: TypeAlias = Callable[[Sequence[Component]], Maker]


class Claim(Protocol):
    """Decides whether a maker makes a component."""

    def __call__(
        self,
        component: Component,
        program: Program,
        shardings: Mapping[Value, Sharding | None],
        place: Place,
    ) -> tuple[Hashable, Factory] | None:
        """Claims a component, or not.

        The answer is that for every component of the same signature and shardings.

        Args:
            component: The component.
            program: The program that it is part of.
            shardings: The shardings asked for, of each result that a component makes.
            place: Where results lie for which no other place is asked.

        Returns:
            None, or a signature and a function: components of equal signature form a
            group, whose maker the function returns when it is called with them.
        """
        ...


def wanted(
    component: Component, shardings: Mapping[Value, Sharding | None]
) -> tuple[Sharding | None, ...]:
    """The shardings of the outputs of a component."""
    return tuple(shardings[v] for v in component.outputs)


def temporary_bytes(compiled: Any) -> int:
    """Bytes that a compiled program needs beside its arguments and results."""
    analysis = compiled.memory_analysis()
    return analysis.temp_size_in_bytes if analysis else 0
