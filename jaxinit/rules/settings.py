"""The settings of a tree: its leaves that are no arrays, as functions and numbers."""

import sys
from typing import Any

import jax

from .._checks import short
from .._paths import join, nodes_of, parts_of
from ..planning.arguments import is_array


def is_number(x: Any) -> bool:
    """True for a number of Python."""
    return isinstance(x, bool | int | float | complex) and not is_array(x)


class Settings:
    """The leaves of a tree that are no arrays, by path.

    Example:
        >>> settings = Settings({"w": np.ones(2), "act": jax.nn.relu, "step": 3})
        >>> settings.stands_for("act", jax.nn.gelu), settings.stands_for("step", 4)
        (True, False)
    """

    def __init__(self, tree: Any):
        """Reads the settings of a tree."""
        pairs = zip(map(join, parts_of(tree)), jax.tree.leaves(tree), strict=True)
        self._values = {path: leaf for path, leaf in pairs if not is_array(leaf)}
        # An Equinox module states its numbers in the code, as the rate of a Dropout.
        module = getattr(sys.modules.get("equinox"), "Module", None)
        nodes = nodes_of(tree, module) if module and self._values else ()
        self._modules = tuple({join(parts) for parts, _ in nodes})

    def stands_for(self, path: str, leaf: Any) -> bool:
        """True if the tree keeps its own setting and needs no loaded leaf.

        A loaded number that differs may be the state of a run, such as its step. It is
        a setting only in an Equinox module.
        """
        if path not in self._values or is_array(leaf):
            return False
        if not is_number(leaf) or any(_is_below(path, top) for top in self._modules):
            return True
        return is_number(self._values[path]) and leaf == self._values[path]

    def has_number(self, path: str) -> bool:
        """True if the tree has a number of Python at a path."""
        return is_number(self._values.get(path))

    def note(self, path: str, leaf: Any) -> str:
        """Returns, for an error, both values if the tree has a setting at a path."""
        if path not in self._values:
            return ""
        loaded = "an array" if is_array(leaf) else short(leaf)
        return f" ({loaded}; the tree has no array there, but {self._shown(path)})"

    def _shown(self, path: str) -> str:
        return short(self._values[path])


def _is_below(path: str, top: str) -> bool:
    return not top or path == top or path.startswith(f"{top}/")
