"""Draws: the initializer calls behind a leaf, read from the graph of a function.

A model seldom stores the array that its initializer returns. Flax asks for a matrix
(768, 768) and reshapes it to heads (768, 12, 64). A scan or vmap over layers calls the
initializer for each layer and stacks the results. `find_draws` walks from the leaf
through operations that only move elements, to the results of the calls. The initializer
of a rule is then called with the shapes of these results, and its results are moved in
the same way.
"""

import abc
import collections
import dataclasses
import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._compat import bind, is_literal, scan_parts
from ..planning.flatten import flatten
from ..planning.ir import Node, Program, Value, params_signature
from .batches import find_batches
from .layout import Layout

# Operations that move elements and do not change them.
_MOVING = {
    "broadcast_in_dim",
    "concatenate",
    "reshape",
    "squeeze",
    "stack",
    "transpose",
}
# Operations that return their operand, maybe on another device or in another dtype.
_PASSING = {
    "convert_element_type",
    "copy",
    "copy_p",
    "layout_constraint",
    "mesh_cast",
    "optimization_barrier",
    "reduce_precision",
    "reshard",
    "sharding_constraint",
}

# Operations that show that an initializer draws orthogonal matrices.
_FACTORING = {"eigh", "geqrf", "householder_product", "lu", "qr", "svd"}

Initialize = Callable[[jax.Array, tuple[int, ...]], jax.Array]


class Draw(abc.ABC):
    """The calls of an initializer that make one array, in their order.

    Attributes:
        shape: Shape of the array.
    """

    shape: tuple[int, ...]

    @property
    def is_certain(self) -> bool:
        """True if the shapes of all calls are known for certain."""
        return True

    @property
    @abc.abstractmethod
    def calls(self) -> list[tuple[int, ...]]:
        """The shape of each call."""

    @property
    def is_one(self) -> bool:
        """True if one call makes the whole array, without stacked layers."""
        return False

    @abc.abstractmethod
    def make(self, initialize: Initialize, keys: jax.Array) -> jax.Array:
        """Makes the array.

        Args:
            initialize: Function from a key and a shape to the result of one call.
            keys: A key for each call.
        """

    def draw(self, initialize: Initialize, key: jax.Array) -> jax.Array:
        """Makes the array from one key, typed or raw.

        A single call gets the key itself. Call i of several gets the key with i folded
        in, which does not depend on how many calls follow.
        """
        if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
            typed = jax.random.wrap_key_data(key)
            return self.draw(lambda k, shape: initialize(_raw(k), shape), typed)
        if self.is_one:
            return self.make(initialize, key[None])
        numbers = jnp.arange(len(self.calls), dtype=jnp.uint32)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        return self.make(initialize, keys)

    def draw_stack(self, initialize: Initialize, key: jax.Array) -> jax.Array:
        """Makes the array from one call, which draws the results of all calls stacked.

        Raises:
            ValueError: If the calls have several shapes.
        """
        shapes = set(self.calls)
        if len(shapes) != 1:
            raise ValueError(
                f"it draws arrays of one shape, but the leaf needs {self}."
            )
        stack = initialize(key, (len(self.calls), *shapes.pop()))
        return self.make(lambda result, shape: result, stack)

    def __str__(self) -> str:
        """Returns the calls, as ``12 x (768, 64)``."""
        if self.is_one:
            return str(self.calls[0])
        counts = collections.Counter(self.calls)
        calls = (f"{count} x {shape}" for shape, count in counts.items())
        return " + ".join(calls) or "no calls"


