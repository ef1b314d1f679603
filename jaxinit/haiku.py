"""Haiku: initializers that its modules call as init(shape, dtype)."""

import dataclasses
from typing import Any

import haiku as hk
import jax

from ._checks import error
from ._compat import Shape
from .initializers import registry


def to_haiku(initializer: Any) -> "HaikuInitializer":
    """An initializer as Haiku calls one, for ``w_init`` and ``b_init``.

    Its key comes from ``hk.next_rng_key()``, as those of Haiku's own initializers do.
    A deterministic initializer takes no key.

    Haiku stores kernels as (taps..., in, out), which is the order of the defaults, but
    those of ``hk.Conv2DTranspose`` and its kin as (taps..., out, in): write
    ``to_haiku(jaxinit.HeNormal(in_axis=-1, out_axis=-2))`` there.

    Args:
        initializer: An initializer of the library, or what `jaxinit.get` makes one of.

    Returns:
        A function of a shape and a dtype, to be called inside ``hk.transform``.

    Raises:
        TypeError: If ``initializer`` is None or no initializer.

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
    """A jaxinit initializer as Haiku calls one; see `to_haiku`.

    Attributes:
        initializer: What draws.
    """

    initializer: Any

    def __call__(self, shape: Shape, dtype: Any) -> jax.Array:
        """Draws an array, with the next key of Haiku where it needs one."""
        keyless = getattr(self.initializer, "deterministic", False)
        key = None if keyless else hk.next_rng_key()
        return self.initializer(key, tuple(shape), dtype)
