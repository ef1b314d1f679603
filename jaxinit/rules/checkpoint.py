"""Completes a checkpoint: loaded arrays go to their leaves, rules make the others."""

import warnings
from collections.abc import Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec, Sharding

from .._checks import check_bool, check_choice, check_progress, printable
from .._compat import is_traced
from .._processes import errors_told
from ..planning.plan import Progress
from ..planning.result import check_fits
from .assignment import Row, listed
from .held import check_held
from .loaded import Checkpoint, Loaded, Rename, read
from .prefixes import prefix_cure
from .rules import Rules, as_rules
from .settings import Settings
from .tree import check_covered, check_order, make_rows, wanted_sharding

_FEW = 3  # paths of a checkpoint and of a tree that an error shows


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
    Of such a key either all dots are levels or none is.

    The tree keeps its own leaves that are no arrays, such as the functions and rates of
    an Equinox module. Loaded leaves that are no arrays are ignored there.

    Args:
        key: Base key, typed or raw; or a dict of keys, as Flax takes, with "params".
        loaded: Pytree of arrays; {} makes all leaves by the rules. A
            ``jax.ShapeDtypeStruct`` counts as a missing leaf.
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
        TypeError: If ``loaded`` is None or no pytree of arrays, such as the path of a
            file; or if a loaded value is neither an array nor a number.
        ValueError: If a loaded leaf has no place in the tree, or another shape, and the
            arguments do not allow it; if the checkpoint has leaves, but none of them
            fits; if two leaves have the same place; if an entry of the dict ``rename``
            names no loaded leaf, or a path that the tree does not have; if a dtype
            cannot be cast, such as float to integer; if a finite value is out of the
            range of the new dtype, in a cast or where JAX has no 64-bit dtypes; if a
            sharding does not fit its leaf; if a missing leaf has no initializer; or if
            the rules do not fit the tree.

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
        check_progress("fill_missing", progress)
        settings = Settings(abstract_params)
        given = read(loaded, {row.path for row in assignment.rows}, settings, rename)
        kept = _fitting(given, assignment.rows, settings, on_extra, on_mismatch)
        wanted = list(map(wanted_sharding, jax.tree.leaves(abstract_params)))
        for row in assignment.rows:
            sharding = wanted[row.index]
            if row.path in kept and isinstance(sharding, Sharding):
                check_fits(f"fill_missing at {row.path}", sharding, row.shape)
        check_held(kept, assignment.rows, wanted, cast)
        rows = [row for row in assignment.rows if row.path not in kept]
        found = given.by_path
        replaced = [found[row.path] for row in rows if row.path in found]
        shapes = {x.path: f" (loaded as {np.shape(x.leaf)})" for x in replaced}
        check_covered("fill_missing", abstract_params, rows, shapes)
        assignment.check(rows)
    made = make_rows(key, abstract_params, assignment, rows, progress)
    # Only after all processes agree: they must all put arrays on a shared sharding.
    leaves, structure = jax.tree.flatten(made)
    loaded_rows = [row for row in assignment.rows if row.path in kept]
    for count, row in enumerate(loaded_rows, 1):
        leaves[row.index] = _made(kept[row.path], row, wanted[row.index], cast)
        if progress is not None:
            progress(count, len(loaded_rows), "loaded")
    return jax.tree.unflatten(structure, leaves)


def _fitting(
    given: Checkpoint,
    rows: Sequence[Row],
    settings: Settings,
    on_extra: str,
    on_mismatch: str,
) -> dict[str, Loaded]:
    """The loaded leaves whose path and shape the tree has; see `fill_missing`."""
    shapes = {row.path: row.shape for row in rows}
    extra = [
        f"{x}{settings.note(path, x.leaf)}"
        for path, x in given.by_path.items()
        if path not in shapes
    ]
    kept = {path: x for path, x in given.by_path.items() if path in shapes}
    wrong = {p: x for p, x in kept.items() if np.shape(x.leaf) != shapes[p]}
    fitting = {path: x for path, x in kept.items() if path not in wrong}
    place = f"abstract_params has no place for:{listed(extra)}\n" if extra else ""
    others = [
        f"{x}: {np.shape(x.leaf)} instead of {shapes[path]}"
        for path, x in wrong.items()
    ]
    errors: list[str] = []
    if wrong and on_mismatch == "raise":
        errors.append(f"another shape was loaded for:{listed(others)}\n")
        errors.append('on_mismatch="replace" makes these by the rules.\n')
    if extra and on_extra == "raise":
        cure = 'on_extra="ignore" leaves these out, "warn" does so with a warning.'
        errors.append(f"{place}{cure}\n")
        errors.append("rename={path: path of the tree} gives them a place.\n")
        numbers = [path for path in given.by_path if settings.has_number(path)]
        if numbers:
            cure = (
                "has a place if abstract_params has an array there, as jnp.asarray(0)"
            )
            errors.append(f"{printable(numbers[0])} {cure}.\n")
        names = [x.name for x in given.by_path.values()]
        found = prefix_cure(names, shapes, lambda path: given.has_place(path, shapes))
        if found is not None and found[1] == len(names):
            errors.append(f"rename={found[0]} gives all of them one.\n")
    if errors:
        raise ValueError(f"fill_missing: {''.join(errors)}".rstrip())
    if given.names and not fitting:
        raise ValueError(_unused(given, shapes, others))
    if extra and on_extra == "warn":
        warnings.warn(f"fill_missing: {place}".rstrip(), stacklevel=3)
    return fitting


def _unused(given: Checkpoint, known: Collection[str], others: Sequence[str]) -> str:
    """The message for a checkpoint of which the tree takes no leaf.

    Args:
        given: The checkpoint.
        known: The paths of the tree.
        others: A line for each leaf that has a place, but another shape.
    """
    found = prefix_cure(given.names, known, lambda path: given.has_place(path, known))
    if others:
        cure = f"Another shape was loaded for:{_few(others)}"
    elif not given.by_path:
        cure = "rename gave None for all of them: a function may lack its return."
    elif found is not None:
        count = f"{found[1]} of {len(given.names)} leaves"
        cure = f"rename={found[0]} gives {count} a place."
    else:
        cure = "rename={path: path of the tree} gives them a place."
    return (
        "fill_missing(loaded=...) must have a leaf that fits abstract_params; got:"
        f"{_few(given.names)}\nabstract_params has:{_few([*known])}\n{cure}\n"
        "loaded={} makes all leaves by the rules."
    )


def _few(paths: Sequence[str]) -> str:
    more = [f"and {len(paths) - _FEW} more"] if len(paths) > _FEW else []
    return listed([*map(printable, paths[:_FEW]), *more])


def _made(
    x: Loaded, row: Row, sharding: Sharding | PartitionSpec | None, cast: bool
) -> Any:
    """The loaded leaf with its final dtype and sharding."""
    leaf = _cast(x.leaf, row.dtype) if cast else x.leaf
    return _placed(jnp.asarray(leaf) if x.is_number else leaf, sharding)


def _cast(leaf: Any, dtype: Any) -> Any:
    if leaf.dtype == dtype:
        return leaf
    with np.errstate(all="ignore"):  # NumPy warns of infinity and NaN, JAX does not
        return leaf.astype(dtype)


def _placed(leaf: Any, sharding: Sharding | PartitionSpec | None) -> Any:
    if sharding is None or is_traced(leaf):
        return leaf
    # Equal, not equivalent: meshes of Auto and of Explicit axes do not mix.
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    return jax.device_put(leaf, sharding)
