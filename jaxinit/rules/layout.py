"""How a layer reads one of its arrays, where the class of the layer says so."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from .._paths import Parts, nodes_of


@dataclasses.dataclass(frozen=True)
class Layout:
    """The initializer calls that make an array, and where their results go.

    An initializer reads a kernel as ``(*taps, in, out)``. A layer may store the axes
    in another order, split features over several axes, or stack the kernels of
    several layers. The stored array is, for each of the stacked layers, the result
    of one call, reshaped and transposed.

    Attributes:
        shape: Shape that the initializer is asked for: ``(768, 768)``.
        split: Shape to which the result is reshaped: ``(768, 12, 64)``.
        order: Axis of the reshaped result that each stored axis is: ``(1, 0)`` for
            a kernel that is stored as (out, in).
        stacked: Number of leading axes of the array that count stacked layers.
    """

    shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    stacked: int = 0

    @classmethod
    def plain(cls, shape: tuple[int, ...], stacked: int = 0) -> "Layout":
        """The layout of an array that is stored as its initializer returns it."""
        return cls(shape, shape, tuple(range(len(shape))), stacked)

    @classmethod
    def flat(cls, *sides: tuple[int, ...]) -> "Layout":
        """The layout of a matrix or a vector each of whose sides has several axes.

        ``flat((768,), (12, 64))`` is a (768, 768) kernel that is stored with a head
        axis, ``flat((64, 1, 1))`` a vector that is stored with two more axes.
        """
        split = tuple(size for side in sides for size in side)
        return cls(tuple(map(math.prod, sides)), split, tuple(range(len(split))))

    @property
    def stored(self) -> tuple[int, ...]:
        """Shape of the array of one layer, as the layer stores it."""
        return tuple(self.split[axis] for axis in self.order)


def layouts_of(
    tree: Any, layer_class: type, declare: Callable[[Any], Mapping[str, Layout]]
) -> dict[Parts, Layout]:
    """The layouts of all layers of a tree, by the paths of their arrays.

    Args:
        tree: Pytree that holds layers, whose arrays may be abstract.
        layer_class: Class of the layers.
        declare: The layouts that the fields of one layer declare for its arrays, by
            attribute. The axes that an array has before the declared ones are stacked.

    Returns:
        A dict without the layers whose arrays are not as declared.
    """
    found: dict[Parts, Layout] = {}
    for parts, layer in nodes_of(tree, layer_class):
        for name, layout in _stacked(layer, declare(layer)).items():
            found[*parts, name] = layout
    return found


def _stacked(layer: Any, declared: Mapping[str, Layout]) -> dict[str, Layout]:
    """Layouts with the number of stacked axes; none where one array does not fit.

    A layer that vmap stacked along a later axis is left out so: its kernel may have a
    shape that fits, and its bias tells.
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
