"""Parameters from shapes and rules, without a model; all of them or some."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from .._checks import check_key
from .._compat import is_staging, is_traced
from .._paths import parts_of, unique_paths
from ..planning.plan import Plan, Progress
from ..planning.structure import is_array
from .assignment import Assignment, Row, listed
from .rules import Rules, as_rules


def init_tree(
    key: jax.Array,
    abstract_params: Any,
    rules: Rules | Any,
    *,
    progress: Progress | None = None,
) -> Any:
    """Every array of a tree, made by the rules from its path, shape and dtype.

    No model is traced. Each distinct kind of leaf is traced and compiled once. A
    leaf's values are those of ``jax.jit(initializer)(leaf_key(key, path), ...)``:
    other leaves do not enter.

    Args:
        key: Base key, typed or raw.
        abstract_params: Pytree of ``jax.ShapeDtypeStruct`` or arrays, whose
            shardings are those of the result. What is no array stays as it is.
        rules: `Rules`, or what they are built of.
        progress: Called as progress(done, total, what) while compiling.

    Returns:
        The tree with its arrays made. Inside jit the operations are traced.

    Raises:
        ValueError: If a leaf has no initializer, or the rules do not suit the tree;
            before anything is allocated.

    Example:
        >>> shapes = {"w": jax.ShapeDtypeStruct((3, 2), jnp.bfloat16)}
        >>> init_tree(jax.random.key(0), shapes, {"w": "he_normal"})["w"].dtype
        dtype(bfloat16)
    """
    key = check_key("init_tree", key)
    assignment = as_rules(rules).assign(abstract_params)
    _check_covered("init_tree", assignment.rows)
    assignment.check()
    return _make(key, abstract_params, assignment, assignment.rows, progress)


def reinit(
    params: Any, rules: Rules | Any, key: jax.Array, *, progress: Progress | None = None
) -> Any:
    """Parameters with the leaves that rules match made anew.

    Args:
        params: Pytree of arrays.
        rules: `Rules`, or what they are built of; a default matches every leaf.
        key: Base key, typed or raw.
        progress: Called as progress(done, total, what) while compiling.

    Returns:
        The tree with new arrays, on the shardings of the old ones, where a rule has
        an initializer; all other leaves are the same objects.

    Raises:
        ValueError: If the rules do not suit the tree.

    Example:
        >>> params = {"head": jnp.ones((2, 2)), "body": jnp.ones((2, 2))}
        >>> new = reinit(params, {"head": "zeros"}, jax.random.key(0))
        >>> new["body"] is params["body"], float(new["head"].sum())
        (True, 0.0)
    """
    key = check_key("reinit", key)
    assignment = as_rules(rules).assign(params)
    assignment.check()
    rows = [row for row in assignment.rows if row.initializer is not None]
    return _make(key, params, assignment, rows, progress)


def fill_missing(
    loaded: Any,
    abstract_params: Any,
    rules: Rules | Any,
    key: jax.Array,
    *,
    progress: Progress | None = None,
) -> Any:
    """A checkpoint completed: the leaves that it lacks are made by the rules.

    Leaves are told apart by path, so ``loaded`` may be of other containers, and
    with or without boxes.

    Args:
        loaded: Pytree of arrays. A ``jax.ShapeDtypeStruct`` in it is missing.
        abstract_params: The whole tree, of ``jax.ShapeDtypeStruct`` or arrays, whose
            shardings are those of the result.
        rules: `Rules`, or what they are built of.
        key: Base key, typed or raw.
        progress: Called as progress(done, total, what) while compiling.

    Returns:
        ``abstract_params`` with the loaded leaves, which keep their dtype and, unless
        they have to move to another sharding, are the same objects; and new ones.

    Raises:
        ValueError: If a loaded leaf has another shape, or has no place in the tree
            (a warning where the rules are not strict); if a missing one has no
            initializer; or if the rules do not suit the tree.

    Example:
        >>> loaded = {"body": jnp.ones((2, 2))}
        >>> shapes = loaded | {"head": jax.ShapeDtypeStruct((2,), jnp.int8)}
        >>> new = fill_missing(loaded, shapes, {"head": "zeros"}, jax.random.key(0))
        >>> new["body"] is loaded["body"], new["head"].tolist()
        (True, [0, 0])
    """
    key = check_key("fill_missing", key)
    rules = as_rules(rules)
    assignment = rules.assign(abstract_params)
    found = _by_path(loaded)
    rows = [row for row in assignment.rows if row.path not in found]
    wrong = [
        f"{row.path}: {np.shape(found[row.path])} instead of {row.shape}"
        for row in assignment.rows
        if row.path in found and np.shape(found[row.path]) != row.shape
    ]
    if wrong:
        raise ValueError(f"fill_missing: another shape was loaded for:{listed(wrong)}")
    known = {row.path for row in assignment.rows}
    homeless = [path for path in found if path not in known]
    if homeless:
        message = f"fill_missing: abstract_params has no place for:{listed(homeless)}"
        if rules.strict:
            raise ValueError(f"{message}\nRules(..., strict=False) only warns.")
        warnings.warn(message, stacklevel=2)
    _check_covered("fill_missing", rows)
    assignment.check(rows)
    leaves, structure = jax.tree.flatten(abstract_params)
    wanted = [_sharding(leaf) for leaf in leaves]
    for row in assignment.rows:
        if row.path in found:
            leaves[row.index] = _placed(found[row.path], wanted[row.index])
    whole = jax.tree.unflatten(structure, leaves)
    return _make(key, whole, assignment, rows, progress)


def _make(
    key: jax.Array,
    tree: Any,
    assignment: Assignment,
    rows: Sequence[Row],
    progress: Progress | None,
) -> Any:
    """The tree with the leaves of ``rows`` made, all in one plan."""
    leaves, structure = jax.tree.flatten(tree)

    def draw(key: jax.Array) -> dict[str, jax.Array]:
        return {row.path: assignment.draw(row, key) for row in rows}

    if is_staging():
        made = draw(key)
    else:
        wanted = {row.path: _sharding(leaves[row.index]) for row in rows}
        made = Plan(
            draw,
            (key,),
            {},
            out_shardings=lambda path, leaf: wanted[path],
            progress=progress,
        )(key)
    for row in rows:
        leaves[row.index] = made[row.path]
    return jax.tree.unflatten(structure, leaves)


def _check_covered(where: str, rows: Sequence[Row]) -> None:
    bare = [f"{row.path} {row.shape}" for row in rows if row.initializer is None]
    if bare:
        raise ValueError(
            f"{where}: no rule and no default gives an initializer to:{listed(bare)}"
        )


def _by_path(loaded: Any) -> dict[str, Any]:
    pairs = [
        (parts, leaf)
        for parts, leaf in zip(parts_of(loaded), jax.tree.leaves(loaded), strict=True)
        if is_array(leaf) and not isinstance(leaf, jax.ShapeDtypeStruct)
    ]
    paths = unique_paths("fill_missing", [parts for parts, _ in pairs])
    return dict(zip(paths, (leaf for _, leaf in pairs), strict=True))


def _sharding(leaf: Any) -> Sharding | None:
    """Where a leaf is to be, if it says so."""
    if is_traced(leaf) or (isinstance(leaf, jax.Array) and not leaf.committed):
        return None
    return getattr(leaf, "sharding", None)


def _placed(leaf: Any, sharding: Sharding | None) -> Any:
    if sharding is None or is_traced(leaf):
        return leaf
    if isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(
        sharding, leaf.ndim
    ):
        return leaf
    return jax.device_put(leaf, sharding)
