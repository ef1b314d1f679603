"""From a traced function to groups of components that one program makes."""

import dataclasses
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from jax.sharding import Sharding

from .._compat import Place
from . import makers
from .closure import closure_signature
from .flatten import flatten, nodes_within
from .ir import Node, Program, Value, values
from .makers.base import Factory, Maker
from .makers.whole import Whole, whole_program
from .partition import Component, Partition, Unanalyzable, partition


@dataclasses.dataclass(frozen=True)
class Group:
    """A maker and its members.

    Attributes:
        maker: How the members are made.
        members: The components; one compilation serves them all.
        leaves: Numbers of the leaves that the group makes.
    """

    maker: Maker
    members: Sequence[Component]
    leaves: Sequence[int]


@dataclasses.dataclass(frozen=True)
class Analysis:
    """The analysis of a function: its key program and its groups.

    Attributes:
        program: The function.
        keys: Its key program.
        groups: The groups that make the rest.
        reason: Why the function is compiled as one program, or None.
    """

    program: Program
    keys: Sequence[Node]
    groups: Sequence[Group]
    reason: str | None

    def leaves_of(self, argument: Value) -> list[int]:
        """Numbers of the leaves that depend on an argument."""
        members = [member for group in self.groups for member in group.members]
        reached = {argument}
        for operation in self.program.nodes or members:
            if not reached.isdisjoint(values(operation.inputs)):
                reached.update(operation.outputs)
        atoms = enumerate(self.program.outputs)
        return [i for i, a in atoms if isinstance(a, Value) and a in reached]


def analyze(
    closed: Any, shardings: Sequence[Sharding | None], place: Place
) -> Analysis:
    """Cuts a traced function into groups.

    Args:
        closed: The traced function.
        shardings: The sharding asked for, of each result.
        place: Where results lie for which no sharding is asked for.
    """
    program = flatten(closed, batch_scans=True)
    try:
        if closed.effects:
            names = ", ".join(sorted({str(e) for e in closed.effects}))
            raise Unanalyzable(f"it has side effects ({names})")
        parts = partition(program)
    except Unanalyzable as e:
        program, member = whole_program(closed, program)
        maker = Whole(closed, program, member, shardings)
        group = Group(maker, [member], range(len(shardings)))
        return Analysis(program, [], [group], str(e))
    pairs = zip(program.outputs, shardings, strict=True)
    wanted = {v: sharding for v, sharding in pairs if isinstance(v, Value)}
    made = {v: wanted.get(v) for c in parts.components for v in c.outputs}
    return Analysis(parts.program, parts.keys, _groups(parts, made, place), None)


def _groups(
    parts: Partition, shardings: Mapping[Value, Sharding | None], place: Place
) -> list[Group]:
    """The components of each signature, with the maker that claimed them."""
    claims: dict[Hashable, tuple[Hashable, Factory]] = {}
    members: dict[Hashable, list[Component]] = defaultdict(list)
    factories: dict[Hashable, Factory] = {}
    for component in parts.components:
        read = (*component.inputs, *component.outputs)
        closure = closure_signature(component, parts.program)
        alike = component.signature, tuple(map(shardings.get, read)), closure
        if alike not in claims:
            claims[alike] = _claim(component, parts.program, shardings, place)
        signature, factory = claims[alike]
        members[signature].append(component)
        factories.setdefault(signature, factory)
    leaves: dict[Value, list[int]] = defaultdict(list)
    for i, output in enumerate(parts.program.outputs):
        if isinstance(output, Value):
            leaves[output].append(i)
    return [
        Group(
            maker=factories[signature](components),
            members=components,
            leaves=sorted(i for c in components for v in c.outputs for i in leaves[v]),
        )
        for signature, components in members.items()
    ]


def _claim(
    component: Component,
    program: Program,
    shardings: Mapping[Value, Sharding | None],
    place: Place,
) -> tuple[Hashable, Factory]:
    """The signature and the maker's factory of the first claim."""
    for number, claim in enumerate(makers.MAKERS):
        claimed = claim(component, program, shardings, place)
        if claimed is not None:
            signature, factory = claimed
            return (number, signature), factory
    raise AssertionError("the last maker of MAKERS claims every component")


def coarse_draw(component: Component) -> tuple[int, str] | None:
    """The random bits of the narrowest draw, if fewer than 32.

    Returns:
        Their number, and the initializers of jaxinit that would draw in float32; or
        None.
    """
    nodes = list(nodes_within(component.nodes))
    widths = [n.params["bit_width"] for n in nodes if n.name == "random_bits"]
    width = min(widths, default=32)
    if width >= 32:
        return None
    names = {node.name for node in nodes}
    if "erf_inv" not in names:
        return width, "RandomUniform, or LecunUniform, GlorotUniform, HeUniform"
    if names & {"min", "clamp"}:
        return width, "TruncatedNormal, or LecunNormal, GlorotNormal, HeNormal"
    return width, "RandomNormal"
