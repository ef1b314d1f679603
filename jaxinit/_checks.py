"""Checks of arguments, shared by every function and class.

Each check takes ``where``, which is the name of the function or class that the user
called, and the name of the argument. It returns the value in plain form. It raises a
TypeError for a wrong type and a ValueError for a wrong value. The message names the
argument, the rule and the value.
"""

import functools
import math
import operator
import reprlib
import warnings
from collections.abc import Collection, Sequence
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ._compat import (
    NamedSharding,
    OutSharding,
    PartitionSpec,
    Sharding,
    is_traced,
    read_config,
)

Axes: TypeAlias = int | tuple[int, ...]
FanAxis: TypeAlias = Axes | None
BatchAxes: TypeAlias = int | tuple[int, ...] | Literal["rest"]

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60
_repr.maxlevel = 3
_MOST = 300  # characters of a value in a message
_MOST_AXES = 64
_MOST_SIZE = 2**59  # elements: their bytes still fit in 64 bits, in any dtype


def error(
    kind: type[Exception], where: str, name: str, rule: str, value: object, cure=""
) -> Exception:
    """Makes an exception that names the call, argument, rule, value and cure."""
    call = f"{printable(where)}({printable(name)}=...)"  # there may be paths in both
    message = f"{call} must be {rule}; got {short(value)}."
    return kind(f"{message} {cure}".rstrip())


def short(value: object) -> str:
    """Returns a repr of bounded length for messages."""
    try:
        return clip(_repr.repr(value), _MOST)
    except ValueError:  # an int with more digits than Python prints
        return f"a {type(value).__name__} too large to print"


def clip(text: str, most: int) -> str:
    """Returns the text, shortened in the middle to at most ``most`` characters."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}...{text[len(text) + 3 + most // 2 - most :]}"


def printable(text: str, most: int = _MOST) -> str:
    r"""Returns the text, shortened and with its control characters escaped.

    Example:
        >>> printable("a\x1b[2Jb")
        'a\\x1b[2Jb'
    """
    text = clip(text, most)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def check_number(
    where: str, name: str, value: Any, *, minimum: float = -math.inf
) -> float:
    """Checks a finite real number, at least ``minimum``; a traced scalar passes."""
    if is_traced(value) and value.ndim == 0:
        return value
    rule = "a finite real number"
    value = _unwrapped(value)
    if isinstance(value, (bool, str)) or not hasattr(value, "__float__"):
        cure = "Text is not a number. YAML reads 1e-3 as text, and 1.0e-3 as a number."
        cure = cure if isinstance(value, str) else ""
        raise error(TypeError, where, name, rule, value, cure)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise error(TypeError, where, name, rule, value) from None
    if not math.isfinite(number):
        raise error(ValueError, where, name, rule, value)
    if number < minimum:
        raise error(ValueError, where, name, f"at least {minimum:g}", value)
    return number


def check_fraction(where: str, name: str, value: Any) -> float:
    """Checks a real number from 0 to 1; a traced scalar passes."""
    fraction = check_number(where, name, value)
    if not (is_traced(fraction) or 0 <= fraction <= 1):
        raise error(ValueError, where, name, "a number from 0 to 1", value)
    return fraction


def check_int(where: str, name: str, value: Any, *, minimum: int | None = None) -> int:
    """Checks an int that fits 64 bits, at least ``minimum``."""
    number = _as_int(value)
    if number is None:
        raise error(TypeError, where, name, "an int", value)
    if minimum is not None and number < minimum:
        raise error(ValueError, where, name, f"at least {minimum}", value)
    if not -(2**63) <= number < 2**63:
        raise error(ValueError, where, name, "an int of 64 bits", value)
    return number


def check_bound(where: str, name: str, value: Any) -> float:
    """Checks a real number or an infinity, neither traced nor NaN."""
    rule = "a real number or an infinity"
    if is_traced(value):
        raise error(TypeError, where, name, f"{rule}, not traced", value)
    value = _unwrapped(value)
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            raise error(ValueError, where, name, rule, value)
        return value
    return check_number(where, name, value)


def check_choice(where: str, name: str, value: Any, choices: Collection[Any]) -> Any:
    """Checks that the value is one of ``choices``."""
    if isinstance(value, (str, type(None))) and value in choices:
        return value
    rule = "one of " + ", ".join(map(repr, choices))
    raise error(ValueError, where, name, rule, value)


def check_bool(where: str, name: str, value: Any) -> bool:
    """Checks a bool of Python or NumPy."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise error(TypeError, where, name, "True or False", value)


