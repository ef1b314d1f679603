"""Combinators that join independent draws: stacks, blocks, parts.

Each draw has its own key and its own shape. So its fans are those of one layer, expert,
head or gate.

Stacks and equal blocks that are sharded along their axis need no communication. For
unequal parts devices may communicate. The values are the same in both cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import check_int, error
from .._compat import OutSharding, Shape
from .._fans import resolve_axes
from .._program import program
from .base import Initializer
from .nested import (
    ANY_KIND,
    check_initializer,
    check_nested,
    deterministic_if_inner_is,
    draw,
    inner_reads_layout,
)


def stacked(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializer: Any,
    axis: int = 0,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Independent draws, stacked along ``axis``: layers of a scan, experts, heads.

    Slice l is ``initializer(keys[l], shape without axis)`` with
    ``keys = jax.random.split(key, n)``, as ``jax.vmap`` over ``keys`` draws it. So
    each slice has the fans of its own shape, and no fan counts ``axis``.

    Args:
        key: PRNG key, typed or raw, never reused by this function. May be None if
            ``initializer`` is deterministic.
        shape: A shape that has ``axis``; ``initializer`` supports its other axes.
        dtype: A dtype that ``initializer`` supports.
        initializer: The initializer of a slice: an object, its name or its config.
        axis: Axis along which the draws are stacked.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` has no such axis.

    Example:
        >>> w = stacked(jax.random.key(0), (4, 250, 99), initializer="lecun_normal")
        >>> [round(float(layer.var()) * 250, 1) for layer in w]
        [1.0, 1.0, 1.0, 1.0]
    """
    where = "stacked"
    a = _check_stacked(where, initializer=initializer, axis=axis)
    inner = a["initializer"]
    draws = key, shape, dtype, out_sharding
    args = check_nested(where, (inner,), *draws, kinds=ANY_KIND)
    axis = _axis(where, a["axis"], args[1])
    count, part = args[1][axis], _resized(args[1], axis)
    return _stacked(*args, initializer=inner, axis=axis, count=count, part=part)


