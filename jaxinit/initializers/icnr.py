"""ICNR: sub-pixel convolutions that start as nearest-neighbor upsampling."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import check_choice, check_int, error
from .._compat import OutSharding, Shape
from .._program import program
from .base import Initializer
from .nested import (
    ANY_KIND,
    check_initializer,
    check_nested,
    deterministic_if_inner_is,
    draw,
)


def icnr(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializer: Any,
    factor: int = 2,
    order: str = "depth_to_space",
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Kernel of a sub-pixel convolution that starts without checkerboard artifacts.

    ``initializer`` draws a smaller kernel K of out / r^d outputs, where d is the number
    of spatial axes, with the fans of the shape of K. W repeats each output of K r^d
    times, so W has the variance of K. The sub-pixel layer then repeats each pixel of
    the output of K r times along each spatial axis.

    Args:
        key: PRNG key, typed or raw, never reused by this function. May be None if
            ``initializer`` is deterministic.
        shape: ``(*taps, in, out)``, with out a multiple of r^d.
        dtype: A dtype that ``initializer`` supports.
        initializer: The initializer of K: an object, its name or its config.
        factor: Upsampling factor r, at least 1.
        order: How W orders the copies. ``"depth_to_space"`` (TensorFlow): K is
            repeated as a whole. ``"pixel_shuffle"`` (PyTorch): the r^d copies of one
            output follow each other.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` has no spatial axis, or r^d does not divide out.

    Example:
        >>> w = icnr(jax.random.key(0), (3, 3, 8, 16), initializer="he_normal")
        >>> bool((w[..., :4] == w[..., 12:]).all())
        True

    References:
        Aitken et al., "Checkerboard artifact free sub-pixel convolution", 2017.
    """
    where = "icnr"
    a = _check_icnr(where, initializer=initializer, factor=factor, order=order)
    inner = a["initializer"]
    draws = key, shape, dtype, out_sharding
    args = check_nested(where, (inner,), *draws, kinds=ANY_KIND)
    shape = args[1]
    spatial = max(1, len(shape) - 2)
    copies = a["factor"] ** spatial
    if len(shape) < 3 or shape[-1] % copies:
        rule = "(*taps, in, out) with a spatial axis, and out a multiple of "
        rule += f"factor^{spatial}"
        raise error(ValueError, where, "shape", rule, shape)
    return _copied(*args, initializer=inner, copies=copies, order=a["order"])


@program
def _copied(key, shape, dtype, *, initializer, copies, order):
    *taps, outputs = shape
    kernel = draw(initializer, key, (*taps, outputs // copies), dtype)
    if order == "depth_to_space":
        return jnp.tile(kernel, copies)
    return jnp.repeat(kernel, copies, axis=-1)


def _check_icnr(
    where: str, *, initializer: Any, factor: Any, order: Any
) -> dict[str, Any]:
    orders = ("depth_to_space", "pixel_shuffle")
    return {
        "initializer": check_initializer(where, "initializer", initializer),
        "factor": check_int(where, "factor", factor, minimum=1),
        "order": check_choice(where, "order", order, orders),
    }


@dataclass(frozen=True, repr=False)
class ICNR(Initializer):
    """Kernel of a sub-pixel convolution that starts without checkerboard artifacts.

    ``initializer`` draws a smaller kernel K of out / r^d outputs, where d is the number
    of spatial axes. W repeats each output of K r^d times. The layer then starts as
    nearest-neighbor upsampling. The shape is ``(*taps, in, out)``, with out a multiple
    of r^d.

    Attributes:
        initializer: The initializer of K: an object, its name or its config.
        factor: Upsampling factor r, at least 1.
        order: How W orders the copies. ``"depth_to_space"`` (TensorFlow): K is
            repeated as a whole. ``"pixel_shuffle"`` (PyTorch): the r^d copies of one
            output follow each other.
        seed: Seed for calls without a key.

    Raises:
        ValueError: In a call, if the shape has no spatial axis, or r^d does not divide
            out.

    Example:
        >>> ICNR("he_normal")(jax.random.key(0), (3, 3, 8, 16)).shape
        (3, 3, 8, 16)

    References:
        Aitken et al., "Checkerboard artifact free sub-pixel convolution", 2017.
    """

    initializer: Any
    factor: int = 2
    order: str = "depth_to_space"
    seed: int | None = None

    function = staticmethod(icnr)
    check = staticmethod(_check_icnr)
    identifiers = ("icnr",)
    deterministic = deterministic_if_inner_is
    reads_layout = True
