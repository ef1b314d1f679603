"""Leaves of one law: drawn by one program, whatever their shapes and scales.

Where element i of a leaf depends on its key and on i alone, the leaf can be drawn
some elements at a time; see `rows`.
"""

import dataclasses
import math
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import bind, is_literal, is_threefry, read_config
from .._prng import threefry_rows
from .flatten import Atom, Node, Value
from .partition import Component, describe

_RESHAPING = {"broadcast_in_dim", "expand_dims", "reshape", "squeeze"}
_ELEMENTWISE = {
    "add",
    "and",
    "bitcast_convert_type",
    "clamp",
    "convert_element_type",
    "copy",
    "div",
    "erf",
    "erf_inv",
    "log",
    "log1p",
    "max",
    "min",
    "mul",
    "neg",
    "nextafter",
    "or",
    "shift_left",
    "shift_right_logical",
    "sqrt",
    "stop_gradient",
    "sub",
    "xor",
}
# Those whose scalars the host computes as XLA's constant folding does.
_EXACT = {"div": np.divide, "mul": np.multiply, "sqrt": np.sqrt}
_WIDE = (np.float32, np.float64)
_FACTOR = Value(-1)  # stands for the factor in the operations of a law


@dataclasses.dataclass
class Law:
    """The program of a leaf without its shape and its scale.

    Attributes:
        signature: Equal for leaves of the same law.
        steps: Its operations on scalars and rows.
        factor: The scalar that is an argument of the program, or None.
        shape: Shape of the leaf.
    """

    signature: Hashable
    steps: list[Node]
    factor: np.ndarray | None
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements of the leaf."""
        return math.prod(self.shape)

    def rows(self, words: Any, starts: Any, factors: Any, count: int) -> jax.Array:
        """Rows of leaves: ``count`` elements from ``starts`` on, of each key."""
        shape = len(starts), count
        env: dict[Value, Any] = {
            _FACTOR: jnp.broadcast_to(factors[:, None], shape),
        }
        for node in self.steps:
            if node.name == "random_bits":
                width = node.params["bit_width"]
                env[node.outputs[0]] = threefry_rows(words, width, starts, count)
                continue
            inputs = [
                np.asarray(a.val, a.aval.dtype) if is_literal(a) else env[a]
                for a in node.inputs
            ]
            if node.name in _RESHAPING:
                made = [inputs[0]]
            else:
                made = bind(node.eqn.primitive, inputs, node.params)
            env.update(zip(node.outputs, made, strict=True))
        return env[self.steps[-1].outputs[0]]


def find_law(component: Component, avals: dict[Value, Any]) -> Law | None:
    """The law of a leaf that is one draw and elementwise operations, else None."""
    if len(component.inputs) != 1 or len(component.outputs) != 1:
        return None
    (key,), (output,) = component.inputs, component.outputs
    size = math.prod(avals[output].shape)
    drawn = set[Value]()  # values that hold one element for each of the leaf
    for node in component.nodes:
        count = math.prod(avals[node.outputs[0]].shape)
        if node.name == "random_bits":
            if drawn or not _is_plain(node, avals[key], size):
                return None
        elif node.name not in _ELEMENTWISE | _RESHAPING or len(node.outputs) != 1:
            return None
        elif drawn.isdisjoint(v for v in node.inputs if isinstance(v, Value)):
            if count not in (1, size):
                return None
            continue
        elif count != size:
            return None
        drawn.add(node.outputs[0])
    nodes, factor = _without_factor(component.nodes, drawn, avals)
    steps = _needed(nodes, output)
    signature = _signature(steps, key, avals)
    return Law(signature, steps, factor, avals[output].shape)


def _is_plain(node: Node, key: Any, size: int) -> bool:
    """Whether the bits of an element depend on its row-major index alone."""
    shape = node.params["shape"]
    # XLA may round loops over a short minor axis otherwise; see `group`.
    return (
        is_threefry(key)
        and key.shape == ()
        and bool(read_config("jax_threefry_partitionable"))
        and 0 < math.prod(shape) == size < 2**32
        and shape[-1:] >= (8,)
    )


def _without_factor(
    nodes: list[Node], drawn: set[Value], avals: dict[Value, Any]
) -> tuple[list[Node], np.ndarray | None]:
    """The operations with the scalar that multiplies a bounded draw left open.

    After a bound XLA cannot merge it with constants before it, so it may as well
    be an argument.
    """
    makers = {node.outputs[0]: node for node in nodes}
    for i, node in enumerate(nodes):
        if node.name != "mul" or avals[node.outputs[0]].dtype not in _WIDE:
            continue
        x, c = sorted(node.inputs, key=lambda v: is_literal(v) or v not in drawn)
        is_drawn = not is_literal(x) and x in drawn
        bounded = is_drawn and makers[x].name in ("clamp", "max", "min")
        value = _exact(c, makers) if bounded else None
        if value is not None:
            opened = dataclasses.replace(node, inputs=[x, _FACTOR])
            return [*nodes[:i], opened, *nodes[i + 1 :]], value
    return nodes, None


def _exact(atom: Atom, makers: dict[Value, Node]) -> np.ndarray | None:
    """The value of a scalar computed from literals, as XLA folds it; or None."""
    if is_literal(atom):
        return np.asarray(atom.val, atom.aval.dtype).reshape(())
    if atom not in makers:
        return None
    node = makers[atom]
    inputs: list[np.ndarray] = []
    for v in node.inputs:
        value = _exact(v, makers)
        if value is None:
            return None
        inputs.append(value)
    if node.name in _RESHAPING:
        return inputs[0]
    return _EXACT[node.name](*inputs) if node.name in _EXACT else None


def _needed(nodes: Sequence[Node], output: Value) -> list[Node]:
    needed = {output}
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.outputs[0] in needed:
            needed.update(v for v in node.inputs if isinstance(v, Value))
            kept.append(node)
    return kept[::-1]


def _signature(steps: Sequence[Node], key: Value, avals: dict[Value, Any]) -> Hashable:
    numbers = {key: 0, _FACTOR: 1}
    lines: list[Hashable] = []
    for node in steps:
        reads = tuple(
            (np.asarray(a.val).item(), str(a.aval.dtype))
            if is_literal(a)
            else numbers[a]
            for a in node.inputs
        )
        numbers[node.outputs[0]] = len(numbers)
        params = {k: v for k, v in node.params.items() if "shape" not in k}
        if node.name in _RESHAPING:
            params = {}
        dtype = str(avals[node.outputs[0]].dtype)
        lines.append((node.name, describe(params), reads, dtype))
    return tuple(lines)
