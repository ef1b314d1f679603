"""Keras's configs, read and written without Keras.

Keras's initializers and ours share names and most arguments. This file translates
the arguments that differ, and refuses arguments without a counterpart.
"""

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .._checks import check_axes, check_seed, error, short
from . import keras_axes

# Modules of Keras's built-in initializers, as its configs name them.
MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")
# The registered name of the wrapper that `jaxinit.keras.to_keras` makes.
WRAPPER = "jaxinit>KerasInitializer"
ARRAYS = ("__numpy__", "__tensor__")
# Class names in the configs of functions.
FUNCTIONS = ("function", "__lambda__", "builtin_function_or_method")

# Classes of Keras without fan axes, and the arguments that they share with ours.
_WITHOUT_FANS: dict[str, tuple[str, ...]] = {
    "Zeros": (),
    "Ones": (),
    "Constant": ("value",),
    "Identity": ("gain",),
    "STFT": ("side", "window", "scaling", "periodic"),
    "RandomNormal": ("mean", "stddev", "seed"),
    "RandomUniform": ("minval", "maxval", "seed"),
    "TruncatedNormal": ("mean", "stddev", "seed"),
    "Orthogonal": ("gain", "seed"),
}
# Classes with fan axes, and their other arguments. Keras names the axes differently.
_WITH_FANS: dict[str, tuple[str, ...]] = {
    "VarianceScaling": ("scale", "mode", "distribution", "seed"),
    "GlorotNormal": ("seed",),
    "GlorotUniform": ("seed",),
    "HeNormal": ("seed",),
    "HeUniform": ("seed",),
    "LecunNormal": ("seed",),
    "LecunUniform": ("seed",),
}
_ARGUMENTS = _WITHOUT_FANS | _WITH_FANS
CLASSES = tuple(_ARGUMENTS)
_OUR_AXES = ("in_axis", "out_axis", "batch_axis")
_KERAS_AXES = ("input_axes", "output_axes")
# Keras lower-cases the names. Its "normal" has always been truncated.
_DISTRIBUTIONS = {"normal": "truncated_normal"}
_TEXT = 2**25  # most characters of all paths together
# Arguments of Keras 1. Its initializers have the same names and other distributions.
KERAS_1 = (
    "init",
    "inner_init",
    "forget_bias_init",
    "beta_init",
    "gamma_init",
    "depthwise_init",
    "pointwise_init",
)


class Found(NamedTuple):
    """An initializer in the config of a layer or model.

    Attributes:
        path: Names of the layers around the initializer, of the sublayer that uses it
            (if the layer has several) and of the argument:
            ``"attention/query/kernel_initializer"``.
        config: Config or name of the initializer.
        axes: The fan axes that the layer passes to the initializer, or None.
    """

    path: str
    config: Any
    axes: keras_axes.Axes | None


def is_keras_module(module: str) -> bool:
    """True if ``module`` is a module of Keras, by the name that configs use."""
    return any(module == m or module.startswith(m + ".") for m in MODULES)


def public_name(name: str) -> str:
    """Returns the name of a Keras class without TensorFlow's suffix V1 or V2."""
    short_name = name.removesuffix("V1").removesuffix("V2")
    return short_name if short_name in CLASSES else name


