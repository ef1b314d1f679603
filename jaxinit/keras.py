"""Keras: translates its initializers and configs, and wraps ours for its layers."""

import contextlib
import inspect
import random
import warnings
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from . import _files
from ._checks import check_seed, error, short
from ._compat import is_traced, may_transfer, x64_for
from ._plain import is_mapping, plain
from .initializers import identifiers, keras_axes, keras_configs, registry

_NO_MESH = jax.sharding.AbstractMesh((), ())
# Parts of the names of Keras modules that define layers and models.
_LAYER_MODULES = ("layers", "models", "engine")
_DEPTH = 256  # most levels of a model's config; each nested model takes four


def from_keras(x: Any) -> Any:
    """Translates an initializer of Keras, or all initializers of a layer or model.

    The result has the distribution of Keras's initializer, for every shape. Keras draws
    from its seed; the result draws from the key of the call.

    Args:
        x: An initializer of Keras 2 or 3: the object, class, name or config. Or an
            array, which becomes `FromArray`; or None. Or the ``get_config()`` or
            ``to_json()`` of a layer or model, as a dict or as JSON text (str or UTF-8
            bytes).

    Returns:
        An initializer, or None for None. For a layer or model, a dict from paths to
        initializers. A path has the names of the layers and of the argument:
        ``"block/dense/kernel_initializer"``. A layer without initializers gives
        ``{}``.

        The kernel of an ``EinsumDense`` gets the fan axes that Keras reads from the
        equation, unless the user set the axes of its initializer. An attention layer
        (``MultiHeadAttention``, ``GroupQueryAttention``) uses its two initializers in
        several ``EinsumDense`` layers with different axes. The dict has an entry for
        each of these layers: ``"attention/query/kernel_initializer"``, and so for
        ``key``, ``value``, ``gate`` (with ``use_gate``) and ``attention_output``.

    Raises:
        TypeError: If ``x`` is something else, such as a function.
        ValueError: If the initializer is not one of Keras's, or has an argument that
            jaxinit cannot translate exactly; or if no initializer of a layer or model
            can be translated.

    Warns:
        UserWarning: If an initializer of a layer or model is a function, an unknown
            class, or an argument of Keras 1. The warning names its path. The dict lacks
            this initializer and has all others.

    Example:
        >>> from_keras(keras.initializers.RandomNormal(stddev=0.02, seed=3))
        RandomNormal(stddev=0.02, seed=3)
        >>> from_keras(keras.layers.Dense(4).get_config())["bias_initializer"]
        Zeros()
        >>> layer = keras.layers.EinsumDense("abc,cde->abde", (None, 8, 64))
        >>> from_keras(layer.get_config())["kernel_initializer"]
        GlorotUniform(in_axis=(0,), out_axis=(1, 2), batch_axis='rest')
    """
    if isinstance(x, KerasInitializer):
        seed = keras.saving.serialize_keras_object(x.seed)
        seed = keras_configs.read_seed("from_keras", seed)
        return registry.with_seed(x.initializer, seed)
    if isinstance(x, type) and issubclass(x, keras.initializers.Initializer):
        x = x()
    if isinstance(x, keras.initializers.Initializer):
        x = _serialize(x)
    elif isinstance(x, bytes):
        x = _decode(x)
    if isinstance(x, str) and x.lstrip()[:1] in ("{", "["):
        x = _files.loads(x)
    if isinstance(x, str):
        x = _named(x)
    if is_mapping(x):
        return _read(plain(x, _DEPTH))
    if x is None or isinstance(x, np.ndarray | np.generic) or keras.ops.is_tensor(x):
        return registry.get(None if x is None else keras.ops.convert_to_numpy(x))
    rule = "an initializer of Keras, its class, name or config, an array or None"
    raise error(TypeError, "from_keras", "x", rule, x)


