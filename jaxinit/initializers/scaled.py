"""Combinators that scale a draw: by a number, by depth, to a length.

What is held is drawn in the dtype to compute in, scaled there, and rounded to the
requested dtype once. V stands for its values, those that the same key gives it by
itself, and W for the result.
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
    """``factor`` times what an initializer draws: Var W = factor^2 Var V.

    Args:
        key: PRNG key, typed or raw, never reused by this function; may be None
            where ``initializer`` needs none.
        shape: A shape that ``initializer`` serves.
        dtype: Floating or complex dtype.
        initializer: Of V: an initializer, or the name or config of one.
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
    """Less for what adds to a residual stream, by the number of additions.

    Var W = Var V / (per_block * n). n is the number of layers in mode "depth", so
    that all additions together have the variance of one (GPT-2); in mode "index"
    it is l + 1 in layer l = 0, 1, ..., the additions until then.

    Args:
        key: As for `scaled`.
        shape: A shape that ``initializer`` serves.
        dtype: Floating or complex dtype.
        initializer: Of V: an initializer, or the name or config of one.
        num_layers: Number of layers.
        per_block: Additions to the stream per layer: 2 in a transformer.
        mode: ``"depth"`` or ``"index"``.
        index: In mode "index" the layer l, from 0; None where the layers are
            stacked along ``axis``, as those of a scan, and each has its own.
        axis: Axis of the layers where they are stacked.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``index`` is not below ``num_layers``, or None in mode "index"
            and ``shape`` has not ``num_layers`` along ``axis``.

    Example:
        >>> of_layers = {"initializer": "ones", "num_layers": 4, "mode": "index"}
        >>> depth_scaled(None, (4, 1), per_block=1, **of_layers).ravel().round(3)
        Array([1.   , 0.707, 0.577, 0.5  ], dtype=float32)

    References:
        Radford et al., "Language models are unsupervised multitask learners", 2019,
        section 2.3; Bao et al., "BEiT", 2021, whose code has the layer's index.
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
    held, n = a["initializer"], a["num_layers"]
    args = check_nested(where, (held,), key, shape, dtype, out_sharding)
    shape = args[1]
    if a["mode"] == "depth":
        factor = (a["per_block"] * n) ** -0.5
    elif a["index"] is not None:
        factor = (a["per_block"] * (a["index"] + 1)) ** -0.5
    else:
        (axis,) = resolve_axes(where, "axis", a["axis"], shape)
        if shape[axis] != n:
            rule = f"of {n} layers along axis {axis}, or of one layer with index=l"
            raise error(ValueError, where, "shape", rule, shape)
        factor = (a["per_block"] * np.arange(1.0, n + 1)) ** -0.5
        factor = factor.reshape(-1, *(1,) * (len(shape) - axis - 1))
    return _scaled(*args, factor, initializer=held)


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
    """Vectors along ``axis`` scaled to one Euclidean length.

    W = norm * V / |V| for each vector V of n entries along ``axis``, zero where V is,
    so the mean of |W_i|^2 over a vector is norm^2 / n. Of a normal V the vectors are
    uniform on the sphere. (1 + W_i / norm) / 2 is then Beta((n - 1) / 2, (n - 1) / 2),
    and |W_i / norm|^2 Beta(1, n - 1) if complex.

    Args:
        key: As for `scaled`.
        shape: A shape that ``initializer`` serves.
        dtype: Floating or complex dtype.
        initializer: Of V: an initializer, or the name or config of one.
        axis: Axis or axes that a vector extends along: -1 for the rows of an
            embedding, -2 for the inputs of each unit of a kernel ``(in, out)``.
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
    held = a["initializer"]
    args = check_nested(where, (held,), key, shape, dtype, out_sharding)
    axes = tuple(sorted(resolve_axes(where, "axis", a["axis"], args[1])))
    return _normalized(*args, a["norm"], initializer=held, axes=axes)


@program
def _scaled(key, shape, dtype, factor, *, initializer):
    values = draw(initializer, key, shape, dtype)
    # Known inside jit, it would be multiplied with the factors of the draw first,
    # which rounds otherwise than in an eager call.
    factor = lax.optimization_barrier(jnp.asarray(factor, jnp.finfo(dtype).dtype))
    return values * factor.astype(dtype)


@program
def _normalized(key, shape, dtype, norm, *, initializer, axes):
    values = draw(initializer, key, shape, dtype)
    # Of a largest entry 1 first, so that no square overflows or vanishes.
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
            rule = f"None in mode 'depth', below num_layers={num_layers} in 'index'"
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
    """False for stacked layers, whose array has an axis of layers more."""
    is_stacked = self.mode == "index" and self.index is None
    return not is_stacked and inner_reads_layout(self)


@dataclass(frozen=True, repr=False)
class Scaled(Initializer):
    """A draw times a number: the class of `jaxinit.functional.scaled`.

    Attributes:
        initializer: Of V: an initializer, or the name or config of one.
        factor: Any real number.
        seed: Seed of the key to use where a call passes none.

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
    """Scaled by depth: the class of `jaxinit.functional.depth_scaled`.

    Attributes:
        initializer: Of V: an initializer, or the name or config of one.
        num_layers: Number of layers.
        per_block: Additions to the residual stream per layer.
        mode: ``"depth"`` or ``"index"``.
        index: In mode "index" the layer, from 0; None where layers are stacked.
        axis: Axis of the layers where they are stacked.
        seed: Seed of the key to use where a call passes none.

    Example:
        >>> output = DepthScaled(jaxinit.RandomNormal(stddev=0.02), num_layers=12)
        >>> output(jax.random.key(0), (3072, 768)).shape
        (3072, 768)
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


@dataclass(frozen=True, repr=False)
class Normalized(Initializer):
    """Vectors of one length: the class of `jaxinit.functional.normalized`.

    Attributes:
        initializer: Of V: an initializer, or the name or config of one.
        axis: Axis or axes that a vector extends along.
        norm: Length of each vector.
        seed: Seed of the key to use where a call passes none.

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
