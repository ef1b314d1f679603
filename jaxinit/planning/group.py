"""Groups: components that are one program, and how that program is compiled."""

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from .._compat import (
    bind,
    callees,
    is_key,
    is_literal,
    jaxpr_as_fun,
    read_config,
    scan_parts,
)
from .._prng import is_fused, is_threefry, threefry_bits
from . import key_program
from .flatten import Node, Program, Value, flatten
from .law import Law, find_law
from .partition import Component, Partition
from .rows import lower_rows

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
# Operations of a program, as of the forward pass of a data-dependent initialization,
# that takes longer to compile than to run. The option leaves its values as they are.
_LONG = 500
_BRIEFLY: Any = {"xla_backend_optimization_level": 1}


@dataclasses.dataclass
class Group:
    """Components that are the same program with other inputs.

    Attributes:
        members: The components; one compilation serves them all.
        laws: The law of each, where they are drawn in rows; see `rows`.
        shardings: Shardings of the outputs of each.
        placed: Shardings of the inputs of each that other groups make.
        run: The program, as a function of a member's inputs.
        fill: The value of a constant leaf, which needs no program; or None.
        coarse: Width in bits of its narrowest random draw if below 32, and the
            initializers of jaxinit that would draw it right; or None.
        leaves: Numbers of the leaves that the group makes.
    """

    members: list[Component]
    laws: list[Law]
    shardings: tuple[Sharding | None, ...]
    placed: tuple[Sharding | None, ...]
    run: Callable[..., list[Any]]
    fill: np.ndarray | None
    coarse: tuple[int, str] | None
    leaves: list[int] = dataclasses.field(default_factory=list)


def group_components(
    parts: Partition, shardings: dict[Value, Sharding | None]
) -> list[Group]:
    """Components of equal signature and shardings, together."""
    found: dict[Hashable, Group] = {}
    made = {v: shardings.get(v) for c in parts.components for v in c.outputs}
    laws = _laws(parts, made)
    for component, law in zip(parts.components, laws, strict=True):
        wanted = tuple(made[v] for v in component.outputs)
        placed = tuple(made.get(v) for v in component.inputs)
        program = component.signature if law is None else law.signature
        key = program, wanted, placed
        if key not in found:
            run = _runner(component, parts.program)
            fill = _fill(component, parts.program)
            coarse = _coarse(component)
            found[key] = Group([], [], wanted, placed, run, fill, coarse)
        found[key].members.append(component)
        found[key].laws += [] if law is None else [law]
    return list(found.values())


def _laws(
    parts: Partition, shardings: dict[Value, Sharding | None]
) -> list[Law | None]:
    """The law of each component that is drawn in rows: on the CPU, not sharded."""
    if jax.default_backend() != "cpu" or read_config("jax_default_device") is not None:
        return [None] * len(parts.components)
    known: dict[Hashable, Law | None] = {}
    for component in parts.components:
        program = component.signature
        if program not in known:
            known[program] = find_law(component, parts.program.avals)
    return [
        known[c.signature] if all(shardings[v] is None for v in c.outputs) else None
        for c in parts.components
    ]


def opaque_group(closed: Any, program: Program, shardings: Any) -> Group:
    """The whole function as one program, for what cannot be cut."""
    whole = jaxpr_as_fun(closed)
    avals = program.avals

    def run(*operands: Any) -> list[Any]:
        pairs = zip(operands, program.inputs, strict=True)
        return whole(*(key_program.to_device(x, avals[v]) for x, v in pairs))

    outputs = [Value(-1 - i) for i in range(len(closed.out_avals))]
    avals.update(zip(outputs, closed.out_avals, strict=True))
    program.outputs[:] = outputs
    member = Component([], list(program.inputs), outputs, None)
    placed = (None,) * len(member.inputs)
    return Group([member], [], tuple(shardings), placed, run, None, None)


def lower_group(group: Group, program: Program) -> Callable[[], Any]:
    """What compiles the program of a group, in any thread.

    Its operands are on the host or a device.
    """
    if group.laws:
        return lower_rows(group.laws)
    inputs = zip(group.members[0].inputs, group.placed, strict=True)
    avals = [_operand(program.avals[v], sharding) for v, sharding in inputs]
    lowered = jax.jit(group.run, out_shardings=list(group.shardings)).lower(*avals)
    long = len(group.members[0].nodes) > _LONG and jax.default_backend() == "cpu"
    return functools.partial(lowered.compile, _BRIEFLY if long else None)


def place_fill(group: Group, program: Program) -> list[jax.Array]:
    """The leaves of a constant, made shard by shard without a program."""
    (sharding,) = group.shardings
    avals = [program.avals[v] for member in group.members for v in member.outputs]
    if sharding is None:
        return jax.device_put([np.full(a.shape, group.fill, a.dtype) for a in avals])

    def make(aval: Any) -> jax.Array:
        def shard(index: Any) -> np.ndarray:
            shape = np.broadcast_to(0, aval.shape)[index].shape
            return np.full(shape, group.fill, aval.dtype)

        return jax.make_array_from_callback(aval.shape, sharding, shard)

    return [make(aval) for aval in avals]


def _runner(component: Component, program: Program) -> Callable[..., list[Any]]:
    def run(*operands: Any) -> list[Any]:
        pairs = zip(component.inputs, operands, strict=True)
        env = {v: key_program.to_device(x, program.avals[v]) for v, x in pairs}
        return _evaluate(component.nodes, env, component.outputs)

    return run


