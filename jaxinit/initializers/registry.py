"""Registered names of classes: get, serialize, deserialize, register.

Loading a config builds registered classes from plain data. It imports, evaluates and
unpickles nothing, whatever the config says.
"""

import dataclasses
import difflib
import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from .. import _activations
from .._checks import short
from .._frozen import FrozenArray
from .._plain import is_mapping, plain
from . import identifiers, keras_configs
from .functions import check_signature

_ENVELOPE = {"module", "class_name", "config", "registered_name"}

_classes: dict[str, type] = {}


def register(target: Any = None, /, *, override: bool = False) -> Any:
    """Registers your initializer class, or activation, under a name for configs.

    ``@register`` uses the name of the class or function. ``@register("package>Name")``
    uses another name, by convention with the name of the package first. An activation
    is an elementwise function of one array. `jaxinit.gain` and `ActivationScaled` then
    know it by this name.

    Args:
        target: The class or function, or the name to register it under.
        override: Whether to replace what is registered under the same name.

    Returns:
        The class or function, or a decorator.

    Raises:
        TypeError: If the class itself is not decorated as a frozen dataclass, or the
            function does not take one argument.
        ValueError: If the name is taken or empty.

    Example:
        >>> @register("doc>Half")
        ... @dataclasses.dataclass(frozen=True)
        ... class Half(jaxinit.Initializer):
        ...     def sample(self, key, shape, dtype):
        ...         return jnp.full(shape, 0.5, dtype)
        >>> get("doc>Half")
        Half()
        >>> @register("doc>relu_squared")
        ... def relu_squared(x):
        ...     return jax.nn.relu(x) ** 2
        >>> round(jaxinit.gain("doc>relu_squared") ** 2, 6)
        0.666667
    """
    if target is None or isinstance(target, str):
        return lambda cls: _add(
            cls, cls.__name__ if target is None else target, override
        )
    return _add(target, getattr(target, "__name__", ""), override)


def _add(cls: Any, name: str, override: bool) -> Any:
    if _activations.is_activation(cls):
        _activations.register(cls, name, override)
        return cls
    if not isinstance(cls, type) or not hasattr(cls, "from_config"):
        raise TypeError(
            "register() takes a subclass of Initializer, or an activation, a function "
            f"of one array; got {short(cls)}."
        )
    params = cls.__dict__.get("__dataclass_params__")
    if params is None or not params.frozen or not params.eq:
        raise TypeError(
            f"register({cls.__name__}): decorate the class with "
            "@dataclasses.dataclass(frozen=True) below @jaxinit.register, so that "
            "it is hashable and its fields are its config."
        )
    if not name:
        raise ValueError("register(): the name must not be empty.")
    for known in (name, *cls.__dict__.get("identifiers", ())):
        taken = _classes.get(known)
        if taken is not None and not override:
            raise ValueError(
                f"register({name!r}): {known!r} is registered already, for "
                f"{taken.__module__}.{taken.__qualname__}. Choose another name, as "
                "'package>Name', or pass override=True."
            )
    for known in (name, *cls.__dict__.get("identifiers", ())):
        _classes[known] = cls
    cls.registered_name = name
    return cls


def _is_built_in(cls: type) -> bool:
    """True for a class that jaxinit defines; a config of Keras may name no other."""
    return cls.__module__.startswith(f"{__package__}.")


def names() -> dict[str, type]:
    """Returns every registered name and its class, sorted by name.

    Returns:
        A dict from names to classes.

    Example:
        >>> names()["he_normal"] is names()["HeNormal"] is jaxinit.HeNormal
        True
    """
    return dict(sorted(_classes.items()))