@dataclasses.dataclass(frozen=True)
class Call(Draw):
    """The result of one call, or of a batch of calls.

    Attributes:
        shape: Shape of the result.
        batch: Axes of the result that count calls.
        is_certain: False if the result may come from a call of another shape, reshaped
            by an operation outside of the initializer.
    """

    shape: tuple[int, ...]
    batch: tuple[int, ...] = ()
    is_certain: bool = True  # pyright: ignore[reportIncompatibleMethodOverride]

    @property
    def part(self) -> tuple[int, ...]:
        """The shape without the axes that count calls."""
        return tuple(n for i, n in enumerate(self.shape) if i not in self.batch)

    @property
    def calls(self) -> list[tuple[int, ...]]:
        """The shape of one call, once for each call."""
        return [self.part] * math.prod(self.shape[i] for i in self.batch)

    @property
    def is_one(self) -> bool:
        """True if no axis counts calls."""
        return not self.batch

    def make(self, initialize: Initialize, keys: jax.Array) -> jax.Array:
        """Makes the results of all calls, each at its place along the batch axes."""
        if self.is_one:
            return initialize(keys[0], self.shape)
        sizes = [self.shape[i] for i in self.batch]
        made = jax.vmap(lambda key: initialize(key, self.part))(keys)
        made = made.reshape(*sizes, *self.part)
        return jnp.moveaxis(made, range(len(sizes)), self.batch)


@dataclasses.dataclass(frozen=True)
class Moved(Draw):
    """The result of an operation that moves or joins the results of calls.

    Attributes:
        shape: Shape of the result.
        parts: The operands.
        signature: Name and parameters of the operation.
        move: The operation.
    """

    shape: tuple[int, ...]
    parts: tuple[Draw, ...]
    signature: Hashable
    move: Callable[[list[jax.Array]], jax.Array] = dataclasses.field(compare=False)

    @property
    def calls(self) -> list[tuple[int, ...]]:
        """The calls of all operands, in order."""
        return [shape for part in self.parts for shape in part.calls]

    @property
    def is_certain(self) -> bool:
        """True if the shapes of the operands' calls are known."""
        return all(part.is_certain for part in self.parts)

    @property
    def is_one(self) -> bool:
        """True if there is one operand, of one call."""
        return len(self.parts) == 1 and self.parts[0].is_one

    def make(self, initialize: Initialize, keys: jax.Array) -> jax.Array:
        """Makes the operands, then moves or joins them."""
        ends = list(itertools.accumulate(len(part.calls) for part in self.parts))
        made = [
            part.make(initialize, keys[end - len(part.calls) : end])
            for part, end in zip(self.parts, ends, strict=True)
        ]
        return self.move(made)


@dataclasses.dataclass(frozen=True)
class Stack(Draw):
    """The same calls for each of several layers, stacked along an axis.

    Attributes:
        count: Number of layers.
        layer: The draw of one layer.
        axis: Axis of the array that counts layers.
    """

    count: int
    layer: Draw
    axis: int = 0

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The shape of a layer with ``count`` inserted at ``axis``."""
        inner = self.layer.shape
        return (*inner[: self.axis], self.count, *inner[self.axis :])

    @property
    def is_certain(self) -> bool:
        """True if the shapes of a layer's calls are known."""
        return self.layer.is_certain

    @property
    def calls(self) -> list[tuple[int, ...]]:
        """The calls of every layer, in order."""
        return self.layer.calls * self.count

    def make(self, initialize: Initialize, keys: jax.Array) -> jax.Array:
        """Makes the arrays of all layers, stacked."""
        keys = keys.reshape(self.count, len(self.layer.calls), *keys.shape[1:])
        make = jax.vmap(
            lambda keys: self.layer.make(initialize, keys), out_axes=self.axis
        )
        return make(keys)


