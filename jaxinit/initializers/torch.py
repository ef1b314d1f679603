"""The default initializers of PyTorch's layers: uniform, scaled by fan_in."""

import math
from dataclasses import dataclass
from typing import Any

import jax

from .. import _draws
from .._checks import BatchAxes, FanAxis, check_draw, check_size
from .._compat import OutSharding, Shape
from .base import Initializer
from .presets import Preset, draw_preset


def torch_kernel(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    in_axis: FanAxis = -2,
    out_axis: FanAxis = -1,
    batch_axis: BatchAxes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Uniform of variance ``1 / (3 fan_in)``: the kernels of PyTorch's layers.

    W_i ~ U[-L, L) with L = 1 / sqrt(fan_in).
    The default axes are for JAX's layout ``(*taps, in, out)``. For PyTorch's layout
    ``(out, in, *taps)`` pass ``in_axis=1, out_axis=0``. PyTorch scales transposed
    convolutions by their outputs: for their kernels in JAX's layout pass
    ``in_axis=-1, out_axis=-2``.
    `variance_scaling` defines the draw in complex dtypes.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Weight shape ``(*taps, in, out)`` unless the axes say otherwise.
        dtype: Floating or complex dtype.
        in_axis: Axis or axes of inputs. None: Keras's rule (see `fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, as for `variance_scaling`.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If the axes do not fit the shape.

    Example:
        >>> w = torch_kernel(jax.random.key(0), (100, 300))
        >>> bool(abs(w).max() <= 0.1)
        True

    References:
        PyTorch, ``torch.nn.Linear`` and ``torch.nn.Conv2d``.
    """
    draw = key, shape, dtype, out_sharding
    return draw_preset("torch_kernel", draw, in_axis, out_axis, batch_axis)


def torch_bias(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    fan_in: int,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Uniform of variance ``1 / (3 fan_in)``: the biases of PyTorch's layers.

    b_i ~ U[-L, L) with L = 1 / sqrt(fan_in). ``fan_in`` is an argument, because the
    shape of a bias does not contain it: it is the fan-in of the kernel of the layer.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Any shape.
        dtype: Floating or complex dtype.
        fan_in: Fan-in of the kernel of the layer (see `jaxinit.fans`), at least 1.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``fan_in`` is below 1.

    Example:
        >>> b = torch_bias(jax.random.key(0), (300,), fan_in=100)
        >>> bool(abs(b).max() <= 0.1)
        True

    References:
        PyTorch, ``torch.nn.Linear`` and ``torch.nn.Conv2d``.
    """
    where = "torch_bias"
    limit = 1 / math.sqrt(_check_bias(where, fan_in=fan_in)["fan_in"])
    draw = check_draw(where, key, shape, dtype, out_sharding)
    return _draws.uniform(*draw, -limit, limit)


def _check_bias(where: str, *, fan_in: Any) -> dict[str, Any]:
    return {"fan_in": check_size(where, "fan_in", fan_in)}


@dataclass(frozen=True, repr=False)
class TorchKernel(Preset):
    """Uniform of variance ``1 / (3 fan_in)``: the kernels of PyTorch's layers.

    W_i ~ U[-L, L) with L = 1 / sqrt(fan_in). For PyTorch's layout ``(out, in, *taps)``
    pass ``in_axis=1, out_axis=0``.

    Attributes:
        in_axis: Axis or axes of inputs; the default is for shapes ``(*taps, in, out)``.
            fan_in is their size times the number of taps. None: Keras's rule (see
            `fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, which no fan counts. ``"rest"``:
            every axis that is neither input nor output.
        seed: Seed for calls without a key.

    Example:
        >>> TorchKernel()(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        PyTorch, ``torch.nn.Linear`` and ``torch.nn.Conv2d``.
    """

    function = staticmethod(torch_kernel)
    identifiers = ("torch_kernel",)


@dataclass(frozen=True, repr=False)
class TorchBias(Initializer):
    """Uniform of variance ``1 / (3 fan_in)``: the biases of PyTorch's layers.

    b_i ~ U[-L, L) with L = 1 / sqrt(fan_in), for any shape of the bias.

    Attributes:
        fan_in: Fan-in of the kernel of the layer (see `jaxinit.fans`), at least 1.
        seed: Seed for calls without a key.

    Example:
        >>> TorchBias(784)(jax.random.key(0), (256,)).shape
        (256,)

    References:
        PyTorch, ``torch.nn.Linear`` and ``torch.nn.Conv2d``.
    """

    fan_in: int
    seed: int | None = None

    function = staticmethod(torch_bias)
    check = staticmethod(_check_bias)
    identifiers = ("torch_bias",)