def get(identifier: Any) -> Any:
    """Returns the initializer that an identifier stands for.

    Args:
        identifier: A registered name (``"he_normal"``, ``"HeNormal"``), which may
            have arguments (``"normal(stddev=0.02)"``); a config dict; a class, which is
            built with its defaults; an initializer or any callable
            ``(key, shape, dtype)``, which is returned unchanged; an array, which
            becomes `FromArray`; or None.

    Returns:
        An initializer, the callable, or None for None.

    Raises:
        TypeError: If ``identifier`` is none of these.
        ValueError: If the name is unknown, if the config is invalid, or if a field
            without a default is missing.

    Example:
        >>> get("he_normal")
        HeNormal()
        >>> get("variance_scaling(scale=2.0, mode='fan_out')")
        VarianceScaling(scale=2.0, mode='fan_out')
        >>> get({"class_name": "RandomNormal", "config": {"stddev": 0.02}})
        RandomNormal(stddev=0.02)
    """
    if identifier is None:
        return None
    if isinstance(identifier, str) or is_mapping(identifier):
        return deserialize(identifier)
    if isinstance(identifier, (np.ndarray, np.generic, jax.Array)):
        return _classes["FromArray"](identifier)
    if isinstance(identifier, type) and hasattr(identifier, "from_config"):
        return _with_defaults(identifier)
    if callable(identifier) and not isinstance(identifier, type):
        check_signature(identifier)
        return identifier
    raise TypeError(
        "get(identifier=...) must be a name, a config, a class, a callable "
        f"(key, shape, dtype), an array or None; got {short(identifier)}."
    )


def serialize(initializer: Any) -> dict[str, Any]:
    """Returns an initializer as a JSON-serializable dict.

    Args:
        initializer: An instance of a registered class.

    Returns:
        A dict of ``module``, ``class_name``, ``config`` and ``registered_name``, which
        is None for a class of jaxinit.

    Raises:
        TypeError: If the class is not registered.

    Example:
        >>> serialize(get("zeros"))["class_name"]
        'Zeros'
    """
    cls = type(initializer)
    name = cls.__dict__.get("registered_name")
    if name is None or _classes.get(name) is not cls:
        raise TypeError(
            "serialize() takes an instance of a registered class; got "
            f"{short(initializer)}. Subclass jaxinit.Initializer and decorate the "
            "class with @jaxinit.register."
        )
    builtin = _is_built_in(cls)
    return {
        "module": "jaxinit" if builtin else cls.__module__,
        "class_name": cls.__name__,
        "config": initializer.get_config(),
        "registered_name": None if builtin else name,
    }


def deserialize(config: str | Mapping[str, Any]) -> Any:
    """Builds the initializer that a config describes.

    The config is the dict of `serialize`, the dict of Keras 3, the older
    ``{"class_name", "config"}``, or a name. It may nest initializers. Nodes of
    OmegaConf or ml_collections may replace dicts and lists.

    A name may have arguments: ``"normal(stddev=0.02)"``. Each argument needs its name.
    Each value is a number, a text, True, False, None, or a list or tuple of these. An
    inner initializer is a text: ``"scaled(initializer='he_normal', factor=0.5)"``. The
    text is parsed, not evaluated. Its arguments are those of the class of jaxinit.

    A config without ``"module": "jaxinit"`` is read as a config of Keras. There the
    distribution ``"normal"`` is truncated. With ``input_axes`` and ``output_axes`` no
    fan counts the other axes. Without them the fans follow Keras's rule
    (``in_axis=None, out_axis=None``).

    Args:
        config: A dict of plain data, or a registered name with or without arguments.

    Returns:
        An initializer.

    Raises:
        TypeError: If the config or a field has a wrong type.
        ValueError: If a name or a field is unknown, if a field is missing or invalid,
            or if the config is too deep or too large.

    Example:
        >>> deserialize({"class_name": "HeNormal", "config": {"seed": 3}})
        HeNormal(in_axis=None, out_axis=None, seed=3)
        >>> deserialize(serialize(get("he_normal")))
        HeNormal()
    """
    if isinstance(config, str):
        if config in _classes or not identifiers.has_arguments(config):
            return _with_defaults(_find(config))
        cls: Any = _find(identifiers.name_of(config))
        names = [f.name for f in dataclasses.fields(cls) if f.init]
        return cls.from_config(identifiers.arguments_of(config, names))
    if not is_mapping(config):
        raise TypeError(
            f"deserialize(config=...) must be a dict or a name; got {short(config)}."
        )
    return _build(plain(config))