def check_progress(where: str, value: Any) -> None:
    """Checks None or a function."""
    if value is not None and not callable(value):
        rule = "None or a function of (done, total, what)"
        raise error(TypeError, where, "progress", rule, value)


def check_function(
    where: str, name: str, value: Any, rule: str, cure: str = ""
) -> None:
    """Checks that the value can be called."""
    if not callable(value):
        raise error(TypeError, where, name, rule, value, cure)


def check_seed(where: str, name: str, value: Any) -> int | None:
    """Checks None or an int that fits 64 bits."""
    if value is None:
        return None
    seed = _as_int(value)
    rule = "None or an int of at most 64 bits"
    if seed is None:
        raise error(TypeError, where, name, rule, value)
    if not -(2**63) <= seed < 2**63:
        raise error(ValueError, where, name, rule, value)
    return seed


def check_size(where: str, name: str, value: Any) -> int:
    """Checks an int of at least 1 that fits 64 bits."""
    return check_int(where, name, value, minimum=1)


def check_axes(where: str, name: str, value: Any) -> Axes:
    """Checks an int or a sequence of distinct ints, and returns an int or a tuple."""
    rule = "an int or a tuple of ints"
    axis = _as_int(value)
    if axis is not None:
        return axis
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence | np.ndarray):
        raise error(TypeError, where, name, rule, value)
    if len(value) > _MOST_AXES:
        raise error(ValueError, where, name, f"at most {_MOST_AXES} axes", value)
    axes = tuple(_as_int(v) for v in value)
    if None in axes:
        raise error(TypeError, where, name, rule, value)
    if len(set(axes)) != len(axes):
        raise error(ValueError, where, name, "distinct axes", value)
    return axes  # pyright: ignore[reportReturnType]


def check_batch_axes(where: str, name: str, value: Any) -> BatchAxes:
    """Checks an int, a sequence of distinct ints, or ``"rest"``."""
    if isinstance(value, str) and value == "rest":
        return "rest"
    return check_axes(where, name, value)


def check_shape(where: str, shape: Any) -> tuple[int, ...]:
    """Returns a shape as a tuple of non-negative Python ints."""
    if type(shape) is tuple and all(type(d) is int and d >= 0 for d in shape):
        return _within_limits(where, shape)  # keeps the usual case fast
    rule = "a sequence of non-negative ints"
    if isinstance(shape, (str, bytes)) or not isinstance(shape, Sequence | np.ndarray):
        cure = "" if _as_int(shape) is None else f"Write ({shape},) for one dimension."
        if is_dtype(shape):  # the call was init(shape, dtype)
            cure = "For Haiku, which passes no key, use jaxinit.haiku.to_haiku."
        raise error(TypeError, where, "shape", rule, shape, cure)
    dims = tuple(_as_int(d) for d in shape)
    if None in dims:
        cure = "A shape is static: it cannot depend on traced values."
        traced = any(is_traced(d) for d in shape)
        raise error(TypeError, where, "shape", rule, shape, cure if traced else "")
    if any(d < 0 for d in dims if d is not None):
        raise error(ValueError, where, "shape", rule, shape)
    return _within_limits(where, dims)  # pyright: ignore[reportArgumentType]