def to_keras(initializer: Any, seed: Any = None) -> "KerasInitializer":
    """Wraps an initializer for layers of Keras.

    Without a seed each use draws other values, as with a Keras ``SeedGenerator``. With
    an integer seed each use draws the same values. On the JAX backend and in float32
    these are the values of Keras's initializer with this seed, if Keras has one of the
    same distribution (for orthogonal ones with ``method="qr"``). Models with wrapped
    initializers can be saved, loaded and cloned; loading needs
    ``import jaxinit.keras``.

    The wrapper of an initializer that scales by a fan is also an instance of Keras's
    ``VarianceScaling``. (Such are `jaxinit.VarianceScaling` and its presets, also
    inside combinators that keep the shape, as `jaxinit.Scaled`.) So ``EinsumDense`` and
    the attention layers pass it the axes of their kernels. Axes that the user set win
    over the axes of the layer; to set the default axes, pass
    ``in_axis=(-2,), out_axis=(-1,)``.

    Args:
        initializer: The initializer: any argument of `jaxinit.get`.
        seed: An int, or a ``keras.random.SeedGenerator``. None: the seed of
            ``initializer``, if it has one.

    Returns:
        A ``keras.initializers.Initializer``.

    Example:
        >>> layer = keras.layers.Dense(
        ...     64, kernel_initializer=to_keras(jaxinit.HeNormal())
        ... )
        >>> layer.build((None, 784))
        >>> layer.kernel.shape
        (784, 64)
    """
    initializer = registry.get(initializer)
    has_fans = keras_axes.find_with_fans(initializer) is not None
    return (KerasVarianceScaling if has_fans else KerasInitializer)(initializer, seed)


def to_config(initializer: Any) -> dict[str, Any]:
    """Returns the config of Keras's own initializer, which loads without jaxinit.

    ``from_keras(to_config(x))`` equals ``x`` for every ``x`` that `from_keras` returns.
    Default axes become the default of Keras, which gives the same fans for shapes of
    two or more dimensions. `from_keras` reads them as ``in_axis=None``.

    Args:
        initializer: The initializer: any argument of `jaxinit.get`.

    Returns:
        A dict like that of ``keras.initializers.serialize``.

    Raises:
        TypeError: If the class is not registered.
        ValueError: If Keras has no such initializer or argument.

    Example:
        >>> keras.initializers.get(to_config(jaxinit.RandomNormal(stddev=0.5))).stddev
        0.5
    """
    initializer = registry.get(initializer)
    if registry.serialize(initializer)["module"] != "jaxinit":
        raise ValueError(
            f"to_config({initializer!r}): Keras has no such initializer. Wrap it by "
            "jaxinit.keras.to_keras instead."
        )
    return keras_configs.write(initializer)


