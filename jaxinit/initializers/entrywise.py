"""Combinators that change a draw entry by entry: mask, clip, round.

The inner initializer draws V in the dtype of the computation. The combinator changes V
in this dtype and rounds the result W to the requested dtype once. Only `as_dtype`
rounds twice.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import (
    check_bound,
    check_broadcastable,
    check_fraction,
    check_key,
    error,
    read_dtype,
)
from .._compat import OutSharding, Shape, is_traced
from .._frozen import FrozenArray
from .._program import program
from .base import Initializer
from .nested import (
    ANY_KIND,
    check_initializer,
    check_nested,
    deterministic_if_inner_is,
    draw,
    inner_is_deterministic,
    inner_reads_layout,
    reads_layout_if_inner_does,
)


def masked(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializer: Any,
    mask: Any = None,
    sparsity: float | None = None,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Sets entries to zero, by a mask or at random.

    V is the draw of ``initializer``. With a mask W is V where the mask is true, and 0
    elsewhere. With a sparsity p each W_i is 0 with probability p, independently, and
    V_i otherwise: E|W|^2 = (1 - p) E|V|^2 and Var W = (1 - p) (Var V + p |E V|^2).
    (`sparse` has a fixed number of zeros instead.)

    Args:
        key: PRNG key, typed or raw, never reused by this function. May be None if
            ``initializer`` is deterministic and ``mask`` is given.
        shape: A shape that ``initializer`` supports and ``mask`` broadcasts to.
        dtype: A dtype that ``initializer`` supports.
        initializer: The initializer to wrap: an object, its name or its config.
        mask: Array of bools: True keeps the entry of V.
        sparsity: Probability of a zero. Pass it instead of ``mask``.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If both or neither of ``mask`` and ``sparsity`` are given, or the
            mask does not broadcast.

    Example:
        >>> masked(None, (2, 2), initializer="ones", mask=[[True, False]])
        Array([[1., 0.],
               [1., 0.]], dtype=float32)
    """
    where = "masked"
    a = _check_masked(where, initializer=initializer, mask=mask, sparsity=sparsity)
    inner, mask = a["initializer"], a["mask"]
    draws = key, shape, dtype, out_sharding
    args = check_nested(where, (inner,), *draws, kinds=ANY_KIND)
    if mask is None:
        check_key(where, args[0])
        return _thinned(*args, a["sparsity"], initializer=inner)
    check_broadcastable(where, "mask", mask, args[1])
    mask = mask if is_traced(mask) else np.asarray(mask)
    return _masked(*args, mask, initializer=inner)


