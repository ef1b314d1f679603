"""What the model, or the class of a layer, says of how a leaf is drawn."""

import dataclasses
import importlib
import sys
from typing import Any

import jax

from .._paths import Parts, parts_of
from .draws import Call, Draw, from_layout
from .layout import Layout
from .trace import Drawn

# Modules that know the layers of a framework, by the framework.
_ADAPTERS = {"equinox": "jaxinit.equinox", "flax.nnx": "jaxinit._nnx_layers"}


@dataclasses.dataclass(frozen=True)
class Known:
    """How a leaf is drawn.

    Attributes:
        draw: The calls of an initializer that reads a kernel as (..., in, out).
        stored: The calls that ask for the stored shape.
    """

    draw: Draw
    stored: Draw

    def draw_by(self, initializer: Any) -> Draw:
        """The calls of ``initializer``: of the stored shape if its axes are its own."""
        has_axes = getattr(initializer, "reads_layout", True) is False
        return self.stored if has_axes else self.draw


def known_draws(tree: Any) -> list[Known | None]:
    """What is known of each leaf of a tree, in order; None where nothing is.

    The layers of Equinox are known by their classes, which store kernels as (out, in).
    Other leaves are known where `jaxinit.eval_shape` has seen how they are drawn, or
    where they are in a live layer of NNX.
    """
    leaves, all_parts = jax.tree.leaves(tree), parts_of(tree)
    by_class = _layouts(tree)
    found: list[Known | None] = []
    for leaf, parts in zip(leaves, all_parts, strict=True):
        layout = by_class.get(parts)
        if layout is not None:
            found.append(_of_layer(layout, leaf.shape))
        elif isinstance(leaf, Drawn):
            found.append(Known(leaf.draw, _stored(leaf.draw)))
        else:
            found.append(None)
    return found


def _layouts(tree: Any) -> dict[Parts, Layout]:
    found: dict[Parts, Layout] = {}
    for framework, adapter in _ADAPTERS.items():
        if framework in sys.modules:
            found |= importlib.import_module(adapter).layouts(tree)
    return found


def _of_layer(layout: Layout, shape: tuple[int, ...]) -> Known:
    plain = Layout.plain(shape[layout.stacked :], layout.stacked)
    return Known(from_layout(layout, shape), from_layout(plain, shape))


def _stored(draw: Draw) -> Draw:
    """The call for the whole shape, where the model makes one call and moves it."""
    return Call(draw.shape) if draw.is_one else draw
