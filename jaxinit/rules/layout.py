"""Layouts: how the class of a layer calls an initializer and stores the result."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from .._paths import Parts, nodes_of


@dataclasses.dataclass(frozen=True)
class Layout:
    """The initializer call behind an array of a layer, and how the layer stores it.

    An initializer reads a kernel as ``(*taps, in, out)``. A layer may store the axes in
    another order, split features over several axes, or stack the kernels of several
    layers. For each stacked layer the stored array is the result of one call, reshaped
    to ``split`` and transposed by ``order``.

    Attributes:
        shape: Shape of the call: ``(768, 768)``.
        split: Shape to which the result is reshaped: ``(768, 12, 64)``.
        order: For each stored axis, the axis of the reshaped result: ``(1, 0)`` for a
            kernel that is stored as (out, in).
        stacked: Number of leading axes that count stacked layers.
    """

    shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    stacked: int = 0

    @classmethod
    def plain(cls, shape: tuple[int, ...], stacked: int = 0) -> "Layout":
        """Returns the layout of an array that the layer stores as it is drawn."""
        return cls(shape, shape, tuple(range(len(shape))), stacked)

    @classmethod
    def flat(cls, *sides: tuple[int, ...]) -> "Layout":
        """Returns the layout of a matrix or vector that is stored with more axes.

        Each side is one axis of the call. ``flat((768,), (12, 64))`` is a (768, 768)
        kernel stored as (768, 12, 64). ``flat((64, 1, 1))`` is a vector of size 64.
        """
        split = tuple(size for side in sides for size in side)
        return cls(tuple(map(math.prod, sides)), split, tuple(range(len(split))))

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of the stored array of one layer."""
        return tuple(self.split[axis] for axis in self.order)


def layouts_of(
    tree: Any, layer_class: type, declare: Callable[[Any], Mapping[str, Layout]]
) -> dict[Parts, Layout]:
    """Returns the layouts of all layers of a tree, by the paths of their arrays.

    Args:
        tree: Pytree that contains layers. Their arrays may be abstract.
        layer_class: Class of the layers.
        declare: Function from a layer to the layouts of its arrays, by attribute. If an
            array has more axes, the leading ones count stacked layers.

    Returns:
        A dict. Layers with arrays of other shapes than declared are absent.
    """
    found: dict[Parts, Layout] = {}
    for parts, layer in nodes_of(tree, layer_class):
        for name, layout in _stacked(layer, declare(layer)).items():
            found[*parts, name] = layout
    return found


def _stacked(layer: Any, declared: Mapping[str, Layout]) -> dict[str, Layout]:
    """Returns layouts with their number of stacked axes; none if any array is unfit.

    So a layer is left out if vmap stacked it along a later axis. Its kernel may fit by
    chance, but then its bias does not.
    """
    found: dict[str, Layout] = {}
    for name, layout in declared.items():
        shape = getattr(getattr(layer, name, None), "shape", None)
        if shape is None:  # a bias that the layer does not use
            continue
        stacked = len(shape) - len(layout.stored)
        if stacked < 0 or tuple(shape[stacked:]) != layout.stored:
            return {}
        found[name] = dataclasses.replace(layout, stacked=stacked)
    return found