def scope() -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which the names of Keras's initializers stand for ours.

    The default initializers of layers are names. So the context also works for models
    whose code you cannot change.

    Returns:
        A context manager.

    Example:
        >>> with scope():
        ...     layer = keras.layers.Dense(4)  # kernel_initializer="glorot_uniform"
        >>> layer.kernel_initializer.initializer
        GlorotUniform(in_axis=None, out_axis=None)
    """
    classes = registry.names()
    names = [n for n, c in classes.items() if c.__name__ in keras_configs.CLASSES]
    return keras.saving.custom_object_scope({name: _Named(name) for name in names})


class _Named:
    """Replaces a Keras class under one of its names."""

    def __init__(self, name: str) -> None:
        self._name = name

    def from_config(self, config: Mapping[str, Any]) -> "KerasInitializer":
        return to_keras(from_keras({"class_name": self._name, "config": config}))


class KerasInitializer(keras.initializers.Initializer):
    """A wrapped initializer with the interface of Keras; see `to_keras`.

    Attributes:
        initializer: The wrapped initializer.
        seed: An int, a ``keras.random.SeedGenerator``, or None.
    """

    def __init__(self, initializer: Any, seed: Any = None) -> None:
        """Takes the arguments of `to_keras`."""
        self.initializer = registry.get(initializer)
        if self.initializer is None:
            raise error(TypeError, "to_keras", "initializer", "an initializer", None)
        if isinstance(seed, keras.random.SeedGenerator):
            self.seed = seed
        else:
            if seed is None:
                seed = getattr(self.initializer, "seed", None)
            self.seed = check_seed("to_keras", "seed", seed)
        # For calls without a seed; as in Keras, keras.utils.set_random_seed repeats it.
        self._start = random.randint(1, 10**9) if self.seed is None else 0
        self._uses = 0

    def __call__(self, shape: Any, dtype: Any = None, layout: Any = None) -> Any:
        """Draws a tensor.

        Args:
            shape: Shape of the tensor.
            dtype: Dtype of the tensor. None: ``keras.config.floatx()``.
            layout: A ``keras.distribution.TensorLayout``, or a sharding.

        Returns:
            A tensor of the backend.
        """
        dtype = keras.backend.standardize_dtype(dtype)
        shape = tuple(shape)
        if keras.backend.backend() == "jax":
            layout = getattr(layout, "backend_layout", layout)
            return self.initializer(self._key(), shape, dtype, layout)
        with x64_for(dtype):
            values = self.initializer(self._key(), shape, dtype)
        tensor = keras.ops.convert_to_tensor(np.array(values), dtype)
        if layout is None:
            return tensor
        return keras.distribution.distribute_tensor(tensor, layout)

    def get_config(self) -> dict[str, Any]:
        """Returns the configs of the initializer and the seed as plain data."""
        return {
            "initializer": registry.serialize(self.initializer),
            "seed": keras.saving.serialize_keras_object(self.seed),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "KerasInitializer":
        """Builds the wrapper from a config.

        Args:
            config: The dict of `get_config`, to which ``EinsumDense`` adds its
                ``input_axes`` and ``output_axes``.

        Returns:
            A wrapper, as of `to_keras`.
        """
        fields = dict(config)
        axes = [fields.pop(name, None) for name in ("input_axes", "output_axes")]
        seed = fields.pop("seed", None)
        if isinstance(seed, Mapping):
            arguments = keras_configs.read_generator(keras_configs.WRAPPER, seed)
            seed = keras.random.SeedGenerator(**arguments)
        found = registry.deserialize(
            {"class_name": keras_configs.WRAPPER, "config": fields}
        )
        if None not in axes:
            found = keras_axes.with_axes(found, keras_axes.Axes(*map(tuple, axes)))
        return to_keras(found, seed)

    def _key(self) -> jax.Array | None:
        """Returns the key of the next draw, made from the seed as Keras makes it."""
        if getattr(self.initializer, "deterministic", False):
            return None
        seed = self.seed
        if isinstance(seed, keras.random.SeedGenerator):
            # Keras calls initializers under the mesh of their layout, but the state of
            # a SeedGenerator has another mesh.
            with jax.sharding.use_abstract_mesh(_NO_MESH):
                data = seed.next()
            if not is_traced(data):
                data = np.asarray(keras.ops.convert_to_numpy(data), np.uint32)
        elif seed is None:
            data = np.array([self._start, self._uses], np.uint32)
            self._uses += 1
        else:
            data = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint32)
        with may_transfer():
            return jax.random.wrap_key_data(jnp.asarray(data), impl="threefry2x32")


class KerasVarianceScaling(KerasInitializer, keras.initializers.VarianceScaling):
    """A `KerasInitializer` of an initializer that scales by a fan.

    Keras passes the axes of a kernel only to instances of its ``VarianceScaling``.
    Scale, mode and distribution are those of the wrapped initializer.
    """

    @property
    def input_axes(self) -> list[int] | None:
        """The input axes that the user set; None for those of the layer."""
        axes = keras_axes.explicit_axes(self.initializer)
        return axes and list(axes.inputs)

    @property
    def output_axes(self) -> list[int] | None:
        """The output axes that the user set; None for those of the layer."""
        axes = keras_axes.explicit_axes(self.initializer)
        return axes and list(axes.outputs)


# Both classes have the same name in configs. KerasInitializer, the last, loads them.
_register = keras.saving.register_keras_serializable(*keras_configs.WRAPPER.split(">"))
_register(KerasVarianceScaling)
_register(KerasInitializer)


def _serialize(theirs: Any) -> dict[str, Any]:
    config: Any = keras.initializers.serialize(theirs)
    if type(theirs) is keras.initializers.Identity:  # its config lacks the gain
        config["config"] = {"gain": theirs.gain}
    return config


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as e:
        raise error(ValueError, "from_keras", "x", f"text in UTF-8 ({e})", text) from e


def _read(config: Mapping[str, Any]) -> Any:
    """Translates the config of an initializer, a layer or a model."""
    found = [] if _is_initializer(config) else keras_configs.initializers(config)
    if not found and not _is_bare_layer(config):
        return registry.deserialize(config)  # or raises, with the reason
    made: dict[str, Any] = {}
    foreign: dict[str, str] = {}
    for path, value, axes in found:
        if path.rpartition("/")[2] in keras_configs.KERAS_1:
            foreign[path] = "initializers of Keras 1 have other distributions."
            continue
        value = _named(value) if isinstance(value, str) else value
        try:
            made[path] = keras_axes.with_layer_axes(registry.deserialize(value), axes)
        except (TypeError, ValueError) as e:
            if not (isinstance(value, Mapping) and registry.is_foreign(value)):
                raise type(e)(f"{short(path)}: {e}") from None
            foreign[path] = str(e)
    for path, reason in foreign.items():
        if not made:
            raise ValueError(f"{short(path)}: {reason}")
        warnings.warn(
            f"from_keras left out {short(path)}, which it cannot translate: {reason}",
            stacklevel=3,
        )
    return made


def _is_initializer(config: Mapping[str, Any]) -> bool:
    module = config.get("module")
    if isinstance(module, str) and keras_configs.is_keras_module(module):
        return "initializers" in module  # keras.layers has an Identity, too
    name = config.get("registered_name") or config.get("class_name")
    return isinstance(name, str) and name in (*registry.names(), keras_configs.WRAPPER)


def _is_bare_layer(config: Mapping[str, Any]) -> bool:
    """True if a config without initializers is the config of a layer or model."""
    if "class_name" not in config:
        return "name" in config  # layer.get_config()
    module, fields = config.get("module"), config.get("config")
    if isinstance(fields, list):  # as of Keras 2
        return config["class_name"] == "Sequential"
    fields = fields if isinstance(fields, Mapping) else {}
    is_keras = isinstance(module, str) and keras_configs.is_keras_module(module)
    parts = str(module).split(".")
    if is_keras and len(parts) > 1:
        is_layer = any(part in _LAYER_MODULES for part in parts)
    else:  # keras.Sequential, a config of Keras 2, or a class of the user
        is_layer = "layers" in fields or isinstance(fields.get("name"), str)
    # The config of a Dense must have the argument, which may be None.
    is_complete = any(key.endswith("initializer") for key in fields)
    return is_layer and (is_complete or not _takes_initializers(config["class_name"]))


def _takes_initializers(name: Any) -> bool:
    layer = getattr(keras.layers, name, None) if isinstance(name, str) else None
    if not isinstance(layer, type):
        return False
    return any(p.endswith("initializer") for p in inspect.signature(layer).parameters)


def _named(name: str) -> dict[str, Any]:
    config: dict[str, Any] = {"module": "keras.initializers", "class_name": name}
    if identifiers.has_arguments(name):
        config["class_name"] = identifiers.name_of(name)
        config["config"] = identifiers.arguments_of(name)
    return config
