"""Configs as Keras writes them, read and written without Keras.

Keras's initializers and ours share names and most arguments. What differs is
translated here, and what has no counterpart is refused.
"""

import dataclasses
import json
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from .._checks import check_seed, short

# Where Keras's configs say that their built-in initializers live.
MODULES = ("keras", "tf_keras", "tensorflow.keras", "tensorflow.python.keras")
# The name under which `jaxinit.keras.to_keras` is known to Keras.
WRAPPER = "jaxinit>KerasInitializer"
ARRAYS = ("__numpy__", "__tensor__")

# Classes of Keras, and the arguments that ours share with them.
_SHARED: dict[str, tuple[str, ...]] = {
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
# Those whose fans have axes, under other names there and here.
_SCALED: dict[str, tuple[str, ...]] = {
    "VarianceScaling": ("scale", "mode", "distribution", "seed"),
    "GlorotNormal": ("seed",),
    "GlorotUniform": ("seed",),
    "HeNormal": ("seed",),
    "HeUniform": ("seed",),
    "LecunNormal": ("seed",),
    "LecunUniform": ("seed",),
}
_ARGUMENTS = _SHARED | _SCALED
CLASSES = tuple(_ARGUMENTS)
_OUR_AXES = ("in_axis", "out_axis", "batch_axis")
_KERAS_AXES = ("input_axes", "output_axes")
# Keras lower-cases the names, and "normal" has always been the truncated one.
_DISTRIBUTIONS = {"normal": "truncated_normal"}
_TEXT = 2**25  # characters of JSON


def is_keras_module(module: str) -> bool:
    """Whether a config may name ``module`` as the home of a Keras class."""
    return any(module == m or module.startswith(m + ".") for m in MODULES)


def read(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of Keras's class ``name`` as those of ours."""
    fields = {key: _number(value) for key, value in fields.items()}
    if name not in CLASSES:
        return fields
    dtype = fields.pop("dtype", None)  # Keras 2: that of a call without one
    if not isinstance(dtype, str | None):
        raise TypeError(f"{name}: 'dtype' must be a str or None; got {short(dtype)}.")
    if "seed" in fields:
        fields["seed"] = read_seed(name, fields["seed"])
    distribution = fields.get("distribution")
    if isinstance(distribution, str):
        distribution = distribution.lower()
        fields["distribution"] = _DISTRIBUTIONS.get(distribution, distribution)
    return _with_axes(name, fields) if name in _SCALED else fields


def read_seed(name: str, seed: Any) -> Any:
    """A seed, or what jaxinit keeps of a SeedGenerator: its integer."""
    if not isinstance(seed, Mapping):
        return seed
    integer = generator_seed(name, seed)
    if integer is not None:
        warnings.warn(
            f"{name}: a Keras SeedGenerator gives other values at each use; what is "
            f"kept of it is its integer, {integer}. Pass a key to each call.",
            stacklevel=2,
        )
    return integer


def generator_seed(name: str, config: Mapping[str, Any]) -> int | None:
    """The integer in the config of a SeedGenerator."""
    module, fields = config.get("module"), config.get("config")
    known = module is None or (isinstance(module, str) and is_keras_module(module))
    is_generator = config.get("class_name") == "SeedGenerator" and known
    if not is_generator or not isinstance(fields, Mapping):
        rule = "an int, None or the config of a SeedGenerator"
        raise ValueError(f"{name}: 'seed' must be {rule}; got {short(config)}.")
    return check_seed("SeedGenerator", "seed", fields.get("seed"))


def write(initializer: Any) -> dict[str, Any]:
    """The config by which Keras builds the same law.

    Raises:
        ValueError: If Keras has no such class, argument or value.
    """
    name = type(initializer).__name__

    def refuse(what: str) -> ValueError:
        return ValueError(
            f"to_config({initializer!r}): Keras has no {what}. "
            "jaxinit.keras.to_keras keeps it, for models that load with jaxinit."
        )

    if name not in CLASSES:
        raise refuse(f"initializer {name}")
    fields = initializer.get_config()
    config = {key: fields.pop(key) for key in _ARGUMENTS[name]}
    if name in _SCALED:
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
            if name == "STFT":  # Keras does not read back arrays there, but lists
                config[key] = value["config"]["value"]
    return {
        "module": "keras.initializers",
        "class_name": name,
        "config": config,
        "registered_name": None,
    }


def parse(text: str) -> Any:
    """JSON text as plain data.

    Raises:
        ValueError: If the text is not JSON, too long, nested too deep, or an
            object in it repeats a key.
    """
    if len(text) > _TEXT:
        raise ValueError(f"The JSON text is longer than {_TEXT} characters.")
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except RecursionError:
        raise ValueError("The JSON text is nested too deep.") from None
    except json.JSONDecodeError as e:
        raise ValueError(f"The text is not JSON: {e}.") from None


def initializers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Configs of the initializers in the config of a layer or model, by path.

    A path is made of the names of the layers inside, and of the argument:
    ``"block/dense/kernel_initializer"``.
    """
    found: dict[str, Any] = {}
    for path, value in _walk(config, ()):
        if path in found:
            raise ValueError(f"Two initializers of the config are both at {path!r}.")
        found[path] = value
    return found


def _walk(node: Any, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        inner = node.get("config")
        if "class_name" in node and isinstance(inner, Mapping):
            if path and isinstance(inner.get("name"), str):
                path = (*path[:-1], inner["name"])
            node = inner
        items = [(str(key), value) for key, value in node.items()]
    else:
        items = [(f"{path[-1]}/{i}", value) for i, value in enumerate(node)]
        path = path[:-1]
    for key, value in items:
        if value is None:
            continue
        if key.endswith("initializer") or _is_initializer(value):
            yield "/".join((*path, key)), value
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
    if None in axes:  # Keras looks at them only when both are given
        return fields if ours else fields | {"in_axis": None, "out_axis": None}
    if ours:
        raise ValueError(f"{name}: {ours[0]!r} contradicts 'input_axes'.")
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


def _number(value: Any) -> Any:
    """The number that Keras writes as a tensor without dimensions, if it is one."""
    if isinstance(value, Mapping) and value.get("class_name") in ARRAYS:
        inner = value.get("config")
        inner = inner.get("value") if isinstance(inner, Mapping) else None
        if isinstance(inner, bool | int | float):
            return inner
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"An object of the JSON text has two keys {short(twice)}.")
    return found