def clipped(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializer: Any,
    lower: float,
    upper: float,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Moves values outside two bounds onto the nearer bound.

    W = min(max(V, lower), upper), where V is the draw of ``initializer``. (A truncated
    normal has no values at the bounds.) If V ~ N(0, s^2) and the bounds are -b and b,
    then with a = b / s Var W = s^2 (P(|z| < a) - 2 a phi(a) + a^2 P(|z| > a)), where z
    is standard normal and phi is its density.

    In a complex dtype the bounds limit the modulus, and lower must be -upper:
    W = V min(1, upper / |V|). If V is circular normal with E|V|^2 = s^2, then
    E|W|^2 = s^2 (1 - exp(-a^2)).

    Args:
        key: PRNG key, typed or raw, never reused by this function. May be None if
            ``initializer`` is deterministic.
        shape: A shape that ``initializer`` supports.
        dtype: Floating or complex dtype.
        initializer: The initializer to wrap: an object, its name or its config.
        lower: Lower bound; it may be -inf.
        upper: Upper bound, at least ``lower``; it may be inf.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If ``upper < lower``, or ``dtype`` is complex and the bounds are
            not symmetric.

    Example:
        >>> w = clipped(None, (2,), initializer="ones", lower=-0.5, upper=0.5)
        >>> w
        Array([0.5, 0.5], dtype=float32)
    """
    where = "clipped"
    a = _check_clipped(where, initializer=initializer, lower=lower, upper=upper)
    inner, lower, upper = a["initializer"], a["lower"], a["upper"]
    args = check_nested(where, (inner,), key, shape, dtype, out_sharding)
    if args[2].kind == "c" and lower != -upper:
        rule = f"-upper={-upper} for a complex dtype: the bounds limit the modulus"
        raise error(ValueError, where, "lower", rule, lower)
    return _clipped(*args, lower, upper, initializer=inner)


def as_dtype(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializer: Any,
    sample_dtype: Any,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Rounds to ``sample_dtype`` first, then to the requested dtype.

    Every other initializer rounds once, to the requested dtype. This one asks
    ``initializer`` for an array of ``sample_dtype``. So float32 parameters can have
    exactly the values of bfloat16 parameters. In bfloat16 the rounding changes an entry
    by a relative 2^-9 at most.

    Args:
        key: PRNG key, typed or raw, never reused by this function. May be None if
            ``initializer`` is deterministic.
        shape: A shape that ``initializer`` supports.
        dtype: Floating or complex dtype of the result.
        initializer: The initializer to wrap: an object, its name or its config.
        sample_dtype: Floating dtype to round to first. In a complex result the real
            and the imaginary parts are rounded to it.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Example:
        >>> third = {"initializer": jaxinit.Constant(1 / 3), "sample_dtype": "bfloat16"}
        >>> as_dtype(None, (1,), **third)
        Array([0.33398438], dtype=float32)
    """
    where = "as_dtype"
    a = _check_as_dtype(where, initializer=initializer, sample_dtype=sample_dtype)
    inner, through = a["initializer"], a["sample_dtype"]
    args = check_nested(where, (inner,), key, shape, dtype, out_sharding)
    return _rounded(*args, initializer=inner, through=through)


@program
def _masked(key, shape, dtype, mask, *, initializer):
    values = draw(initializer, key, shape, dtype)
    return jnp.where(mask, values, jnp.zeros_like(values))


@program
def _thinned(key, shape, dtype, sparsity, *, initializer):
    values_key, mask_key = jax.random.split(key)
    values = draw(initializer, values_key, shape, dtype)
    # float32 in every dtype: then all dtypes keep the same entries.
    kept = jax.random.uniform(mask_key, shape, jnp.float32) >= sparsity
    return jnp.where(kept, values, jnp.zeros_like(values))


@program
def _clipped(key, shape, dtype, lower, upper, *, initializer):
    values = draw(initializer, key, shape, dtype)
    lower, upper = (jnp.asarray(x, values.real.dtype) for x in (lower, upper))
    if jnp.iscomplexobj(values):
        modulus = jnp.abs(values)
        cut = values * (upper / modulus).astype(values.dtype)
        return jnp.where(modulus > upper, cut, values)
    return jnp.clip(values, lower, upper)


@program
def _rounded(key, shape, dtype, *, initializer, through):
    def rounded(values: jax.Array) -> jax.Array:
        # Without the barrier XLA drops a rounding if the result is widened again.
        values = lax.optimization_barrier(values.astype(through))
        return values.astype(jnp.finfo(dtype).dtype)

    if jnp.issubdtype(dtype, jnp.complexfloating):
        values = draw(initializer, key, shape, dtype)
        return lax.complex(rounded(values.real), rounded(values.imag))
    return rounded(draw(initializer, key, shape, np.dtype(through)))


def _check_masked(
    where: str, *, initializer: Any, mask: Any, sparsity: Any
) -> dict[str, Any]:
    if (mask is None) == (sparsity is None):
        rule = "an array if sparsity is None, else None"
        raise error(ValueError, where, "mask", rule, mask)
    if sparsity is not None:
        sparsity = check_fraction(where, "sparsity", sparsity)
    elif not is_traced(mask) and not isinstance(mask, FrozenArray):
        array = np.asarray(FrozenArray.from_plain(where, "mask", mask))
        if not np.isin(array, (0, 1)).all():
            cure = "For a probability of zeros pass sparsity=."
            raise error(ValueError, where, "mask", "an array of bools", mask, cure)
        mask = FrozenArray(array.astype(bool))
    return {
        "initializer": check_initializer(where, "initializer", initializer),
        "mask": mask,
        "sparsity": sparsity,
    }


def _check_clipped(
    where: str, *, initializer: Any, lower: Any, upper: Any
) -> dict[str, Any]:
    lower = check_bound(where, "lower", lower)
    upper = check_bound(where, "upper", upper)
    if upper < lower:
        raise error(ValueError, where, "upper", f"at least lower={lower}", upper)
    initializer = check_initializer(where, "initializer", initializer)
    return {"initializer": initializer, "lower": lower, "upper": upper}


def _check_as_dtype(
    where: str, *, initializer: Any, sample_dtype: Any
) -> dict[str, Any]:
    try:
        dtype = None if sample_dtype is None else read_dtype(sample_dtype)
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        rule = "a floating dtype"
        raise error(TypeError, where, "sample_dtype", rule, sample_dtype)
    initializer = check_initializer(where, "initializer", initializer)
    return {"initializer": initializer, "sample_dtype": dtype.name}


@dataclass(frozen=True, repr=False)
class Masked(Initializer):
    """Sets entries to zero, by a mask or at random.

    V is the draw of ``initializer``. With a mask W is V where the mask is true, and 0
    elsewhere. With a sparsity p each W_i is 0 with probability p, independently, and
    V_i otherwise: E|W|^2 = (1 - p) E|V|^2. Shapes are those that ``initializer``
    supports.

    Attributes:
        initializer: The initializer to wrap: an object, its name or its config.
        mask: Array of bools that broadcasts to the shape: True keeps the entry of V.
        sparsity: Probability of a zero. Pass it instead of ``mask``.
        seed: Seed for calls without a key.

    Raises:
        ValueError: If both or neither of ``mask`` and ``sparsity`` are given; in a
            call, if the mask does not broadcast.

    Example:
        >>> lower = Masked("he_normal", np.tri(4))
        >>> lower(jax.random.key(0), (4, 4)).shape
        (4, 4)
    """

    initializer: Any
    mask: Any = None
    sparsity: float | None = None
    seed: int | None = None

    function = staticmethod(masked)
    check = staticmethod(_check_masked)
    identifiers = ("masked",)
    deterministic = property(
        lambda self: self.mask is not None and inner_is_deterministic(self)
    )
    reads_layout = property(lambda self: self.mask is None and inner_reads_layout(self))


@dataclass(frozen=True, repr=False)
class Clipped(Initializer):
    """Moves values outside two bounds onto the nearer bound.

    W = min(max(V, lower), upper), where V is the draw of ``initializer``. In a complex
    dtype the bounds limit the modulus: W = V min(1, upper / |V|), and lower must be
    -upper. Shapes are those that ``initializer`` supports.

    Attributes:
        initializer: The initializer to wrap: an object, its name or its config.
        lower: Lower bound; it may be -inf.
        upper: Upper bound, at least ``lower``; it may be inf.
        seed: Seed for calls without a key.

    Raises:
        ValueError: If ``upper < lower``; in a call, if the dtype is complex and the
            bounds are not symmetric.

    Example:
        >>> Clipped("normal", -0.1, 0.1)(jax.random.key(0), (3, 4)).shape
        (3, 4)
    """

    initializer: Any
    lower: float
    upper: float
    seed: int | None = None

    function = staticmethod(clipped)
    check = staticmethod(_check_clipped)
    identifiers = ("clipped",)
    deterministic = deterministic_if_inner_is
    reads_layout = reads_layout_if_inner_does


@dataclass(frozen=True, repr=False)
class AsDtype(Initializer):
    """Rounds to ``sample_dtype`` first, then to the requested dtype.

    ``initializer`` draws an array of ``sample_dtype``. So float32 parameters can have
    exactly the values of bfloat16 parameters. Shapes are those that ``initializer``
    supports.

    Attributes:
        initializer: The initializer to wrap: an object, its name or its config.
        sample_dtype: Floating dtype to round to first.
        seed: Seed for calls without a key.

    Example:
        >>> w = AsDtype("he_normal", "bfloat16")(jax.random.key(0), (3, 4))
        >>> w.dtype, bool((w == w.astype(jnp.bfloat16)).all())
        (dtype('float32'), True)
    """

    initializer: Any
    sample_dtype: str
    seed: int | None = None

    function = staticmethod(as_dtype)
    check = staticmethod(_check_as_dtype)
    identifiers = ("as_dtype",)
    deterministic = deterministic_if_inner_is
    reads_layout = reads_layout_if_inner_does
