"""The new dtypes of loaded leaves, and the values that these dtypes cannot hold."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import is_staging, is_traced, may_transfer
from .assignment import Row, listed
from .loaded import Loaded

# A dtype can be cast to dtypes of its own kind or of a later kind.
_KINDS = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)


def check_held(
    kept: Mapping[str, Loaded],
    rows: Sequence[Row],
    shardings: Sequence[Any],
    cast: bool,
) -> None:
    """Raises a ValueError if a loaded leaf has values that its new dtype cannot hold.

    A leaf gets a new dtype if it is cast, or if it becomes a ``jax.Array`` where JAX
    has no 64-bit dtypes.

    Args:
        kept: The loaded leaves by path.
        rows: The rows of the tree.
        shardings: The sharding that each leaf of the tree asks for, or None.
        cast: Whether loaded leaves take the dtypes of the tree.
    """
    lines: list[str] = []
    cures = [
        "Convert them before the call to a dtype that holds them, or drop them with "
        "rename={path: None}."
    ]
    for row in rows:
        if row.path not in kept:
            continue
        x = kept[row.path]
        asked = row.dtype if cast else x.leaf.dtype
        end = _available(asked) if _is_remade(x, asked, shardings[row.index]) else asked
        loss = _loss(x.leaf, end)
        if loss is None:
            continue
        lines.append(f"{x}: {loss}")
        if end != asked and len(cures) == 1:
            setting = 'jax.config.update("jax_enable_x64", True)'
            cures.insert(0, f"JAX has 64-bit dtypes only after {setting}.")
    if lines:
        call = "fill_missing(cast=True)" if cast else "fill_missing"
        cure = "\n".join(cures)
        raise ValueError(f"{call} would lose values of:{listed(lines)}\n{cure}")


def _is_remade(x: Loaded, dtype: Any, sharding: Any) -> bool:
    """True if JAX makes a new array of the leaf."""
    if isinstance(x.leaf, jax.Array):
        return x.leaf.dtype != dtype
    return x.is_number or sharding is not None


def _available(dtype: Any) -> Any:
    """The dtype that JAX has in place of a dtype."""
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return dtype
    return jax.dtypes.canonicalize_dtype(dtype)


def _loss(leaf: Any, end: Any) -> str | None:
    """Tells why a dtype cannot hold the values of a leaf; None if it can."""
    start = leaf.dtype
    if start == end:
        return None
    kinds = [
        next((i for i, kind in enumerate(_KINDS) if jnp.issubdtype(dtype, kind)), None)
        for dtype in (start, end)
    ]
    if None in kinds or kinds[0] > kinds[1]:  # pyright: ignore
        return f"{start} to {end}"
    if start == jnp.bool_ or leaf.size == 0 or is_traced(leaf):
        return None
    (least, most), (low, high) = _limits(start), _limits(end)
    if low <= least and most <= high:
        return None
    values = _extremes(leaf)
    if all(_is_held(value, end) for value in values):
        return None
    first, last = (f"{x:.6g}" if isinstance(x, float) else x for x in values)
    return f"{start} to {end}, with values from {first} to {last}"


def _limits(dtype: Any) -> tuple[float, float]:
    is_integer = jnp.issubdtype(dtype, jnp.integer)
    info = jnp.iinfo(dtype) if is_integer else jnp.finfo(dtype)
    number = int if is_integer else float
    return number(info.min), number(info.max)


def _is_held(value: float, end: Any) -> bool:
    """True if a finite number stays in the range of a dtype when it is rounded."""
    if jnp.issubdtype(end, jnp.integer):
        low, high = _limits(end)
        return low <= value <= high
    real = np.zeros((), end).real.dtype
    with np.errstate(all="ignore"):
        rounded, infinity = np.array([value, np.inf]).astype(real)
    if not np.isfinite(infinity):
        return bool(np.isfinite(rounded))
    # A dtype without infinity and NaN, as float4_e2m1fn, takes its greatest number.
    info = jnp.finfo(real)
    half_step = float(info.eps) / (4 - 2 * float(info.eps))
    return abs(value) <= float(info.max) * (1 + half_step)


def _extremes(leaf: Any) -> tuple[float, float]:
    """The least and the greatest finite number of an array; (0, 0) if it has none.

    Of an array on the devices of several processes, a process knows its own part.
    """
    number = int if jnp.issubdtype(leaf.dtype, jnp.integer) else float
    can_run = leaf.dtype == _available(leaf.dtype) and not is_staging()
    with may_transfer():
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            parts = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        elif isinstance(leaf, jax.Array) and can_run:
            low, high = _extremes_on_device(leaf)
            return number(low), number(high)
        else:
            parts = [np.asarray(leaf)]
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        parts = [x for part in parts for x in (part.real, part.imag)]
    found = [number(x) for part in parts for x in _extremes_on_host(part)]
    return min(found, default=0), max(found, default=0)


def _extremes_on_host(values: np.ndarray) -> tuple[Any, ...]:
    if values.size == 0:
        return ()
    with np.errstate(invalid="ignore"):
        low, high = values.min(), values.max()
    if jnp.issubdtype(values.dtype, jnp.integer) or (
        np.isfinite(low) and np.isfinite(high)
    ):
        return low, high
    return _extremes_on_host(values[np.isfinite(values)])


@jax.jit
def _extremes_on_device(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    is_complex = jnp.issubdtype(values.dtype, jnp.complexfloating)
    parts = (values.real, values.imag) if is_complex else (values,)
    if jnp.issubdtype(values.dtype, jnp.inexact):
        parts = [jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x)) for x in parts]
    lows, highs = [x.min() for x in parts], [x.max() for x in parts]
    return jnp.stack(lows).min(), jnp.stack(highs).max()
