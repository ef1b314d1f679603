"""The places of a traced function where its signal is measured.

site         an operation in which a value computed from parameters alone, the weight,
             meets a value computed from inputs
level        a program and its places; the body of a scan is a level of its own
residual     an addition of a branch, which sites made, to a stream
"""

import collections
import dataclasses
import functools
from collections.abc import Iterator
from typing import TypeAlias

from ..planning.ir import Atom, Node, Program, Value, values

NEUTRAL, PARAMETER, DATA = range(3)


@dataclasses.dataclass(frozen=True)
class Info:
    """The origin of a value: inputs, parameters or neither.

    Attributes:
        kind: `DATA` if it depends on inputs, else `PARAMETER` if on parameters, else
            `NEUTRAL`.
        leaves: Positions of the parameters of which it consists, for a `PARAMETER`.
        size: Number of elements before it was broadcast.
        depth: Number of products on the longest way to it.
        near: The last sites on every way to it.
        scanned: Whether it differs from one iteration of a scan to the next, as a
            parameter of stacked layers does.
    """

    kind: int
    leaves: frozenset[int] = frozenset()
    size: int = 1
    depth: int = 0
    near: frozenset[int] = frozenset()
    scanned: bool = False


@dataclasses.dataclass(eq=False)
class Site:
    """An operation in which a parameter meets data.

    Attributes:
        index: A number of its own.
        kind: "dot", "conv", "lookup", "scale", "add", or the name of a call.
        weight: The operation that reads the weight, and which of its inputs that is.
        data: The operation that reads the data, and which of its inputs that is.
        output: The result, after the bias if one is added at once.
        features: Axes of the result that are features; the others are rows.
        fan_in: Number of products that an element of the result sums, or None.
        leaves: Positions of the parameters of the weight.
        depth: Number of products on the longest way, itself included.
        scanned: Whether the weight differs by iteration of the scan around it.
        bias: The addition of the bias, and which of its inputs the result is; or None.
        activation: The result after the elementwise operations that follow, or None.
    """

    index: int
    kind: str
    weight: tuple[Node, int]
    data: tuple[Node, int]
    output: Value
    features: tuple[int, ...]
    fan_in: int | None
    leaves: frozenset[int]
    depth: int
    scanned: bool
    bias: tuple[Node, int] | None = None
    activation: Value | None = None


@dataclasses.dataclass(eq=False)
class Residual:
    """An addition of a branch to a stream.

    Attributes:
        index: A number of its own.
        node: The addition.
        branch: Which of its inputs is the branch: 0 or 1.
        depth: Number of products on the longest way to it.
        near: The sites that made the branch.
        ends: The sites whose results the branch is the sum of; none if operations
            follow them.
    """

    index: int
    node: Node
    branch: int
    depth: int
    near: frozenset[int]
    ends: tuple[int, ...]

    @property
    def output(self) -> Value:
        """The sum."""
        return self.node.outputs[0]


@dataclasses.dataclass(eq=False)
class Softmax:
    """A softmax over data.

    Attributes:
        index: A number of its own.
        output: The probabilities.
        axes: The axes along which they sum to 1.
        depth: Number of products on the longest way to it.
        near: The sites that made the logits.
    """

    index: int
    output: Value
    axes: tuple[int, ...]
    depth: int
    near: frozenset[int]


@dataclasses.dataclass(eq=False)
class Inner:
    """A scan or a remat with places inside.

    Attributes:
        node: The operation.
        level: Its body.
        length: Number of iterations of a scan; None for a remat.
        stride: Products that an iteration adds to the depth.
        reads: Whether each iteration of a scan reads data of its own, as a recurrence
            over time does.
    """

    node: Node
    level: "Level"
    length: int | None
    stride: int
    reads: bool

    @property
    def is_layered(self) -> bool:
        """True if an iteration is a layer with weights of its own."""
        sites = (p for p in self.level.walk() if isinstance(p, Site))
        return self.length is not None and any(site.scanned for site in sites)


Place: TypeAlias = Site | Residual | Softmax


@dataclasses.dataclass(eq=False)
class Level:
    """A program, and the places in it in their order."""

    program: Program
    places: list[Place | Inner]

    def parameter(self, site: Site) -> int | None:
        """Position of the input that is the weight as it stands, read here alone."""
        node, i = site.weight
        return self._read_once.get(node.inputs[i])

    @functools.cached_property
    def _read_once(self) -> dict[Atom, int]:
        reads = collections.Counter(
            a for node in self.program.nodes for a in values(node.inputs)
        )
        inputs = enumerate(self.program.inputs)
        return {v: i for i, v in inputs if reads[v] == 1}

    def walk(self) -> Iterator[Place]:
        """Every place, those of inner levels included."""
        for place in self.places:
            if isinstance(place, Inner):
                yield from place.level.walk()
            else:
                yield place
