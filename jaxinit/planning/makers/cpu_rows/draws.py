"""Finds draws that are elementwise, and what they share with others."""

import dataclasses
import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...._compat import read_config
from ...._prng import is_threefry
from ... import ir
from ...ir import Atom, Avals, Node, Value, evaluate, values
from ...partition import Component

# True if JAX multiplies a normal by sqrt(2) first, and by its scale afterwards.
_NORMAL_HAS_TWO_FACTORS = jax.__version_info__ < (0, 11)
_RESHAPING = {"broadcast_in_dim", "expand_dims", "reshape", "squeeze"}
_ELEMENTWISE = set(
    "add and bitcast_convert_type clamp convert_element_type copy div erf erf_inv log "
    "log1p max min mul neg nextafter or shift_left shift_right_logical sqrt "
    "stop_gradient sub xor".split()
)
# Operations whose scalars NumPy computes as XLA's constant folding does.
_EXACT = {"div": np.divide, "mul": np.multiply, "sqrt": np.sqrt}
_MERGING = {"div", "erf_inv", "mul"}  # with a factor before them, if it is constant
_BARRIERS = {"clamp", "erf_inv", "max", "min"}
_WIDE = (np.float32, np.float64)
_FACTOR = Value()  # stands for the factor of a draw


@dataclasses.dataclass(frozen=True)
class ElementwiseDraw:
    """A draw and the elementwise operations on it, shared by every shape and scale.

    Attributes:
        signature: Equal where all but shape and factor is equal.
        bits: The draw of random bits.
        steps: The operations on them and on scalars.
        output: The value that they make.
        factor: The scalar that is an argument of the program; 0 if there is none.
        shape: Shape of the leaf.
        keys: How many keys draw it, each an equal part: those of stacked layers.
        dtype: Its dtype.
    """

    signature: Hashable
    bits: Node
    steps: Sequence[Node]
    output: Value
    factor: np.ndarray
    shape: tuple[int, ...]
    keys: int
    dtype: np.dtype[Any]

    def values(self, bits: jax.Array, factors: jax.Array) -> jax.Array:
        """Rows of leaves from their random bits, with a factor for each row."""
        env = {
            self.bits.outputs[0]: bits,
            _FACTOR: jnp.broadcast_to(factors[:, None], bits.shape),
        }
        return evaluate(self.steps, env, {}, Node.bind)[self.output]


def find_draw(component: Component, avals: Avals) -> ElementwiseDraw | None:
    """The elementwise draw that a component is, or None."""
    if len(component.inputs) != 1 or len(component.outputs) != 1:
        return None
    (key,), (output,) = component.inputs, component.outputs
    drawn = _drawn(component, avals)
    if drawn is None:
        return None
    nodes, renamed = _without_reshapes(component.nodes)
    output = renamed.get(output, output)
    with np.errstate(all="ignore"):
        nodes, factor = _without_factor(nodes, drawn)
    nodes = [node for node, _ in ir.live(nodes, [output])]
    bits, *steps = sorted(nodes, key=lambda node: node.name != "random_bits")
    if bits.name != "random_bits" or not steps:
        return None
    aval = avals[component.outputs[0]]
    dtype = np.dtype(aval.dtype)
    one = jax.ShapeDtypeStruct((), avals[key].dtype)  # however many there are
    known = {**avals, key: one, _FACTOR: jax.ShapeDtypeStruct((), factor.dtype)}
    writer = ir.Signatures(_describe)
    lines, _ = writer(nodes, [output], known, [key])
    signature = lines, writer.meanings
    keys = math.prod(avals[key].shape)
    return ElementwiseDraw(
        signature, bits, steps, output, factor, aval.shape, keys, dtype
    )


def _describe(node: Node, avals: Avals) -> Hashable:
    """An operation without its shape."""
    params = {name: x for name, x in node.params.items() if "shape" not in name}
    return node.name, ir.params_signature(params), str(avals[node.outputs[0]].dtype)


def _drawn(component: Component, avals: Avals) -> set[Value] | None:
    """The values that hold one random element for each of the leaf.

    None if they are no chain of elementwise operations on one draw.
    """
    (key,), (output,) = component.inputs, component.outputs
    size = math.prod(avals[output].shape)
    drawn = set[Value]()
    used = set[Value]()  # of these; one with two users XLA may compute twice
    for node in component.nodes:
        read = [v for v in values(node.inputs) if v in drawn]
        if len(set(read)) < len(read) or not used.isdisjoint(read):
            return None
        used.update(read)
        count = math.prod(avals[node.outputs[0]].shape)
        if node.name == "random_bits":
            if drawn or not _is_plain(node, avals[key], size):
                return None
        elif node.name not in _ELEMENTWISE | _RESHAPING or len(node.outputs) != 1:
            return None
        elif node.name == "reshape" and node.params["dimensions"] is not None:
            return None  # a transpose
        elif count != size and (read or count != 1):
            return None
        if read or node.name == "random_bits":
            drawn.update(node.outputs)
    return drawn