@dataclasses.dataclass(frozen=True)
class Arranged(Draw):
    """One call; a `Layout` reshapes and transposes its result."""

    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The stored shape of one layer."""
        return tuple(self.layout.split[i] for i in self.layout.order)

    @property
    def calls(self) -> list[tuple[int, ...]]:
        """The shape of the one call."""
        return [self.layout.shape]

    @property
    def is_one(self) -> bool:
        """True."""
        return True

    def make(self, initialize: Initialize, keys: jax.Array) -> jax.Array:
        """Makes the array as the layer stores it."""
        made = initialize(keys[0], self.layout.shape).reshape(self.layout.split)
        return made.transpose(self.layout.order)


def from_layout(layout: Layout, shape: tuple[int, ...]) -> Draw:
    """Returns the draw of an array of ``shape`` in a layer of this layout."""
    draw: Draw = Arranged(layout)
    for outer, axis in reversed([*enumerate(layout.stacked)]):
        draw = Stack(shape[axis], draw, axis - outer)
    return draw


def find_draws(program: Program) -> list[Draw]:
    """Returns the draw of each result of a program."""
    return _Finder(program).results()


class _Finder:
    """Walks from the results of a flat program back to the calls of initializers."""

    def __init__(self, program: Program):
        self._program = program
        self._made_by = {out: node for node in program.nodes for out in node.outputs}
        self._batches = find_batches(program)
        self._found: dict[Value, Draw] = {}

    def results(self) -> list[Draw]:
        return [self._find(atom) for atom in self._program.outputs]

    def _find(self, atom: Any) -> Draw:
        if not isinstance(atom, Value):
            return Call(tuple(jnp.shape(atom.val)))
        if atom not in self._found:
            self._found[atom] = self._walk(atom)
        return self._found[atom]

    def _walk(self, atom: Value) -> Draw:
        shape = tuple(self._program.avals[atom].shape)
        node = self._made_by.get(atom)
        end = Call(shape, self._batches.get(atom, ()))
        if node is None or atom in self._program.drawn:
            return end
        if len(end.part) > 2 and not self._is_certain(atom, shape):
            end = dataclasses.replace(end, is_certain=False)
        if node.name in _PASSING:
            return self._find(node.inputs[node.outputs.index(atom)])
        if node.name == "scan":
            return self._scanned(node, node.outputs.index(atom)) or end
        if node.name not in _MOVING or math.prod(shape) == 1:
            return end
        if node.name == "broadcast_in_dim":
            return self._broadcast(node, shape) or end
        return _moved(node, [self._find(x) for x in node.inputs], shape)

    def _is_certain(self, atom: Value, shape: tuple[int, ...]) -> bool:
        """True if a value is the result of a call of its own shape.

        This holds if all random bits behind the value have its shape. It cannot be told
        for ``0.5 * w.reshape(heads)``: either the layer or the initializer reshaped the
        matrix ``w``. Orthogonal initializers do reshape; their factorization shows it.
        """
        pending, seen = [atom], {atom}
        while pending:
            value = pending.pop()
            node = self._made_by.get(value)
            if node is None:
                continue
            if node.name in _FACTORING:
                return True
            if value in self._program.drawn or node.name == "random_bits":
                if tuple(self._program.avals[value].shape) != shape:
                    return False
                continue
            found = {v for v in node.inputs if isinstance(v, Value)} - seen
            seen |= found
            pending += found
        return True

    def _broadcast(self, node: Node, shape: tuple[int, ...]) -> Draw | None:
        """Returns the draw of a result with new axes: a call for each new index."""
        operand = _shape(node.inputs[0], self._program)
        if math.prod(operand) == 1 and math.prod(shape) != 1:
            return None  # a constant, which the initializer itself broadcasts
        draw = self._find(node.inputs[0])
        if math.prod(operand) == math.prod(shape):
            return _moved(node, [draw], shape)
        kept = node.params["broadcast_dimensions"]
        if operand != tuple(shape[i] for i in kept):
            return None
        for axis in range(len(shape)):
            if axis not in kept:
                draw = Stack(shape[axis], draw, axis)
        return draw

    def _scanned(self, node: Node, index: int) -> Draw | None:
        """Returns the draw of a result that a scan stacks, by the body of the scan."""
        body = flatten(node.params["jaxpr"])
        _, carry, stacked = scan_parts(node.params, node.inputs)
        if index < len(carry):
            return None
        atom = body.outputs[index]
        if atom in body.inputs[len(body.inputs) - len(stacked) :]:
            return self._find(node.inputs[body.inputs.index(atom)])
        (layer,) = _Finder(dataclasses.replace(body, outputs=[atom])).results()
        return Stack(node.params["length"], layer)


def _moved(node: Node, parts: Sequence[Draw], shape: tuple[int, ...]) -> Moved:
    def move(made: list[jax.Array]) -> jax.Array:
        (moved,) = bind(node.eqn.primitive, made, node.params)
        return moved

    return Moved(shape, tuple(parts), (node.name, params_signature(node.params)), move)


def _raw(key: jax.Array) -> jax.Array:
    return jax.random.key_data(key)


def _shape(atom: Any, program: Program) -> tuple[int, ...]:
    if is_literal(atom):
        return tuple(jnp.shape(atom.val))
    return tuple(program.avals[atom].shape)
