"""Tells parameters from other arrays; a pattern must name what holds the others.

Rules are about parameters. Running statistics, caches, PRNG keys and counters, and
the moments of an optimizer lie in the same trees, under the same names: "kernel" is
a parameter and its two moments in Adam. A pattern reaches such an array only if it
names what holds it.
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

# Names of which a pattern must hold one to reach an array; None for a parameter.
Guard: TypeAlias = frozenset[str] | None


def guards_of(tree: Any) -> list[Guard]:
    """For every leaf of a tree, in order: None for a parameter, else its guard.

    Parameters are the entry "params" of a tree that has one (the variables of Flax
    Linen, a ``TrainState``), the ``nnx.Param`` of NNX, the floating arrays of an
    Equinox module; in any other tree all arrays. The states of Optax and PRNG
    keys never are.

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
    """True where there is no guard, or the pattern holds one of its names."""
    if guard is None:
        return True
    if isinstance(pattern, str):
        return not guard.isdisjoint(pattern.split("/"))
    if isinstance(pattern, re.Pattern):
        words = re.findall(r"\w+", re.sub(r"\\.", " ", pattern.pattern))
        return not guard.isdisjoint(words)
    return False


_COLLECTIONS = {"batch_stats", "opt_state"}  # never parameters, whatever is beside them
_OF_OPTIMIZER = frozenset({"opt_state", "step"})


def _by_name(path: Parts, with_params: set[Parts]) -> Guard:
    """The guard of an array that lies beside an entry "params"."""
    for depth, name in enumerate(path):
        outer = path[:depth]
        if "params" in outer and set(outer) != {"params"}:
            return None  # below "params" names are those of modules
        beside = outer in with_params and name != "params"
        if beside or name in _COLLECTIONS:
            return frozenset({name})
    return None


def _by_class(node: Any, path: Parts, depth: int) -> Guard:
    """The guard of the arrays of a node that is marked by its class.

    Args:
        node: A subtree or an array, whose class marks it as no parameter.
        path: Path of one of its arrays.
        depth: Number of names that lead to the node.
    """
    module = type(node).__module__
    if module.startswith("flax.nnx.training"):
        return _OF_OPTIMIZER
    if module.startswith(("optax", "equinox")):
        return frozenset(name for name in path[: depth + 1] if not name.isdigit())
    return frozenset(path[-1:])


def _is_special(x: Any) -> bool:
    """Whether a subtree, or array, holds no parameters by its class."""
    if isinstance(x, _loaded("flax.nnx", "Variable")):
        return not isinstance(x, _loaded("flax.nnx", "Param"))
    if type(x).__module__.partition(".")[0] == "optax":
        return True
    if isinstance(x, _loaded("equinox.nn", "State")):
        return True
    return is_array(x) and jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def _loaded(module: str, name: str) -> type | tuple[()]:
    """A class of a module that may not be loaded, in a form that isinstance takes."""
    return getattr(sys.modules.get(module), name, ())


def _not_trained(tree: Any) -> Iterator[int]:
    """Positions of arrays that NNX and Equinox do not train."""
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
