"""Finds the path in the tree for each array of a checkpoint."""

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import error, printable, short
from .._paths import join, parts_of
from .._plain import is_mapping, items
from ..planning.arguments import is_array
from .assignment import listed

Rename: TypeAlias = Mapping[str, str | None] | Callable[[str], str | None]
_KINDS = (jnp.bool_, jnp.number, jax.dtypes.prng_key)
_BOX = "/value"  # end of the path to the array in a box that became a dict


class Loaded(NamedTuple):
    """An array of a checkpoint.

    Attributes:
        name: Path of the array in the checkpoint.
        path: Path of the array in the tree.
        leaf: The array.
    """

    name: str
    path: str
    leaf: Any

    def __str__(self) -> str:
        """Returns the path, and the name if it differs."""
        path, name = printable(self.path), printable(self.name)
        return path if name in (path, path + _BOX) else f"{path} (loaded as {name})"


def by_path(
    loaded: Any, known: Collection[str], rename: Rename | None = None
) -> dict[str, Loaded]:
    """Returns the loaded arrays by path in the tree; see `fill_missing`.

    Args:
        loaded: Pytree of arrays, in which ``{"value": array}`` may replace a box; or a
            mapping from paths to arrays.
        known: The paths of the tree.
        rename: See `fill_missing`.

    Raises:
        TypeError: If a loaded value is neither an array nor a number, or a result of
            ``rename`` is neither a path nor None.
        ValueError: If two arrays have the same path, if a path has two readings, or if
            an entry of ``rename`` names no array.
    """
    flat = _flat(loaded)
    tree = loaded if flat is None else flat
    names = [join(parts) for parts in parts_of(tree)]
    renamed = _renaming(rename, names)
    found: dict[str, Loaded] = {}
    for name, leaf in zip(names, jax.tree.leaves(tree), strict=True):
        path = renamed.get(name, name)
        if path is None or isinstance(leaf, jax.ShapeDtypeStruct):
            continue
        if name not in renamed or path not in known:
            path = _place(name, path, known, flat is not None)
        leaf = _array(name, leaf, path in known)
        if path in found:
            raise ValueError(
                f"fill_missing: two loaded leaves are for {printable(path)}: "
                f"{short(found[path].name)} and {short(name)}. "
                f"rename={{{short(name)}: None}} drops one."
            )
        found[path] = Loaded(name, path, leaf)
    if is_mapping(rename):
        _check_known([x for x in found.values() if x.name in renamed], known)
    return found


def _flat(loaded: Any) -> dict[str, Any] | None:
    """Returns a mapping from str to arrays as a dict, and None for another tree."""
    if not isinstance(loaded, Mapping):
        return None
    if not all(isinstance(name, str) for name in loaded):
        return None
    made = dict(items(loaded))
    is_leaf = (x is None or is_array(x) or _is_number(x) for x in made.values())
    return made if all(is_leaf) else None


def _array(name: str, leaf: Any, is_wanted: bool) -> Any:
    """A loaded number as an array; what is wanted must be one that JAX can read."""
    if _is_number(leaf):
        return jnp.asarray(leaf, jnp.asarray(leaf).dtype)  # no weak type
    if not is_wanted:
        return leaf
    if is_array(leaf) and any(jnp.issubdtype(leaf.dtype, kind) for kind in _KINDS):
        if isinstance(leaf, np.ndarray | np.generic) and not leaf.dtype.isnative:
            return leaf.astype(leaf.dtype.newbyteorder("="))
        return leaf
    got = f"dtype {leaf.dtype}" if is_array(leaf) else type(leaf).__name__
    raise TypeError(
        f"fill_missing: {printable(name)} must be an array or a number; got {got}. "
        f"rename={{{short(name)}: None}} drops it."
    )


def _is_number(x: Any) -> bool:
    return isinstance(x, bool | int | float | complex) and not is_array(x)


def _renaming(rename: Rename | None, names: Collection[str]) -> dict[str, str | None]:
    """Returns the new path of each name that ``rename`` changes."""
    if rename is None:
        return {}
    if is_mapping(rename):
        paths = dict(items(rename))
        _check_used(paths, names)
        keys = {name: _key(name, paths) for name in names}
        renamed = {name: paths[key] for name, key in keys.items() if key in paths}
    elif callable(rename):
        renamed = {name: rename(name) for name in names}
    else:
        rule = "a dict from path to path, or a function of a path"
        raise error(TypeError, "fill_missing", "rename", rule, rename)
    for name, path in renamed.items():
        if not isinstance(path, str | None):
            rule = f"a path or None for {short(name)}"
            raise error(TypeError, "fill_missing", "rename", rule, path)
    return renamed


def _key(name: str, paths: Mapping[str, Any]) -> str:
    """Returns the name if it is a key of ``paths``, else the name without its box."""
    return name if name in paths else _unboxed(name)


def _check_used(paths: Mapping[Any, Any], names: Collection[str]) -> None:
    used = {_key(name, paths) for name in names}
    unused = [str(name) for name in paths if name not in used]
    if not unused:
        return
    close = difflib.get_close_matches(unused[0][:300], names, n=1)
    hint = f"\nThere is {short(close[0])}." if close else ""
    lines = map(printable, unused)
    raise ValueError(
        f"fill_missing(rename=...): no loaded leaf is:{listed([*lines])}{hint}"
    )


def _check_known(renamed: Collection[Loaded], known: Collection[str]) -> None:
    lines = [str(x) for x in renamed if x.path not in known]
    if lines:
        raise ValueError(
            "fill_missing(rename=...): abstract_params has no place for:"
            f"{listed(lines)}\n"
            "None in place of a path drops the leaf."
        )


def _place(name: str, path: str, known: Collection[str], is_flat: bool) -> str:
    """Returns the path in the tree for a path in the checkpoint."""
    readings = [path, path.replace(".", "/")] if is_flat else [path]
    both = [x for reading in readings for x in (reading, _unboxed(reading))]
    fitting = [x for x in dict.fromkeys(both) if x in known]
    if len(fitting) > 1:
        first, second = map(short, fitting[:2])
        raise ValueError(
            f"fill_missing: {short(name)} may be {first} or {second}, and the tree has "
            f"both: rename={{{short(name)}: {first}}} takes the first."
        )
    return fitting[0] if fitting else path


def _unboxed(path: str) -> str:
    """Returns the path of a box for the path of its value."""
    return "" if f"/{path}" == _BOX else path.removesuffix(_BOX)
