"""Leaves of one law: drawn by one program, whatever their shapes and scales.

Where element i of a leaf depends on its key and on i alone, the leaf can be drawn
some elements at a time; see `rows`.
"""

import dataclasses
import functools
import math
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import NORMAL_HAS_TWO_FACTORS, is_literal, read_config
from .._prng import is_threefry
from .erf_inv import central_erf_inv, central_nodes
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
_MERGING = {"div", "erf_inv", "mul"}  # with a factor before them, if it is constant
_BARRIERS = {"clamp", "erf_inv", "max", "min"}
_WIDE = (np.float32, np.float64)
_FACTOR = Value(-1)  # stands for the factor in the operations of a law


@dataclasses.dataclass
class Law:
    """The program of a leaf without its shape and its scale.

    Attributes:
        signature: Equal for leaves of the same law.
        draw: Its draw of random bits.
        steps: Its operations on them and on scalars.
        central: Outputs of those that `central_erf_inv` computes.
        factor: The scalar that is an argument of the program, or None.
        shape: Shape of the leaf.
        dtype: Its dtype.
    """

    signature: Hashable
    draw: Node
    steps: list[Node]
    central: set[Value]
    factor: np.ndarray | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        """Elements of the leaf."""
        return math.prod(self.shape)

    @property
    def bit_width(self) -> int:
        """Random bits of an element."""
        return self.draw.params["bit_width"]

    def values(self, bits: jax.Array, factors: jax.Array) -> jax.Array:
        """Rows of leaves from their random bits, with a factor for each row."""
        env: dict[Value, Any] = {
            self.draw.outputs[0]: bits,
            _FACTOR: jnp.broadcast_to(factors[:, None], bits.shape),
        }
        for node in self.steps:
            inputs = [
                np.asarray(a.val, a.aval.dtype) if is_literal(a) else env[a]
                for a in node.inputs
            ]
            if node.name in _RESHAPING:
                made = [inputs[0]]
            elif node.outputs[0] in self.central:
                made = [central_erf_inv(inputs[0])]
            else:
                made = node.bind(inputs)
            env.update(zip(node.outputs, made, strict=True))
        return env[self.steps[-1].outputs[0]]


def find_law(component: Component, avals: dict[Value, Any]) -> Law | None:
    """The law of a leaf that is a draw and a chain of operations, else None."""
    if len(component.inputs) != 1 or len(component.outputs) != 1:
        return None
    (key,), (output,) = component.inputs, component.outputs
    size = math.prod(avals[output].shape)
    drawn = set[Value]()  # values that hold one element for each of the leaf
    used = set[Value]()  # of these; one with two users XLA may compute twice
    for node in component.nodes:
        for v in node.inputs:
            if not is_literal(v) and v in drawn:
                if v in used:
                    return None
                used.add(v)
        count = math.prod(avals[node.outputs[0]].shape)
        if node.name == "random_bits":
            if drawn or not _is_plain(node, avals[key], size):
                return None
        elif node.name not in _ELEMENTWISE | _RESHAPING or len(node.outputs) != 1:
            return None
        elif node.name == "reshape" and node.params["dimensions"] is not None:
            return None  # a transpose
        elif drawn.isdisjoint(v for v in node.inputs if isinstance(v, Value)):
            if count not in (1, size):
                return None
            continue
        elif count != size:
            return None
        drawn.add(node.outputs[0])
    with np.errstate(all="ignore"):
        nodes, factor = _without_factor(component.nodes, drawn, avals)
    needed = _needed(nodes, output)
    draws = [node for node in needed if node.name == "random_bits"]
    steps = [node for node in needed if node.name != "random_bits"]
    if not draws or not steps:
        return None
    return Law(
        signature=_signature(needed, key, avals),
        draw=draws[0],
        steps=steps,
        central=central_nodes(draws[0], steps),
        factor=factor,
        shape=avals[output].shape,
        dtype=np.dtype(avals[output].dtype),
    )


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
    """The operations with the factor of a draw left open, and the factor.

    XLA cannot merge it with what comes before a bound or an erf_inv, so it may as
    well be an argument. Where a normal has sqrt(2) and its scale, XLA multiplies them.
    """
    makers = {node.outputs[0]: node for node in nodes}
    for node in reversed(nodes):
        x = node.outputs[0]
        barrier = node.name in _BARRIERS and x in drawn and avals[x].dtype in _WIDE
        products = _products(x, nodes) if barrier else []
        two = NORMAL_HAS_TWO_FACTORS and node.name == "erf_inv"
        values = [_exact(v, makers) for _, v in products]
        known = [value for value in values if value is not None]
        if not 0 < len(known) == len(products) <= (2 if two else 1):
            continue
        last, _ = products[-1]
        if _names_after(last.outputs[0], nodes).isdisjoint(_MERGING):
            opened = dataclasses.replace(last, inputs=[x, _FACTOR])
            changed = [opened if node is last else node for node in nodes]
            return changed, functools.reduce(np.multiply, known)
    return nodes, None


def _products(x: Value, nodes: list[Node]) -> list[tuple[Node, Atom]]:
    """The products that follow a value, each with what it is multiplied by."""
    found: list[tuple[Node, Atom]] = []
    while True:
        users = [node for node in nodes if any(v is x for v in node.inputs)]
        if len(users) != 1 or users[0].name != "mul":
            return found
        others = [v for v in users[0].inputs if v is not x]
        if len(others) != 1:
            return found
        found.append((users[0], others[0]))
        x = users[0].outputs[0]


def _names_after(x: Value, nodes: list[Node]) -> set[str]:
    """Names of the operations that depend on a value."""
    reached = {x}
    names = set[str]()
    for node in nodes:
        if any(not is_literal(v) and v in reached for v in node.inputs):
            reached.update(node.outputs)
            names.add(node.name)
    return names


def _exact(atom: Atom, makers: dict[Value, Node]) -> np.ndarray | None:
    """The value of a scalar computed from literals, as XLA folds it; or None."""
    if is_literal(atom):
        return _unless_flushed(np.asarray(atom.val, atom.aval.dtype).reshape(()))
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
    if node.name == "convert_element_type":
        return _unless_flushed(inputs[0].astype(node.params["new_dtype"]))
    if node.name not in _EXACT:
        return None
    return _unless_flushed(_EXACT[node.name](*inputs))


def _unless_flushed(value: np.ndarray) -> np.ndarray | None:
    """A scalar, unless it is subnormal, which XLA takes for zero."""
    inexact = jnp.issubdtype(value.dtype, jnp.floating)
    flushed = inexact and 0 < abs(value) < jnp.finfo(value.dtype).tiny
    return None if flushed else value


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
            (np.asarray(a.val, a.aval.dtype).tobytes(), str(a.aval.dtype))
            if is_literal(a)
            else numbers[a]
            for a in node.inputs
        )
        if node.name in _RESHAPING and not is_literal(node.inputs[0]):
            numbers[node.outputs[0]] = numbers[node.inputs[0]]
            continue
        numbers[node.outputs[0]] = len(numbers)
        params = {k: v for k, v in node.params.items() if "shape" not in k}
        if node.name in _RESHAPING:
            params = {}
        dtype = str(avals[node.outputs[0]].dtype)
        lines.append((node.name, describe(params), reads, dtype, node.passed))
    return tuple(lines)
