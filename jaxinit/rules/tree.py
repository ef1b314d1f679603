"""Parameters from shapes and rules, without a model; all of them or some."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec, Sharding

from .._checks import check_key, check_progress, short
from .._compat import explicit_sharding, is_staging, is_traced
from .._paths import join, parts_of
from .._processes import errors_told
from ..planning.plan import Plan, Progress
from .assignment import KEY_RULE, Assignment, Row, listed
from .known import split_nnx
from .leaf_keys import base_key, base_key_of, is_key_like
from .parameters import is_nnx
from .rules import Rules, as_rules
from .trace import Drawn


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
    other leaves do not enter. Of stacked layers, layer i has the key
    ``jax.random.fold_in(leaf_key(key, path), i)``.

    Args:
        key: Base key, typed or raw; or a dict of keys, as Flax takes, with "params".
        abstract_params: Pytree of ``jax.ShapeDtypeStruct`` or arrays, whose
            shardings are those of the result. The shapes of `jaxinit.eval_shape` know
            how the model draws each leaf. What is no array stays as it is.
        rules: `Rules`, or what they are built of.
        progress: Called as progress(done, total, what) while compiling.

    Returns:
        The tree with its arrays made. Inside jit the operations are traced.

    Raises:
        ValueError: If a leaf has no initializer; if the rules do not suit the tree; or
            if a shape has two readings, with other fans, and nothing says which is
            right. Nothing is allocated before.

    Example:
        >>> shapes = {"w": jax.ShapeDtypeStruct((3, 2), jnp.bfloat16)}
        >>> init_tree(jax.random.key(0), shapes, {"w": "he_normal"})["w"].dtype
        dtype(bfloat16)
    """
    with errors_told("init_tree(...)"):
        check_progress("init_tree", progress)
        key = check_order("init_tree", "key, abstract_params, rules", key)
        assignment = as_rules(rules).assign(abstract_params)
        check_covered("init_tree", abstract_params, assignment.rows)
        assignment.check()
    return make_rows(key, abstract_params, assignment, assignment.rows, progress)


def reinit(
    key: jax.Array,
    params: Any,
    rules: Rules | Any,
    *,
    like: Any = None,
    progress: Progress | None = None,
) -> Any:
    """Parameters with the leaves that rules match made anew.

    Args:
        key: Base key, typed or raw; or a dict of keys, as Flax takes, with "params".
        params: Pytree of arrays.
        rules: `Rules`, or what they are built of; a default matches every parameter.
        like: The same tree as `jaxinit.eval_shape` gives it, which knows how the
            model draws each leaf. Live models of NNX and Equinox need none.
        progress: Called as progress(done, total, what) while compiling.

    Returns:
        The tree with new arrays, on the shardings of the old ones, where a rule has
        an initializer; all other leaves are the same objects.

    Raises:
        ValueError: If the rules do not suit the tree, or ``like`` is another tree.

    Example:
        >>> params = {"head": jnp.ones((2, 2)), "body": jnp.ones((2, 2))}
        >>> new = reinit(jax.random.key(0), params, {"head": "zeros"})
        >>> new["body"] is params["body"], float(new["head"].sum())
        (True, 0.0)
    """
    with errors_told("reinit(...)"):
        check_progress("reinit", progress)
        key = check_order("reinit", "key, params, rules", key)
        if like is None and (parted := split_nnx(params)) is not None:
            state, merge = parted  # in which a shared layer is there once
            assignment = as_rules(rules).assign(state, layers=params)
            return merge(_remake(key, state, assignment, progress))
        assignment = as_rules(rules).assign(
            params if like is None else _as_drawn(params, like)
        )
        return _remake(key, params, assignment, progress)


def _remake(
    key: jax.Array, tree: Any, assignment: Assignment, progress: Progress | None
) -> Any:
    """The tree with the leaves made that have an initializer."""
    assignment.check()
    rows = [row for row in assignment.rows if row.initializer is not None]
    return make_rows(key, tree, assignment, rows, progress)


def make_rows(
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
        wanted = {row.path: wanted_sharding(leaves[row.index]) for row in rows}
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


def check_covered(
    where: str, tree: Any, rows: Sequence[Row], notes: Mapping[str, str] | None = None
) -> None:
    """Raises a ValueError if a row has no initializer; a note follows its path."""
    notes = notes or {}
    bare = [row for row in rows if row.initializer is None]
    if not bare:
        return
    lines = [f"{x.path} {x.shape}{notes.get(x.path, '')}{_cure(x)}" for x in bare]
    message = f"{where}: no rule and no default gives an initializer to:{listed(lines)}"
    if any(row.guard for row in bare) and is_nnx(tree):
        message += "\nnnx.state(model, nnx.Param) is a tree of the parameters alone."
    raise ValueError(message)


def check_order(where: str, order: str, key: Any) -> jax.Array:
    """The base key, which must be the first argument: a key, or a dict of keys.

    Raises:
        TypeError: If the first argument is another, as in the old order.
    """
    found = base_key_of(key)
    if isinstance(key, Mapping) and key and all(map(is_key_like, key.values())):
        found = base_key([key], {})
    if not is_key_like(found):
        raise TypeError(
            f"{where}: the key comes first: {where}({order}); got {short(key)}."
        )
    return check_key(where, found)


def _as_drawn(params: Any, like: Any) -> Any:
    """Parameters in the form of shapes that know how they are drawn.

    Raises:
        ValueError: If ``like`` is another tree.
    """
    leaves, structure = jax.tree.flatten(params)
    paths = [join(parts) for parts in parts_of(params)]
    known = dict(zip(map(join, parts_of(like)), jax.tree.leaves(like), strict=True))
    ours = dict(zip(paths, map(np.shape, leaves), strict=True))
    theirs = {path: np.shape(leaf) for path, leaf in known.items()}
    if ours != theirs:
        differ = sorted({path for path, _ in ours.items() ^ theirs.items()})
        raise ValueError(
            "reinit(like=...) must have the paths and shapes of params; these "
            f"differ:{listed(differ)}"
        )
    drawn = [
        known[path].update(dtype=leaf.dtype) if isinstance(known[path], Drawn) else leaf
        for path, leaf in zip(paths, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, drawn)


def _cure(row: Row) -> str:
    """Returns the rule that matches an array that is not a parameter, as advice."""
    if not row.guard:
        return ""
    name = sorted(row.guard)[0]
    if jnp.issubdtype(row.dtype, jax.dtypes.prng_key):
        return f", a PRNG key: the rule {{'**/{name}': {KEY_RULE}}} makes it"
    return f", no parameter: a pattern that names {name!r} reaches it"


def wanted_sharding(leaf: Any) -> Sharding | PartitionSpec | None:
    """Returns the sharding that a leaf asks for; a spec if it names no devices."""
    if is_traced(leaf) or (isinstance(leaf, jax.Array) and not leaf.committed):
        return None
    explicit = explicit_sharding(leaf)
    return getattr(leaf, "sharding", None) if explicit is None else explicit.spec
