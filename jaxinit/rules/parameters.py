"""Guards: they keep rules for parameters from matching other arrays.

Rules are about parameters. But trees also contain running statistics, caches, PRNG
keys, counters and optimizer states, often under the same names: "kernel" is a parameter
and two moments of Adam. A pattern matches such an array only if it contains one of the
names of its guard, which are the names around the array, as "opt_state".
"""

import re
import sys
from collections.abc import Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from .._paths import Parts, parts_of
from ..planning.arguments import is_array
from .patterns import Pattern

# A pattern must contain one of these names to match an array; None for a parameter.
Guard: TypeAlias = frozenset[str] | None


def guards_of(tree: Any) -> list[Guard]:
    """Returns the guard of every leaf of a tree, in order; None for a parameter.

    Parameters are the arrays below "params" in a tree that has this entry (the
    variables of Flax Linen, a ``TrainState``), the ``nnx.Param`` of NNX, and the
    floating arrays of an Equinox module. In any other tree all arrays are parameters.
    States of Optax and PRNG keys are never parameters.

    Example:
        >>> guards_of({"params": {"w": 1}, "batch_stats": {"mean": 2}})
        [frozenset({'batch_stats'}), None]
    """
    parts = parts_of(tree)
    with_params = {
        path[:i] for path in parts for i, x in enumerate(path) if x == "params"
    }
    found = [_by_name(path, with_params) for path in parts]
    places = jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_special)
    start = 0
    for entries, node in places:
        end = start + len(jax.tree.leaves(node))
        for i in range(start, end) if _is_special(node) else ():
            found[i] = found[i] or _by_class(node, parts[i], len(entries))
        start = end
    trained = {
        name for path, x in zip(parts, found, strict=True) if x is None for name in path
    }
    found = [x - trained or x if x is not None and len(x) > 1 else x for x in found]
    for i in _not_trained(tree):
        found[i] = found[i] or frozenset(parts[i][-1:])
    return found


def passes(pattern: Pattern, guard: Guard) -> bool:
    """True if there is no guard, or the pattern contains one of its names."""
    if guard is None:
        return True
    if isinstance(pattern, str):
        return not guard.isdisjoint(pattern.split("/"))
    if isinstance(pattern, re.Pattern):
        words = re.findall(r"\w+", re.sub(r"\\.", " ", pattern.pattern))
        return not guard.isdisjoint(words)
    return False


def is_nnx(tree: Any) -> bool:
    """True if a tree contains variables of NNX."""
    variable = _loaded("flax.nnx", "Variable")
    nodes = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, variable))
    return any(isinstance(node, variable) for node in nodes)


_COLLECTIONS = {"batch_stats", "opt_state"}  # never parameters, even without "params"
_OF_OPTIMIZER = frozenset({"opt_state", "step"})


def _by_name(path: Parts, with_params: set[Parts]) -> Guard:
    """Returns the guard of an array that is beside an entry "params", else None."""
    for depth, name in enumerate(path):
        outer = path[:depth]
        if "params" in outer and set(outer) != {"params"}:
            return None  # below "params" all names are names of modules
        beside = outer in with_params and name != "params"
        if beside or name in _COLLECTIONS:
            return frozenset({name})
    return None


def _by_class(node: Any, path: Parts, depth: int) -> Guard:
    """Returns the guard of an array in a node whose class has no parameters.

    Args:
        node: A subtree or an array for which `_is_special` is True.
        path: Path of an array in the node.
        depth: Number of names that lead to the node.
    """
    module = type(node).__module__
    if module.startswith("flax.nnx.training"):
        return _OF_OPTIMIZER
    if module.startswith(("optax", "equinox")):
        return frozenset(name for name in path[: depth + 1] if not name.isdigit())
    return frozenset(path[-1:])


def _is_special(x: Any) -> bool:
    """True if the class of a subtree or array shows that it has no parameters."""
    if isinstance(x, _loaded("flax.nnx", "Variable")):
        return not isinstance(x, _loaded("flax.nnx", "Param"))
    if type(x).__module__.partition(".")[0] == "optax":
        return True
    if isinstance(x, _loaded("equinox.nn", "State")):
        return True
    return is_array(x) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _loaded(module: str, name: str) -> type | tuple[()]:
    """Returns a class for isinstance; () if its module is not loaded."""
    return getattr(sys.modules.get(module), name, ())


def _not_trained(tree: Any) -> Iterator[int]:
    """Yields the positions of the leaves that NNX and Equinox do not train."""
    kinds = _loaded("flax.nnx", "Variable"), _loaded("equinox", "Module")
    variable, module = kinds
    nodes = jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kinds))
    is_nnx = any(isinstance(node, variable) for node in nodes)
    i = 0
    for node in nodes:
        for leaf in jax.tree.leaves(node):
            if isinstance(node, module):
                trained = is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)
            else:
                trained = isinstance(node, variable) or not is_nnx
            if not trained:
                yield i
            i += 1
