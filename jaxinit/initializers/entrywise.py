"""Combinators that change a draw entry by entry: mask, clip, round.

What is held is drawn in the dtype to compute in, changed there, and rounded to the
requested dtype once; but `as_dtype` rounds twice. V stands for its values, and W for
the result.
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
    """Zero at given places, or at each place with a given probability.

    Of a mask: W = V where it is true, so Var W = Var V there and 0 elsewhere. Of a
    sparsity p: W_i = 0 with probability p, independently, so E|W|^2 = (1 - p) E|V|^2
    and Var W = (1 - p) (Var V + p |E V|^2). (`sparse` has fixed numbers of zeros.)

    Args:
        key: PRNG key, typed or raw, never reused by this function; may be None
            where ``initializer`` needs none and ``mask`` is given.
        shape: A shape that ``initializer`` serves and ``mask`` broadcasts to.
        dtype: A dtype that ``initializer`` serves.
        initializer: Of V: an initializer, or the name or config of one.
        mask: Array of bools, true where V is kept.
        sparsity: Probability of a zero, instead of ``mask``.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If not just one of ``mask`` and ``sparsity`` is given, or the mask
            does not broadcast.

    Example:
        >>> masked(None, (2, 2), initializer="ones", mask=[[True, False]])
        Array([[1., 0.],
               [1., 0.]], dtype=float32)
    """
    where = "masked"
    a = _check_masked(where, initializer=initializer, mask=mask, sparsity=sparsity)
    held, mask = a["initializer"], a["mask"]
    args = check_nested(where, (held,), key, shape, dtype, out_sharding, kinds=ANY_KIND)
    if mask is None:
        check_key(where, args[0])
        return _thinned(*args, a["sparsity"], initializer=held)
    check_broadcastable(where, "mask", mask, args[1])
    mask = mask if is_traced(mask) else np.asarray(mask)
    return _masked(*args, mask, initializer=held)


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
    """What is beyond a bound is put on it, unlike in a truncated normal.

    W = min(max(V, lower), upper). For V ~ N(0, s^2) and bounds of -b and b, with
    a = b / s, Var W = s^2 (P(|z| < a) - 2 a phi(a) + a^2 P(|z| > a)), z standard
    normal of density phi. In a complex dtype the modulus is cut, which needs
    lower = -upper: W = V min(1, upper / |V|), for a circular normal of
    E|V|^2 = s^2 with E|W|^2 = s^2 (1 - exp(-a^2)).

    Args:
        key: As for `masked`.
        shape: A shape that ``initializer`` serves.
        dtype: Floating or complex dtype.
        initializer: Of V: an initializer, or the name or config of one.
        lower: Lower bound, may be -inf.
        upper: Upper bound, at least ``lower``, may be inf.
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
    held, lower, upper = a["initializer"], a["lower"], a["upper"]
    args = check_nested(where, (held,), key, shape, dtype, out_sharding)
    if args[2].kind == "c" and lower != -upper:
        rule = f"-upper={-upper} for a complex dtype, whose modulus is cut"
        raise error(ValueError, where, "lower", rule, lower)
    return _clipped(*args, lower, upper, initializer=held)


def as_dtype(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    initializer: Any,
    sample_dtype: Any,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Rounded to ``sample_dtype`` on the way, whatever is asked for.

    Every other initializer rounds once. This one asks what it holds for
    ``sample_dtype``: float32 parameters have exactly the values of bfloat16 ones. The
    variance is that of V in ``sample_dtype``: for a V that rounds once, Var V up to
    the rounding, a relative 2^-9 per entry at most in bfloat16.

    Args:
        key: As for `masked`.
        shape: A shape that ``initializer`` serves.
        dtype: Floating or complex dtype of the result.
        initializer: Of V: an initializer, or the name or config of one.
        sample_dtype: Floating dtype to round to first; in a complex result, that of
            the real and the imaginary parts.
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
    held, through = a["initializer"], a["sample_dtype"]
    args = check_nested(where, (held,), key, shape, dtype, out_sharding)
    return _rounded(*args, initializer=held, through=through)


@program
def _masked(key, shape, dtype, mask, *, initializer):
    values = draw(initializer, key, shape, dtype)
    return jnp.where(mask, values, jnp.zeros_like(values))


@program
def _thinned(key, shape, dtype, sparsity, *, initializer):
    values_key, mask_key = jax.random.split(key)
    values = draw(initializer, values_key, shape, dtype)
    # In float32 whatever the dtype, so that the same entries are kept in all.
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
        # XLA drops a rounding that it sees widened again, where it may.
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
        rule = "given, or else sparsity, and not both"
        raise error(ValueError, where, "mask", rule, mask)
    if sparsity is not None:
        sparsity = check_fraction(where, "sparsity", sparsity)
    elif not is_traced(mask) and not isinstance(mask, FrozenArray):
        array = np.asarray(FrozenArray.from_plain(where, "mask", mask))
        if not np.isin(array, (0, 1)).all():
            cure = "For a fraction of zeros pass sparsity=."
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
        dtype = None if sample_dtype is None else jnp.dtype(sample_dtype)
    except (TypeError, ValueError):
        dtype = None
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        rule = "a floating dtype"
        raise error(TypeError, where, "sample_dtype", rule, sample_dtype)
    initializer = check_initializer(where, "initializer", initializer)
    return {"initializer": initializer, "sample_dtype": dtype.name}


@dataclass(frozen=True, repr=False)
class Masked(Initializer):
    """Zero at some places: the class of `jaxinit.functional.masked`.

    Attributes:
        initializer: Of V: an initializer, or the name or config of one.
        mask: Array of bools, true where V is kept.
        sparsity: Probability of a zero, instead of ``mask``.
        seed: Seed of the key to use where a call passes none.

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
    """A draw within bounds: the class of `jaxinit.functional.clipped`.

    Attributes:
        initializer: Of V: an initializer, or the name or config of one.
        lower: Lower bound, may be -inf.
        upper: Upper bound, may be inf.
        seed: Seed of the key to use where a call passes none.

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
    """Rounded to a dtype on the way: the class of `jaxinit.functional.as_dtype`.

    Attributes:
        initializer: Of V: an initializer, or the name or config of one.
        sample_dtype: Floating dtype to round to first.
        seed: Seed of the key to use where a call passes none.

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
