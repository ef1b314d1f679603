"""Agreement: the facts that all processes of a job compare before they make shards.

When a plan is made, they compare versions, settings and, of each leaf, shape, sharding
and program: a digest of the operations that make it, with their literals and the
constants that they read. When it is called, they compare the arguments that leaves
depend on. Dead code and arguments that nothing reads may differ.
"""

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, Sharding

from .. import _processes
from .._compat import is_key, is_literal
from .flatten import flatten
from .ir import Atom, Node, Program, Value, literal, live, params_signature, values

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_SET = re.compile(r"\{([^{}]*)\}")
_SHOWN = 16  # characters of a digest in a message


def agree_on_plan(closed: Any, leaves: Sequence[Any]) -> Collection[int]:
    """Raises in every process if the plans of two of them differ.

    Args:
        closed: The traced function.
        leaves: The leaves of the plan.

    Returns:
        Positions of the arguments that leaves depend on, for `agree_on_call`; none
        if there is one process.

    Raises:
        RuntimeError: If they differ; it says in what.
    """
    if not _processes.are_several():
        return ()
    program = flatten(closed)
    nodes = [node for node, _ in live(program.nodes, program.outputs)]

    def facts() -> _processes.Facts:
        digests = _fingerprints(program, nodes)
        plans = {leaf.path: _leaf(leaf) for leaf in leaves}
        for leaf, digest in zip(leaves, digests, strict=True):
            plans[f"the program of {leaf.path}"] = digest[:_SHOWN]
        return {**_processes.environment(), "plans": plans}

    _processes.agree("plan(...)", facts)
    read = {v for node in nodes for v in values(node.inputs)}
    read.update(values(program.outputs))
    return [i for i, v in enumerate(program.inputs) if v in read]


def agree_on_call(
    names: Sequence[str], arrays: Sequence[Any], read: Collection[int]
) -> None:
    """Raises in every process if arguments that leaves depend on differ.

    Args:
        names: A name for each array, as users read it.
        arrays: The arrays among the arguments.
        read: Positions of those that leaves depend on.

    Raises:
        RuntimeError: If keys or other arguments differ; it says which.
    """

    def facts() -> _processes.Facts:
        found: dict[str, dict[str, str]] = {"keys": {}, "arguments": {}}
        for i in read:
            of_key = is_key(arrays[i]) or arrays[i].dtype == np.uint32
            subject = "keys" if of_key else "arguments"
            found[subject][f"argument {names[i]}"] = _array(arrays[i])
        return found

    _processes.agree("plan(...)(...)", facts)


def _leaf(leaf: Any) -> str:
    where = "" if leaf.sharding is None else f" on {_text(leaf.sharding)}"
    return f"{leaf.dtype}{list(leaf.shape)}{where}"


def _fingerprints(program: Program, nodes: Sequence[Node]) -> list[str]:
    """A digest for each output of all operations and constants that it is made of."""
    found: dict[Value, str] = {}
    constants = program.constants
    for i, v in enumerate(program.inputs):
        found[v] = _digest("input", str(i), _text(program.avals[v]))
    described: dict[int, str] = {}  # by equation: JAX traces a function once

    def of(atom: Atom) -> str:
        if is_literal(atom):
            return _digest(_text(atom.aval), literal(atom).tobytes().hex())
        if atom not in found:
            found[atom] = _digest(_text(program.avals[atom]), _content(constants[atom]))
        return found[atom]

    for node in nodes:
        if id(node.eqn) not in described:
            signature = node.name, params_signature(node.params)
            described[id(node.eqn)] = _digest(_text(signature))
        made = _digest(described[id(node.eqn)], *map(of, node.inputs))
        for i, v in enumerate(node.outputs):
            found[v] = _digest(made, str(i), _text(program.avals[v]))
    return list(map(of, program.outputs))


def _array(x: Any) -> str:
    """An array as a message shows it: its value if it is one number, else a digest."""
    content = _content(x)
    if np.size(x) == 1 and not is_key(x) and content:
        return str(np.asarray(x).reshape(()))
    return f"{x.dtype}{list(np.shape(x))} of digest {_digest(content)[:_SHOWN]}"


def _content(x: Any) -> str:
    """The elements of an array; empty where other processes hold some of them."""
    if isinstance(x, jax.Array):
        if not (x.is_fully_addressable or x.is_fully_replicated):
            return ""
        x = jax.random.key_data(x) if is_key(x) else x
    return hashlib.sha256(np.asarray(x).tobytes()).hexdigest()


def _text(x: Any) -> str:
    """Describes something in the same words in every process."""
    if isinstance(x, list | tuple):
        return f"({', '.join(map(_text, x))})"
    if isinstance(x, Mapping):
        pairs = sorted((_text(k), _text(v)) for k, v in x.items())
        return f"{{{', '.join(f'{k}: {v}' for k, v in pairs)}}}"
    if isinstance(x, Sharding):
        return _sharding(x)
    # A repr shows addresses, and sets in an order of the process's own.
    return _SET.sub(_sorted, _ADDRESS.sub("", repr(x)))


def _sorted(match: re.Match[str]) -> str:
    return f"{{{', '.join(sorted(match[1].split(', ')))}}}"


def _sharding(sharding: Sharding) -> str:
    """A sharding; the devices only of one that several processes share."""
    if isinstance(sharding, NamedSharding):
        text = f"{sharding.spec} of {dict(sharding.mesh.shape)}"
        mesh = sharding.mesh
        devices = mesh.devices.flat if isinstance(mesh, jax.sharding.Mesh) else ()
    else:
        text = type(sharding).__name__
        devices = sorted(sharding.device_set, key=lambda device: device.id)
    if sharding.is_fully_addressable:
        return text
    return f"{text} with devices {[device.id for device in devices]}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
