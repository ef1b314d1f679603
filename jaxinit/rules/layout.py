"""Layouts: how the class of a layer calls an initializer and stores the result."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .._paths import Parts, nodes_of

_MOST = 3  # most nested stacks along later axes


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
        stacked: Axes of the array that count stacked layers, in ascending order.
    """

    shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    stacked: tuple[int, ...] = ()

    @classmethod
    def plain(cls, shape: tuple[int, ...], stacked: tuple[int, ...] = ()) -> "Layout":
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

    def of_one_layer(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape of an array without the axes that count stacked layers."""
        return tuple(n for axis, n in enumerate(shape) if axis not in self.stacked)


def layouts_of(
    tree: Any, layer_class: type, declare: Callable[[Any], Mapping[str, Layout]]
) -> dict[Parts, Layout]:
    """Returns the layouts of all layers of a tree, by the paths of their arrays.

    Args:
        tree: Pytree that contains layers. Their arrays may be abstract.
        layer_class: Class of the layers.
        declare: Function from a layer to the layouts of its arrays, by attribute. If an
            array has more axes, these count stacked layers.

    Returns:
        A dict. Layers with arrays of other shapes than declared are absent.
    """
    found: dict[Parts, Layout] = {}
    for parts, layer in nodes_of(tree, layer_class):
        for name, layout in _stacked(layer, declare(layer)).items():
            found[*parts, name] = layout
    return found


def _stacked(layer: Any, declared: Mapping[str, Layout]) -> dict[str, Layout]:
    """Returns layouts with their stacked axes; none if any array is unfit.

    A vmap stacks all arrays of a layer along one axis, counted from the first or from
    the last. A kernel may fit other axes by chance, but then its bias does not.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name in declared:
        shape = getattr(getattr(layer, name, None), "shape", None)
        if shape is not None:  # None for a bias that the layer does not use
            shapes[name] = tuple(shape)
    more = {name: len(x) - len(declared[name].stored) for name, x in shapes.items()}
    if any(count < 0 for count in more.values()):
        return {}
    rank = max(map(len, shapes.values()), default=0)
    for axes in _choices(max(more.values(), default=0), rank):
        found = {
            name: _fitted(declared[name], shape, axes[: more[name]])
            for name, shape in shapes.items()
        }
        fitting = {name: x for name, x in found.items() if x is not None}
        if len(fitting) == len(found):
            return fitting
    return {}


def _choices(count: int, rank: int) -> Iterator[tuple[int, ...]]:
    """Returns choices of stacked axes, the leading axes first; -1 is the last axis."""
    if count > _MOST:
        return iter([tuple(range(count))])
    return itertools.combinations([*range(rank), *range(-1, -rank - 1, -1)], count)


def _fitted(
    layout: Layout, shape: tuple[int, ...], axes: tuple[int, ...]
) -> Layout | None:
    """Returns the layout of an array stacked along these axes; None if it is unfit."""
    rank = len(shape)
    if not all(-rank <= axis < rank for axis in axes):
        return None
    stacked = tuple(sorted({axis % rank for axis in axes}))
    made = dataclasses.replace(layout, stacked=stacked)
    return made if made.of_one_layer(shape) == layout.stored else None