def read(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Translates the arguments of Keras's class ``name`` to those of our class."""
    fields = {key: _plain(value) for key, value in fields.items()}
    if name not in CLASSES:
        return fields
    dtype = fields.pop("dtype", None)  # Keras 2: the default dtype of calls
    if not isinstance(dtype, str | None):
        raise TypeError(f"{name}: 'dtype' must be a str or None; got {short(dtype)}.")
    if "seed" in fields:
        fields["seed"] = read_seed(name, fields["seed"])
    distribution = fields.get("distribution")
    if isinstance(distribution, str):
        distribution = distribution.lower()
        fields["distribution"] = _DISTRIBUTIONS.get(distribution, distribution)
    return _with_axes(name, fields) if name in _WITH_FANS else fields


def read_seed(name: str, seed: Any) -> Any:
    """Returns the integer of a seed, which may be the config of a SeedGenerator."""
    if not isinstance(seed, Mapping):
        return seed
    integer = read_generator(name, seed)["seed"]
    if integer is not None:
        warnings.warn(
            f"{name}: a Keras SeedGenerator gives other values at each use. jaxinit "
            f"keeps only its integer, {integer}. Pass a key to each call.",
            stacklevel=2,
        )
    return integer


def read_generator(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the seed and the name in the config of a SeedGenerator."""
    module, fields = config.get("module"), config.get("config")
    known = module is None or (isinstance(module, str) and is_keras_module(module))
    is_generator = config.get("class_name") == "SeedGenerator" and known
    if not is_generator or not isinstance(fields, Mapping):
        rule = "an int, None or the config of a SeedGenerator"
        raise ValueError(f"{name}: 'seed' must be {rule}; got {short(config)}.")
    given = fields.get("name")
    if not isinstance(given, str | None):
        raise error(TypeError, "SeedGenerator", "name", "a str or None", given)
    seed = check_seed("SeedGenerator", "seed", fields.get("seed"))
    return {"seed": seed, "name": given}


def write(initializer: Any) -> dict[str, Any]:
    """Returns the config of Keras's initializer with the same distribution.

    Raises:
        ValueError: If Keras has no such class, argument or value.
    """
    name = type(initializer).__name__

    def refuse(what: str) -> ValueError:
        return ValueError(
            f"to_config({initializer!r}): Keras has no {what}. "
            "Pass jaxinit.keras.to_keras(initializer) to the layer instead; its models "
            "load where jaxinit is installed."
        )

    if name not in CLASSES:
        raise refuse(f"initializer {name}")
    fields = initializer.get_config()
    config = {key: fields.pop(key) for key in _ARGUMENTS[name]}
    if name in _WITH_FANS:
        config |= _axes([getattr(initializer, key) for key in _OUR_AXES], refuse)
        fields = {key: fields[key] for key in fields if key not in _OUR_AXES}
    defaults = {f.name: f.default for f in dataclasses.fields(initializer)}
    for key in fields:
        value = getattr(initializer, key)
        if value != defaults[key]:
            raise refuse(f"{key}={value!r} in {name}")
    if name == "VarianceScaling":
        if config["mode"] == "fan_geo_avg" or not config["scale"]:
            raise refuse(f"mode={config['mode']!r} with scale={config['scale']}")
        if config["distribution"] == "normal":
            config["distribution"] = "untruncated_normal"
    for key, value in config.items():
        if isinstance(value, Mapping):  # an array
            if isinstance(value["config"]["value"], Mapping):
                raise refuse(f"complex {key} in {name}")
            if name == "STFT":  # Keras reads a list here, but no array
                config[key] = value["config"]["value"]
    return {
        "module": "keras.initializers",
        "class_name": name,
        "config": config,
        "registered_name": None,
    }


def initializers(config: Mapping[str, Any]) -> list[Found]:
    """Returns the initializers in the config of a layer or model.

    Raises:
        ValueError: If two initializers have the same path, or an equation is invalid.
    """
    found: dict[str, Found] = {}
    length = 0
    for path, value, layer in _walk(config, ()):
        argument = path[-1]
        try:
            uses = keras_axes.uses(layer, argument)
        except (TypeError, ValueError) as e:
            raise type(e)(f"{short('/'.join(path))}: {e}") from None
        for sublayers, axes in uses:
            name = "/".join((*path[:-1], *sublayers, argument))
            if name in found:
                raise ValueError(
                    f"Two initializers of the config have the path {short(name)}."
                )
            length += len(name)
            if length > _TEXT:
                raise ValueError(
                    f"The paths of the config are longer than {_TEXT} characters."
                )
            found[name] = Found(name, value, axes)
    return list(found.values())


def _walk(
    node: Any, path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any, Mapping[str, Any]]]:
    """Yields the path and config of every initializer, and its layer's arguments."""
    layer: Mapping[str, Any] = {}
    if isinstance(node, Mapping):
        inner = node.get("config")
        if "class_name" in node and isinstance(inner, Mapping):
            if path and isinstance(inner.get("name"), str):
                path = (*path[:-1], inner["name"])
            node = inner
        layer = node
        items = [(str(key), value) for key, value in node.items()]
    else:
        items = [(f"{path[-1]}/{i}", value) for i, value in enumerate(node)]
        path = path[:-1]
    for key, value in items:
        if value is None:
            continue
        is_old = key in KERAS_1 and isinstance(value, str)
        if key.endswith("initializer") or is_old or _is_initializer(value):
            yield (*path, key), value, layer
        elif isinstance(value, Mapping | list | tuple):
            yield from _walk(value, (*path, key))


def _is_initializer(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    module = value.get("module")
    return value.get("registered_name") == WRAPPER or (
        isinstance(module, str) and module.startswith("keras.initializers")
    )


def _with_axes(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    axes = [fields.pop(key, None) for key in _KERAS_AXES]
    ours = [key for key in _OUR_AXES if key in fields]
    if None in axes:  # Keras ignores one without the other
        return fields if ours else fields | {"in_axis": None, "out_axis": None}
    if ours:
        raise ValueError(f"{name}: {ours[0]!r} contradicts 'input_axes'.")
    axes = [check_axes(name, *pair) for pair in zip(_KERAS_AXES, axes, strict=True)]
    both = [a for a in _sequence(axes[0]) if a in _sequence(axes[1])]
    if both:
        raise ValueError(
            f"{name}: axis {short(both[0])} is in 'input_axes' and in 'output_axes'. "
            "Keras counts it in both fans; jaxinit has no such rule."
        )
    return fields | {"in_axis": axes[0], "out_axis": axes[1], "batch_axis": "rest"}


def _axes(axes: list[Any], refuse: Any) -> dict[str, Any]:
    if axes in ([None, None, ()], [-2, -1, ()]):
        return dict.fromkeys(_KERAS_AXES)
    inputs, outputs, batch = axes
    if batch != "rest":
        given = ", ".join(map("{}={!r}".format, _OUR_AXES, axes))
        raise refuse(f"fans of {given}")
    return {"input_axes": _sequence(inputs), "output_axes": _sequence(outputs)}


def _sequence(axes: Any) -> list[Any]:
    return list(axes) if isinstance(axes, list | tuple) else [axes]


def _plain(value: Any) -> Any:
    """Returns the number or list in an array of Keras's, or any other value as it is.

    Keras 3 writes an array without dimensions as a tensor, and Keras 2 writes any
    array as ``{"type": "ndarray", "value": [...]}``.
    """
    if not isinstance(value, Mapping):
        return value
    if value.keys() == {"type", "value"} and value["type"] == "ndarray":
        return value["value"]
    if value.get("class_name") in ARRAYS:
        inner = value.get("config")
        inner = inner.get("value") if isinstance(inner, Mapping) else None
        if isinstance(inner, bool | int | float):
            return inner
    return value
