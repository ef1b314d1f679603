"""Finds the additions of a branch to a stream.

stream       the term of a sum that the branches are functions of
siblings     terms of a sum that are results of sites and do not depend on one another:
             branches of one stream, or a branch and the projection of its stream
state        the carry of a recurrence over time, and its elementwise functions
linear root  the value of which another value is a linear function
"""

import itertools
from collections.abc import Iterable, Mapping

from ..planning.ir import Atom, Node, Value, values
from .operations import LINEAR, PRODUCTS, RESHAPING, is_elementwise
from .places import DATA, Info, Residual


class Numbers:
    """The numbers of all places, and the residual additions by their number."""

    def __init__(self) -> None:
        """Starts at 0."""
        self.residuals: dict[int, Residual] = {}
        self._next = itertools.count()

    def new(self) -> int:
        """A number that no place has."""
        return next(self._next)


class Residuals:
    """Finds the residual additions of one program."""

    def __init__(
        self,
        numbers: Numbers,
        inputs: Mapping[Value, Info],
        states: Iterable[Value],
        ends: Iterable[Value],
    ):
        """Starts at the inputs of a program.

        Args:
            numbers: The numbers of the places.
            inputs: The `Info` of the inputs of the program.
            states: The inputs that are states of a recurrence.
            ends: What these states become.
        """
        self._numbers = numbers
        self._carry, self._ends = frozenset(states), frozenset(ends)
        self._states = set(self._carry)
        # Data among the inputs on which a value depends.
        self._roots = {v: frozenset([v]) for v, x in inputs.items() if x.kind == DATA}
        # The sites of which a value is the sum, and its additions of siblings.
        self._terms: dict[Value, tuple[int, ...]] = {}
        self._siblings: dict[Value, tuple[Residual, ...]] = {}
        self._linear: dict[Value, Value] = {}  # the linear root of a value

    def follow(self, node: Node) -> None:
        """Records the origin of the results of an operation."""
        read = list(values(node.inputs))
        roots = frozenset[Value]().union(*(self._roots.get(a, ()) for a in read))
        self._roots.update(dict.fromkeys(node.outputs, roots))
        if node.name in RESHAPING and read:
            self._terms[node.outputs[0]] = self._terms.get(read[0], ())
            self._siblings[node.outputs[0]] = self._siblings.get(read[0], ())
        root = self._root(node)
        if root is not None:
            self._linear[node.outputs[0]] = root
        if self._states.isdisjoint(read):
            return
        if node.name in RESHAPING or is_elementwise(node):
            self._states.update(v for v in node.outputs if v not in self._ends)

    def find(
        self,
        node: Node,
        infos: tuple[Info, Info],
        sites: tuple[int | None, int | None],
    ) -> tuple[Residual | None, tuple[Residual, ...]]:
        """Decides whether an addition of two arrays of data is one to a stream.

        Args:
            node: The addition.
            infos: The `Info` of both terms.
            sites: The sites of which the terms are the results.

        Returns:
            The residual addition, and the earlier additions that are none because their
            sum is the branch of this one.
        """
        a, b = infos
        if any(type(x) is Value and x in self._states for x in node.inputs):
            return None, ()
        output = node.outputs[0]
        pairs = zip(node.inputs, sites, strict=True)
        terms = [self._of(x) if site is None else (site,) for x, site in pairs]
        if all(terms):
            self._terms[output] = terms[0] + terms[1]
        sums = [self._siblings.get(x, ()) for x in node.inputs]
        parts = () if a.base == b.base else self._one_product(node, infos, terms)
        if parts:
            self._terms[output] = parts
        if parts or a.base == b.base:
            self._siblings[output] = sum(sums, ())
            return None, ()
        i = int(b.base > a.base)
        branch, stream = infos[i], infos[1 - i]
        are_siblings = all(terms) and branch.past.isdisjoint(terms[1 - i])
        first, second = (self._roots[x] for x in node.inputs)
        one_is_new = first.isdisjoint(self._carry) != second.isdisjoint(self._carry)
        if first.isdisjoint(second) or (are_siblings and one_is_new):
            return None, ()  # as in a recurrence, W x + U h of an input and a state
        residual = Residual(
            self._numbers.new(),
            node,
            i,
            max(a.depth, b.depth),
            branch.near,
            terms[i],
        )
        self._numbers.residuals[residual.index] = residual
        if are_siblings:
            self._siblings[output] = (*sum(sums, ()), residual)
        dropped = () if are_siblings else self._siblings.get(node.inputs[i], ())
        outer = {None, *(x.index for x in dropped)}
        for number in branch.past - stream.past:
            inner = self._numbers.residuals.get(number)
            if inner is not None and inner.inside in outer:
                inner.inside = residual.index
        return residual, dropped

    def _one_product(
        self, node: Node, infos: tuple[Info, Info], terms: list[tuple[int, ...]]
    ) -> tuple[int, ...]:
        """The sites of W x + B A x, as of LoRA: both terms are products of the same x.

        Of another sum, none.
        """
        roots = {self._linear.get(x) for x in values(node.inputs)}
        ends = [
            own or (tuple(x.near) if len(x.near) == 1 else ())
            for own, x in zip(terms, infos, strict=True)
        ]
        is_one = (
            None not in roots
            and len(roots) == 1
            and all(ends)
            and infos[0].past.isdisjoint(ends[1])
            and infos[1].past.isdisjoint(ends[0])
        )
        return ends[0] + ends[1] if is_one else ()

    def _root(self, node: Node) -> Value | None:
        """The linear root of the result of an operation, or None."""
        data = [x for x in values(node.inputs) if self._roots.get(x)]
        roots = {self._linear.get(x, x) for x in data}
        if len(roots) != 1 or len(node.outputs) != 1:
            return None
        if node.name == "div":
            is_linear = data == [node.inputs[0]]
        elif node.name == "select_n":  # as of dropout
            is_linear = node.inputs[0] not in data
        elif node.name in ("add", "sub"):
            is_linear = True
        else:
            names = LINEAR | RESHAPING | set(PRODUCTS)
            is_linear = len(data) == 1 and node.name in names
        return roots.pop() if is_linear else None

    def _of(self, atom: Atom) -> tuple[int, ...]:
        return self._terms.get(atom, ()) if type(atom) is Value else ()