def _evaluate(nodes: Sequence[Node], env: dict[Value, Any], outputs: Any) -> list[Any]:
    """Runs operations on tracers."""
    for node in nodes:
        inputs = [a.val if is_literal(a) else env[a] for a in node.inputs]
        with node.eqn.ctx.manager:  # settings at that place, as the kind of its mesh
            made = _apply(node, inputs)
        env.update(zip(node.outputs, made, strict=True))
    return [a.val if is_literal(a) else env[a] for a in outputs]


def _apply(node: Node, inputs: list[Any]) -> list[Any]:
    name, params = node.name, node.params
    if name == "random_bits" and is_threefry(inputs[0].aval):
        # Ours fuses as it is, here as in jit.
        if not is_fused(inputs[0]) and read_config("jax_threefry_partitionable"):
            return [_random_bits(inputs[0], params["shape"], params["bit_width"])]
    if name == "scan":
        consts, carry, stacked = scan_parts(params, inputs)
        # Batched, keys of other implementations draw other values than one by one.
        if stacked and not carry and _all_threefry([node]):
            return _map(params["jaxpr"], consts, stacked)
    return node.bind(inputs)


def _random_bits(keys: jax.Array, shape: tuple[int, ...], width: int) -> jax.Array:
    """The same bits, through the Threefry that fuses."""
    # XLA may round the inner loop over a few elements differently once it is
    # fused with the bits; apart, as in jit, it is the same loop.
    apart = bool(shape) and shape[-1] < 8
    draw = functools.partial(threefry_bits, shape=shape, bit_width=width, apart=apart)
    for _ in range(keys.ndim):
        draw = jax.vmap(draw)
    return draw(jax.random.key_data(keys))


def _map(body: Any, consts: list[Any], stacked: list[Any]) -> list[Any]:
    """A scan without carry, as over layers, as one batched program.

    Steps do not depend on each other, so the stack can be drawn at once, and a
    device that holds part of it draws that part alone.
    """
    program = flatten(body)

    def step(*xs: Any) -> list[Any]:
        env = dict(zip(program.inputs, (*consts, *xs), strict=True))
        env.update(program.constants)
        made = _evaluate(program.nodes, env, program.outputs)
        return [jnp.asarray(x) for x in made]

    return jax.vmap(step)(*stacked)


def _all_threefry(nodes: Sequence[Node]) -> bool:
    """Whether all keys that operations read or make are of Threefry-2x32."""
    avals = [v.aval for n in _all_nodes(nodes) for v in (*n.eqn.invars, *n.eqn.outvars)]
    return all(is_threefry(aval) for aval in avals if is_key(aval))


def _operand(aval: Any, sharding: Sharding | None) -> jax.ShapeDtypeStruct:
    if is_threefry(aval):
        return jax.ShapeDtypeStruct((*aval.shape, 2), jnp.uint32)
    weak = bool(getattr(aval, "weak_type", False))
    return jax.ShapeDtypeStruct(
        aval.shape, aval.dtype, weak_type=weak, sharding=sharding
    )


def _fill(component: Component, program: Program) -> np.ndarray | None:
    """The one value of a leaf that is a scalar spread over a shape, or None."""
    if component.inputs or len(component.outputs) != 1:
        return None
    if getattr(program.avals[component.outputs[0]], "weak_type", False):
        return None  # a type that NumPy does not have
    env: dict[Value, Any] = {}  # every value here is uniform: its one element
    for node in component.nodes:
        inputs = [a.val if is_literal(a) else env[a] for a in node.inputs]
        avals = [program.avals[out] for out in node.outputs]
        inexact = any(jnp.issubdtype(aval.dtype, jnp.inexact) for aval in avals)
        if inexact and node.name not in _SPREADING | _ALIKE:
            return None
        if all(math.prod(aval.shape) == 1 for aval in avals):
            shapes = [
                () if is_literal(a) else program.avals[a].shape for a in node.inputs
            ]
            pairs = zip(inputs, shapes, strict=True)
            made = bind(
                node.eqn.primitive, [np.reshape(*p) for p in pairs], node.params
            )
            made = [np.asarray(x).reshape(()) for x in made]
        elif node.name in _SPREADING and np.size(inputs[0]) == 1:
            dtype = program.avals[node.outputs[0]].dtype
            made = [np.asarray(inputs[0]).reshape(()).astype(dtype)]
        else:
            return None
        env.update(zip(node.outputs, made, strict=True))
    return env[component.outputs[0]]


def _coarse(component: Component) -> tuple[int, str] | None:
    nodes = list(_all_nodes(component.nodes))
    widths = [n.params["bit_width"] for n in nodes if n.name == "random_bits"]
    width = min(widths, default=32)
    if width >= 32:
        return None
    names = {node.name for node in nodes}
    if "erf_inv" not in names:
        return width, "RandomUniform, or LecunUniform, GlorotUniform, HeUniform"
    if names & {"min", "clamp"}:
        return width, "TruncatedNormal, or LecunNormal, GlorotNormal, HeNormal"
    return width, "RandomNormal"


def _all_nodes(nodes: Sequence[Node]) -> Iterator[Node]:
    """Every operation, those inside loops included."""
    for node in nodes:
        yield node
        for inner in callees(node.params):
            yield from _all_nodes(flatten(inner).nodes)
