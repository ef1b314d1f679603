"""Haiku: initializers that are called as init(shape, dtype)."""

import dataclasses
from typing import Any

import haiku as hk
import jax

from ._checks import error
from ._compat import Shape
from .initializers import registry


def to_haiku(initializer: Any) -> "HaikuInitializer":
    """Wraps an initializer for Haiku's arguments ``w_init`` and ``b_init``.

    The key of a draw is ``hk.next_rng_key()``, as for Haiku's own initializers. A
    deterministic initializer takes no key.

    Haiku stores kernels as (taps..., in, out), which is the default order. But
    ``hk.Conv2DTranspose`` and the other transposed convolutions store them as
    (taps..., out, in): there pass
    ``to_haiku(jaxinit.HeNormal(in_axis=-1, out_axis=-2))``.

    Args:
        initializer: The initializer: any argument of `jaxinit.get`.

    Returns:
        A function of a shape and a dtype, which Haiku calls inside ``hk.transform``.

    Raises:
        TypeError: If ``initializer`` is None or not an initializer.

    Example:
        >>> w_init = to_haiku(jaxinit.HeNormal())
        >>> model = hk.transform(lambda x: hk.Linear(4, w_init=w_init)(x))
        >>> params = model.init(jax.random.key(0), jax.numpy.ones((1, 3)))
        >>> params["linear"]["w"].shape
        (3, 4)
    """
    found = registry.get(initializer)
    if found is None:
        raise error(TypeError, "to_haiku", "initializer", "an initializer", None)
    return HaikuInitializer(found)


@dataclasses.dataclass(frozen=True)
class HaikuInitializer:
    """A wrapped initializer, which Haiku calls; see `to_haiku`.

    Attributes:
        initializer: The wrapped initializer.
    """

    initializer: Any

    def __call__(self, shape: Shape, dtype: Any) -> jax.Array:
        """Draws an array with Haiku's next key; a deterministic one takes no key."""
        keyless = getattr(self.initializer, "deterministic", False)
        key = None if keyless else hk.next_rng_key()
        return self.initializer(key, tuple(shape), dtype)
