"""PyTorch's defaults: uniform between -1 / sqrt(fan_in) and 1 / sqrt(fan_in)."""

import math
from dataclasses import dataclass
from typing import Any

import jax

from .. import _draws
from .._checks import BatchAxes, FanAxis, check_draw, check_size
from .._compat import OutSharding, Shape
from .._fans import check_fan_axes
from .base import Initializer, unless_axes_are_named
from .presets import draw_preset


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
    """Uniform of variance ``1 / (3 fan_in)``, as PyTorch's layers draw kernels.

    W_i ~ U[-L, L) with L = 1 / sqrt(fan_in).
    Arguments, result and errors are those of `variance_scaling`, and the default axes
    are those of JAX, ``(*taps, in, out)``. PyTorch's own layout ``(out, in, *taps)``
    needs ``in_axis=1, out_axis=0``. PyTorch scales its transposed convolutions by their
    outputs, so their kernels ``(*taps, in, out)`` need ``in_axis=-1, out_axis=-2``.

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
    """Uniform of variance ``1 / (3 fan_in)``, as PyTorch's layers draw biases.

    b_i ~ U[-L, L) with L = 1 / sqrt(fan_in). The fan-in is that of the kernel of the
    same layer, because the shape of a bias does not tell it.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Any shape.
        dtype: Floating or complex dtype.
        fan_in: Fan-in of the kernel, as `jaxinit.fans` gives it, at least 1.
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
class TorchKernel(Initializer):
    """Uniform of variance ``1 / (3 fan_in)``, as PyTorch's layers draw kernels.

    W_i ~ U[-L, L) with L = 1 / sqrt(fan_in). The shape is ``(*taps, in, out)`` by
    default; PyTorch's own ``(out, in, *taps)`` needs ``in_axis=1, out_axis=0``.

    Attributes:
        in_axis: Axis or axes of inputs. fan_in is their size times the taps. None:
            Keras's rule (see `jaxinit.fans`).
        out_axis: Axis or axes of outputs.
        batch_axis: Axis or axes of stacked weights, which no fan counts; or "rest".
        seed: Seed of the key for calls that pass none.

    Example:
        >>> TorchKernel()(jax.random.key(0), (3, 4)).shape
        (3, 4)

    References:
        PyTorch, ``torch.nn.Linear`` and ``torch.nn.Conv2d``.
    """

    in_axis: FanAxis = -2
    out_axis: FanAxis = -1
    batch_axis: BatchAxes = ()
    seed: int | None = None

    function = staticmethod(torch_kernel)
    check = staticmethod(check_fan_axes)
    identifiers = ("torch_kernel",)
    reads_layout = unless_axes_are_named


@dataclass(frozen=True, repr=False)
class TorchBias(Initializer):
    """Uniform of variance ``1 / (3 fan_in)``, as PyTorch's layers draw biases.

    b_i ~ U[-L, L) with L = 1 / sqrt(fan_in), for any shape.

    Attributes:
        fan_in: Fan-in of the kernel of the same layer, at least 1.
        seed: Seed of the key for calls that pass none.

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
