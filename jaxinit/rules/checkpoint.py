"""Completes a checkpoint: loaded arrays go to their leaves, rules make the others."""

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec, Sharding

from .._checks import check_bool, check_choice
from .._compat import is_traced, may_transfer
from .._processes import errors_told
from ..planning.plan import Progress
from ..planning.result import check_fits
from .assignment import Row, listed
from .loaded import Loaded, Rename, by_path
from .rules import Rules, as_rules
from .tree import check_covered, check_order, make_rows, wanted_sharding

# A dtype can be cast to dtypes of its own kind or of a later kind.
_KINDS = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)


def fill_missing(
    key: jax.Array,
    loaded: Any,
    abstract_params: Any,
    rules: Rules | Any,
    *,
    rename: Rename | None = None,
    cast: bool = False,
    on_extra: str | None = None,
    on_mismatch: str = "raise",
    progress: Progress | None = None,
) -> Any:
    """Completes a checkpoint: rules make the leaves that it lacks.

    A leaf is found by its path, so ``loaded`` may have other containers: with or
    without boxes, or with dicts in place of boxes and lists, as Orbax restores them. It
    may also be a flat dict of arrays, such as a safetensors file: the key
    ``"a.b.kernel"`` or ``"a/b/kernel"`` is the path a/b/kernel, if the tree has it.

    Args:
        key: Base key, typed or raw; or a dict of keys, as Flax takes, with "params".
        loaded: Pytree of arrays. A ``jax.ShapeDtypeStruct`` counts as a missing leaf.
        abstract_params: The whole tree, as for `init_tree`.
        rules: `Rules`, or an argument of `Rules`.
        rename: Maps paths of ``loaded`` to paths of ``abstract_params``: a dict of
            whole paths, or a function of one path. None in place of a path drops the
            leaf. A path of ``loaded`` is the unchanged key of a flat dict, or else the
            names of the levels, joined with "/".
        cast: Whether loaded leaves take the dtypes of ``abstract_params``, rounded as
            ``astype`` does. False: they keep their own dtypes.
        on_extra: What to do with loaded leaves that have no place in the tree:
            "raise", "warn" or "ignore". None: "raise", or "warn" if the rules are not
            strict.
        on_mismatch: What to do with loaded leaves of another shape: "raise", or
            "replace", which makes them by the rules as if they were missing.
        progress: Called as progress(done, total, what), where ``what`` is "compiled",
            and then "loaded" for each loaded leaf.

    Returns:
        ``abstract_params`` with the loaded leaves and new ones, on the shardings of
        ``abstract_params``. Each device gets its own part of a loaded NumPy array.
        A loaded leaf that is neither cast nor moved is the same object.

    Raises:
        TypeError: If a loaded value is neither an array nor a number.
        ValueError: If a loaded leaf has no place in the tree, or another shape, and the
            arguments do not allow it; if two leaves have the same place; if an entry of
            the dict ``rename`` names no loaded leaf, or a path that the tree does not
            have; if a dtype cannot be cast, such as float to integer, or an integer is
            out of the range of the new dtype; if a sharding does not fit its leaf; if a
            missing leaf has no initializer; or if the rules do not fit the tree.

    Example:
        >>> loaded = {"body.w": np.ones((2, 2), np.float32)}
        >>> wanted = {"body": {"w": jax.ShapeDtypeStruct((2, 2), jnp.bfloat16)}}
        >>> wanted["head"] = jax.ShapeDtypeStruct((2,), jnp.int8)
        >>> key = jax.random.key(0)
        >>> new = fill_missing(key, loaded, wanted, {"head": "zeros"}, cast=True)
        >>> new["body"]["w"].dtype, new["head"].tolist()
        (dtype(bfloat16), [0, 0])
    """
    with errors_told("fill_missing(...)"):
        order = "key, loaded, abstract_params, rules"
        key = check_order("fill_missing", order, key)
        rules = as_rules(rules)
        assignment = rules.assign(abstract_params)
        if on_extra is None:
            on_extra = "raise" if rules.strict else "warn"
        check_bool("fill_missing", "cast", cast)
        check_choice("fill_missing", "on_extra", on_extra, ("raise", "warn", "ignore"))
        check_choice("fill_missing", "on_mismatch", on_mismatch, ("raise", "replace"))
        found = by_path(loaded, {row.path for row in assignment.rows}, rename)
        kept = _fitting(found, assignment.rows, on_extra, on_mismatch)
        wanted = list(map(wanted_sharding, jax.tree.leaves(abstract_params)))
        for row in assignment.rows:
            sharding = wanted[row.index]
            if row.path in kept and isinstance(sharding, Sharding):
                check_fits(f"fill_missing at {row.path}", sharding, row.shape)
        if cast:
            _check_castable(kept, assignment.rows)
        rows = [row for row in assignment.rows if row.path not in kept]
        replaced = [found[row.path] for row in rows if row.path in found]
        shapes = {x.path: f" (loaded as {np.shape(x.leaf)})" for x in replaced}
        check_covered("fill_missing", rows, shapes)
        assignment.check(rows)
    made = make_rows(key, abstract_params, assignment, rows, progress)
    # Only after all processes agree: they must all put arrays on a shared sharding.
    leaves, structure = jax.tree.flatten(made)
    loaded_rows = [row for row in assignment.rows if row.path in kept]
    for count, row in enumerate(loaded_rows, 1):
        leaf = kept[row.path].leaf
        leaf = _cast(leaf, row.dtype) if cast else leaf
        leaves[row.index] = _placed(leaf, wanted[row.index])
        if progress is not None:
            progress(count, len(loaded_rows), "loaded")
    return jax.tree.unflatten(structure, leaves)


