"""Leaves that are one value everywhere: no program, no compilation."""

import dataclasses
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from ..._compat import Place, bind, host_device
from ..ir import Node, Program, Value, evaluate
from ..partition import Component
from .base import Factory, Member

# Operations that give the same element everywhere if their operand has it.
_SPREADING = {
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "expand_dims",
    "reshape",
    "squeeze",
    "transpose",
}
# Operations on floats that eager JAX and constant folding round alike.
_ALIKE = {"abs", "add", "div", "max", "min", "mul", "neg", "sign", "sqrt", "sub"}


def claim(
    component: Component,
    program: Program,
    shardings: Mapping[Value, Sharding | None],
    place: Place,
) -> tuple[Hashable, Factory] | None:
    """Claims a component that computes a scalar from literals and spreads it."""
    value = _value(component, program)
    if value is None:
        return None
    (output,) = component.outputs
    aval, sharding = program.avals[output], shardings[output]
    maker = Constant(value, aval.shape, sharding)
    return (component.signature, sharding), lambda members: maker


@dataclasses.dataclass(frozen=True)
class Constant:
    """Leaves of one value, made shard by shard.

    Attributes:
        value: The value, of the dtype of the leaves.
        shape: Their shape.
        sharding: Their sharding, or None.
    """

    value: np.ndarray
    shape: tuple[int, ...]
    sharding: Sharding | None

    def lower(self) -> None:
        """Nothing is compiled."""

    def start(
        self, compiled: None, members: Sequence[Member]
    ) -> Callable[[], list[list[jax.Array]]]:
        """Makes a leaf for each member."""
        if self.sharding is None:
            full = [np.full(self.shape, self.value) for _ in members]
            made = jax.device_put(full)
        else:
            make = jax.make_array_from_callback
            made = [make(self.shape, self.sharding, self._shard) for _ in members]
        return lambda: [[leaf] for leaf in made]

    def temporary_bytes(self, compiled: None) -> int:
        """Nothing is needed."""
        return 0

    def note(self) -> str:
        """Returns the value, as text."""
        return f" = {self.value}"

    def _shard(self, index: Any) -> np.ndarray:
        shape = np.broadcast_to(0, self.shape)[index].shape
        return np.full(shape, self.value)


def _value(component: Component, program: Program) -> np.ndarray | None:
    """The value that a component spreads over its output, or None."""
    if component.inputs or len(component.outputs) != 1:
        return None
    (output,) = component.outputs
    if getattr(program.avals[output], "weak_type", False):
        return None  # a type that NumPy does not have
    rules = dict.fromkeys(_SPREADING, _spread)
    return evaluate(component.nodes, {}, rules, _scalar).get(output)


def _spread(node: Node, inputs: list[Any]) -> list[np.ndarray] | None:
    """A result of one value everywhere, held as this value."""
    (x,) = inputs[:1]
    (aval,) = (v.aval for v in node.eqn.outvars)
    if np.size(x) != 1 or math.prod(aval.shape) == 1:
        return None
    return [np.asarray(x).reshape(()).astype(aval.dtype)]


def _scalar(node: Node, inputs: list[Any]) -> list[np.ndarray] | None:
    """The scalars that an operation makes of scalars, or None if others may differ."""
    read = [v.aval for v in node.eqn.invars]
    made = [v.aval for v in node.eqn.outvars]
    inexact = any(jnp.issubdtype(aval.dtype, jnp.inexact) for aval in made)
    if inexact and node.name not in _SPREADING | _ALIKE:
        return None
    if any(math.prod(aval.shape) != 1 for aval in (*read, *made)):
        return None
    host = host_device() if inexact else None
    if inexact and host is None:
        return None
    operands = [np.reshape(x, a.shape) for x, a in zip(inputs, read, strict=True)]
    with jax.default_device(host):  # where XLA folds constants, for a GPU too
        results = bind(node.eqn.primitive, operands, node.params)
    return [np.asarray(x).reshape(()) for x in results]
