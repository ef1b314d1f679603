"""FrozenArray: a hashable array for the fields of frozen dataclasses."""

from collections.abc import Mapping
from typing import Any, Self

import jax.numpy as jnp
import numpy as np

from ._checks import error, read_dtype
from ._compat import is_traced

_MOST_AXES = 64  # the limit of NumPy


class FrozenArray:
    """A read-only NumPy array with value equality, a hash and a config."""

    __slots__ = ("_array",)

    def __init__(self, values: Any) -> None:
        """Copies ``values``, an array or array-like of numbers."""
        array: Any = np.array(values)
        array = array.astype(array.dtype.newbyteorder("="), copy=False)
        if jnp.issubdtype(array.dtype, jnp.inexact):
            parts = (array.real, array.imag) if array.dtype.kind == "c" else (array,)
            for part in parts:
                part[np.isnan(part)] = np.nan  # so that all NaNs are equal
        array.flags.writeable = False
        object.__setattr__(self, "_array", array)

    @classmethod
    def from_plain(cls, where: str, name: str, value: Any) -> Self:
        """Reads a number, nested lists, an array, or the dict of `to_plain`."""
        rule = "a number or an array of numbers"
        if is_traced(value):
            cure = "For traced numbers use the function in jaxinit.functional."
            raise error(TypeError, where, name, rule, value, cure)
        dtype = shape = None
        try:
            if isinstance(value, Mapping):
                config = value["config"]
                value, dtype = config["value"], config["dtype"]
                shape = config.get("shape")
                if isinstance(value, Mapping):
                    value = _complex(value["real"], value["imag"])
            # NumPy would make an array of text, with entries as wide as the longest.
            array = np.array(None if _holds_text(value) else value)
            if shape is not None:
                array = array.reshape(shape)
            if _is_numeric(array.dtype) and dtype is not None:
                array = _converted(array, dtype)
        except (TypeError, ValueError, KeyError, OverflowError):
            raise error(ValueError, where, name, rule, value) from None
        if not _is_numeric(array.dtype):
            raise error(TypeError, where, name, rule, value)
        return cls(array)

    def to_plain(self) -> dict[str, Any]:
        """Returns the array as JSON-serializable data, in the form of Keras 3."""
        array = self._array
        values: Any = array
        if array.dtype.kind == "c":
            values = {"real": array.real.tolist(), "imag": array.imag.tolist()}
        elif array.dtype.kind in "biuf":
            values = array.tolist()
        else:  # float64 holds bfloat16 and other narrow dtypes exactly
            values = array.astype(np.float64).tolist()
        config = {"value": values, "dtype": array.dtype.name}
        if 0 in array.shape[:-1]:  # nested lists lose the axes after an empty one
            config["shape"] = list(array.shape)
        return {"class_name": "__numpy__", "config": config}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array."""
        return self._array.shape

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._array, dtype, copy=copy)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("A FrozenArray is read-only.")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FrozenArray):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        return f"array(shape={self.shape}, dtype={self._array.dtype.name})"

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenArray, (self._array,)

    def _identity(self) -> tuple[Any, ...]:
        return self._array.shape, self._array.dtype.name, self._array.tobytes()


def _holds_text(value: Any) -> bool:
    """True for a text, or for nested lists that contain one."""
    level = [value]
    for _ in range(_MOST_AXES):
        if any(isinstance(x, str | bytes) for x in level):
            return True
        level = [inner for x in level if isinstance(x, list | tuple) for inner in x]
        if not level:
            break
    return False


def _complex(real: Any, imag: Any) -> np.ndarray:
    """Joins real and imaginary parts; a sum would lose infinities and signs of zero."""
    if _holds_text(real) or _holds_text(imag):
        raise ValueError("text is not a number")
    array = np.empty(np.shape(real), np.complex128)
    array.real, array.imag = real, imag
    return array


def _is_numeric(dtype: np.dtype) -> bool:
    return dtype == np.bool_ or jnp.issubdtype(dtype, jnp.number)


def _converted(array: np.ndarray, name: str) -> np.ndarray:
    """Converts an array to the dtype called ``name``, or raises a ValueError."""
    dtype = read_dtype(name)
    # NumPy also reads other texts as dtypes, such as "S9999999".
    if dtype.name != name or not _is_numeric(dtype):
        raise ValueError(name)
    if array.dtype.kind == "c" and not jnp.issubdtype(dtype, jnp.complexfloating):
        raise ValueError(name)
    with np.errstate(invalid="ignore"):
        converted = array.astype(dtype)
    if not jnp.issubdtype(dtype, jnp.inexact) and not (converted == array).all():
        raise ValueError(name)
    return converted
