"""Finds where parameters meet data in a traced function."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp

from .._compat import callees, is_literal, scan_parts
from ..planning.flatten import flatten, nodes_within
from ..planning.ir import Atom, Node, Program, Value, values
from .axes import features_of, moved
from .places import (
    DATA,
    NEUTRAL,
    PARAMETER,
    Info,
    Inner,
    Level,
    Place,
    Residual,
    Site,
    Softmax,
)

PRODUCTS = {
    "dot_general": "dot",
    "conv_general_dilated": "conv",
    "ragged_dot": "dot",
    "ragged_dot_general": "dot",
}
_LOOKUPS = {"gather", "dynamic_slice"}
_RESHAPING = {
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "expand_dims",
    "reshape",
    "reduce_precision",
    "squeeze",
    "transpose",
}
_LINEAR = set("add convert_element_type copy div mul neg sub".split())
_ELEMENTWISE = _LINEAR | set(
    "abs and atan atan2 cbrt ceil clamp cos cosh eq erf erf_inv erfc exp exp2 expm1 "
    "floor ge gt integer_pow is_finite le log log1p logistic lt max min ne not or pow "
    "reduce_precision rem round rsqrt select_n sign sin sinh sqrt square "
    "stop_gradient tan tanh xor".split()
)
_REMAT = {"checkpoint", "remat2"}
_CUSTOM_VJP = {"custom_vjp_call", "custom_vjp_call_jaxpr"}


def find_sites(closed: Any, infos: Sequence[Info]) -> Level:
    """Finds the sites of a closed jaxpr, from the `Info` of each of its inputs."""
    level, _ = _level(closed, infos, itertools.count())
    return level


def keeps(node: Node) -> bool:
    """True if a call stays one operation, because it has its own derivative rule.

    A function with a rule for forward derivatives, as relu, is looked into only if it
    holds a product. A remat stays a level of its own, so that it saves memory.
    """
    if node.name == "custom_jvp_call":
        inner = nodes_within(flatten(node.params["call_jaxpr"]).nodes)
        return not any(n.name in PRODUCTS for n in inner)
    return node.name in _CUSTOM_VJP or node.name in _REMAT


def _level(
    closed: Any, infos: Sequence[Info], numbers: Iterator[int]
) -> tuple[Level, list[Info]]:
    program = flatten(closed, keeps=keeps)
    finder = _Finder(program, infos, numbers)
    for node in program.nodes:
        finder.visit(node)
    finder.finish()
    outputs = [finder.info(a) for a in program.outputs]
    return Level(program, finder.places), outputs


class _Finder:
    """Walks through a program, operation by operation."""

    def __init__(self, program: Program, infos: Sequence[Info], numbers: Iterator[int]):
        self.places: list[Place | Inner] = []
        self._program = program
        self._numbers = numbers
        self._infos = dict(zip(program.inputs, infos, strict=True))
        # Values that are the reshaped result of a site, with the site and its feature
        # axes.
        self._same: dict[Value, tuple[Site, tuple[int, ...]]] = {}
        # Values that elementwise operations made from the result of one site alone,
        # with True if one of the operations is not linear.
        self._after: dict[Value, tuple[Site, bool]] = {}
        self._sums: dict[Value, tuple[Value, tuple[int, ...]]] = {}
        self._exponentials: set[Value] = set()
        # Data among the inputs on which a value depends; sites of which it is the sum.
        self._roots: dict[Value, frozenset[Value]] = {
            v: frozenset([v])
            for v, x in zip(program.inputs, infos, strict=True)
            if x.kind == DATA
        }
        self._terms: dict[Value, tuple[int, ...]] = {}

    def info(self, atom: Atom) -> Info:
        """Returns the `Info` of a value, a constant or a literal."""
        if type(atom) is Value and atom in self._infos:
            return self._infos[atom]
        return Info(NEUTRAL, size=math.prod(self._aval(atom).shape))

    def visit(self, node: Node) -> None:
        """Records the `Info` of the results of an operation."""
        infos = [self.info(a) for a in node.inputs]
        roots = _union(self._roots.get(a, frozenset()) for a in values(node.inputs))
        self._roots.update(dict.fromkeys(node.outputs, roots))
        kinds = {x.kind for x in infos}
        if node.name == "scan" or node.name in _REMAT:
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
        if node.name in _ELEMENTWISE or node.name in _RESHAPING:
            size = min(size, max((x.size for x in parents), default=size))
        return Info(
            kind,
            _union(x.leaves for x in parents) if kind == PARAMETER else frozenset(),
            size,
            max((x.depth for x in infos), default=0),
            _union(x.near for x in infos),
            any(x.scanned for x in infos),
        )

    def _meet(self, node: Node, infos: list[Info]) -> None:
        """A parameter meets data."""
        weight = self._largest(node, infos, PARAMETER)
        data = self._largest(node, infos, DATA)
        if node.name in PRODUCTS:
            self._add(PRODUCTS[node.name], node, infos, weight, data)
        elif node.name in _LOOKUPS and infos[0].kind == PARAMETER:
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
            next(self._numbers),
            kind,
            (node, weight),
            (node, data),
            output,
            features,
            fan_in,
            infos[weight].leaves,
            max(x.depth for x in infos) + deeper,
            infos[weight].scanned,
        )
        self.places.append(site)
        self._set_output(site, output, features)
        for v in node.outputs:
            near = frozenset([site.index])
            self._infos[v] = dataclasses.replace(
                self._infos[v], depth=site.depth, near=near
            )

    def _set_output(self, site: Site, output: Value, features: tuple[int, ...]) -> None:
        site.output, site.features = output, features
        site.activation = None
        self._same[output] = site, features
        self._after[output] = site, False

    def _transform(self, node: Node, infos: list[Info]) -> None:
        """An operation on data alone."""
        first = node.inputs[0]
        if node.name in ("mul", "div"):
            self._finish_scale(node, infos)
            self._find_softmax(node, infos)
        elif node.name == "add":
            self._find_residual(node, infos)
        elif node.name == "exp":
            self._exponentials.update(node.outputs)
        elif node.name == "reduce_sum" and _in(first, self._exponentials):
            self._sums[node.outputs[0]] = first, tuple(node.params["axes"])
        elif node.name in _RESHAPING:
            if _in(first, self._same):
                site, features = self._same[first]
                shape = self._aval(node.outputs[0]).shape
                features = moved(node, features, shape)
                self._same[node.outputs[0]] = site, features
            if _in(first, self._sums):
                self._sums[node.outputs[0]] = self._sums[first]

    def _finish_scale(self, node: Node, infos: list[Info]) -> None:
        """A normalization multiplies its scale with 1 / std first, then with x."""
        for i, atom in enumerate(node.inputs):
            if not _in(atom, self._same):
                continue
            site, _ = self._same[atom]
            other = infos[1 - i]
            if site.kind != "scale" or other.kind != DATA:
                continue
            if infos[i].size < other.size and self._is_float(node.inputs[1 - i]):
                site.data = node, 1 - i
                shape = self._aval(node.outputs[0]).shape
                self._set_output(site, node.outputs[0], (len(shape) - 1,))
                return

    def _find_softmax(self, node: Node, infos: list[Info]) -> None:
        above, below = node.inputs
        if node.name != "div" or not _in(below, self._sums):
            return
        summed, axes = self._sums[below]
        if summed is above:
            depth, near = infos[0].depth, infos[0].near
            output = node.outputs[0]
            place = Softmax(next(self._numbers), output, axes, depth, near)
            self.places.append(place)

    def _find_residual(self, node: Node, infos: list[Info]) -> None:
        a, b = infos
        is_whole = a.size == b.size > 1 and a.kind == b.kind == DATA
        if not is_whole or not self._is_float(node.outputs[0]):
            return
        terms = [self._terms_of(atom) for atom in node.inputs]
        if a.depth == b.depth:
            if all(terms):
                self._terms[node.outputs[0]] = terms[0] + terms[1]
            return
        if not self._roots[node.inputs[0]] & self._roots[node.inputs[1]]:
            return  # as in a recurrence, W x + U h of an input and a state
        branch = int(b.depth > a.depth)
        place = Residual(
            next(self._numbers),
            node,
            branch,
            infos[branch].depth,
            infos[branch].near,
            terms[branch],
        )
        self.places.append(place)
        output = node.outputs[0]
        made = self._infos[output]
        self._infos[output] = dataclasses.replace(made, near=infos[branch].near)

    def _terms_of(self, atom: Atom) -> tuple[int, ...]:
        """The sites of which a value is the result or the sum."""
        if _in(atom, self._same):
            return (self._same[atom][0].index,)
        return self._terms.get(atom, ()) if type(atom) is Value else ()

    def _follow(self, node: Node, infos: list[Info]) -> None:
        """Extends or ends the elementwise operations after a site."""
        sites = {self._after[a][0] for a in node.inputs if _in(a, self._after)}
        data = [a for a, x in zip(node.inputs, infos, strict=True) if x.kind == DATA]
        extends = (
            len(sites) == 1
            and all(_in(a, self._after) for a in data)
            and all(x.kind == DATA or x.size == 1 for x in infos)
            and all(x.kind != PARAMETER for x in infos)
            and len(node.outputs) == 1
            and _is_elementwise(node)
        )
        if not extends:
            for atom in node.inputs:
                self._escapes(atom)
        elif node.outputs[0] not in self._after:
            (site,) = sites
            bends = node.name not in _LINEAR or len(data) > 1
            bends |= any(self._after[a][1] for a in data)
            self._after[node.outputs[0]] = site, bends

    def _escapes(self, atom: Atom) -> None:
        """A value is read by something other than elementwise operations."""
        if _in(atom, self._after):
            site, bends = self._after[atom]
            same = self._aval(atom).shape == self._aval(site.output).shape
            if bends and same and self._is_float(atom):
                site.activation = atom

    def _enter(self, node: Node, infos: list[Info]) -> None:
        """A scan or a remat: finds the sites inside."""
        for atom in node.inputs:
            self._escapes(atom)
        scanned = any(x.scanned for x in infos)
        stride, length, reads = 0, node.params.get("length"), False
        if node.name == "scan":
            level, outputs, stride = self._loop(node, infos)
            reads = any(x.kind == DATA for x in scan_parts(node.params, infos)[2])
        else:
            level, outputs = _level(node.params["jaxpr"], infos, self._numbers)
        grown = stride * max(0, (length or 1) - 1)
        for v, x in zip(node.outputs, outputs, strict=True):
            size = math.prod(self._aval(v).shape)
            depth = x.depth + grown
            self._infos[v] = dataclasses.replace(
                x, size=size, depth=depth, scanned=scanned
            )
        if level.places:
            self.places.append(Inner(node, level, length, stride, reads))

    def _loop(self, node: Node, infos: list[Info]) -> tuple[Level, list[Info], int]:
        """The body of a scan, what it makes, and the products of an iteration."""
        length = max(1, node.params["length"])
        consts, carry, xs = scan_parts(node.params, infos)
        xs = [
            dataclasses.replace(x, scanned=True, size=max(1, x.size // length))
            for x in xs
        ]
        while True:  # what the carry becomes is what the next iteration reads
            body_infos = [*consts, *carry, *xs]
            level, outputs = _level(node.params["jaxpr"], body_infos, self._numbers)
            pairs = list(zip(carry, outputs, strict=False))
            joined = [_join(a, b) for a, b in pairs]
            if joined == carry:
                stride = max([b.depth - a.depth for a, b in pairs], default=0)
                return level, outputs, stride
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


def _is_elementwise(node: Node) -> bool:
    if callees(node.params):
        inner = nodes_within(flatten(callees(node.params)[0]).nodes)
        return all(n.name in _ELEMENTWISE | {"broadcast_in_dim"} for n in inner)
    return node.name in _ELEMENTWISE


def _in(atom: Atom, values: Any) -> bool:
    return type(atom) is Value and atom in values


def _join(a: Info, b: Info) -> Info:
    """Returns the `Info` of a carry that is ``a`` at first and ``b`` afterwards."""
    kind = max(a.kind, b.kind)
    leaves = a.leaves | b.leaves if kind == PARAMETER else frozenset[int]()
    return dataclasses.replace(a, kind=kind, leaves=leaves)


def _union(sets: Any) -> frozenset[Any]:
    return frozenset().union(*sets)
