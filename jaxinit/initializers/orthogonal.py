"""Orthogonal matrices with the uniform (Haar) distribution."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import Axes, check_axes, check_choice, check_draw, check_number, error
from .._compat import OutSharding, Shape
from .._fans import resolve_axes
from .._program import program
from ._householder import haar
from .base import Initializer, unless_axes_are_named

_METHODS = ("householder", "qr")
_SCALES = (None, "scaled_uniform", "spectral")


def orthogonal(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    gain: float = 1.0,
    column_axis: Axes = -1,
    batch_axis: Axes = (),
    method: str = "householder",
    scale: str | None = None,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Uniform (Haar) orthogonal matrices times ``gain``; unitary if complex.

    The tensor is read as a matrix W: ``column_axis`` counts its columns, and all other
    axes but ``batch_axis`` count its rows. The columns are orthonormal up to the gain:
    W^* W = gain^2 I. If W has more columns than rows, its rows are. The product of W
    and a fixed orthogonal matrix has the same distribution.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: Weight shape ``(..., in, out)`` unless the axes say otherwise.
        dtype: Floating or complex dtype; narrower values are rounded from float32.
        gain: Factor of the matrix: the norm of its orthogonal columns or rows.
        column_axis: Axis or axes of columns: ``(1, 2)`` for an attention kernel
            of ``(d, heads, head_dim)``.
        batch_axis: Axis or axes of stacked matrices, which are independent draws from
            the keys ``jax.random.split(key, n)``.
        method: ``"householder"`` multiplies random reflections; ``"qr"``, slower,
            has the values of ``jax.nn.initializers.orthogonal``.
        scale: A further factor, where r = columns / rows: max(1, sqrt(r)) for
            ``"scaled_uniform"``, sqrt(r) for ``"spectral"``, 1 for None.
        out_sharding: Sharding of the result. Devices share the work along the
            batch axes only.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If no axis is left for rows, if an axis is out of range or in
            two arguments, or if ``method`` or ``scale`` is unknown.

    Example:
        >>> w = orthogonal(jax.random.key(0), (200, 100), gain=2.0)
        >>> bool(jnp.allclose(w.T @ w, 4.0 * jnp.eye(100), atol=1e-5))
        True

    References:
        Saxe et al., "Exact solutions to the nonlinear dynamics of learning in
        deep linear neural networks", 2014; Mezzadri, "How to generate random
        matrices from the classical compact groups", 2007. Scales: Martens et
        al., "Rapid training of deep neural networks without skip connections or
        normalization layers using Deep Kernel Shaping", 2021; Yang et al., "A
        spectral condition for feature learning", 2023.
    """
    where = "orthogonal"
    a = _check_orthogonal(
        where,
        gain=gain,
        column_axis=column_axis,
        batch_axis=batch_axis,
        method=method,
        scale=scale,
    )
    key, shape, dtype, out_sharding = check_draw(where, key, shape, dtype, out_sharding)
    columns = resolve_axes(where, "column_axis", a["column_axis"], shape)
    batch = resolve_axes(where, "batch_axis", a["batch_axis"], shape)
    if columns & batch:
        rule = f"disjoint from column_axis for shape {shape}"
        raise error(ValueError, where, "batch_axis", rule, a["batch_axis"])
    rows = set(range(len(shape))) - columns - batch
    if not rows or not columns:
        rule = "a shape with axes of rows and of columns besides batch_axis"
        raise error(ValueError, where, "shape", rule, shape)
    ratio = _size(shape, columns) / max(1, _size(shape, rows))
    return _orthogonal(
        key,
        shape,
        dtype,
        out_sharding,
        a["gain"] * scale_factor(a["scale"], ratio),
        rows=tuple(sorted(rows)),
        columns=tuple(sorted(columns)),
        batch=tuple(sorted(batch)),
        method=a["method"],
    )


def uniform_matrix(
    key: jax.Array,
    rows: int,
    columns: int,
    dtype: np.dtype[Any],
    method: str,
    copies: int,
) -> jax.Array:
    """Draws one of ``copies`` Haar matrices; the shorter side is orthonormal."""
    if method == "qr":
        return jax.random.orthogonal(key, rows, (), dtype, columns)
    if rows < columns:
        return haar(key, columns, rows, dtype, copies).T
    return haar(key, rows, columns, dtype, copies)


