"""Combinators that put independent draws together: stacks, blocks, parts.

Each draw has a key of its own and is asked for its own shape, so its fans are
those of the layer, expert, head or gate that it is.

Sharded along the axis they lie on, stacks and equal blocks need no communication;
unequal parts may be exchanged between devices. The values are the same.
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
    """Independent draws along ``axis``: layers of a scan, experts, heads.

    Slice l is ``initializer(keys[l], shape without axis)`` with
    ``keys = jax.random.split(key, n)``, as ``jax.vmap`` of ``initializer`` over
    ``keys`` gives it, so each slice has the variance of its own fans.

    Args:
        key: PRNG key, typed or raw, never reused by this function; may be None
            where ``initializer`` needs none.
        shape: A shape that has ``axis`` and that ``initializer`` serves without.
        dtype: A dtype that ``initializer`` serves.
        initializer: Of a slice: an initializer, or the name or config of one.
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
    held = a["initializer"]
    args = check_nested(where, (held,), key, shape, dtype, out_sharding, kinds=ANY_KIND)
    axis = _axis(where, a["axis"], args[1])
    count, part = args[1][axis], _resized(args[1], axis)
    return _stacked(*args, initializer=held, axis=axis, count=count, part=part)


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
    ``keys = jax.random.split(key, n)``, so each block has the variance of its own
    fans: Glorot's of a fused ``(d, 3 d)`` in 3 blocks is 1 / d, not 1 / (2 d).

    Args:
        key: As for `stacked`.
        shape: A shape that has ``axis``.
        dtype: As for `stacked`.
        initializer: Of a block: an initializer, or the name or config of one.
        sizes: Sizes of the blocks along ``axis``, or the number of equal ones.
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
    held = a["initializer"]
    args = check_nested(where, (held,), key, shape, dtype, out_sharding, kinds=ANY_KIND)
    axis = _axis(where, a["axis"], args[1])
    sizes = _parts(where, a["sizes"], args[1], axis)
    if len(set(sizes)) == 1:
        count, part = len(sizes), _resized(args[1], axis, sizes[0])
        return _stacked(*args, initializer=held, axis=axis, count=count, part=part)
    held = (held,) * len(sizes)
    return _joined(*args, initializers=held, sizes=sizes, axis=axis)


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
    """Parts side by side, each from an initializer of its own.

    Part i is ``initializers[i](keys[i], shape of the part)`` with
    ``keys = jax.random.split(key, n)``, of that initializer's variance with the fans
    of the part; over all entries the mean of the parts' E|W|^2 by size.

    Args:
        key: As for `stacked`; may be None where no initializer needs one.
        shape: A shape that has ``axis``.
        dtype: A dtype that every initializer serves.
        initializers: Of the parts: initializers, or names or configs of them.
        sizes: Sizes of the parts along ``axis``; None for equal ones.
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
    held = a["initializers"]
    args = check_nested(where, held, key, shape, dtype, out_sharding, kinds=ANY_KIND)
    axis = _axis(where, a["axis"], args[1])
    parts = len(held) if a["sizes"] is None else a["sizes"]
    sizes = _parts(where, parts, args[1], axis)
    return _joined(*args, initializers=held, sizes=sizes, axis=axis)


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
        [draw(held, k, _resized(shape, axis, n), dtype) for held, k, n in parts], axis
    )


def _resized(shape: tuple[int, ...], axis: int, *sizes: int) -> tuple[int, ...]:
    return (*shape[:axis], *sizes, *shape[axis + 1 :])


def _axis(where: str, axis: int, shape: tuple[int, ...]) -> int:
    (found,) = resolve_axes(where, "axis", axis, shape)
    return found


def _parts(
    where: str, sizes: int | tuple[int, ...], shape: tuple[int, ...], axis: int
) -> tuple[int, ...]:
    """Sizes that fill the axis; an int stands for so many equal ones."""
    size = shape[axis]
    if isinstance(sizes, int):
        if size % sizes:
            rule = f"of an axis {axis} that divides into {sizes} equal parts"
            raise error(ValueError, where, "shape", rule, shape)
        return (size // sizes,) * sizes
    if sum(sizes) != size:
        rule = f"of sum {size}, axis {axis} of shape {shape}"
        raise error(ValueError, where, "sizes", rule, sizes)
    return sizes


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
    held = tuple(check_initializer(where, name, i) for i in initializers)
    sizes = None if sizes is None else _check_sizes(where, sizes)
    if sizes is not None and len(sizes) != len(held):
        rule = f"as many as there are initializers, {len(held)}"
        raise error(ValueError, where, "sizes", rule, sizes)
    axis = check_int(where, "axis", axis)
    return {"initializers": held, "sizes": sizes, "axis": axis}


def _reads_layout(self: Any) -> bool:
    """Parts along the last axis lie along the outputs, if a part reads a layout."""
    return self.axis == -1 and inner_reads_layout(self)


@dataclass(frozen=True, repr=False)
class Stacked(Initializer):
    """Independent draws along an axis: the class of `jaxinit.functional.stacked`.

    Attributes:
        initializer: Of a slice: an initializer, or the name or config of one.
        axis: Axis along which the draws are stacked.
        seed: Seed of the key to use where a call passes none.

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


@dataclass(frozen=True, repr=False)
class Blocks(Initializer):
    """Independent draws side by side: the class of `jaxinit.functional.blocks`.

    Attributes:
        initializer: Of a block: an initializer, or the name or config of one.
        sizes: Sizes of the blocks along ``axis``, or the number of equal ones.
        axis: Axis along which the blocks lie.
        seed: Seed of the key to use where a call passes none.

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
    """Several initializers side by side: `jaxinit.functional.concatenate`'s class.

    Attributes:
        initializers: Of the parts: initializers, or names or configs of them.
        sizes: Sizes of the parts along ``axis``; None for equal ones.
        axis: Axis along which the parts lie.
        seed: Seed of the key to use where a call passes none.

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
