"""The default maker, on any device: compiled once, run for each leaf."""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import Sharding

from ..._compat import Place, read_config
from ..._prng import is_fused, is_threefry, threefry_bits
from .. import host_keys
from ..closure import closure_signature, compiled_in
from ..ir import Node, Program, Rule, Value, evaluate
from ..partition import Component
from .base import Factory, Member, temporary_bytes, wanted


def claim(
    component: Component,
    program: Program,
    shardings: Mapping[Value, Sharding | None],
    place: Place,
) -> tuple[Hashable, Factory]:
    """Claims every component."""
    results = wanted(component, shardings)
    read = tuple(map(shardings.get, component.inputs))

    def factory(members: Sequence[Component]) -> PerLeaf:
        return PerLeaf(members[0], program, results, read)

    closure = closure_signature(component, program)
    return (component.signature, results, read, closure), factory


class PerLeaf:
    """One program, launched for each member with the keys of that member."""

    def __init__(
        self,
        component: Component,
        program: Program,
        results: Sequence[Sharding | None],
        read: Sequence[Sharding | None],
    ):
        """Stores a member, and the shardings of its results and of what it reads."""
        self._component = component
        self._program = program
        self._results = results
        self._held = compiled_in(component, program)
        numbers = enumerate(component.inputs)
        self._operands = [i for i, v in numbers if v not in self._held]
        self._read = [read[i] for i in self._operands]

    def lower(self) -> Callable[[], Any]:
        """Traces the program."""
        inputs = self._component.inputs
        avals = [self._program.avals[inputs[i]] for i in self._operands]
        operands = list(map(host_keys.operand, avals, self._read))
        jitted = jax.jit(self._run, out_shardings=list(self._results))
        return jitted.lower(*operands).compile

    def start(
        self, compiled: Any, members: Sequence[Member]
    ) -> Callable[[], list[list[jax.Array]]]:
        """Launches the program for each member."""
        numbers = self._operands
        made = [compiled(*(m.operands[i] for i in numbers)) for m in members]
        return lambda: made

    def temporary_bytes(self, compiled: Any) -> int:
        """The temporary memory of the program."""
        return temporary_bytes(compiled)

    def note(self) -> str:
        """Nothing."""
        return ""

    def _run(self, *operands: Any) -> list[Any]:
        inputs, avals = self._component.inputs, self._program.avals
        env = dict(self._held)
        for i, x in zip(self._operands, operands, strict=True):
            env[inputs[i]] = host_keys.to_device(x, avals[inputs[i]])
        return _trace(self._component.nodes, env, self._component.outputs)


def _trace(
    nodes: Sequence[Node], env: Mapping[Value, Any], outputs: Sequence[Any]
) -> list[Any]:
    """Runs nodes on tracers."""
    made = evaluate(nodes, env, _RULES, _in_context(Node.bind))
    return [made[a] if isinstance(a, Value) else a.val for a in outputs]


def _in_context(rule: Rule) -> Rule:
    """A rule under the settings of its node, such as the kind of its mesh."""

    def apply(node: Node, inputs: list[Any]) -> Any:
        with node.eqn.ctx.manager:
            return rule(node, inputs)

    return apply


def _random_bits(node: Node, inputs: list[Any]) -> list[Any] | None:
    """The same bits, through the Threefry that fuses as it is, here as in jit."""
    (keys,) = inputs
    if not is_threefry(keys.aval) or is_fused(keys):
        return None
    if not read_config("jax_threefry_partitionable"):
        return None
    shape, width = node.params["shape"], node.params["bit_width"]
    # XLA may round the inner loop over a few elements differently once it is fused
    # with the bits; apart, as in jit, it is the same loop.
    apart = bool(shape) and shape[-1] < 8
    draw = functools.partial(threefry_bits, shape=shape, bit_width=width, apart=apart)
    for _ in range(keys.ndim):
        draw = jax.vmap(draw)
    return [draw(jax.random.key_data(keys))]


_RULES: dict[str, Rule] = {
    "random_bits": _in_context(_random_bits),
}
