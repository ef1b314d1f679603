"""Combinators that scale a draw: by a number, by depth, to a length.

The inner initializer draws V from the key of the call, in the dtype of the computation.
The combinator scales V in this dtype and rounds the result W to the requested dtype
once.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import (
    Axes,
    check_axes,
    check_choice,
    check_int,
    check_number,
    error,
)
from .._compat import OutSharding, Shape
from .._fans import resolve_axes
from .._program import program
from .base import Initializer
from .nested import (
    check_initializer,
    check_nested,
    deterministic_if_inner_is,
    draw,
    inner_reads_layout,
    reads_layout_if_inner_does,
)


def scaled(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializer: Any,
    factor: float,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """``factor`` times the draw of an initializer: Var W = factor^2 Var V.

    W = factor * V, where V is the draw of ``initializer`` with the same key.

    Args:
        key: PRNG key, typed or raw, never reused by this function. May be None if
            ``initializer`` is deterministic.
        shape: A shape that ``initializer`` supports.
        dtype: Floating or complex dtype.
        initializer: The initializer to wrap: an object, its name or its config.
        factor: Any real number.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Example:
        >>> scaled(None, (2,), initializer="ones", factor=0.5)
        Array([0.5, 0.5], dtype=float32)
    """
    where = "scaled"
    a = _check_scaled(where, initializer=initializer, factor=factor)
    args = check_nested(where, (a["initializer"],), key, shape, dtype, out_sharding)
    return _scaled(*args, a["factor"], initializer=a["initializer"])


def depth_scaled(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializer: Any,
    num_layers: int,
    per_block: int = 2,
    mode: str = "depth",
    index: int | None = None,
    axis: int = 0,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Scales down residual branches by the root of their number.

    Var W = Var V / (per_block * n), where V is the draw of ``initializer`` with the
    same key. In mode "depth" n is the number of layers: the sum of all branches then
    has the variance of one unscaled branch (GPT-2). In mode "index" n is l + 1 in layer
    l = 0, 1, ...

    Args:
        key: PRNG key, typed or raw, never reused by this function. May be None if
            ``initializer`` is deterministic.
        shape: A shape that ``initializer`` supports.
        dtype: Floating or complex dtype.
        initializer: The initializer to wrap: an object, its name or its config.
        num_layers: Number of layers.
        per_block: Number of residual branches in a layer: 2 in a transformer.
        mode: ``"depth"`` or ``"index"``.
        index: In mode "index" the number l of the layer, from 0. None: the array
            stacks all layers along ``axis``, as in a scan.
        axis: Axis of stacked layers.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``index`` is not below ``num_layers``; or if layers are stacked
            and the size of ``shape`` along ``axis`` is not ``num_layers``.

    Example:
        >>> of_layers = {"initializer": "ones", "num_layers": 4, "mode": "index"}
        >>> depth_scaled(None, (4, 1), per_block=1, **of_layers).ravel().round(3)
        Array([1.   , 0.707, 0.577, 0.5  ], dtype=float32)

    References:
        Radford et al., "Language models are unsupervised multitask learners", 2019,
        section 2.3; for mode "index" the code of Bao et al., "BEiT", 2021.
    """
    where = "depth_scaled"
    a = _check_depth_scaled(
        where,
        initializer=initializer,
        num_layers=num_layers,
        per_block=per_block,
        mode=mode,
        index=index,
        axis=axis,
    )
    inner, n = a["initializer"], a["num_layers"]
    args = check_nested(where, (inner,), key, shape, dtype, out_sharding)
    shape = args[1]
    if a["mode"] == "depth":
        factor = (a["per_block"] * n) ** -0.5
    elif a["index"] is not None:
        factor = (a["per_block"] * (a["index"] + 1)) ** -0.5
    else:
        (axis,) = resolve_axes(where, "axis", a["axis"], shape)
        if shape[axis] != n:
            rule = f"a shape of {n} layers along axis {axis}"
            cure = "For the shape of one layer l pass index=l."
            raise error(ValueError, where, "shape", rule, shape, cure)
        factor = (a["per_block"] * np.arange(1.0, n + 1)) ** -0.5
        factor = factor.reshape(-1, *(1,) * (len(shape) - axis - 1))
    return _scaled(*args, factor, initializer=inner)


