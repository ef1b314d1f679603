"""How a leaf is drawn, as its model or the class of its layer tells."""

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

# Modules that know the layers of a framework.
_EQUINOX = "equinox", "jaxinit.equinox"
_NNX = "flax.nnx", "jaxinit._nnx_layers"


@dataclasses.dataclass(frozen=True)
class Known:
    """How a leaf is drawn.

    Attributes:
        draw: The calls of an initializer that reads a kernel as (..., in, out).
        with_axes: The calls of an initializer with axes of its own. They count the
            axes of the array that the model draws.
    """

    draw: Draw
    with_axes: Draw

    def draw_by(self, initializer: Any) -> Draw:
        """The calls of ``initializer``."""
        has_axes = getattr(initializer, "reads_layout", True) is False
        return self.with_axes if has_axes else self.draw


def known_draws(tree: Any, layers: Any) -> list[Known | None]:
    """What is known of each leaf of a tree, in order; None where nothing is.

    The layers of Equinox are known by their classes, which store kernels as (out, in).
    Other leaves are known where `jaxinit.eval_shape` has seen how they are drawn, or
    where they are in a live layer of NNX.

    Args:
        tree: The tree.
        layers: The same tree with its layers, if those of ``tree`` are gone.
    """
    equinox, nnx = _layouts(layers, *_EQUINOX), _layouts(layers, *_NNX)

    def known(parts: Parts, leaf: Any) -> Known | None:
        if parts in equinox:
            layout = equinox[parts]
            stored = Layout.plain(leaf.shape[layout.stacked :], layout.stacked)
            return Known(*(from_layout(x, leaf.shape) for x in (layout, stored)))
        if isinstance(leaf, Drawn):
            return Known(leaf.draw, leaf.draw)
        if parts not in nnx:
            return None
        draw = from_layout(nnx[parts], leaf.shape)
        return Known(draw, draw)

    return list(map(known, parts_of(tree), jax.tree.leaves(tree)))


def split_nnx(model: Any) -> tuple[Any, Callable[[Any], Any]] | None:
    """The state of a live NNX model and what makes a model of it, or None."""
    if _NNX[0] not in sys.modules:
        return None
    return importlib.import_module(_NNX[1]).split(model)


def _layouts(tree: Any, framework: str, adapter: str) -> dict[Parts, Layout]:
    """The layouts of the layers of a framework, if it is loaded."""
    if framework not in sys.modules:
        return {}
    return importlib.import_module(adapter).layouts(tree)