def _within_limits(where: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Refuses a shape that is too large for NumPy, or at which XLA would crash."""
    if len(shape) > _MOST_AXES:
        rule = f"a shape of at most {_MOST_AXES} dimensions, the limit of NumPy"
        raise error(ValueError, where, "shape", rule, shape)
    if math.prod(shape) >= _MOST_SIZE or math.prod(d or 1 for d in shape) >= _MOST_SIZE:
        rule = "a shape of fewer than 2**59 elements (an empty dimension counts as 1)"
        raise error(ValueError, where, "shape", rule, shape)
    return shape


def check_broadcastable(
    where: str, name: str, value: Any, shape: tuple[int, ...]
) -> None:
    """Raises unless the array ``value`` broadcasts to ``shape``."""
    trailing = zip(reversed(value.shape), reversed(shape), strict=False)
    if len(value.shape) > len(shape) or any(v not in (1, s) for v, s in trailing):
        rule = f"broadcastable to shape {shape}"
        raise error(ValueError, where, name, rule, f"shape {value.shape}")


def check_dtype(
    where: str, dtype: Any, kinds: tuple[Any, ...] = (jnp.inexact,)
) -> np.dtype[Any]:
    """Returns a NumPy dtype of one of ``kinds``; None is JAX's default float."""
    if dtype is None:
        return jax.dtypes.canonicalize_dtype(float)
    rule = "a dtype of " + " or ".join(k.__name__ for k in kinds) + " kind"
    try:
        wanted = read_dtype(dtype)
    except (TypeError, ValueError):
        raise error(TypeError, where, "dtype", rule, dtype) from None
    if not any(jnp.issubdtype(wanted, kind) for kind in kinds):
        raise error(TypeError, where, "dtype", rule, wanted.name)
    if wanted.name == "float8_e8m0fnu" and jnp.inexact in kinds and len(kinds) == 1:
        raise error(TypeError, where, "dtype", "a signed dtype", wanted.name)
    long_double = wanted.kind in "fc" and not hasattr(jnp, wanted.name)
    if long_double or not wanted.isnative:
        raise error(TypeError, where, "dtype", "a dtype of JAX", wanted)
    dtype = jax.dtypes.canonicalize_dtype(wanted)
    if dtype != wanted:
        warnings.warn(
            f"{where}(dtype={wanted.name}) gives {dtype.name}. For 64-bit types call "
            "jax.config.update('jax_enable_x64', True).",
            stacklevel=4,
        )
    return dtype


def read_dtype(dtype: Any) -> np.dtype[Any]:
    """Returns a dtype, which may be given by name.

    NumPy also parses texts that are not names; they are refused.

    Raises:
        TypeError, ValueError: If ``dtype`` is not a dtype.
    """
    if isinstance(dtype, str) and not dtype.lstrip("<>=|").isidentifier():
        raise TypeError(f"{short(dtype)} is not the name of a dtype.")
    return jnp.dtype(dtype)


def is_dtype(x: Any) -> bool:
    """True for a dtype or a scalar type; False for a name."""
    return isinstance(x, (type, np.dtype))


def check_key(where: str, key: Any) -> jax.Array:
    """Checks one PRNG key, typed or raw, and returns it as an array."""
    rule = "one PRNG key"
    cure = "Make one with jax.random.key(0)."
    if isinstance(key, np.ndarray):
        key = jnp.asarray(key)
    if not isinstance(key, jax.Array):
        raise error(TypeError, where, "key", rule, key, cure)
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed and key.dtype != np.uint32:
        raise error(TypeError, where, "key", rule, key, cure)
    one = () if typed else _raw_key_shape(read_config("jax_default_prng_impl"))
    if key.shape != one:
        cure = "For many keys use jax.vmap(lambda key: init(key, shape))(keys)."
        if not typed and key.ndim == 1:
            cure = "Name its implementation: jax.random.wrap_key_data(key, impl='rbg')."
        got = f"keys of shape {key.shape}" if typed else f"uint32{list(key.shape)}"
        raise error(ValueError, where, "key", rule, got, cure)
    return key


def check_out_sharding(where: str, out_sharding: Any, ndim: int) -> OutSharding:
    """Checks a sharding of a result of ``ndim`` dimensions, or None."""
    spec = out_sharding
    if isinstance(out_sharding, NamedSharding):
        spec = out_sharding.spec
    elif out_sharding is None or isinstance(out_sharding, Sharding):
        return out_sharding
    if not isinstance(spec, PartitionSpec):
        rule = "a Sharding, a PartitionSpec or None"
        raise error(TypeError, where, "out_sharding", rule, out_sharding)
    if len(spec) > ndim:
        rule = f"a PartitionSpec of at most {ndim} entries, one per dimension"
        raise error(ValueError, where, "out_sharding", rule, out_sharding)
    return out_sharding


def check_draw(
    where: str, key: Any, shape: Any, dtype: Any, out_sharding: Any
) -> tuple[jax.Array, tuple[int, ...], np.dtype[Any], OutSharding]:
    """Checks the arguments that every random function has."""
    shape = check_shape(where, shape)  # first: its message tells of a missing key
    key = check_key(where, key)
    dtype = check_dtype(where, dtype)
    return key, shape, dtype, check_out_sharding(where, out_sharding, len(shape))


def _unwrapped(value: Any) -> Any:
    """Returns an array without dimensions as a Python number, else the value."""
    if not isinstance(value, (np.generic, np.ndarray, jax.Array)) or value.ndim:
        return value
    is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    return value if is_key else value.item()


@functools.cache
def _raw_key_shape(impl: str) -> tuple[int, ...]:
    return jax.eval_shape(lambda: jax.random.PRNGKey(0, impl=impl)).shape


def _as_int(value: Any) -> int | None:
    if isinstance(value, (bool, np.bool_)) or is_traced(value):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None