def is_foreign(config: Mapping[str, Any]) -> bool:
    """True for the config of a function, or of a class that is not jaxinit's."""
    if config.get("class_name") in keras_configs.FUNCTIONS:
        return True
    name = config.get("registered_name") or config.get("class_name")
    if not isinstance(name, str) or name == keras_configs.WRAPPER:
        return False
    cls = _classes.get(keras_configs.public_name(name))
    if cls is None:
        return True
    module = config.get("module")
    if "identifiers" not in cls.__dict__ or not isinstance(module, str):
        return False
    ours = f"{module}.".startswith("jaxinit.")
    return not ours and not keras_configs.is_keras_module(module)


def decode(value: Any) -> Any:
    """Builds the initializers and arrays that are nested in a value of a config."""
    if isinstance(value, Mapping) and "class_name" in value:
        if value["class_name"] in keras_configs.ARRAYS:
            return FrozenArray.from_plain("deserialize", "config", value)
        return _build(value)
    if isinstance(value, list | tuple):
        return tuple(decode(v) for v in value)
    return value


def _build(config: Mapping[str, Any]) -> Any:
    unknown = set(config) - _ENVELOPE - {"build_config", "shared_object_id"}
    if "class_name" not in config or unknown:
        raise ValueError(
            "A config must have 'class_name' and may have 'config', 'module' and "
            f"'registered_name'; got keys {short(sorted(config))}."
        )
    name = config.get("registered_name") or config["class_name"]
    if config["class_name"] in keras_configs.FUNCTIONS:
        raise ValueError(
            f"{short(config.get('config') or name)} is a function, and jaxinit loads "
            "no functions from configs. Register a class with @jaxinit.register."
        )
    fields = config.get("config")
    fields = {} if fields is None else fields
    if not isinstance(fields, Mapping):
        raise TypeError(
            f"config['config'] of {short(name)} must be a dict; got {short(fields)}."
        )
    module = config.get("module")
    if not isinstance(module, str | None):
        raise TypeError(f"config['module'] must be a str or None; got {short(module)}.")
    if name == keras_configs.WRAPPER:
        return _unwrap(fields)
    if isinstance(name, str) and (
        module is None or keras_configs.is_keras_module(module)
    ):
        name = keras_configs.public_name(name)
    cls = _find(name)
    builtin = _is_built_in(cls)
    ours = module is not None and f"{module}.".startswith("jaxinit.")
    if builtin and not ours:
        _check_module(module, cls.__name__)
        fields = keras_configs.read(cls.__name__, fields)
    return cls.from_config(fields)


def _check_module(module: str | None, name: str) -> None:
    if module is None:
        return
    if not keras_configs.is_keras_module(module):
        raise ValueError(
            f"config['module'] is {short(module)}, and jaxinit imports no modules for "
            "configs. Register the class with @jaxinit.register and name it in "
            "'registered_name'."
        )
    if name not in keras_configs.CLASSES:
        raise ValueError(f"Keras, config['module'], has no initializer {name}.")


def _unwrap(fields: Mapping[str, Any]) -> Any:
    """Builds the initializer inside the config of a `to_keras` wrapper."""
    inner = fields.get("initializer")
    if not isinstance(inner, Mapping) or set(fields) - {"initializer", "seed"}:
        raise ValueError(
            f"The config of {keras_configs.WRAPPER} must be a dict of 'initializer', a "
            f"config, and 'seed'; got {short(fields)}."
        )
    seed = keras_configs.read_seed(keras_configs.WRAPPER, fields.get("seed"))
    return with_seed(_build(inner), seed)


def _with_defaults(cls: Any) -> Any:
    return _default_of(cls) if _is_built_in(cls) else cls()


@functools.cache
def _default_of(cls: Any) -> Any:
    """Builds a built-in initializer with its defaults, or names the missing fields."""
    return cls.from_config({})


def with_seed(initializer: Any, seed: Any) -> Any:
    """Returns the initializer with the seed, if it has one and the seed is not None."""
    if seed is None or not hasattr(initializer, "seed"):
        return initializer
    return dataclasses.replace(initializer, seed=seed)


def _find(name: Any) -> type:
    if not isinstance(name, str):
        raise TypeError(f"An initializer's name must be a str; got {short(name)}.")
    if name in _classes:
        return _classes[name]
    close = difflib.get_close_matches(name[:80], _classes, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    raise ValueError(
        f"{short(name)} names no registered initializer.{hint} Decorate your own class "
        "with @jaxinit.register, and import its module before the config is loaded."
    )
