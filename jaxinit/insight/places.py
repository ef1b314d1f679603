"""The places of a traced function where its signal is measured.

site         an operation in which a value computed from parameters alone, the weight,
             meets a value computed from inputs
level        a program and its places; the body of a scan is a level of its own
applied      an activation, with the values before and after it
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
        loops: The numbers of the scans around it from whose iterations it differs, as a
            parameter of stacked layers does.
        base: Number of products on the way to it that residual streams take: the
            depth without the branches.
        past: The sites and residual additions on every way to it.
    """

    kind: int
    leaves: frozenset[int] = frozenset()
    size: int = 1
    depth: int = 0
    near: frozenset[int] = frozenset()
    loops: frozenset[int] = frozenset()
    base: int = 0
    past: frozenset[int] = frozenset()


@dataclasses.dataclass(eq=False)
class Applied:
    """An activation that the model applies: a nonlinear function of each element.

    Attributes:
        index: A number of its own.
        before: The value that it reads.
        after: The value that it makes.
    """

    index: int
    before: Value
    after: Value


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
        loops: The numbers of the scans around it over layers of the weight.
        bias: The addition of the bias, and which of its inputs the result is; or None.
        activation: The elementwise operations that follow, if they are not linear.
        reads: The elementwise operations that made the data, if they are not linear.
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
    loops: frozenset[int]
    bias: tuple[Node, int] | None = None
    activation: Applied | None = None
    reads: Applied | None = None


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
        inside: The residual addition in whose branch this one lies, with a stream of
            its own; or None.
    """

    index: int
    node: Node
    branch: int
    depth: int
    near: frozenset[int]
    ends: tuple[int, ...]
    inside: int | None = None

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
        index: A number of its own.
        node: The operation.
        level: Its body.
        length: Number of iterations of a scan; None for a remat.
        stride: Products that an iteration adds to the depth.
        reads: Whether each iteration of a scan reads data of its own, as a recurrence
            over time does.
    """

    index: int
    node: Node
    level: "Level"
    length: int | None
    stride: int
    reads: bool

    @property
    def is_layered(self) -> bool:
        """True if an iteration is a layer with weights of its own."""
        sites = (p for p in self.level.walk() if isinstance(p, Site))
        return any(self.index in site.loops for site in sites)


Place: TypeAlias = Site | Residual | Softmax


@dataclasses.dataclass(eq=False)
class Level:
    """A program, and the places in it in their order."""

    program: Program
    places: list[Place | Inner]

    @functools.cached_property
    def activations(self) -> list[Applied]:
        """The activations before and after the sites, without those of inner levels."""
        sites = [place for place in self.places if isinstance(place, Site)]
        found = [x for site in sites for x in (site.reads, site.activation) if x]
        return list(dict.fromkeys(found))

    def parameter(self, site: Site) -> int | None:
        """Position of the input that is the weight as it stands, read here alone."""
        node, i = site.weight
        return self._read_once.get(node.inputs[i])

    @functools.cached_property
    def _read_once(self) -> dict[Atom, int]:
        reads = collections.Counter(
            a for node in self.program.nodes for a in values(node.inputs)
        )
        reads.update(values(self.program.outputs))
        inputs = enumerate(self.program.inputs)
        return {v: i for i, v in inputs if reads[v] == 1}

    def walk(self) -> Iterator[Place]:
        """Every place, those of inner levels included."""
        for place in self.places:
            if isinstance(place, Inner):
                yield from place.level.walk()
            else:
                yield place