def _is_plain(node: Node, key: Any, size: int) -> bool:
    """True if bits depend on a key and on the index in the part of that key alone."""
    shape = node.params["shape"]
    part = math.prod(shape)
    # Over a minor axis of 2 XLA rounds some draws otherwise: 2, 4 and 6 are left out.
    # Over 1, 3, 5 and 7, as of kernels (out, in, 3, 3), it rounds as over a long one.
    minor = shape[-1] if shape else 0
    return (
        is_threefry(key)
        and bool(read_config("jax_threefry_partitionable"))
        and 0 < part < 2**32
        and 0 < size == part * math.prod(key.shape)
        and (minor >= 8 or minor % 2 == 1)
    )


def _without_reshapes(
    nodes: Sequence[Node],
) -> tuple[list[Node], dict[Value, Atom]]:
    """The nodes on elements and scalars, and the atoms that others stand for."""
    renamed: dict[Value, Atom] = {}
    kept: list[Node] = []
    for node in nodes:
        inputs = [renamed.get(a, a) if isinstance(a, Value) else a for a in node.inputs]
        if node.name in _RESHAPING:
            renamed[node.outputs[0]] = inputs[0]
        else:
            kept.append(dataclasses.replace(node, inputs=inputs))
    return kept, renamed


def _without_factor(
    nodes: Sequence[Node], drawn: set[Value]
) -> tuple[Sequence[Node], np.ndarray]:
    """The nodes with the factor of a draw left open, and the factor.

    XLA cannot merge it with what comes before a bound or an erf_inv, so it may as
    well be an argument. Where a normal has sqrt(2) and its scale, XLA multiplies them.
    """
    scalars = evaluate(nodes, {}, {}, _fold)
    for node in reversed(nodes):
        (x,), (aval,) = node.outputs, (v.aval for v in node.eqn.outvars)
        barrier = node.name in _BARRIERS and x in drawn and aval.dtype in _WIDE
        products = _products(x, nodes) if barrier else []
        two = _NORMAL_HAS_TWO_FACTORS and node.name == "erf_inv"
        found = [_scalar(a, scalars) for _, a in products]
        known = [value for value in found if value is not None]
        if not 0 < len(known) == len(products) <= (2 if two else 1):
            continue
        last, _ = products[-1]
        if _names_after(last.outputs[0], nodes).isdisjoint(_MERGING):
            opened = dataclasses.replace(last, inputs=[x, _FACTOR])
            changed = [opened if node is last else node for node in nodes]
            return changed, functools.reduce(np.multiply, known)
    return nodes, np.zeros((), np.float32)


def _products(x: Value, nodes: Sequence[Node]) -> list[tuple[Node, Atom]]:
    """The products that follow a value, each with what it is multiplied by."""
    found: list[tuple[Node, Atom]] = []
    while True:
        users = [node for node in nodes if any(v is x for v in node.inputs)]
        if len(users) != 1 or users[0].name != "mul":
            return found
        (other,) = (v for v in users[0].inputs if v is not x)
        found.append((users[0], other))
        x = users[0].outputs[0]


def _names_after(x: Value, nodes: Sequence[Node]) -> set[str]:
    """Names of the operations that depend on a value."""
    reached = {x}
    names = set[str]()
    for node in nodes:
        if not reached.isdisjoint(values(node.inputs)):
            reached.update(node.outputs)
            names.add(node.name)
    return names


def _scalar(atom: Atom, scalars: Mapping[Value, np.ndarray]) -> np.ndarray | None:
    """The value of a scalar, if it is known."""
    if isinstance(atom, Value):
        return scalars.get(atom)
    return None if _is_flushed(ir.literal(atom)) else ir.literal(atom)


def _fold(node: Node, inputs: list[Any]) -> list[np.ndarray] | None:
    """A scalar that an operation makes of scalars, as XLA folds it; or None."""
    avals = [v.aval for v in node.eqn.invars]
    pairs = zip(inputs, avals, strict=True)
    known = [np.asarray(x, aval.dtype).reshape(()) for x, aval in pairs]
    if node.name == "convert_element_type":
        made = known[0].astype(node.params["new_dtype"])
    elif node.name in _EXACT:
        made = np.asarray(_EXACT[node.name](*known))
    else:
        return None
    return None if any(map(_is_flushed, [*known, made])) else [made]


def _is_flushed(value: np.ndarray) -> bool:
    """True if a scalar is subnormal; XLA replaces it by zero."""
    inexact = jnp.issubdtype(value.dtype, jnp.floating)
    return bool(inexact and 0 < abs(value) < jnp.finfo(value.dtype).tiny)
