"""Initializer: the base class, with the call and the config of all initializers."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import (
    check_dtype,
    check_key,
    check_out_sharding,
    check_seed,
    check_shape,
    clip,
    error,
    is_dtype,
    short,
)
from .._compat import OutSharding, Shape, may_transfer
from .._exact import exact
from .._frozen import FrozenArray
from .._plain import is_mapping, plain
from .._program import program
from . import registry
from .namesakes import refuse_arguments

_MOST = 2000  # characters of a repr
_SHOWN = 50  # entries of a tuple in a repr


class _Required:
    """Default of an argument that every call needs, after one that has a default."""

    def __repr__(self) -> str:
        return "<required>"


_REQUIRED: Any = _Required()


class Initializer:
    """Base class of every initializer: ``init(key, shape, dtype)`` draws a tensor.

    A subclass is a frozen dataclass whose fields are plain data. It defines `sample`
    and inherits hashing, equality, pickling, configs, dtypes, sharding and
    compilation.

    Example:
        >>> @dataclasses.dataclass(frozen=True)
        ... class Laplace(jaxinit.Initializer):
        ...     scale: float = 0.05
        ...     def sample(self, key, shape, dtype):
        ...         return self.scale * jax.random.laplace(key, shape, dtype)
        >>> Laplace()(jax.random.key(0), (2, 3), jnp.bfloat16).dtype
        dtype(bfloat16)
    """

    # The fields of a built-in class are the keyword arguments of a pure function. Its
    # check returns them in plain form: check(where, **arguments) -> arguments.
    function: ClassVar[Callable[..., jax.Array] | None] = None
    check: ClassVar[Callable[..., dict[str, Any]] | None] = None
    # Names of the class in configs, beside the name of the Python class.
    identifiers: ClassVar[tuple[str, ...]] = ()
    registered_name: ClassVar[str | None] = None
    deterministic: ClassVar[bool | property] = False
    """True if a call needs neither a key nor a seed."""
    reads_layout: ClassVar[bool | property] = False
    """True if the initializer reads a shape as ``(*taps, in, out)``.

    True: the values depend on which axes are inputs and which are outputs, and no
    argument names these axes. False: all axes are alike, or an argument names the axes
    of the stored array. A combinator takes it from its inner initializers. A subclass
    sets it to True if its `sample` finds fans, rows or columns by the position of an
    axis.
    """
    draws_stack: ClassVar[bool | property] = False
    """True if one call draws a stack of layers, along the first axis."""

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        """Refuses a class without a `sample`, unless it is declared ``abstract``."""
        super().__init_subclass__(**kwargs)
        has_no_values = cls.function is None and cls.sample is Initializer.sample
        if has_no_values and not abstract:
            raise TypeError(
                f"{cls.__name__} must define sample(self, key, shape, dtype)."
            )

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuses the arguments of a call, and a class that is not hashable."""
        if args and _is_key(args[0], lenient=len(args) > 1):
            raise TypeError(
                f"{cls.__name__} is a class, and it was called with a key, like an "
                f"initializer: add (), as in kernel_init=jaxinit.{cls.__name__}()."
            )
        if len(args) == 2 and isinstance(args[0], (list, tuple)) and is_dtype(args[1]):
            raise TypeError(
                f"{cls.__name__} is a class and was called as init(shape, dtype), as "
                f"Haiku does: w_init=jaxinit.haiku.to_haiku(jaxinit.{cls.__name__}())."
            )
        if "identifiers" in vars(cls):
            refuse_arguments(cls, args, kwargs)
        if cls.__hash__ is None:
            raise TypeError(
                f"{cls.__name__} must be hashable, because its compiled programs are "
                "cached: decorate it with @dataclasses.dataclass(frozen=True)."
            )
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Checks every field and puts it in plain, hashable form."""
        where = type(self).__name__
        fields = {name: getattr(self, name) for name in _field_names(type(self))}
        if "seed" in fields:
            fields["seed"] = check_seed(where, "seed", fields["seed"])
        check = type(self).check
        if check is not None:
            fields |= check(where, **self._arguments("check"))
        for name, value in fields.items():
            object.__setattr__(self, name, _freeze(where, name, value))

    def sample(
        self, key: jax.Array, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> jax.Array:
        """Computes the values: the one method that a subclass defines.

        Args:
            key: A typed PRNG key, to be used once (or split).
            shape: Tuple of ints.
            dtype: Dtype of the computation: float32 if the requested dtype is a
                narrower float. The caller rounds the result to the requested dtype.

        Returns:
            Array of ``shape``.
        """
        function = type(self).function
        assert function is not None  # __init_subclass__ checks this
        return function(key, shape, dtype, **self._arguments())

    def __call__(
        self,
        key: jax.Array | None = None,
        shape: Shape = _REQUIRED,
        dtype: Any = None,
        out_sharding: OutSharding = None,
    ) -> jax.Array:
        """Draws a tensor.

        Args:
            key: PRNG key, typed or raw. None: the key of the initializer's ``seed``,
                which is used in no other case.
            shape: Shape of the tensor; every call needs one.
            dtype: Dtype of the tensor. None: JAX's default float.
            out_sharding: Sharding of the result, or a PartitionSpec under a mesh.

        Returns:
            Array of ``shape`` and ``dtype``. The same key gives the same values.

        Raises:
            TypeError: If there is neither a key nor a seed, or an argument has the
                wrong type.
            ValueError: If the shape does not suit the initializer.
        """
        if shape is _REQUIRED:
            raise TypeError(f"{self!r}: a call needs a shape: init(key, shape).")
        if key is None and not self.deterministic:
            key = self._seed_key()
        function = type(self).function
        if function is not None and type(self).sample is Initializer.sample:
            arguments = self._arguments()
            return function(key, shape, dtype, out_sharding=out_sharding, **arguments)
        where = type(self).__name__
        shape = check_shape(where, shape)
        key = None if key is None else check_key(where, key)
        dtype = check_dtype(where, dtype, (jnp.number, jnp.bool_))
        out_sharding = check_out_sharding(where, out_sharding, len(shape))
        return _sample(key, shape, dtype, out_sharding, init=self)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments of `__init__` as JSON-serializable plain data."""
        fields = dataclasses.fields(self)  # pyright: ignore
        return {f.name: _plain(getattr(self, f.name)) for f in fields if f.init}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Builds the initializer whose `get_config` is ``config``.

        Fields that the config lacks take their defaults.

        Raises:
            ValueError: If a field is unknown, or missing without a default.
        """
        if not is_mapping(config):
            raise error(
                TypeError, cls.__name__ + ".from_config", "config", "a dict", config
            )
        config = plain(config)
        known = [f for f in dataclasses.fields(cls) if f.init]  # pyright: ignore
        names = [f.name for f in known]
        unknown = [k for k in config if k not in names]
        if unknown:
            raise ValueError(
                f"{cls.__name__} has no field {', '.join(map(short, unknown[:5]))}; "
                f"its fields are {names}."
            )
        missing = [
            f.name
            for f in known
            if f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
            and f.name not in config
        ]
        if missing:
            raise ValueError(
                f"The config of {cls.__name__} lacks {', '.join(map(repr, missing))}."
            )
        return cls(**{name: registry.decode(value) for name, value in config.items()})

    def clone(self) -> Self:
        """Returns an equal initializer."""
        return type(self).from_config(self.get_config())

    def __repr__(self) -> str:
        """Returns the call that builds the initializer, without default arguments.

        The values of arrays and the middle of very long texts are left out.
        """
        fields = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
        parts = [
            f"{f.name}={_field_repr(getattr(self, f.name))}"
            for f in fields
            if exact(getattr(self, f.name)) != exact(f.default)
        ]
        return clip(f"{type(self).__name__}({', '.join(parts)})", _MOST)

    def _arguments(self, of: str = "function") -> dict[str, Any]:
        """Returns the fields of the class that defines `function` or `check`."""
        classes = filter(dataclasses.is_dataclass, type(self).__mro__)
        owner = next((c for c in classes if of in vars(c)), type(self))
        return {k: getattr(self, k) for k in _field_names(owner) if k != "seed"}

    def _seed_key(self) -> jax.Array:
        seed = getattr(self, "seed", None)
        if seed is not None:
            with may_transfer():
                return jax.random.key(seed)
        where, cure = type(self).__name__, "Pass jax.random.key(0)."
        if "seed" in _field_names(type(self)):
            cure = f"Pass jax.random.key(0), or build {where} with seed=0."
        rule = "a PRNG key, because the initializer has no seed"
        raise error(TypeError, where, "key", rule, None, cure)


def _has_default_axes(initializer: Any) -> bool:
    """True if every axis argument of the initializer has its default."""
    fields = dataclasses.fields(initializer)
    axes = (f for f in fields if f.name == "axis" or f.name.endswith("_axis"))
    # None is Keras's rule for the axes. It also reads the last two axes.
    return all(getattr(initializer, f.name) in (f.default, None) for f in axes)


# `reads_layout` of a class that has fields for the axes.
unless_axes_are_named = property(_has_default_axes)


@program
def _sample(key, shape, dtype, *, init):
    values = init.sample(key, shape, dtype)
    if np.shape(values) != shape:
        where = f"{type(init).__name__}.sample"
        rule = f"an array of the requested shape {shape}"
        raise error(ValueError, where, "return", rule, np.shape(values))
    values = jnp.asarray(values)
    if values.dtype.kind == "c" and dtype.kind != "c":
        where = f"{type(init).__name__}.sample"
        raise error(
            TypeError, where, "return", f"real for a {dtype.name} result", values.dtype
        )
    return values


@functools.cache
def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(cls))


def _field_repr(value: Any) -> str:
    if isinstance(value, tuple) and len(value) > _SHOWN:
        shown = ", ".join(map(_field_repr, value[:_SHOWN]))
        return f"({shown}, ... {len(value) - _SHOWN} more)"
    try:
        return clip(repr(value), _MOST)
    except ValueError:  # an int with more digits than Python prints
        return short(value)


def _is_key(x: Any, *, lenient: bool) -> bool:
    if not isinstance(x, (jax.Array, np.ndarray)):
        return False
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return True
    return lenient and x.dtype == np.uint32 and x.ndim == 1


def _freeze(where: str, name: str, value: Any) -> Any:
    """Returns a field in hashable form: a tuple, a Python number, a dtype's name."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (np.ndarray, jax.Array)):
        return FrozenArray.from_plain(where, name, value)
    if isinstance(value, list | tuple):
        return tuple(_freeze(where, name, v) for v in value)
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, type) and hasattr(value, "dtype"):  # such as jnp.float32
        return np.dtype(value).name
    try:
        hash(value)
    except TypeError:
        raise error(TypeError, where, name, "plain, hashable data", value) from None
    return value


def _plain(value: Any) -> Any:
    """Returns a field value as JSON-serializable data."""
    if isinstance(value, Initializer):
        return registry.serialize(value)
    if isinstance(value, FrozenArray):
        return value.to_plain()
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"get_config() cannot write {short(value)}: it is not plain data.")
