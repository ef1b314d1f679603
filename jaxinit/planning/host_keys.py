"""Runs the key program on the host, and moves keys between host and device.

A model has one or more keys for each parameter, each a few hashes of two words. To
dispatch them one by one, or to compile them, would cost more than all the rest of a
plan; Threefry on Python integers takes microseconds.

The host holds a Threefry key as its words, ``uint32[..., 2]``, and every other value
as an array of NumPy's or JAX's. No other file knows this but by the functions here.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from .._compat import bind, is_key, read_config
from .._prng import FUSED_THREEFRY, hash_words, is_fused, is_threefry
from .ir import Node, Rule, Value, evaluate

_FEW = 16  # hashes, which Python's integers compute faster than NumPy's arrays do


def evaluate_keys(nodes: Iterable[Node], env: Mapping[Value, Any]) -> dict[Value, Any]:
    """The values of ``env``, held by the host, and those that the nodes make."""
    return evaluate(nodes, env, _RULES, _on_device)


def to_host(value: Any, aval: Any) -> Any:
    """A value of JAX's in the form that the host holds and any device takes.

    Raw keys come to the host, and so do committed arrays, which every mesh can read
    from there.
    """
    if is_threefry(aval):
        return np.asarray(jax.random.key_data(value))
    if isinstance(value, jax.Array) and not is_key(aval):
        if value.committed or value.dtype == np.uint32:
            return np.asarray(value)
    return value


def to_device(value: Any, aval: Any) -> jax.Array:
    """A value that the host holds as JAX has it: words become a key again."""
    if is_threefry(aval):
        impl = FUSED_THREEFRY if is_fused(aval) else "threefry2x32"
        return jax.random.wrap_key_data(value, impl=impl)
    return jnp.asarray(value)


def operand(aval: Any, sharding: Sharding | None = None) -> jax.ShapeDtypeStruct:
    """Returns the abstract operand of a program that reads a value of the host."""
    if is_threefry(aval):
        return jax.ShapeDtypeStruct((*aval.shape, 2), jnp.uint32)
    weak = bool(getattr(aval, "weak_type", False))
    return jax.ShapeDtypeStruct(
        aval.shape, aval.dtype, weak_type=weak, sharding=sharding
    )


def _on_device(node: Node, inputs: list[Any]) -> list[Any]:
    pairs = zip(inputs, node.eqn.invars, strict=True)
    values = [to_device(x, v.aval) for x, v in pairs]
    made = bind(node.eqn.primitive, values, node.params)
    return [to_host(x, v.aval) for x, v in zip(made, node.eqn.outvars, strict=True)]


def _on_host(rule: Rule) -> Rule:
    """A rule for values that NumPy computes."""

    def apply(node: Node, inputs: list[Any]) -> Any:
        avals = [v.aval for v in (*node.eqn.invars, *node.eqn.outvars)]
        plain = all(isinstance(x, (np.ndarray, np.generic, int)) for x in inputs)
        if plain and all(map(is_threefry, filter(is_key, avals))):
            return rule(node, inputs)
        return None

    return apply


def _words(node: Node) -> int:
    """The trailing axes that the first input has as words of keys."""
    return 1 if is_threefry(node.eqn.invars[0].aval) else 0


def _fold_in(node: Node, inputs: list[Any]) -> Any:
    key, data = inputs
    return [_hashes(key, np.asarray(data))]


def _split(node: Node, inputs: list[Any]) -> Any:
    (key,) = inputs
    if not read_config("jax_threefry_partitionable"):
        return None
    shape = tuple(node.params["shape"])
    counters = np.arange(math.prod(shape)).reshape(shape)
    return [_hashes(np.expand_dims(key, (*range(-1 - len(shape), -1),)), counters)]


def _hashes(keys: np.ndarray, counters: np.ndarray) -> np.ndarray:
    """The words of new keys, the hashes of counters; keys and counters broadcast."""
    first, second, third = np.broadcast_arrays(keys[..., 0], keys[..., 1], counters)
    if third.size > _FEW:
        first, second, third = (x.astype(np.uint64) for x in (first, second, third))
        words = hash_words((first, second), (0, third))
        return np.stack(words, axis=-1).astype(np.uint32)
    integers = zip(*(x.ravel().tolist() for x in (first, second, third)), strict=True)
    words = [hash_words((a, b), (0, counter)) for a, b, counter in integers]
    return np.array(words, np.uint32).reshape(*third.shape, 2)


def _same(node: Node, inputs: list[Any]) -> Any:
    return [np.asarray(inputs[0])]


def _slice(node: Node, inputs: list[Any]) -> Any:
    p = node.params
    strides = p["strides"] or (1,) * len(p["start_indices"])
    bounds = zip(p["start_indices"], p["limit_indices"], strides, strict=True)
    return [inputs[0][tuple(slice(*bound) for bound in bounds)]]


def _squeeze(node: Node, inputs: list[Any]) -> Any:
    rank = inputs[0].ndim - _words(node)
    return [inputs[0].squeeze(tuple(d % rank for d in node.params["dimensions"]))]


def _reshape(node: Node, inputs: list[Any]) -> Any:
    if node.params["dimensions"] is not None:
        return None
    words = inputs[0].shape[inputs[0].ndim - _words(node) :]
    return [inputs[0].reshape(*node.params["new_sizes"], *words)]


def _transpose(node: Node, inputs: list[Any]) -> Any:
    axes = node.params["permutation"]
    return [inputs[0].transpose(*axes, *range(len(axes), inputs[0].ndim))]


def _iota(node: Node, inputs: list[Any]) -> Any:
    shape, axis = node.params["shape"], node.params["dimension"]
    steps = np.arange(shape[axis], dtype=node.params["dtype"])
    steps = steps.reshape(-1, *[1] * (len(shape) - axis - 1))
    return [np.broadcast_to(steps, shape)]


def _convert(node: Node, inputs: list[Any]) -> Any:
    return [np.asarray(inputs[0]).astype(node.params["new_dtype"])]


def _binary(f: Callable[..., Any]) -> Rule:
    def rule(node: Node, inputs: list[Any]) -> Any:
        dtype = node.eqn.outvars[0].aval.dtype
        with np.errstate(over="ignore"):
            return [f(*(np.asarray(x, dtype) for x in inputs))]

    return rule


_NUMPY: dict[str, Rule] = {
    "random_wrap": _same,
    "random_unwrap": _same,
    "random_clone": _same,
    "copy": _same,
    "random_fold_in": _fold_in,
    "random_split": _split,
    "slice": _slice,
    "squeeze": _squeeze,
    "reshape": _reshape,
    "transpose": _transpose,
    "iota": _iota,
    "convert_element_type": _convert,
    "add": _binary(np.add),
    "mul": _binary(np.multiply),
    "xor": _binary(np.bitwise_xor),
}
_RULES = {name: _on_host(rule) for name, rule in _NUMPY.items()}
