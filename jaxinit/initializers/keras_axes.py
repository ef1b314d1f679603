"""Fan axes, as the layers of Keras pass them to their initializers.

``EinsumDense`` reads the axes of its kernel from its equation. The attention layers
of Keras contain several ``EinsumDense`` layers. All other layers leave the axes to
the initializer.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .._checks import error
from .._fans import einsum_axes

# Initializers that scale by a fan, and combinators that keep the shape and the axes
# of their inner initializer.
_WITH_FANS = (
    "VarianceScaling",
    "ActivationScaled",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "LecunNormal",
    "LecunUniform",
    "TorchKernel",
)
_COMBINATORS = ("Scaled", "DepthScaled", "Normalized", "Masked", "Clipped", "AsDtype")
_DEFAULTS = ((-2, -1, ()), (None, None, ()))

# Arguments that identify the class of a layer: its config may lack the name of the
# class, or have the name of a subclass.
_EINSUM = {"equation", "output_shape", "bias_axes"}
_MULTI_HEAD = {"num_heads", "key_dim", "value_dim", "attention_axes", "output_shape"}
_GROUPED = {"num_query_heads", "num_key_value_heads", "head_dim"}
_SUBLAYER_ARGUMENTS = ("kernel_initializer", "bias_initializer")


class Axes(NamedTuple):
    """The input axes and the output axes of a kernel."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def find_with_fans(initializer: Any) -> Any:
    """Returns the initializer, or its inner one, that has fan axes; None without."""
    while type(initializer).__name__ in _COMBINATORS:
        initializer = initializer.initializer
    return initializer if type(initializer).__name__ in _WITH_FANS else None


def explicit_axes(initializer: Any) -> Axes | None:
    """Returns the fan axes that the user set, or None for the default axes."""
    found = find_with_fans(initializer)
    if found is None:
        return None
    if (found.in_axis, found.out_axis, found.batch_axis) in _DEFAULTS:
        return None
    return Axes(_as_tuple(found.in_axis), _as_tuple(found.out_axis))


def with_axes(initializer: Any, axes: Axes) -> Any:
    """Returns the initializer with these fan axes; no fan counts the other axes."""
    if type(initializer).__name__ in _COMBINATORS:
        inner = with_axes(initializer.initializer, axes)
        return dataclasses.replace(initializer, initializer=inner)
    return dataclasses.replace(
        initializer, in_axis=axes.inputs, out_axis=axes.outputs, batch_axis="rest"
    )


def with_layer_axes(initializer: Any, axes: Axes | None) -> Any:
    """Returns the initializer with the axes of its layer, unless the user set axes."""
    has_fans = find_with_fans(initializer) is not None
    if axes is None or not has_fans or explicit_axes(initializer):
        return initializer
    return with_axes(initializer, axes)


def axes_of_equation(equation: Any) -> Axes:
    """Returns the axes that ``EinsumDense`` reads from its equation.

    Keras counts every kernel axis that is in the result as an output axis, even if the
    data have it, too.
    """
    axes = {name: _as_tuple(axis) for name, axis in einsum_axes(equation).items()}
    outputs = sorted(axes["out_axis"] + axes["batch_axis"])
    return Axes(axes["in_axis"], tuple(outputs))


def uses(layer: Mapping[str, Any], argument: str) -> list[tuple[tuple[str, ...], Any]]:
    """Returns the sublayers that use an initializer of a layer, and their fan axes.

    Args:
        layer: Config of the layer: its arguments by name.
        argument: Name of the argument that is the initializer.

    Returns:
        Pairs of a path (the names of nested sublayers) and `Axes` or None.
    """
    if argument == "kernel_initializer" and _EINSUM <= layer.keys():
        return [((), axes_of_equation(layer["equation"]))]
    is_attention = _MULTI_HEAD <= layer.keys() or _GROUPED <= layer.keys()
    if not is_attention or argument not in _SUBLAYER_ARGUMENTS:
        return [((), None)]
    names = ["query", "key", "value", "attention_output"]
    if layer.get("use_gate"):
        names.insert(3, "gate")
    if argument == "bias_initializer":
        return [((name,), None) for name in names]
    split = Axes((0,), (1, 2))  # (features, heads, size)
    rank = 2 + _rank_of_output(layer.get("output_shape"))
    merge = Axes((0, 1), tuple(range(2, rank)))  # (heads, size, *features)
    return [((n,), merge if n == "attention_output" else split) for n in names]


def _rank_of_output(shape: Any) -> int:
    """Returns the number of feature axes in the result of an attention layer."""
    if isinstance(shape, Mapping) and shape.get("class_name") == "__tuple__":
        shape = shape.get("items")
    if not shape or isinstance(shape, int):
        return 1
    if isinstance(shape, str) or not isinstance(shape, Sequence):
        rule = "an int, a sequence of ints or None"
        raise error(TypeError, "from_keras", "output_shape", rule, shape)
    return len(shape)


def _as_tuple(axis: Any) -> tuple[int, ...]:
    return axis if isinstance(axis, tuple) else (axis,)