def _fitting(
    found: Mapping[str, Loaded], rows: Sequence[Row], on_extra: str, on_mismatch: str
) -> dict[str, Loaded]:
    """The loaded leaves whose path and shape the tree has; see `fill_missing`."""
    shapes = {row.path: row.shape for row in rows}
    extra = [str(x) for path, x in found.items() if path not in shapes]
    kept = {path: x for path, x in found.items() if path in shapes}
    wrong = {p: x for p, x in kept.items() if np.shape(x.leaf) != shapes[p]}
    place = f"abstract_params has no place for:{listed(extra)}\n" if extra else ""
    errors: list[str] = []
    if wrong and on_mismatch == "raise":
        lines = [
            f"{kept[p]}: {np.shape(kept[p].leaf)} instead of {shapes[p]}" for p in wrong
        ]
        errors.append(f"another shape was loaded for:{listed(lines)}\n")
        errors.append('on_mismatch="replace" makes these by the rules.\n')
    if extra and on_extra == "raise":
        cure = 'on_extra="ignore" leaves these out, "warn" does so with a warning.'
        errors.append(f"{place}{cure}\n")
        errors.append("rename={path: path of the tree} gives them a place.\n")
        top = _top([found[path].name for path in found if path not in shapes], shapes)
        if top is not None:
            cure = f"rename=lambda path: {top + '/'!r} + path gives all of them one.\n"
            errors.append(cure)
    if errors:
        raise ValueError(f"fill_missing: {''.join(errors)}".rstrip())
    if extra and on_extra == "warn":
        warnings.warn(f"fill_missing: {place}".rstrip(), stacklevel=3)
    return {path: x for path, x in kept.items() if path not in wrong}


def _top(names: Sequence[str], known: Collection[str]) -> str | None:
    """The key of the tree below which all names have a place, or None."""
    for top in dict.fromkeys(path.partition("/")[0] for path in known):
        if all(f"{top}/{name.replace('.', '/')}" in known for name in names):
            return top
    return None


def _check_castable(kept: Mapping[str, Loaded], rows: Sequence[Row]) -> None:
    lines = [
        f"{kept[row.path]}: {kept[row.path].leaf.dtype} to {row.dtype}"
        for row in rows
        if row.path in kept and not _is_castable(kept[row.path].leaf, row.dtype)
    ]
    if lines:
        raise ValueError(
            f"fill_missing(cast=True) would lose values of:{listed(lines)}\n"
            "Convert them before the call, or drop them with rename={path: None}."
        )


def _is_castable(leaf: Any, end: Any) -> bool:
    start = leaf.dtype
    kinds = [
        next((i for i, kind in enumerate(_KINDS) if jnp.issubdtype(dtype, kind)), None)
        for dtype in (start, end)
    ]
    if None in kinds:  # PRNG keys
        return start == end
    if jnp.issubdtype(end, jnp.integer):
        return kinds[0] <= kinds[1] and _is_within(leaf, end)  # pyright: ignore
    return kinds[0] <= kinds[1]  # pyright: ignore


def _is_within(leaf: Any, end: Any) -> bool:
    """False if an integer is known to be out of the range of a dtype."""
    if leaf.dtype == jnp.bool_ or leaf.size == 0 or is_traced(leaf):
        return True
    given, bounds = jnp.iinfo(leaf.dtype), jnp.iinfo(end)
    if bounds.min <= given.min and given.max <= bounds.max:
        return True
    if not getattr(leaf, "is_fully_addressable", True):
        return True
    with may_transfer():
        values = np.asarray(leaf)
    return bounds.min <= int(values.min()) and int(values.max()) <= bounds.max


def _cast(leaf: Any, dtype: Any) -> Any:
    if leaf.dtype == dtype:
        return leaf
    with np.errstate(over="ignore"):  # NumPy warns, JAX does not
        return leaf.astype(dtype)


def _placed(leaf: Any, sharding: Sharding | PartitionSpec | None) -> Any:
    if sharding is None or is_traced(leaf):
        return leaf
    # Equal, not equivalent: meshes of Auto and of Explicit axes do not mix.
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    return jax.device_put(leaf, sharding)
