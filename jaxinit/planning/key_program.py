"""Evaluates the operations that lead to PRNG keys, on the host.

A model has one or more keys per parameter, each a few hashes of two words.
Dispatching them one by one, or compiling them, would cost more than all the
rest of a plan; Threefry on Python integers takes microseconds.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .._compat import bind, is_key, is_literal, read_config
from .._prng import FUSED_THREEFRY, hash_words, is_fused, is_threefry
from .flatten import Node, Value

Env = dict[Value, Any]
_MANY = 16  # hashes that NumPy computes faster than Python


def evaluate(nodes: Sequence[Node], env: Env, avals: dict[Value, Any]) -> None:
    """Runs the nodes in order, adding their outputs to ``env``.

    Threefry keys are held as NumPy words ``uint32[..., 2]``, everything else as
    NumPy or JAX arrays.
    """
    folds: list[Node] = []  # as into the key of a model, for each parameter
    for node in nodes:
        if any(not is_literal(a) and a not in env for a in node.inputs):
            _fold(folds, env)
            folds = []
        inputs = [_value(a, env) for a in node.inputs]
        kinds = [a.aval if is_literal(a) else avals[a] for a in node.inputs]
        result = None
        if _on_host(inputs, kinds, node, avals):
            if node.name == "random_fold_in" and inputs[0].ndim == 1:
                if np.ndim(inputs[1]) == 0:
                    folds.append(node)
                    continue
            rule = _RULES.get(node.name)
            if rule is not None:
                result = rule(node, inputs, [_extra(kind) for kind in kinds], avals)
        if result is None:
            result = _on_device(node, inputs, kinds, avals)
        env.update(zip(node.outputs, result, strict=True))
    _fold(folds, env)


def to_host(value: Any, aval: Any) -> Any:
    """An argument in the form that `evaluate` and any device take.

    Raw keys come to the host, and committed arrays, which every mesh can read
    from there.
    """
    if is_threefry(aval):
        return np.asarray(jax.random.key_data(value))
    if isinstance(value, jax.Array) and not is_key(aval):
        if value.committed or value.dtype == np.uint32:
            return np.asarray(value)
    return value


def to_device(value: Any, aval: Any) -> jax.Array:
    """A value of `evaluate` as JAX has it: words become a key again."""
    if is_threefry(aval):
        impl = FUSED_THREEFRY if is_fused(aval) else "threefry2x32"
        return jax.random.wrap_key_data(value, impl=impl)
    return jax.numpy.asarray(value)


def _on_host(inputs: list[Any], kinds: list[Any], node: Node, avals: Any) -> bool:
    all_kinds = [*kinds, *(avals[out] for out in node.outputs)]
    typed = filter(is_key, all_kinds)
    plain = all(isinstance(x, (np.ndarray, np.generic, int)) for x in inputs)
    return plain and all(map(is_threefry, typed))


def _on_device(
    node: Node, inputs: list[Any], kinds: list[Any], avals: Any
) -> list[Any]:
    values = [to_device(x, k) for x, k in zip(inputs, kinds, strict=True)]
    outputs = bind(node.eqn.primitive, values, node.params)
    return [to_host(x, avals[o]) for x, o in zip(outputs, node.outputs, strict=True)]


def _extra(aval: Any) -> int:
    """Trailing axes that a key has as words."""
    return 1 if is_threefry(aval) else 0


def _value(atom: Any, env: Env) -> Any:
    return atom.val if is_literal(atom) else env[atom]


def _fold(nodes: Sequence[Node], env: Env) -> None:
    """Runs operations that fold a number into a key: at once, if they are many."""
    pairs = [[_value(a, env) for a in node.inputs] for node in nodes]
    if len(nodes) < _MANY:
        made = [
            hash_words((int(key[0]), int(key[1])), (0, int(data) & 0xFFFFFFFF))
            for key, data in pairs
        ]
    else:
        keys = np.array([key for key, _ in pairs], np.uint64).T
        data = np.array([int(data) & 0xFFFFFFFF for _, data in pairs], np.uint64)
        made = zip(*hash_words((keys[0], keys[1]), (0, data)), strict=True)
    words = np.array(list(made), np.uint32)
    env.update(zip((node.outputs[0] for node in nodes), words, strict=True))


def _split(node: Node, inputs: list[Any], extra: list[int], avals: Any) -> Any:
    (key,) = inputs
    if key.ndim != 1 or not read_config("jax_threefry_partitionable"):
        return None
    shape = tuple(node.params["shape"])
    pair = int(key[0]), int(key[1])
    words = [hash_words(pair, (0, i)) for i in range(math.prod(shape))]
    return [np.array(words, np.uint32).reshape(*shape, 2)]


def _same(node: Node, inputs: list[Any], extra: list[int], avals: Any) -> Any:
    return [np.asarray(inputs[0])]


def _slice(node: Node, inputs: list[Any], extra: list[int], avals: Any) -> Any:
    p = node.params
    strides = p["strides"] or (1,) * len(p["start_indices"])
    bounds = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    return [inputs[0][tuple(slice(*bound) for bound in bounds)]]


def _squeeze(node: Node, inputs: list[Any], extra: list[int], avals: Any) -> Any:
    x = inputs[0]
    rank = x.ndim - extra[0]
    return [x.squeeze(tuple(d % rank for d in node.params["dimensions"]))]


def _reshape(node: Node, inputs: list[Any], extra: list[int], avals: Any) -> Any:
    if node.params["dimensions"] is not None:
        return None
    words = inputs[0].shape[inputs[0].ndim - extra[0] :]
    return [inputs[0].reshape(*node.params["new_sizes"], *words)]


def _convert(node: Node, inputs: list[Any], extra: list[int], avals: Any) -> Any:
    return [np.asarray(inputs[0]).astype(node.params["new_dtype"])]


def _binary(f: Callable[..., Any]) -> Callable[..., Any]:
    def rule(node: Node, inputs: list[Any], extra: list[int], avals: Any) -> Any:
        dtype = avals[node.outputs[0]].dtype
        with np.errstate(over="ignore"):
            return [f(*(np.asarray(x, dtype) for x in inputs))]

    return rule


_RULES: dict[str, Callable[..., Any]] = {
    "random_wrap": _same,
    "random_unwrap": _same,
    "random_clone": _same,
    "copy": _same,
    "random_split": _split,
    "slice": _slice,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "convert_element_type": _convert,
    "add": _binary(np.add),
    "mul": _binary(np.multiply),
    "xor": _binary(np.bitwise_xor),
}
