"""Paths of leaves: the names that lead to a leaf of a tree."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import jax

from ._checks import short

Parts: TypeAlias = tuple[str, ...]

# Classes of boxes, which add no level to a path, and the modules that define them. A
# module that is not loaded has no instances.
_BOXES = (
    ("flax.core.meta", "AxisMetadata"),
    ("flax.nnx", "Variable"),
    ("jaxinit.nnx", "Built"),
)


def parts_of(tree: Any) -> list[Parts]:
    """Returns the path of every leaf, in the order of ``jax.tree.leaves``.

    Boxes, such as ``nn.Partitioned`` and ``nnx.Variable``, add no level.

    Example:
        >>> parts_of({"head": {"bias": 1}, "layers": [2, 3]})
        [('head', 'bias'), ('layers', '0'), ('layers', '1')]
    """
    check_tree(tree)
    return _parts(tree, _boxes())


def check_tree(tree: Any) -> None:
    """Checks that JAX can take a tree apart.

    Raises:
        TypeError: If the keys of a dict cannot be sorted.
        ValueError: If the tree is too deep.
    """
    try:
        jax.tree.structure(tree)
    except ValueError:
        keys = _unsorted(tree)
        if keys is None:
            raise
        raise TypeError(
            f"The keys of each dict in a tree must sort; got {short(keys)}. Write all "
            "of them as text."
        ) from None
    except (RecursionError, SystemError):  # JAX raises the second for the first
        raise ValueError(
            "The tree is nested too deep for JAX, or contains itself."
        ) from None


def _unsorted(tree: Any) -> list[Any] | None:
    """The keys of a dict in a tree that cannot be sorted, or None."""
    nodes = [tree]
    for node in nodes:
        if isinstance(node, dict):
            try:
                sorted(node)
            except TypeError:
                return list(node)
            nodes += node.values()
        elif isinstance(node, list | tuple):
            nodes += node
    return None


def join(parts: Sequence[str]) -> str:
    """Returns a path as patterns see it: "head/bias"."""
    return "/".join(parts)


def names_of(entries: Sequence[Any]) -> Parts:
    """Returns the names of a path of `jax.tree_util`."""
    return tuple(jax.tree_util.keystr((entry,), simple=True) for entry in entries)


def nodes_of(tree: Any, node_class: type) -> Iterator[tuple[Parts, Any]]:
    """Yields the path and node of every instance of a class, outer ones first.

    An instance at several places is yielded for each place. An instance that is not a
    pytree, as of ``class Model(nnx.Module, pytree=False)``, is searched by attributes.

    Example:
        >>> [parts for parts, _ in nodes_of({"a": (1, [2])}, list)]
        [('a', '1')]
    """
    return _nodes(tree, node_class, (), ())


def unique_paths(where: str, all_parts: Sequence[Parts]) -> list[str]:
    """Returns the joined paths.

    Raises:
        ValueError: If two paths are equal, which happens if a name contains a "/".
    """
    paths = [join(parts) for parts in all_parts]
    if len(set(paths)) < len(paths):
        twice = next(path for path, n in Counter(paths).items() if n > 1)
        raise ValueError(
            f"{where}: two leaves of the tree have the path {short(twice)}. Rename one "
            "of them."
        )
    return paths


def _parts(tree: Any, boxes: tuple[type, ...]) -> list[Parts]:
    def is_box(x: Any) -> bool:
        return isinstance(x, boxes) and x is not tree

    found: list[Parts] = []
    for entries, x in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_box):
        if isinstance(tree, boxes):
            entries = entries[1:]  # .value
        outer = names_of(entries)
        if is_box(x):
            found += [(*outer, *inner) for inner in _parts(x, boxes)]
        else:
            found.append(outer)
    return found


def _nodes(
    tree: Any, node_class: type, parts: Parts, above: tuple[Any, ...]
) -> Iterator[tuple[Parts, Any]]:
    def is_inner(x: Any) -> bool:
        return isinstance(x, node_class) and x is not tree

    if isinstance(tree, node_class):
        yield parts, tree
        above = (*above, tree)
    pairs = jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_inner)
    if isinstance(tree, node_class) and any(x is tree for _, x in pairs):
        pairs = jax.tree_util.tree_leaves_with_path(vars(tree), is_leaf=is_inner)
    for entries, x in pairs:
        if is_inner(x) and not any(x is node for node in above):  # a reference upwards
            yield from _nodes(x, node_class, (*parts, *names_of(entries)), above)


def _boxes() -> tuple[type, ...]:
    loaded = ((sys.modules.get(module), name) for module, name in _BOXES)
    return tuple(getattr(module, name) for module, name in loaded if module)
