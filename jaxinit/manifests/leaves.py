"""The leaves of a manifest: how they are recorded, compared, written and read."""

import contextlib
import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from .. import _processes
from .._checks import error, printable, short
from .._compat import is_traced
from .._paths import check_tree, parts_of, unique_paths
from ..planning.arguments import is_array
from . import digest

LONGEST = 40  # most characters of the name of a dtype or a key implementation


@dataclasses.dataclass(frozen=True)
class Leaf:
    """The record of one array.

    Attributes:
        shape: Shape of the array.
        dtype: Name of the dtype.
        digest: Digest of the values, 16 hexadecimal digits.
        initializer: Config of the initializer of a rule; None if the model drew it.
    """

    shape: tuple[int, ...]
    dtype: str
    digest: str
    initializer: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference between a leaf and its record in a manifest.

    Attributes:
        path: Path of the leaf; empty for what is about no leaf.
        what: "missing", "extra", "shape", "dtype" or "values". Between processes also
            "initializer" and, about no leaf, "key", "rules", or the name of a version
            or a setting of ``made_by``.
        expected: Leaf, shape, dtype or digest in the manifest; None for an extra leaf.
        found: The same in the tree; None for a missing leaf.
    """

    path: str
    what: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        """Returns the difference in one line."""
        line = f"{printable(self.path)}: {self.what}" if self.path else self.what
        if self.what in ("missing", "extra"):
            return line
        found, expected = (printable(str(x)) for x in (self.found, self.expected))
        return f"{line} {found} instead of {expected}"


def sharing(where: str, tree: Any) -> contextlib.AbstractContextManager[None]:
    """Tells errors where processes share an array, so that all have to come."""
    check_tree(tree)
    shared = any(map(_is_shared, jax.tree.leaves(tree)))
    return _processes.errors_told(where) if shared else contextlib.nullcontext()


def _is_shared(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and not (
        is_traced(leaf) or leaf.is_fully_addressable
    )


def leaves_of(tree: Any, like: Mapping[str, Leaf] | None = None) -> dict[str, Leaf]:
    """Returns the record of every array, by path.

    With ``like``, digests are computed only for leaves of the same shape and dtype.
    """
    pairs = zip(parts_of(tree), jax.tree.leaves(tree), strict=True)
    arrays = [(parts, leaf) for parts, leaf in pairs if is_array(leaf)]
    paths = unique_paths("manifest", [parts for parts, _ in arrays])
    bare = {
        path: Leaf(tuple(leaf.shape), leaf.dtype.name, "")
        for path, (_, leaf) in zip(paths, arrays, strict=True)
    }
    wanted = [
        (path, leaf)
        for path, (_, leaf) in zip(paths, arrays, strict=True)
        if like is None or (path in like and not _form(like[path], bare[path]))
    ]
    for path, leaf in wanted:
        if is_traced(leaf) or not isinstance(leaf, jax.Array | np.ndarray):
            rule = "an array with values, outside jit"
            raise error(TypeError, "manifest", f"params/{path}", rule, leaf)
    if any(map(_is_shared, jax.tree.leaves(tree))):
        forms = {path: str(bare[path]) for path, x in wanted if _is_shared(x)}
        _processes.agree("manifest(...)", lambda: {"arrays": forms})
    made = digest.digests([leaf for _, leaf in wanted])
    for (path, _), text in zip(wanted, made, strict=True):
        bare[path] = dataclasses.replace(bare[path], digest=text)
    return bare


def _form(expected: Leaf, found: Leaf) -> tuple[str, Any, Any] | None:
    """Returns the difference of two leaves in shape or dtype, or None."""
    for what in ("shape", "dtype"):
        a, b = getattr(expected, what), getattr(found, what)
        if a != b:
            return what, a, b
    return None


def differences_of(
    expected: Mapping[str, Leaf], found: Mapping[str, Leaf]
) -> list[Difference]:
    """Returns the differences between two sets of leaves, in the order of the first."""
    differences: list[Difference] = []
    for path in [*expected, *(path for path in found if path not in expected)]:
        a, b = expected.get(path), found.get(path)
        if a is None or b is None:
            differences.append(Difference(path, "extra" if b else "missing", a, b))
            continue
        form = _form(a, b)
        if form is None and a.digest != b.digest:
            form = "values", a.digest, b.digest
        if form is not None:
            differences.append(Difference(path, *form))
    return differences


def leaves_config(leaves: Mapping[str, Leaf]) -> dict[str, Any]:
    """Leaves as plain data."""
    return {
        path: {**dataclasses.asdict(leaf), "shape": list(leaf.shape)}
        for path, leaf in leaves.items()
    }


def leaf_at(path: Any, config: Mapping[str, Any]) -> Leaf:
    """The leaf of a config; an error names its path."""
    try:
        return leaf_from(config)
    except (KeyError, TypeError, ValueError) as e:
        what = f"it lacks {e}" if isinstance(e, KeyError) else e
        raise ValueError(f"leaf {short(path)}: {what}") from None


def leaf_from(config: Mapping[str, Any]) -> Leaf:
    """The leaf of a config.

    Raises:
        KeyError, TypeError, ValueError: If the config is not one of a leaf.
    """
    shape, dtype, text = config["shape"], config["dtype"], config["digest"]
    dims = isinstance(shape, list) and all(
        type(d) is int and 0 <= d < 2**63 for d in shape
    )
    name = isinstance(dtype, str) and len(dtype) <= LONGEST
    if not (dims and name and re.fullmatch("[0-9a-f]{16}", text)):
        raise ValueError(f"{short(config)} is not the record of a leaf.")
    return Leaf(tuple(shape), dtype, text, config["initializer"])