def draw_slices(
    draw: Callable[[jax.Array, tuple[int, ...]], jax.Array],
    key: jax.Array,
    shape: tuple[int, ...],
    batch: tuple[int, ...],
) -> jax.Array:
    """Calls ``draw(key, shape)`` for each slice along the axes ``batch``."""
    if not batch:
        return draw(key, shape)
    one = tuple(d for axis, d in enumerate(shape) if axis not in batch)
    many = tuple(shape[axis] for axis in batch)
    keys = jax.random.split(key, math.prod(many))
    slices = jax.vmap(lambda key: draw(key, one))(keys)
    return jnp.moveaxis(slices.reshape(many + one), range(len(batch)), batch)


def scale_factor(scale: str | None, ratio: float) -> float:
    """Returns the factor of ``scale`` for a matrix of ``ratio`` columns per row."""
    if scale is None:
        return 1.0
    return max(math.sqrt(ratio), 1.0 if scale == "scaled_uniform" else 0.0)


def check_uniform(where: str, **arguments: Any) -> dict[str, Any]:
    """Checks the arguments that all initializers of Haar matrices share."""
    scale = arguments["scale"]
    if isinstance(scale, (int, float)):
        cure = "For a factor pass gain=."
        rule = "one of " + ", ".join(map(repr, _SCALES))
        raise error(TypeError, where, "scale", rule, scale, cure)
    return {
        "gain": check_number(where, "gain", arguments["gain"]),
        "batch_axis": check_axes(where, "batch_axis", arguments["batch_axis"]),
        "method": check_choice(where, "method", arguments["method"], _METHODS),
        "scale": check_choice(where, "scale", scale, _SCALES),
    }


def _check_orthogonal(
    where: str, *, column_axis: Any, **arguments: Any
) -> dict[str, Any]:
    column_axis = check_axes(where, "column_axis", column_axis)
    return {"column_axis": column_axis, **check_uniform(where, **arguments)}


def _size(shape: tuple[int, ...], axes: set[int]) -> int:
    return math.prod(shape[axis] for axis in axes)


@functools.partial(program, parts="batch")
def _orthogonal(key, shape, dtype, gain, *, rows, columns, batch, method):
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    order = [axis for axis in range(len(shape)) if axis not in batch]
    copies = _size(shape, set(batch))

    def draw(key: jax.Array, one: tuple[int, ...]) -> jax.Array:
        axes = [order.index(axis) for axis in rows + columns]
        height, width = _size(shape, set(rows)), _size(shape, set(columns))
        w = uniform_matrix(key, height, width, dtype, method, copies)
        return w.reshape([one[axis] for axis in axes]).transpose(np.argsort(axes))

    return gain * draw_slices(draw, key, shape, batch)


@dataclass(frozen=True, repr=False)
class Orthogonal(Initializer):
    """Uniform (Haar) orthogonal matrices times ``gain``; unitary if complex.

    W^* W = gain^2 I, or W W^* = gain^2 I if W has more columns than rows.
    ``column_axis`` counts the columns, and all other axes but ``batch_axis`` count the
    rows. So a shape ``(*taps, in, out)`` is a matrix of ``out`` columns by default.

    Attributes:
        gain: Factor of the matrix: the norm of its orthogonal columns or rows.
        column_axis: Axis or axes of columns: ``(1, 2)`` for an attention kernel
            of ``(d, heads, head_dim)``.
        batch_axis: Axis or axes of stacked matrices, which are independent draws.
        method: ``"householder"`` multiplies random reflections; ``"qr"``, slower,
            has the values of ``jax.nn.initializers.orthogonal``.
        scale: A further factor, where r = columns / rows: max(1, sqrt(r)) for
            ``"scaled_uniform"``, sqrt(r) for ``"spectral"``, 1 for None.
        seed: Seed for calls without a key.

    Raises:
        ValueError: If ``method`` or ``scale`` is unknown; in a call, if no axis is left
            for rows, or an axis is out of range or in two arguments.

    Example:
        >>> Orthogonal(column_axis=(1, 2))(jax.random.key(0), (64, 4, 8)).shape
        (64, 4, 8)

    References:
        Saxe et al., "Exact solutions to the nonlinear dynamics of learning in
        deep linear neural networks", 2014; Mezzadri, "How to generate random
        matrices from the classical compact groups", 2007.
    """

    gain: float = 1.0
    column_axis: Axes = -1
    batch_axis: Axes = ()
    method: str = "householder"
    scale: str | None = None
    seed: int | None = None

    function = staticmethod(orthogonal)
    check = staticmethod(_check_orthogonal)
    identifiers = ("orthogonal", "OrthogonalInitializer")
    reads_layout = unless_axes_are_named
