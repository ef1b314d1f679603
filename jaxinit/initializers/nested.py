"""Inner initializers of combinators: their checks and their calls."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import (
    check_dtype,
    check_key,
    check_out_sharding,
    check_shape,
    error,
)
from .._compat import OutSharding
from . import registry
from .functions import check_made

# Dtypes of combinators that only move values.
ANY_KIND = (jnp.number, jnp.bool_)


def check_initializer(where: str, name: str, value: Any) -> Any:
    """Returns `jaxinit.get` of the value, and refuses None."""
    if value is None:
        rule = "an initializer, its name or its config"
        raise error(TypeError, where, name, rule, value)
    try:
        found = registry.get(value)
        hash(found)
    except (TypeError, ValueError) as e:
        kind = TypeError if isinstance(e, TypeError) else ValueError
        raise kind(f"{where}({name}=...): {e}") from None
    return found


def is_deterministic(initializer: Any) -> bool:
    """True if an initializer or function needs no key."""
    return bool(getattr(initializer, "deterministic", False))


def check_nested(
    where: str,
    inner: tuple[Any, ...],
    key: Any,
    shape: Any,
    dtype: Any,
    out_sharding: Any,
    *,
    kinds: tuple[Any, ...] = (jnp.inexact,),
) -> tuple[jax.Array | None, tuple[int, ...], np.dtype[Any], OutSharding]:
    """Checks as `check_draw`; the key may be None if every ``inner`` needs no key."""
    keyless = key is None and all(map(is_deterministic, inner))
    shape = check_shape(where, shape)
    key = None if keyless else check_key(where, key)
    dtype = check_dtype(where, dtype, kinds)
    return key, shape, dtype, check_out_sharding(where, out_sharding, len(shape))


def draw(
    initializer: Any,
    key: jax.Array | None,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
) -> jax.Array:
    """Calls an inner initializer inside the program of its combinator."""
    made = initializer(key, shape, dtype)
    values = jnp.asarray(check_made(initializer, made))
    if values.shape != shape:
        name = getattr(initializer, "__name__", type(initializer).__name__)
        rule = f"an array of the requested shape {shape}"
        raise error(ValueError, name, "return", rule, values.shape)
    return values


def _inner(combinator: Any) -> list[Any]:
    """Returns the initializers in the fields of a combinator."""
    fields = vars(combinator).values()
    flat = (x for v in fields for x in (v if isinstance(v, tuple) else (v,)))
    return [x for x in flat if callable(x)]


def inner_is_deterministic(combinator: Any) -> bool:
    """True if no inner initializer of a combinator needs a key."""
    return all(map(is_deterministic, _inner(combinator)))


def inner_reads_layout(combinator: Any) -> bool:
    """True if an inner initializer of a combinator reads a layout.

    A function does not say whether it reads one; it counts as False.
    """
    return any(getattr(x, "reads_layout", False) for x in _inner(combinator))


# `deterministic` and `reads_layout` of a combinator that draws nothing itself and moves
# no axis.
deterministic_if_inner_is = property(inner_is_deterministic)
reads_layout_if_inner_does = property(inner_reads_layout)
