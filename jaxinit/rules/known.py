"""Known draws of leaves, from the traced model or the class of a layer."""

import dataclasses
import importlib
import sys
from collections.abc import Callable
from typing import Any

import jax

from .._paths import Parts, parts_of
from .draws import Draw, from_layout
from .layout import Layout
from .trace import Drawn

# Module of a framework, and of our file that knows its layers.
_EQUINOX = "equinox", "jaxinit.equinox"
_NNX = "flax.nnx", "jaxinit._nnx_layers"


@dataclasses.dataclass(frozen=True)
class KnownDraw:
    """The draw of a leaf, for two kinds of initializers.

    Attributes:
        draw: For an initializer that reads a kernel as (..., in, out).
        with_axes: For an initializer with arguments that name axes. These are axes of
            the stored array.
    """

    draw: Draw
    with_axes: Draw

    def draw_by(self, initializer: Any) -> Draw:
        """Returns the draw for ``initializer``."""
        has_axes = getattr(initializer, "reads_layout", True) is False
        return self.with_axes if has_axes else self.draw


def known_draws(tree: Any, layers: Any) -> list[KnownDraw | None]:
    """Returns the known draw of each leaf of a tree, in order, or None.

    A draw is known for the leaves of an Equinox layer (by its class), for the leaves
    that `jaxinit.eval_shape` returns, and for the leaves of a live NNX layer.

    Args:
        tree: The tree.
        layers: The same tree with its layers, if ``tree`` has lost them.
    """
    equinox, nnx = _layouts(layers, *_EQUINOX), _layouts(layers, *_NNX)

    def known(parts: Parts, leaf: Any) -> KnownDraw | None:
        if parts in equinox:
            layout = equinox[parts]
            stored = Layout.plain(layout.of_one_layer(leaf.shape), layout.stacked)
            return KnownDraw(*(from_layout(x, leaf.shape) for x in (layout, stored)))
        if isinstance(leaf, Drawn):
            return KnownDraw(leaf.draw, leaf.draw)
        if parts not in nnx:
            return None
        draw = from_layout(nnx[parts], leaf.shape)
        return KnownDraw(draw, draw)

    return list(map(known, parts_of(tree), jax.tree.leaves(tree)))


def split_nnx(model: Any) -> tuple[Any, Callable[[Any], Any]] | None:
    """Splits a live NNX model into its state and a function from states to models.

    Returns None for any other tree.
    """
    if _NNX[0] not in sys.modules:
        return None
    return importlib.import_module(_NNX[1]).split(model)


def _layouts(tree: Any, framework: str, adapter: str) -> dict[Parts, Layout]:
    """Returns the layouts of the layers of a framework; none if it is not loaded."""
    if framework not in sys.modules:
        return {}
    return importlib.import_module(adapter).layouts(tree)
