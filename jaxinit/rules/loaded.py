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
from .settings import Settings, is_number

Rename: TypeAlias = Mapping[str, str | None] | Callable[[str], str | None]
_KINDS = (jnp.bool_, jnp.number, jax.dtypes.prng_key)
_BOX = "/value"  # end of the path to the array in a box that became a dict


class Loaded(NamedTuple):
    """An array of a checkpoint.

    Attributes:
        name: Path of the array in the checkpoint.
        path: Path of the array in the tree.
        leaf: The array.
        is_number: Whether the checkpoint has a number of Python there.
    """

    name: str
    path: str
    leaf: Any
    is_number: bool = False

    def __str__(self) -> str:
        """Returns the path, and the name if it differs."""
        path, name = printable(self.path), printable(self.name)
        return path if name in (path, path + _BOX) else f"{path} (loaded as {name})"


class Checkpoint(NamedTuple):
    """The leaves of a checkpoint.

    Attributes:
        by_path: The leaves, apart from those that ``rename`` drops, by path in the
            tree.
        names: The paths of all its arrays and numbers.
        is_flat: Whether it is a flat dict of arrays.
    """

    by_path: dict[str, Loaded]
    names: list[str]
    is_flat: bool

    def has_place(self, path: str, known: Collection[str]) -> bool:
        """True if the tree has a path, which is a result of ``rename``."""
        return any(x in known for x in _readings(path, self.is_flat))


def read(
    loaded: Any,
    known: Collection[str],
    settings: Settings,
    rename: Rename | None = None,
) -> Checkpoint:
    """Reads a checkpoint; see `fill_missing`.

    Args:
        loaded: Pytree of arrays, in which ``{"value": array}`` may replace a box; or a
            mapping from paths to arrays.
        known: The paths of the arrays of the tree.
        settings: The other leaves of the tree. A loaded leaf for which one of them
            stands is left out.
        rename: See `fill_missing`.

    Raises:
        TypeError: If ``loaded`` is no such tree, a loaded value is neither an array nor
            a number, or a result of ``rename`` is neither a path nor None.
        ValueError: If two arrays have the same path, if a path has two readings, or if
            an entry of ``rename`` names no array.
    """
    flat = _flat(loaded)
    tree = loaded if flat is None else flat
    _check_loaded(tree)
    names = [join(parts) for parts in parts_of(tree)]
    renamed = _renaming(rename, names)
    found: dict[str, Loaded] = {}
    arrays: list[str] = []
    for name, leaf in zip(names, jax.tree.leaves(tree), strict=True):
        path = renamed.get(name, name)
        if isinstance(leaf, jax.ShapeDtypeStruct):
            continue
        if path is not None and (name not in renamed or path not in known):
            path = _place(name, path, known, flat is not None)
        if path is not None and settings.stands_for(path, leaf):
            continue
        if is_number(leaf) or _is_readable(leaf):
            arrays.append(name)
        if path is None:
            continue
        if path in found:
            first, second = short(found[path].name), short(name)
            cure = f"rename={{{second}: None}} drops one."
            if rename is not None and not is_mapping(rename):
                cure = "rename must give them different paths, or None to drop one."
            raise ValueError(
                f"fill_missing: two loaded leaves are for {printable(path)}: {first} "
                f"and {second}. {cure}"
            )
        taken = _array(name, leaf) if path in known else leaf
        found[path] = Loaded(name, path, taken, is_number(leaf))
    if is_mapping(rename):
        _check_known([x for x in found.values() if x.name in renamed], known)
    return Checkpoint(found, arrays, flat is not None)


def _check_loaded(tree: Any) -> None:
    """Raises a TypeError for what is no tree of arrays, as the path of a file."""
    if tree is None or (
        jax.tree_util.all_leaves([tree]) and not (is_array(tree) or is_number(tree))
    ):
        rule = "a pytree of arrays, or a flat dict of them"
        cure = "Load a file first, as by safetensors.numpy.load_file(path)."
        if tree is None:
            cure = "{} is a checkpoint without leaves."
        raise error(TypeError, "fill_missing", "loaded", rule, tree, cure)


def _flat(loaded: Any) -> dict[str, Any] | None:
    """Returns a mapping from str to arrays as a dict, and None for another tree."""
    if not isinstance(loaded, Mapping):
        return None
    if not all(isinstance(name, str) for name in loaded):
        return None
    made = dict(items(loaded))
    is_leaf = (x is None or is_array(x) or is_number(x) for x in made.values())
    return made if all(is_leaf) else None


def _array(name: str, leaf: Any) -> Any:
    """Returns a loaded number or array as an array that JAX can read."""
    array = np.asarray(leaf) if is_number(leaf) else leaf
    if _is_readable(array):
        if isinstance(array, np.ndarray | np.generic) and not array.dtype.isnative:
            return array.astype(array.dtype.newbyteorder("="))
        return array
    got = f"dtype {leaf.dtype}" if is_array(leaf) else type(leaf).__name__
    rule = "an array or a number"
    if is_number(leaf):  # an int that NumPy holds only as an object
        rule, got = "an int of 64 bits", short(leaf)
    raise TypeError(
        f"fill_missing: {printable(name)} must be {rule}; got {got}. "
        f"rename={{{short(name)}: None}} drops it."
    )


def _is_readable(x: Any) -> bool:
    return is_array(x) and any(jnp.issubdtype(x.dtype, kind) for kind in _KINDS)


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
    fitting = [x for x in _readings(path, is_flat) if x in known]
    if len(fitting) > 1:
        first, second = map(short, fitting[:2])
        raise ValueError(
            f"fill_missing: {short(name)} may be {first} or {second}, and the tree has "
            f"both: rename={{{short(name)}: {first}}} takes the first."
        )
    return fitting[0] if fitting else path


def _readings(path: str, is_flat: bool) -> list[str]:
    """Returns the paths in the tree that a path in the checkpoint may mean."""
    readings = [path, path.replace(".", "/")] if is_flat else [path]
    return [*dict.fromkeys(x for y in readings for x in (y, _unboxed(y)))]


def _unboxed(path: str) -> str:
    """Returns the path of a box for the path of its value."""
    return "" if f"/{path}" == _BOX else path.removesuffix(_BOX)
