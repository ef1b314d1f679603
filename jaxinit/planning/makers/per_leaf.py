"""The default maker, on any device: compiled once, run for each leaf."""

import functools
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
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
        return PerLeaf(members, program, results, read)

    closure = closure_signature(component, program)
    return (component.signature, results, read, closure), factory


class PerLeaf:
    """One program, launched for each member with the keys of that member.

    The keys of all members travel to the device in one array, and each launch gets the
    number of its member.
    """

    def __init__(
        self,
        members: Sequence[Component],
        program: Program,
        results: Sequence[Sharding | None],
        read: Sequence[Sharding | None],
    ):
        """Stores a member, and the shardings of its results and of what it reads."""
        component = members[0]
        self._component = component
        self._count = len(members)
        self._program = program
        self._results = results
        self._held = compiled_in(component, program)
        inputs = component.inputs
        kept = [i for i, v in enumerate(inputs) if v not in self._held]
        self._keys = [i for i in kept if is_threefry(program.avals[inputs[i]])]
        self._own = [i for i in kept if i not in self._keys]
        self._read = [read[i] for i in self._own]

    def lower(self) -> Callable[[], Any]:
        """Traces the program."""
        inputs, avals = self._component.inputs, self._program.avals
        words = [host_keys.operand(avals[inputs[i]]) for i in self._keys]
        words = [jax.ShapeDtypeStruct((self._count, *x.shape), x.dtype) for x in words]
        number = jax.ShapeDtypeStruct((), np.int32)
        own = [avals[inputs[i]] for i in self._own]
        own = list(map(host_keys.operand, own, self._read))
        jitted = jax.jit(self._run, out_shardings=list(self._results))
        return jitted.lower(words, number, *own).compile

    def start(
        self, compiled: Any, members: Sequence[Member]
    ) -> Callable[[], list[list[jax.Array]]]:
        """Launches the program for each member."""
        words, numbers = self._sent(compiled, members)
        pairs = zip(numbers, members, strict=True)
        made = [
            compiled(words, n, *(m.operands[i] for i in self._own)) for n, m in pairs
        ]
        return lambda: made

    def _sent(
        self, compiled: Any, members: Sequence[Member]
    ) -> tuple[list[Any], list[Any]]:
        """The keys of all members, sent at once, and the number of each member."""
        words = [np.stack([m.operands[i] for m in members]) for i in self._keys]
        # The program reads keys for all members, even if only some members are ready.
        words = [np.resize(x, (self._count, *x.shape[1:])) for x in words]
        numbers = list(map(np.int32, range(len(members))))
        if not words or jax.process_count() > 1:
            return words, numbers
        places, place, *_ = compiled.input_shardings[0]
        return jax.device_put(words, places), [_number(n, place) for n in numbers]

    def temporary_bytes(self, compiled: Any) -> int:
        """The temporary memory of the program."""
        return temporary_bytes(compiled)

    def note(self) -> str:
        """Nothing."""
        return ""

    def _run(self, words: Sequence[Any], number: Any, *own: Any) -> list[Any]:
        inputs, avals = self._component.inputs, self._program.avals
        env = dict(self._held)
        keys = [lax.dynamic_index_in_dim(x, number, keepdims=False) for x in words]
        numbers = [*self._keys, *self._own]
        for i, x in zip(numbers, [*keys, *own], strict=True):
            env[inputs[i]] = host_keys.to_device(x, avals[inputs[i]])
        return _trace(self._component.nodes, env, self._component.outputs)


def _number(n: np.int32, place: Sharding) -> jax.Array:
    """The number of a member, on a place."""
    number = _sent_number(n, place)
    if number.is_deleted():  # a caller frees memory by all of jax.live_arrays()
        _sent_number.cache_clear()
        number = _sent_number(n, place)
    return number


@functools.lru_cache(maxsize=4096)
def _sent_number(n: np.int32, place: Sharding) -> jax.Array:
    """The number of a member, sent to a place once."""
    return jax.device_put(n, place)


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
