"""Layouts of the layers of Flax NNX."""

import functools
from collections.abc import Callable
from typing import Any

from flax import nnx

from ._paths import Parts
from .rules.layout import Layout, layouts_of


def layouts(model: Any) -> dict[Parts, Layout]:
    """Returns the layouts of the parameters of a live model.

    A layout tells how Flax calls the initializer. For instance `nnx.LinearGeneral`, and
    so attention, asks its initializer for a matrix and reshapes it. Layers stacked by
    `nnx.vmap` or `nnx.scan` count as separate layers.

    Args:
        model: A module, or a pytree of modules, of arrays, tracers or
            ``jax.ShapeDtypeStruct``.

    Returns:
        A dict from the path of an array to its `Layout`. A shared layer has one entry
        for each of its places. Arrays of unknown modules are absent, and so are layers
        with arrays that do not have the shapes of their attributes.

    Example:
        >>> layer = nnx.LinearGeneral(6, (3, 2), rngs=nnx.Rngs(0))
        >>> layouts(layer)["kernel",].shape, layer.kernel.shape
        ((6, 6), (6, 3, 2))
    """
    return layouts_of(model, nnx.Module, _declare)


def split(model: Any) -> tuple[Any, Callable[[Any], Any]] | None:
    """Splits a live model into its state and a function from states to models.

    Returns None for any other tree.
    """
    if not isinstance(model, nnx.Module):
        return None
    graph, state = nnx.split(model)
    return state, functools.partial(nnx.merge, graph)


def _declare(layer: Any) -> dict[str, Layout]:
    for classes, declare in _LAYERS:
        if isinstance(layer, classes):
            try:
                return declare(layer)
            except (AttributeError, TypeError):  # a subclass with other attributes
                return {}
    return {}


def _linear(layer: Any) -> dict[str, Layout]:
    shape = layer.in_features, layer.out_features
    return {"kernel": Layout.plain(shape), "bias": Layout.plain(shape[1:])}


def _linear_general(layer: Any) -> dict[str, Layout]:
    """Flax counts batch axes as inputs when it calls its initializer."""
    batch = tuple(layer.batch_axis.values())
    inputs, outputs = (*batch, *layer.in_features), tuple(layer.out_features)
    return {
        "kernel": Layout.flat(inputs, outputs),
        "bias": Layout.flat((*batch, *outputs)),
    }


def _einsum(layer: Any) -> dict[str, Layout]:
    return {
        "kernel": Layout.plain(tuple(layer.kernel_shape)),
        "bias": Layout.plain(tuple(layer.bias_shape or ())),
    }


def _conv(layer: Any) -> dict[str, Layout]:
    kernel, bias = tuple(layer.kernel_shape), (layer.out_features,)
    return {"kernel": Layout.plain(kernel), "bias": Layout.plain(bias)}


def _embed(layer: Any) -> dict[str, Layout]:
    return {"embedding": Layout.plain((layer.num_embeddings, layer.features))}


def _lora(layer: Any) -> dict[str, Layout]:
    rank = layer.lora_a.shape[-1]
    return {
        "lora_a": Layout.plain((layer.in_features, rank)),
        "lora_b": Layout.plain((rank, layer.out_features)),
    }


def _norm(layer: Any) -> dict[str, Layout]:
    layout = Layout.plain((layer.num_features,))
    return {"scale": layout, "bias": layout}


def _group_norm(layer: Any) -> dict[str, Layout]:
    layout = Layout.plain((layer.num_groups * layer.group_size,))
    return {"scale": layout, "bias": layout}


def _prelu(layer: Any) -> dict[str, Layout]:
    return {"negative_slope": Layout.plain(())}


_LAYERS: tuple[tuple[Any, Callable[[Any], dict[str, Layout]]], ...] = (
    (nnx.Linear, _linear),
    (nnx.LinearGeneral, _linear_general),
    (nnx.Einsum, _einsum),
    ((nnx.Conv, nnx.ConvTranspose), _conv),
    (nnx.Embed, _embed),
    (nnx.LoRA, _lora),
    ((nnx.BatchNorm, nnx.LayerNorm, nnx.RMSNorm, nnx.InstanceNorm), _norm),
    (nnx.GroupNorm, _group_norm),
    (nnx.PReLU, _prelu),
)