def normalized(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializer: Any,
    axis: Axes,
    norm: float = 1.0,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Scales the vectors along ``axis`` to one Euclidean length.

    W = norm * V / |V| for each vector V along ``axis`` of the draw of ``initializer``,
    and zero where V is zero. The mean of |W_i|^2 over a vector of n entries is
    norm^2 / n. If V is normal, the vectors are uniform on the sphere:
    (1 + W_i / norm) / 2 is Beta((n - 1) / 2, (n - 1) / 2), and in a complex dtype
    |W_i / norm|^2 is Beta(1, n - 1).

    Args:
        key: PRNG key, typed or raw, never reused by this function. May be None if
            ``initializer`` is deterministic.
        shape: A shape that ``initializer`` supports.
        dtype: Floating or complex dtype.
        initializer: The initializer to wrap: an object, its name or its config.
        axis: Axis or axes of each vector: -1 for the vectors of an embedding, -2 for
            the inputs of each output of a kernel ``(in, out)``.
        norm: Length of each vector, at least 0.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``shape`` has no such axis.

    Example:
        >>> rows = {"initializer": "normal", "axis": -1}
        >>> w = normalized(jax.random.key(0), (3, 16), **rows)
        >>> jnp.linalg.norm(w, axis=-1).round(3)
        Array([1., 1., 1.], dtype=float32)
    """
    where = "normalized"
    a = _check_normalized(where, initializer=initializer, axis=axis, norm=norm)
    inner = a["initializer"]
    args = check_nested(where, (inner,), key, shape, dtype, out_sharding)
    axes = tuple(sorted(resolve_axes(where, "axis", a["axis"], args[1])))
    return _normalized(*args, a["norm"], initializer=inner, axes=axes)


@program
def _scaled(key, shape, dtype, factor, *, initializer):
    values = draw(initializer, key, shape, dtype)
    # Without the barrier XLA multiplies, inside jit, a constant factor with the factors
    # of the draw. That rounds differently from an eager call.
    factor = lax.optimization_barrier(jnp.asarray(factor, jnp.finfo(dtype).dtype))
    return values * factor.astype(dtype)


@program
def _normalized(key, shape, dtype, norm, *, initializer, axes):
    values = draw(initializer, key, shape, dtype)
    # First scale the largest entry to 1: then no square overflows or underflows.
    largest = jnp.max(jnp.abs(values), axes, keepdims=True, initial=0)
    values = values / jnp.where(largest > 0, largest, 1).astype(dtype)
    length = jnp.sqrt(jnp.sum(jnp.abs(values) ** 2, axes, keepdims=True))
    factor = jnp.asarray(norm, length.dtype) / jnp.where(length > 0, length, 1)
    return values * factor.astype(dtype)


def _check_scaled(where: str, *, initializer: Any, factor: Any) -> dict[str, Any]:
    return {
        "initializer": check_initializer(where, "initializer", initializer),
        "factor": check_number(where, "factor", factor),
    }


def _check_depth_scaled(
    where: str,
    *,
    initializer: Any,
    num_layers: Any,
    per_block: Any,
    mode: Any,
    index: Any,
    axis: Any,
) -> dict[str, Any]:
    num_layers = check_int(where, "num_layers", num_layers, minimum=1)
    mode = check_choice(where, "mode", mode, ("depth", "index"))
    if index is not None:
        index = check_int(where, "index", index, minimum=0)
        if mode == "depth" or index >= num_layers:
            rule = f"None in mode 'depth', or below num_layers={num_layers} in 'index'"
            raise error(ValueError, where, "index", rule, index)
    return {
        "initializer": check_initializer(where, "initializer", initializer),
        "num_layers": num_layers,
        "per_block": check_int(where, "per_block", per_block, minimum=1),
        "mode": mode,
        "index": index,
        "axis": check_int(where, "axis", axis),
    }


def _check_normalized(
    where: str, *, initializer: Any, axis: Any, norm: Any
) -> dict[str, Any]:
    return {
        "initializer": check_initializer(where, "initializer", initializer),
        "axis": check_axes(where, "axis", axis),
        "norm": check_number(where, "norm", norm, minimum=0.0),
    }


def _depth_reads_layout(self: Any) -> bool:
    """False for stacked layers, because ``axis`` is an axis of the stored array."""
    return not _scales_by_index(self) and inner_reads_layout(self)


def _scales_by_index(self: Any) -> bool:
    """True for stacked layers, which have different factors."""
    return self.mode == "index" and self.index is None


@dataclass(frozen=True, repr=False)
class Scaled(Initializer):
    """``factor`` times the draw of an initializer: Var W = factor^2 Var V.

    W = factor * V, where V is the draw of ``initializer`` with the same key. Shapes are
    those that ``initializer`` supports.

    Attributes:
        initializer: The initializer to wrap: an object, its name or its config.
        factor: Any real number.
        seed: Seed for calls without a key.

    Example:
        >>> Scaled("he_normal", 0.1)(jax.random.key(0), (3, 4)).shape
        (3, 4)
    """

    initializer: Any
    factor: float
    seed: int | None = None

    function = staticmethod(scaled)
    check = staticmethod(_check_scaled)
    identifiers = ("scaled",)
    deterministic = deterministic_if_inner_is
    reads_layout = reads_layout_if_inner_does


@dataclass(frozen=True, repr=False)
class DepthScaled(Initializer):
    """Scales down residual branches by the root of their number.

    Var W = Var V / (per_block * n), where V is the draw of ``initializer`` with the
    same key. In mode "depth" n is the number of layers: the sum of all branches then
    has the variance of one unscaled branch (GPT-2). In mode "index" n is l + 1 in layer
    l = 0, 1, ...

    Attributes:
        initializer: The initializer to wrap: an object, its name or its config.
        num_layers: Number of layers.
        per_block: Number of residual branches in a layer: 2 in a transformer.
        mode: ``"depth"`` or ``"index"``.
        index: In mode "index" the number l of the layer, from 0. None: the array
            stacks all layers along ``axis``, as in a scan.
        axis: Axis of stacked layers.
        seed: Seed for calls without a key.

    Raises:
        ValueError: If ``index`` is not below ``num_layers``; in a call, if layers are
            stacked and the size of the shape along ``axis`` is not ``num_layers``.

    Example:
        >>> output = DepthScaled(jaxinit.RandomNormal(stddev=0.02), num_layers=12)
        >>> output(jax.random.key(0), (3072, 768)).shape
        (3072, 768)

    References:
        Radford et al., "Language models are unsupervised multitask learners", 2019,
        section 2.3; for mode "index" the code of Bao et al., "BEiT", 2021.
    """

    initializer: Any
    num_layers: int
    per_block: int = 2
    mode: str = "depth"
    index: int | None = None
    axis: int = 0
    seed: int | None = None

    function = staticmethod(depth_scaled)
    check = staticmethod(_check_depth_scaled)
    identifiers = ("depth_scaled",)
    deterministic = deterministic_if_inner_is
    reads_layout = property(_depth_reads_layout)
    draws_stack = property(lambda self: _scales_by_index(self) and self.axis == 0)


@dataclass(frozen=True, repr=False)
class Normalized(Initializer):
    """Scales the vectors along ``axis`` to one Euclidean length.

    W = norm * V / |V| for each vector V along ``axis`` of the draw of ``initializer``,
    and zero where V is zero. The mean of |W_i|^2 over a vector of n entries is
    norm^2 / n. If V is normal, the vectors are uniform on the sphere.

    Attributes:
        initializer: The initializer to wrap: an object, its name or its config.
        axis: Axis or axes of each vector: -1 for the vectors of an embedding, -2 for
            the inputs of each output of a kernel ``(in, out)``.
        norm: Length of each vector, at least 0.
        seed: Seed for calls without a key.

    Raises:
        ValueError: In a call, if the shape has no such axis.

    Example:
        >>> Normalized("normal", axis=-1)(jax.random.key(0), (50, 16)).shape
        (50, 16)
    """

    initializer: Any
    axis: Axes
    norm: float = 1.0
    seed: int | None = None

    function = staticmethod(normalized)
    check = staticmethod(_check_normalized)
    identifiers = ("normalized",)
    deterministic = deterministic_if_inner_is