def blocks(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializer: Any,
    sizes: int | Sequence[int],
    axis: int = -1,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Independent draws side by side: fused query, key and value, or gates.

    Block i is ``initializer(keys[i], shape of the block)`` with
    ``keys = jax.random.split(key, n)``. So each block has the fans of its own shape:
    with Glorot's scheme 3 blocks of a fused ``(d, 3 d)`` have the variance 1 / d, and
    the fused array drawn at once has 1 / (2 d).

    Args:
        key: PRNG key, typed or raw, never reused by this function. May be None if
            ``initializer`` is deterministic.
        shape: A shape that has ``axis``.
        dtype: A dtype that ``initializer`` supports.
        initializer: The initializer of a block: an object, its name or its config.
        sizes: Sizes of the blocks along ``axis``, or the number of equal blocks.
        axis: Axis along which the blocks lie.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If the blocks do not fill ``shape`` along ``axis``.

    Example:
        >>> key, shape = jax.random.key(0), (250, 750)
        >>> w = blocks(key, shape, initializer="glorot_normal", sizes=3)
        >>> round(float(w.var()) * 250, 1)
        1.0
    """
    where = "blocks"
    a = _check_blocks(where, initializer=initializer, sizes=sizes, axis=axis)
    inner = a["initializer"]
    draws = key, shape, dtype, out_sharding
    args = check_nested(where, (inner,), *draws, kinds=ANY_KIND)
    axis = _axis(where, a["axis"], args[1])
    sizes = a["sizes"]
    if isinstance(sizes, int):
        count, size = _equal_parts(where, sizes, args[1], axis)
    else:
        sizes = _parts(where, tuple(sizes), args[1], axis)
        count, size = len(sizes), sizes[0]
    if isinstance(sizes, int) or len(set(sizes)) == 1:
        part = _resized(args[1], axis, size)
        return _stacked(*args, initializer=inner, axis=axis, count=count, part=part)
    inner = (inner,) * len(sizes)
    return _joined(*args, initializers=inner, sizes=sizes, axis=axis)


def concatenate(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializers: Sequence[Any],
    sizes: Sequence[int] | None = None,
    axis: int = -1,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Parts side by side, each drawn by its own initializer.

    Part i is ``initializers[i](keys[i], shape of the part)`` with
    ``keys = jax.random.split(key, n)``. So the fans of a part are those of its own
    shape.

    Args:
        key: PRNG key, typed or raw, never reused by this function. May be None if
            every initializer is deterministic.
        shape: A shape that has ``axis``.
        dtype: A dtype that every initializer supports.
        initializers: One initializer for each part: objects, names or configs.
        sizes: Sizes of the parts along ``axis``. None: equal parts.
        axis: Axis along which the parts lie.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If the parts do not fill ``shape`` along ``axis``.

    Example:
        >>> gates = ("zeros", "ones", "zeros", "zeros")  # an LSTM's forget bias
        >>> concatenate(None, (8,), initializers=gates)
        Array([0., 0., 1., 1., 0., 0., 0., 0.], dtype=float32)
    """
    where = "concatenate"
    a = _check_concatenate(where, initializers=initializers, sizes=sizes, axis=axis)
    inner = a["initializers"]
    args = check_nested(where, inner, key, shape, dtype, out_sharding, kinds=ANY_KIND)
    axis = _axis(where, a["axis"], args[1])
    parts = len(inner) if a["sizes"] is None else a["sizes"]
    sizes = _parts(where, parts, args[1], axis)
    return _joined(*args, initializers=inner, sizes=sizes, axis=axis)


@program
def _stacked(key, shape, dtype, *, initializer, axis, count, part):
    def one(key: jax.Array | None) -> jax.Array:
        return draw(initializer, key, part, dtype)

    keys = None if key is None else jax.random.split(key, count)
    return jax.vmap(one, out_axes=axis, axis_size=count)(keys).reshape(shape)


@program
def _joined(key, shape, dtype, *, initializers, sizes, axis):
    keys = [None] * len(sizes) if key is None else jax.random.split(key, len(sizes))
    parts = zip(initializers, keys, sizes, strict=True)
    return jnp.concatenate(
        [draw(inner, k, _resized(shape, axis, n), dtype) for inner, k, n in parts], axis
    )


def _resized(shape: tuple[int, ...], axis: int, *sizes: int) -> tuple[int, ...]:
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def _axis(where: str, axis: int, shape: tuple[int, ...]) -> int:
    (found,) = resolve_axes(where, "axis", axis, shape)
    return found


def _parts(
    where: str, sizes: int | tuple[int, ...], shape: tuple[int, ...], axis: int
) -> tuple[int, ...]:
    """Returns the size of each part; an int ``sizes`` is the number of equal parts."""
    size = shape[axis]
    if isinstance(sizes, int):
        _, part = _equal_parts(where, sizes, shape, axis)
        return (part,) * sizes
    if sum(sizes) != size:
        rule = f"sizes that sum to {size}, the size of axis {axis} of shape {shape}"
        raise error(ValueError, where, "sizes", rule, sizes)
    return sizes


def _equal_parts(
    where: str, count: int, shape: tuple[int, ...], axis: int
) -> tuple[int, int]:
    """Returns number and size of equal parts; an empty axis is one part of size 0."""
    size = shape[axis]
    if size % count:
        rule = f"divisible into {count} equal parts along axis {axis}"
        raise error(ValueError, where, "shape", rule, shape)
    return (count, size // count) if size else (1, 0)


def _check_sizes(where: str, sizes: Any) -> tuple[int, ...]:
    if isinstance(sizes, (str, bytes)) or not isinstance(sizes, Sequence) or not sizes:
        raise error(TypeError, where, "sizes", "a sequence of ints", sizes)
    return tuple(check_int(where, "sizes", size, minimum=0) for size in sizes)


def _check_stacked(where: str, *, initializer: Any, axis: Any) -> dict[str, Any]:
    return {
        "initializer": check_initializer(where, "initializer", initializer),
        "axis": check_int(where, "axis", axis),
    }


def _check_blocks(
    where: str, *, initializer: Any, sizes: Any, axis: Any
) -> dict[str, Any]:
    if isinstance(sizes, Sequence):
        sizes = _check_sizes(where, sizes)
    else:
        sizes = check_int(where, "sizes", sizes, minimum=1)
    checked = _check_stacked(where, initializer=initializer, axis=axis)
    return checked | {"sizes": sizes}


def _check_concatenate(
    where: str, *, initializers: Any, sizes: Any, axis: Any
) -> dict[str, Any]:
    name = "initializers"
    is_one = isinstance(initializers, (str, bytes))
    if is_one or not isinstance(initializers, Sequence) or not initializers:
        rule = "a sequence of initializers"
        raise error(TypeError, where, name, rule, initializers)
    inner = tuple(check_initializer(where, name, i) for i in initializers)
    sizes = None if sizes is None else _check_sizes(where, sizes)
    if sizes is not None and len(sizes) != len(inner):
        rule = f"a sequence of {len(inner)} sizes, one for each initializer"
        raise error(ValueError, where, "sizes", rule, sizes)
    axis = check_int(where, "axis", axis)
    return {"initializers": inner, "sizes": sizes, "axis": axis}


def _reads_layout(self: Any) -> bool:
    """True if an inner initializer reads a layout, and ``axis`` is the outputs."""
    return self.axis == -1 and inner_reads_layout(self)


@dataclass(frozen=True, repr=False)
class Stacked(Initializer):
    """Independent draws, stacked along ``axis``: layers of a scan, experts, heads.

    Slice l is ``initializer(keys[l], shape without axis)`` with
    ``keys = jax.random.split(key, n)``. So each slice has the fans of its own shape,
    and no fan counts ``axis``.

    Attributes:
        initializer: The initializer of a slice: an object, its name or its config.
        axis: Axis along which the draws are stacked.
        seed: Seed for calls without a key.

    Raises:
        ValueError: In a call, if the shape has no such axis.

    Example:
        >>> experts = Stacked("he_normal")
        >>> experts(jax.random.key(0), (8, 512, 256)).shape
        (8, 512, 256)
    """

    initializer: Any
    axis: int = 0
    seed: int | None = None

    function = staticmethod(stacked)
    check = staticmethod(_check_stacked)
    identifiers = ("stacked",)
    deterministic = deterministic_if_inner_is
    draws_stack = property(lambda self: self.axis == 0)


@dataclass(frozen=True, repr=False)
class Blocks(Initializer):
    """Independent draws side by side: fused query, key and value, or gates.

    Block i is ``initializer(keys[i], shape of the block)`` with
    ``keys = jax.random.split(key, n)``. So each block has the fans of its own shape.

    Attributes:
        initializer: The initializer of a block: an object, its name or its config.
        sizes: Sizes of the blocks along ``axis``, or the number of equal blocks.
        axis: Axis along which the blocks lie.
        seed: Seed for calls without a key.

    Raises:
        ValueError: In a call, if the blocks do not fill the shape along ``axis``.

    Example:
        >>> grouped_query = Blocks("lecun_normal", (512, 128, 128))
        >>> grouped_query(jax.random.key(0), (512, 768)).shape
        (512, 768)
    """

    initializer: Any
    sizes: int | tuple[int, ...]
    axis: int = -1
    seed: int | None = None

    function = staticmethod(blocks)
    check = staticmethod(_check_blocks)
    identifiers = ("blocks",)
    deterministic = deterministic_if_inner_is
    reads_layout = property(_reads_layout)


@dataclass(frozen=True, repr=False)
class Concatenate(Initializer):
    """Parts side by side, each drawn by its own initializer.

    Part i is ``initializers[i](keys[i], shape of the part)`` with
    ``keys = jax.random.split(key, n)``. So the fans of a part are those of its own
    shape.

    Attributes:
        initializers: One initializer for each part: objects, names or configs.
        sizes: Sizes of the parts along ``axis``. None: equal parts.
        axis: Axis along which the parts lie.
        seed: Seed for calls without a key.

    Raises:
        ValueError: In a call, if the parts do not fill the shape along ``axis``.

    Example:
        >>> Concatenate(("zeros", "ones"), (3, 1))(None, (4,))
        Array([0., 0., 0., 1.], dtype=float32)
    """

    initializers: tuple[Any, ...]
    sizes: tuple[int, ...] | None = None
    axis: int = -1
    seed: int | None = None

    function = staticmethod(concatenate)
    check = staticmethod(_check_concatenate)
    identifiers = ("concatenate",)
    deterministic = deterministic_if_inner_is
    reads_layout = property(_reads_layout)
