"""Leaves of one law: drawn by one program, whatever their shapes and scales.

Where element i of a leaf depends on its key and on i alone, the leaf can be drawn
a block of elements at a time. On the CPU, where compiling a draw takes longer
than running it and host memory is device memory, all small leaves of a law share
the program of one block.
"""

import dataclasses
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import bind, is_literal, is_threefry, read_config
from .._prng import threefry_block
from .flatten import Atom, Node, Value
from .partition import Component, describe

BLOCK = 2**16

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


@dataclasses.dataclass
class Law:
    """The program of a leaf without its shape and its scale.

    Attributes:
        signature: Equal for leaves of the same law.
        steps: Its operations on scalars and blocks.
        key: The one input.
        factor: The value that is an argument of the program, and its number.
        shape: Shape of the leaf.
    """

    signature: Hashable
    steps: list[Node]
    key: Value
    factor: tuple[Value, np.ndarray] | None
    shape: tuple[int, ...]

    def block(self, words: Any, start: Any, factor: Any) -> list[jax.Array]:
        """Elements ``start`` to ``start + BLOCK`` of a leaf in row-major order."""
        env: dict[Value, Any] = {} if self.factor is None else {self.factor[0]: factor}
        for node in self.steps:
            if node.name == "random_bits":
                width = node.params["bit_width"]
                env[node.outputs[0]] = threefry_block(words, width, start, BLOCK)
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
        return [env[self.steps[-1].outputs[0]]]

    def draw(self, block: Callable[..., Any], words: np.ndarray) -> jax.Array:
        """The leaf, from the compiled program of a block."""
        size = math.prod(self.shape)
        factor = np.float32(0) if self.factor is None else self.factor[1]
        starts = range(0, size, BLOCK)
        made = [block(words, np.uint32(start), factor)[0] for start in starts]
        whole = np.empty(size, made[0].dtype)
        for start, part in zip(starts, made, strict=True):
            whole[start : start + BLOCK] = np.asarray(part)[: size - start]
        return jax.device_put(whole.reshape(self.shape))


def lower_block(law: Law) -> Any:
    """The program of a block, to compile."""
    word = jax.ShapeDtypeStruct((), jnp.uint32)
    words = jax.ShapeDtypeStruct((2,), jnp.uint32)
    dtype = jnp.float32 if law.factor is None else law.factor[1].dtype
    return jax.jit(law.block).lower(words, word, jax.ShapeDtypeStruct((), dtype))


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
    factor = _factor(component.nodes, output, drawn, avals)
    steps = _needed(component.nodes, output, factor)
    signature = _signature(steps, key, factor, avals)
    return Law(signature, steps, key, factor, avals[output].shape)


def _is_plain(node: Node, key: Any, size: int) -> bool:
    """Whether the bits of an element depend on its row-major index alone."""
    shape = node.params["shape"]
    # XLA may round loops over a short minor axis otherwise; see `group`.
    return (
        is_threefry(key)
        and key.shape == ()
        and bool(read_config("jax_threefry_partitionable"))
        and math.prod(shape) == size
        and shape[-1:] >= (8,)
    )


def _factor(
    nodes: Sequence[Node], output: Value, drawn: set[Value], avals: dict[Value, Any]
) -> tuple[Value, np.ndarray] | None:
    """The scalar that a bounded draw is multiplied with at the very end.

    After a bound XLA cannot merge it with constants before it, so it may as well
    be an argument.
    """
    makers = {node.outputs[0]: node for node in nodes}
    last = makers[output]
    if last.name != "mul" or avals[output].dtype not in (np.float32, np.float64):
        return None
    x, c = sorted(last.inputs, key=lambda v: is_literal(v) or v not in drawn)
    bounded = isinstance(x, Value) and makers[x].name in ("clamp", "max", "min")
    value = _exact(c, makers) if bounded and isinstance(c, Value) else None
    return None if value is None else (c, value)


def _exact(atom: Atom, makers: dict[Value, Node]) -> np.ndarray | None:
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


def _needed(
    nodes: Sequence[Node], output: Value, factor: tuple[Value, np.ndarray] | None
) -> list[Node]:
    needed = {output}
    kept: list[Node] = []
    for node in reversed(nodes):
        out = node.outputs[0]
        if out in needed and not (factor and out is factor[0]):
            needed.update(v for v in node.inputs if isinstance(v, Value))
            kept.append(node)
    return kept[::-1]


def _signature(
    steps: Sequence[Node],
    key: Value,
    factor: tuple[Value, np.ndarray] | None,
    avals: dict[Value, Any],
) -> Hashable:
    numbers = {key: 0}
    if factor is not None:
        numbers[factor[0]] = 1
    lines: list[Hashable] = []
    for node in steps:
        reads = tuple(
            (np.asarray(a.val).item(), str(a.aval.dtype))
            if is_literal(a)
            else numbers[a]
            for a in node.inputs
        )
        numbers[node.outputs[0]] = len(numbers) + 1
        params = {k: v for k, v in node.params.items() if "shape" not in k}
        if node.name in _RESHAPING:
            params = {}
        dtype = str(avals[node.outputs[0]].dtype)
        lines.append((node.name, describe(params), reads, dtype))
    return tuple(lines)
