"""Closure arrays: the programs contain some as constants, the others are inputs.

Jit compiles all of them into its program. XLA computes with them while it compiles, and
rounds otherwise than a program that runs: it evaluates operations on constants alone,
multiplies by the reciprocal of a divisor, and takes an array of one value for a scalar.
A plan compiles such arrays in as well. The others are inputs of programs, so that
leaves that differ in their arrays alone share one.
"""

import hashlib
from collections.abc import Hashable
from typing import Any

import jax
import numpy as np

from .._compat import is_key, is_traced
from .ir import Program, Value, values
from .partition import Component

# Operations that move elements, or round each of them once.
_MOVING = {
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "expand_dims",
    "reshape",
    "slice",
    "squeeze",
    "transpose",
}
# Operations with the same bits whether an operand is a constant or an input.
_ALIKE = set("add and eq ge gt le lt max min mul ne or select_n sub xor".split())


def compiled_in(component: Component, program: Program) -> dict[Value, Any]:
    """The inputs of a component that its program contains, and their values."""
    held = {v: program.constants[v] for v in component.inputs if v in program.constants}
    held = {v: x for v, x in held.items() if not is_key(program.avals[v])}
    found = {v for v, x in held.items() if _is_uniform(x)}
    sources: dict[Value, set[Value]] = {v: {v} for v in held}
    for node in component.nodes:
        read = values(node.inputs)
        constants = [v for v in read if v in sources]
        if not constants:
            continue
        alone = len(constants) == len(read)
        union = set[Value]().union(*(sources[v] for v in constants))
        if node.name not in (_MOVING if alone else _ALIKE):
            found |= union
        if alone:
            sources.update(dict.fromkeys(node.outputs, union))
    return {v: _on_host(held[v]) for v in held if v in found and _is_here(held[v])}


def closure_signature(component: Component, program: Program) -> Hashable:
    """Equal for components into which equal arrays are compiled at the same places."""
    found = compiled_in(component, program)
    places = {v: i for i, v in enumerate(component.inputs)}
    return tuple((places[v], _digest(x)) for v, x in found.items())


def _is_here(x: Any) -> bool:
    """True if this process holds the values of the whole array."""
    return not is_traced(x) and getattr(x, "is_fully_addressable", True)


def _is_uniform(x: Any) -> bool:
    if not _is_here(x):
        return False
    array = np.asarray(x)
    ends_alike = array.size > 0 and array.flat[0] == array.flat[-1]  # seldom, and cheap
    return bool(ends_alike and (array == array.flat[0]).all())


def _on_host(x: Any) -> Any:
    return np.asarray(x) if isinstance(x, jax.Array) else x


def _digest(x: Any) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(x).tobytes()).digest()
