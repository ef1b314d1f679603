"""Finds softmaxes over data."""

from ..planning.ir import Node, Value
from .operations import RESHAPING
from .places import Info, Softmax
from .residuals import Numbers


class Softmaxes:
    """Finds the softmaxes of one program: exponentials over their sum."""

    def __init__(self, numbers: Numbers):
        """Starts at the inputs of a program."""
        self._numbers = numbers
        self._exponentials: set[Value] = set()
        # Sums of exponentials, with what they sum and the axes.
        self._sums: dict[Value, tuple[Value, tuple[int, ...]]] = {}

    def find(self, node: Node, infos: list[Info]) -> Softmax | None:
        """The softmax that ends with an operation on data alone, if one does."""
        first, output = node.inputs[0], node.outputs[0]
        if node.name == "exp":
            self._exponentials.add(output)
        elif node.name == "reduce_sum" and first in self._exponentials:
            self._sums[output] = first, tuple(node.params["axes"])
        elif node.name in RESHAPING and first in self._sums:
            self._sums[output] = self._sums[first]
        elif node.name == "div" and type(node.inputs[1]) is Value:
            summed, axes = self._sums.get(node.inputs[1], (None, ()))
            if summed is first:
                depth, near = infos[0].depth, infos[0].near
                return Softmax(self._numbers.new(), output, axes, depth, near)
        return None
