"""Finds where parameters meet data in a traced function."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from .._compat import callees, is_literal, scan_parts
from ..planning.flatten import flatten
from ..planning.ir import Atom, Node, Program, Value
from .axes import features_of, moved
from .operations import (
    ELEMENTWISE,
    LINEAR,
    LOOKUPS,
    PRODUCTS,
    REMAT,
    RESHAPING,
    is_elementwise,
    is_inverse,
    keeps,
)
from .places import (
    DATA,
    NEUTRAL,
    PARAMETER,
    Applied,
    Info,
    Inner,
    Level,
    Place,
    Site,
)
from .residuals import Numbers, Residuals
from .softmaxes import Softmaxes


def find_sites(closed: Any, infos: Sequence[Info]) -> Level:
    """Finds the sites of a closed jaxpr, from the `Info` of each of its inputs."""
    level, _ = _level(closed, infos, Numbers())
    return level


def _level(
    closed: Any, infos: Sequence[Info], numbers: Numbers, states: range = range(0)
) -> tuple[Level, list[Info]]:
    """The places of a program; the inputs at ``states`` are those of a recurrence."""
    program = flatten(closed, keeps=keeps)
    finder = _Finder(program, infos, numbers, states)
    for node in program.nodes:
        finder.visit(node)
    finder.finish()
    outputs = [finder.info(a) for a in program.outputs]
    return Level(program, finder.places), outputs


class _Finder:
    """Walks through a program, operation by operation."""

    def __init__(
        self, program: Program, infos: Sequence[Info], numbers: Numbers, states: range
    ):
        self.places: list[Place | Inner] = []
        self._program = program
        self._numbers = numbers
        self._infos = dict(zip(program.inputs, infos, strict=True))
        ends = [a for a in program.outputs[: len(states)] if type(a) is Value]
        self._residuals = Residuals(
            numbers, self._infos, [program.inputs[i] for i in states], ends
        )
        # Values that are the reshaped result of a site, with the site and its feature
        # axes.
        self._same: dict[Value, tuple[Site, tuple[int, ...]]] = {}
        self._site: dict[Value, Site] = {}  # the site of which a value is the result
        # Values that elementwise operations made from one value alone, with this value,
        # and True if one of the operations is not linear.
        self._after: dict[Value, tuple[Value, bool]] = {}
        self._activations: dict[Value, Applied] = {}
        self._moved: dict[Value, Atom] = {}  # what a value is in another shape or type
        self._inverses: set[Value] = set()  # such as 1 / std, and copies of them
        self._softmaxes = Softmaxes(numbers)

    def info(self, atom: Atom) -> Info:
        """Returns the `Info` of a value, a constant or a literal."""
        if type(atom) is Value and atom in self._infos:
            return self._infos[atom]
        return Info(NEUTRAL, size=math.prod(self._aval(atom).shape))

    def visit(self, node: Node) -> None:
        """Records the `Info` of the results of an operation."""
        infos = [self.info(a) for a in node.inputs]
        self._residuals.follow(node)
        kinds = {x.kind for x in infos}
        if node.name == "scan" or node.name in REMAT:
            self._enter(node, infos)
            return
        self._infos.update({v: self._made(node, infos, v) for v in node.outputs})
        if kinds >= {PARAMETER, DATA}:
            self._meet(node, infos)
        elif DATA in kinds:
            self._transform(node, infos)
        self._follow(node, infos)

    def finish(self) -> None:
        """Takes note of what leaves the program."""
        for atom in self._program.outputs:
            self._escapes(atom)

    def _made(self, node: Node, infos: list[Info], output: Value) -> Info:
        kind = max((x.kind for x in infos), default=NEUTRAL)
        parents = [x for x in infos if x.kind == kind]
        size = math.prod(self._aval(output).shape)
        if node.name in ELEMENTWISE or node.name in RESHAPING:
            size = min(size, max((x.size for x in parents), default=size))
        return Info(
            kind,
            _union(x.leaves for x in parents) if kind == PARAMETER else frozenset(),
            size,
            max((x.depth for x in infos), default=0),
            _union(x.near for x in infos),
            _union(x.loops for x in infos),
            max((x.base for x in infos), default=0),
            _union(x.past for x in infos),
        )

    def _meet(self, node: Node, infos: list[Info]) -> None:
        """A parameter meets data."""
        weight = self._largest(node, infos, PARAMETER)
        data = self._largest(node, infos, DATA)
        if node.name in PRODUCTS:
            self._add(PRODUCTS[node.name], node, infos, weight, data)
        elif node.name in LOOKUPS and infos[0].kind == PARAMETER:
            self._add("lookup", node, infos, 0, data)
        elif node.name == "mul" or (node.name == "div" and weight == 1):
            self._add("scale", node, infos, weight, data)
        elif node.name in ("add", "sub"):
            site, features = self._same.get(node.inputs[data], (None, ()))
            adds = node.name == "add" or data == 0
            if site is not None and adds and self._is_bias(site, infos[weight]):
                site.bias = node, data
                self._set_output(site, node.outputs[0], features)
            else:
                self._add("add", node, infos, weight, data)
        elif callees(node.params):
            self._add(node.name, node, infos, weight, data)

    def _is_bias(self, site: Site, info: Info) -> bool:
        """True for the first parameter added that has no number for each row."""
        if site.kind == "lookup" or site.bias is not None:
            return False
        node, i = site.weight
        count = self.info(node.inputs[i]).size // max(1, site.fan_in or 1)
        if site.fan_in is None:
            shape = self._aval(site.output).shape
            count = max(count, math.prod(shape[axis] for axis in site.features))
        return info.size <= count

    def _add(
        self, kind: str, node: Node, infos: list[Info], weight: int, data: int
    ) -> None:
        output = next((v for v in node.outputs if self._is_float(v)), None)
        if output is None or not self._is_float(node.inputs[weight]):
            return
        features, fan_in = features_of(node, weight, self._aval(output).shape)
        deeper = kind not in ("scale", "add")
        site = Site(
            self._numbers.new(),
            kind,
            (node, weight),
            (node, data),
            output,
            features,
            fan_in,
            infos[weight].leaves,
            max(x.depth for x in infos) + deeper,
            infos[weight].loops,
        )
        if kind in PRODUCTS.values():
            site.reads = self._activation_of(self._origin(node.inputs[data]))
        self.places.append(site)
        self._set_output(site, output, features)
        own = frozenset([site.index])
        for v in node.outputs:
            made = self._infos[v]
            self._infos[v] = dataclasses.replace(
                made,
                depth=site.depth,
                near=own,
                base=made.base + deeper,
                past=made.past | own,
            )

    def _set_output(self, site: Site, output: Value, features: tuple[int, ...]) -> None:
        site.output, site.features = output, features
        site.activation = None
        self._same[output] = site, features
        self._site[output] = site

    def _transform(self, node: Node, infos: list[Info]) -> None:
        """An operation on data alone."""
        first = node.inputs[0]
        softmax = self._softmaxes.find(node, infos)
        self.places += [] if softmax is None else [softmax]
        copies = node.name in RESHAPING and first in self._inverses
        if copies or is_inverse(node, infos[0].kind == NEUTRAL):
            self._inverses.add(node.outputs[0])
        if node.name in ("mul", "div"):
            self._finish_scale(node, infos)
        elif node.name == "add":
            self._find_residual(node, infos)
        elif node.name in RESHAPING:
            self._moved[node.outputs[0]] = first
            if _in(first, self._same):
                site, features = self._same[first]
                shape = self._aval(node.outputs[0]).shape
                features = moved(node, features, shape)
                self._same[node.outputs[0]] = site, features

    def _finish_scale(self, node: Node, infos: list[Info]) -> None:
        """A normalization multiplies its scale with 1 / std first, then with x."""
        for i, atom in enumerate(node.inputs):
            if not _in(atom, self._same):
                continue
            site, _ = self._same[atom]
            other = infos[1 - i]
            reader, j = site.data
            is_norm = site.kind == "scale" and reader.inputs[j] in self._inverses
            if not is_norm or other.kind != DATA:
                continue
            if infos[i].size < other.size and self._is_float(node.inputs[1 - i]):
                site.data = node, 1 - i
                shape = self._aval(node.outputs[0]).shape
                self._set_output(site, node.outputs[0], (len(shape) - 1,))
                return

    def _find_residual(self, node: Node, infos: list[Info]) -> None:
        a, b = infos
        is_whole = a.size == b.size > 1 and a.kind == b.kind == DATA
        if not is_whole or not self._is_float(node.outputs[0]):
            return
        i, j = (
            self._same[x][0].index if _in(x, self._same) else None for x in node.inputs
        )
        place, dropped = self._residuals.find(node, (a, b), (i, j))
        if place is None:
            return
        self.places = [p for p in self.places if p not in dropped]
        self.places.append(place)
        output = node.outputs[0]
        made = self._infos[output]
        self._infos[output] = dataclasses.replace(
            made,
            near=infos[place.branch].near,
            base=infos[1 - place.branch].base,
            past=made.past | {place.index},
        )

    def _follow(self, node: Node, infos: list[Info]) -> None:
        """Extends or ends the elementwise operations after a value."""
        data = [a for a, x in zip(node.inputs, infos, strict=True) if x.kind == DATA]
        before = {self._chain(a)[0] for a in data}
        extends = (
            len(before) == 1
            and all(x.kind == DATA or x.size == 1 for x in infos)
            and all(x.kind != PARAMETER for x in infos)
            and len(node.outputs) == 1
            and is_elementwise(node)
        )
        if not extends:
            for atom in node.inputs:
                self._escapes(atom)
        elif node.outputs[0] not in self._site:
            bends = node.name not in LINEAR or len(data) > 1
            bends |= any(self._chain(a)[1] for a in data)
            self._after[node.outputs[0]] = before.pop(), bends

    def _chain(self, atom: Value) -> tuple[Value, bool]:
        return self._after.get(atom, (atom, False))

    def _origin(self, atom: Atom) -> Atom:
        """The value of which an atom is a copy in another shape or type."""
        while _in(atom, self._moved) and not self._chain(atom)[1]:
            atom = self._moved[atom]
        return atom

    def _activation_of(self, atom: Atom) -> Applied | None:
        """The activation that made a value, or None."""
        if not _in(atom, self._after):
            return None
        before, bends = self._after[atom]
        a, b = self._aval(before), self._aval(atom)
        same = a.shape == b.shape and jnp.iscomplexobj(a) == jnp.iscomplexobj(b)
        if not (bends and same and self._is_float(atom) and self._is_float(before)):
            return None
        if atom not in self._activations:
            self._activations[atom] = Applied(self._numbers.new(), before, atom)
        return self._activations[atom]

    def _escapes(self, atom: Atom) -> None:
        """A value is read by something other than elementwise operations."""
        if _in(atom, self._after):
            site = self._site.get(self._after[atom][0])
            if site is not None and site.output is self._after[atom][0]:
                site.activation = self._activation_of(atom) or site.activation

    def _enter(self, node: Node, infos: list[Info]) -> None:
        """A scan or a remat: finds the sites inside."""
        for atom in node.inputs:
            self._escapes(atom)
        index = self._numbers.new()
        stride, risen, length, reads = 0, 0, node.params.get("length"), False
        if node.name == "scan":
            level, outputs, stride, risen, reads = self._loop(node, infos, index)
        else:
            level, outputs = _level(node.params["jaxpr"], infos, self._numbers)
        rounds = max(0, (length or 1) - 1)
        grown = stride * rounds
        for v, x in zip(node.outputs, outputs, strict=True):
            self._infos[v] = dataclasses.replace(
                x,
                size=math.prod(self._aval(v).shape),
                depth=x.depth + grown,
                loops=x.loops - {index},
                base=x.base + risen * rounds,
            )
        if level.places:
            self.places.append(Inner(index, node, level, length, stride, reads))

    def _loop(
        self, node: Node, infos: list[Info], index: int
    ) -> tuple[Level, list[Info], int, int, bool]:
        """Finds the sites in the body of a scan.

        Returns:
            The body; the `Info` of what it makes; the products that an iteration adds
            to the depth and to the base; and whether each reads data of its own.
        """
        length = max(1, node.params["length"])
        consts, carry, xs = scan_parts(node.params, infos)
        xs = [
            dataclasses.replace(
                x, loops=x.loops | {index}, size=max(1, x.size // length)
            )
            for x in xs
        ]
        body = node.params["jaxpr"]
        reads = any(x.kind == DATA for x in xs) or _indexes(body, consts)
        over_time = reads and all(x.kind != PARAMETER for x in xs)
        states = range(len(consts), len(consts) + len(carry) * over_time)
        while True:  # what the carry becomes is what the next iteration reads
            body_infos = [*consts, *carry, *xs]
            level, outputs = _level(body, body_infos, self._numbers, states)
            pairs = list(zip(carry, outputs, strict=False))
            joined = [_join(a, b) for a, b in pairs]
            if joined == carry:
                stride = max([b.depth - a.depth for a, b in pairs], default=0)
                risen = max([b.base - a.base for a, b in pairs], default=0)
                return level, outputs, stride, risen, reads
            carry = joined

    def _largest(self, node: Node, infos: list[Info], kind: int) -> int:
        """Position of the largest input of a kind, floating ones first."""

        def rank(i: int) -> tuple[bool, int]:
            aval = self._aval(node.inputs[i])
            return self._is_float(node.inputs[i]), math.prod(aval.shape)

        return max((i for i, x in enumerate(infos) if x.kind == kind), key=rank)

    def _is_float(self, atom: Atom) -> bool:
        return jnp.issubdtype(self._aval(atom).dtype, jnp.inexact)

    def _aval(self, atom: Atom) -> Any:
        return atom.aval if is_literal(atom) else self._program.avals[atom]


def _indexes(body: Any, consts: Sequence[Info]) -> bool:
    """True if the body of a loop looks up a part of constant data, as of one step."""
    if all(x.kind != DATA for x in consts):
        return False
    program = flatten(body, keeps=keeps)
    data = {v for v, x in zip(program.inputs, consts, strict=False) if x.kind == DATA}
    return any(n.name in LOOKUPS and n.inputs[0] in data for n in program.nodes)


def _in(atom: Atom, values: Any) -> bool:
    return type(atom) is Value and atom in values


def _join(a: Info, b: Info) -> Info:
    """Returns the `Info` of a carry that is ``a`` at first and ``b`` afterwards."""
    kind = max(a.kind, b.kind)
    leaves = a.leaves | b.leaves if kind == PARAMETER else frozenset[int]()
    return dataclasses.replace(a, kind=kind, leaves=leaves)


def _union(sets: Any) -> frozenset[Any]:
    return frozenset().union(*sets)
