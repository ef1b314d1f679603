"""Sub-pixel convolutions that start as nearest-neighbor upsampling."""

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
    """Kernel whose output, with channels moved to space, has no checkerboard.

    A kernel K of out / r^d channels, d spatial axes, is drawn from ``initializer``
    with its fans, and each of its channels repeated r^d times, so that the upsampled
    output is that of K, each pixel repeated r times along each spatial axis. The
    variance is that of K; entries of one channel's copies are equal.

    Args:
        key: PRNG key, typed or raw, never reused by this function; may be None
            where ``initializer`` needs none.
        shape: ``(*spatial, in, out)``, out a multiple of r^d.
        dtype: A dtype that ``initializer`` serves.
        initializer: Of K: an initializer, or the name or config of one.
        factor: Upsampling factor r, at least 1.
        order: How channels are laid out: ``"depth_to_space"``, r^d blocks of
            channels, as in TensorFlow; or ``"pixel_shuffle"``, r^d positions of
            each channel in turn, as in PyTorch.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` has no spatial axis, or r^d does not divide its
            outputs.

    Example:
        >>> w = icnr(jax.random.key(0), (3, 3, 8, 16), initializer="he_normal")
        >>> bool((w[..., :4] == w[..., 12:]).all())
        True

    References:
        Aitken et al., "Checkerboard artifact free sub-pixel convolution", 2017.
    """
    where = "icnr"
    a = _check_icnr(where, initializer=initializer, factor=factor, order=order)
    held = a["initializer"]
    args = check_nested(where, (held,), key, shape, dtype, out_sharding, kinds=ANY_KIND)
    shape = args[1]
    spatial = max(1, len(shape) - 2)
    copies = a["factor"] ** spatial
    if len(shape) < 3 or shape[-1] % copies:
        rule = "(*spatial, in, out) with a spatial axis, and out a multiple of "
        rule += f"factor^{spatial}"
        raise error(ValueError, where, "shape", rule, shape)
    return _copied(*args, initializer=held, copies=copies, order=a["order"])


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
    """Nearest-neighbor upsampling: the class of `jaxinit.functional.icnr`.

    Attributes:
        initializer: Of the kernel before its channels are repeated.
        factor: Upsampling factor.
        order: ``"depth_to_space"`` or ``"pixel_shuffle"``.
        seed: Seed of the key to use where a call passes none.

    Example:
        >>> ICNR("he_normal")(jax.random.key(0), (3, 3, 8, 16)).shape
        (3, 3, 8, 16)
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
