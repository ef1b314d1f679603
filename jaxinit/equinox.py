"""Equinox: layouts of its layers, and probes."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import equinox as eqx
import jax

from ._paths import Parts
from .insight import probe as insight
from .insight.report import Report
from .rules.layout import Layout, layouts_of

Fields: TypeAlias = Mapping[str, Any]

# Names of the two factors of a low-rank update: one multiplies the inputs of the layer,
# the other gives its outputs. Short names like a and b are ambiguous.
_INPUT_FACTOR = re.compile(r"lora_?(a|down)", re.IGNORECASE)
_OUTPUT_FACTOR = re.compile(r"lora_?(b|up)", re.IGNORECASE)


def layouts(module: Any) -> dict[Parts, Layout]:
    """Returns the layouts of the layers in a module.

    Equinox stores a kernel as (out, in, taps...). Layers are recognized by their
    fields. So your own class is read like ``eqx.nn.Linear`` or ``eqx.nn.Conv`` if it
    has the fields of that class. Layers stacked by ``eqx.filter_vmap`` count as
    separate layers.

    ``GRUCell`` and ``LSTMCell`` store all gates in one kernel, (in, 3 hidden) or
    (in, 4 hidden). Its fan-in is that of each gate, but its fan-out counts all gates.
    `jaxinit.Blocks` draws each gate by itself.

    Args:
        module: A module, or a pytree of modules, of arrays, tracers or
            ``jax.ShapeDtypeStruct``.

    Returns:
        A dict from the path of an array to its `Layout`. Arrays of unknown modules are
        absent, and so are layers with arrays that do not have the shapes of their
        fields.

    Example:
        >>> layer = eqx.nn.Linear(16, 64, key=jax.random.key(0))
        >>> layouts(layer)["weight",].shape
        (16, 64)
    """
    return layouts_of(module, eqx.Module, _declare)


def probe(
    model: Any,
    *inputs: Any,
    key: jax.Array,
    loss: Callable[[Any], jax.Array] | None = None,
) -> Report:
    """Measures the signal of a module that takes one example; see `jaxinit.probe`.

    Args:
        model: The module. It is called under ``jax.vmap``, as usual in Equinox. For a
            module that takes a batch, use `jaxinit.probe`.
        *inputs: A batch: arrays whose first axis is the examples.
        key: As for `jaxinit.probe`.
        loss: As for `jaxinit.probe`. It takes the results of all examples.

    Returns:
        The report.

    Example:
        >>> model = eqx.nn.Linear(3, 4, key=jax.random.key(0))
        >>> report = probe(model, jnp.ones((2, 3)), key=jax.random.key(0))
        >>> report.rows[0].path
        'weight'
    """

    def call(model: Any, *inputs: Any) -> Any:
        return jax.vmap(model)(*inputs)

    return insight.probe(call, model, *inputs, key=key, loss=loss)


def _declare(layer: Any) -> dict[str, Layout]:
    """Returns the layouts of the arrays of a layer, by the sizes in its fields."""
    names = [field.name for field in dataclasses.fields(layer)]
    fields = {name: getattr(layer, name, None) for name in names}
    found = _low_rank(fields)
    for layer_class, name in _ELEMENTWISE.items():
        if isinstance(layer, layer_class):
            found[name] = Layout.plain(_shape(fields[name]))
    for sizes, arrays, declare in _LAYERS:
        known = all(_is_size(fields.get(name)) for name in sizes)
        if known and fields.keys() >= {*arrays}:
            return declare(*(fields[name] for name in sizes)) | found
    return found


def _linear(inputs: int | str, outputs: int | str) -> dict[str, Layout]:
    m, n = (1 if isinstance(size, str) else size for size in (inputs, outputs))
    return {"weight": _kernel(m, n), "bias": Layout.plain((n,))}


def _conv(
    inputs: int, outputs: int, groups: int, taps: tuple[int, ...]
) -> dict[str, Layout]:
    """Returns the layouts of Conv and ConvTranspose, which store kernels alike."""
    bias = Layout.flat((outputs, *(1 for _ in taps)))
    return {"weight": _kernel(inputs // groups, outputs, taps), "bias": bias}


def _gru(inputs: int, hidden: int) -> dict[str, Layout]:
    return _gates(3, inputs, hidden) | {"bias_n": Layout.plain((hidden,))}


def _lstm(inputs: int, hidden: int) -> dict[str, Layout]:
    return _gates(4, inputs, hidden)


def _gates(count: int, inputs: int, hidden: int) -> dict[str, Layout]:
    return {
        "weight_ih": _kernel(inputs, count * hidden),
        "weight_hh": _kernel(hidden, count * hidden),
        "bias": Layout.plain((count * hidden,)),
    }


def _embedding(count: int, size: int) -> dict[str, Layout]:
    return {"weight": Layout.plain((count, size))}


def _norm(shape: int | tuple[int, ...]) -> dict[str, Layout]:
    layout = Layout.plain((shape,) if isinstance(shape, int) else shape)
    return {"weight": layout, "bias": layout}


# For each kind of layer: the fields with its sizes, other fields that identify it, and
# a function from the sizes to layouts. The first entry that fits a layer is used.
_LAYERS: tuple[tuple[tuple[str, ...], tuple[str, ...], Callable[..., Any]], ...] = (
    (("in_channels", "out_channels", "groups", "kernel_size"), ("weight",), _conv),
    (("in_features", "out_features"), ("weight",), _linear),
    (("input_size", "hidden_size"), ("weight_ih", "weight_hh", "bias_n"), _gru),
    (("input_size", "hidden_size"), ("weight_ih", "weight_hh"), _lstm),
    (("num_embeddings", "embedding_size"), ("weight",), _embedding),
    (("shape",), ("weight", "eps"), _norm),  # LayerNorm, RMSNorm
    (("channels",), ("weight", "eps"), _norm),  # GroupNorm
    (("input_size",), ("weight", "eps"), _norm),  # BatchNorm
)

# Arrays that have no field for their shape, and no inputs or outputs.
_ELEMENTWISE: dict[type, str] = {
    eqx.nn.PReLU: "negative_slope",
    eqx.nn.WeightNorm: "g",
}


def _low_rank(fields: Fields) -> dict[str, Layout]:
    """Returns the layouts of ``lora_a`` and ``lora_b``, in either storage order."""
    inner = [name for name in fields if _INPUT_FACTOR.fullmatch(name)]
    outer = [name for name in fields if _OUTPUT_FACTOR.fullmatch(name)]
    if len(inner) != 1 or len(outer) != 1:
        return {}
    first, second = (_shape(fields[name]) for name in inner + outer)
    if len(first) < 2 or len(second) < 2:
        return {}
    (p, q), (s, t) = first[-2:], second[-2:]
    # The rank is the size that both factors have. Of two such sizes it is the smaller.
    if p == t and (q != s or p <= q):
        kernels = _kernel(q, p), _kernel(t, s)
    elif q == s:
        kernels = Layout.plain((p, q)), Layout.plain((s, t))
    else:
        return {}
    return dict(zip(inner + outer, kernels, strict=True))


def _kernel(inputs: Any, outputs: Any, taps: tuple[int, ...] = ()) -> Layout:
    """Returns the layout of a kernel that is stored as (out, in, taps...)."""
    shape = (*taps, inputs, outputs)
    n = len(taps)
    return Layout(shape, shape, (n + 1, n, *range(n)))


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(getattr(x, "shape", ()))


def _is_size(x: Any) -> bool:
    """True for a size or sizes in a field; False for tracers and None."""
    if isinstance(x, tuple):
        return all(isinstance(n, int) for n in x)
    return x == "scalar" if isinstance(x, str) else isinstance(x, int)
