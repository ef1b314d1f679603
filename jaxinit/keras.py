"""Reads the initializers and configs of Keras, and puts ours into its layers."""

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
from ._compat import is_traced, x64_for
from .initializers import keras_axes, keras_configs, registry

_NO_MESH = jax.sharding.AbstractMesh((), ())
# Parts of the names of Keras's modules that have layers and models.
_LAYER_MODULES = ("layers", "models", "engine")
_DEPTH = 256  # of the config of a model; each model inside one takes four


def from_keras(x: Any) -> Any:
    """Translates an initializer of Keras, or those of a layer or model.

    The result has the law of Keras's initializer for every shape. Keras draws from
    its seed; the result draws from the key of the call.

    Args:
        x: A Keras initializer, its class, its name or its config, of Keras 2 or 3;
            an array, for its own shape only; None; or the ``get_config()`` or
            ``to_json()`` of a layer or model, as a dict or as JSON text (str or
            UTF-8 bytes).

    Returns:
        An initializer, or None for None. For a layer or model a dict of path and
        initializer. A path has the names of the layers and the name of the argument:
        ``"block/dense/kernel_initializer"``. A layer without initializers gives
        ``{}``.

        The kernel of an ``EinsumDense`` has the fan axes that Keras reads from the
        equation, unless its initializer has axes of its own. An attention layer
        (``MultiHeadAttention``, ``GroupQueryAttention``) uses its two initializers
        in several ``EinsumDense`` layers with different axes; the dict has an entry
        for each, under the name of its variable:
        ``"attention/query/kernel_initializer"``, and so for ``key``, ``value``,
        ``gate`` (with ``use_gate``) and ``attention_output``.

    Warns:
        UserWarning: If an initializer of a layer or model is a function, a class that
            jaxinit does not know, or an argument of Keras 1. The warning names its
            path. The dict has no entry for it and has all the others.

    Raises:
        TypeError: If ``x`` is something else, such as a function.
        ValueError: If the initializer is not one of Keras's, or has an argument
            that jaxinit cannot translate exactly; if a layer or model has no other
            initializers than those that the warning is for.

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
    if isinstance(x, Mapping):
        registry.check_extent(x, _DEPTH)
        return _read(x)
    if x is None or isinstance(x, np.ndarray | np.generic) or keras.ops.is_tensor(x):
        return registry.get(None if x is None else keras.ops.convert_to_numpy(x))
    rule = "an initializer of Keras, its class, name or config, an array or None"
    raise error(TypeError, "from_keras", "x", rule, x)


def to_keras(initializer: Any, seed: Any = None) -> "KerasInitializer":
    """Wraps an initializer for layers of Keras.

    Each use draws other values, from a key that advances like a Keras
    ``SeedGenerator``. With an integer seed each use draws the same values: those
    that Keras's own initializer draws from this seed on the JAX backend, wherever it
    has the same law in float32 (orthogonal ones with ``method="qr"``). Models with
    wrapped initializers are saved, loaded and cloned with them; loading needs
    ``import jaxinit.keras``.

    An initializer that scales by a fan (`jaxinit.VarianceScaling` and its kin, also
    inside `jaxinit.Scaled` and other combinators that keep the shape) becomes an
    instance of Keras's ``VarianceScaling`` too, so that ``EinsumDense`` and the
    attention layers give it the axes of their kernels. Axes other than the default
    ones win over those of the layer; ``in_axis=(-2,), out_axis=(-1,)`` are the
    default axes as the user's own.

    Args:
        initializer: An initializer, or what `jaxinit.get` makes one of.
        seed: An int, a ``keras.random.SeedGenerator``, or None for the seed of
            ``initializer`` if it has one, else an advancing key.

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
    """Writes a config that Keras loads without jaxinit, as its own initializer.

    ``from_keras(to_config(x))`` is ``x`` for every ``x`` that `from_keras`
    returns. Default axes are written as the default axes of Keras, whose fans are
    the same for two and more dimensions; read back, they are ``in_axis=None``.

    Args:
        initializer: An initializer of the library, or what `jaxinit.get` makes
            one of.

    Returns:
        A dict as ``keras.initializers.serialize`` gives.

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
            f"to_config({initializer!r}): Keras knows initializers of its own only; "
            "jaxinit.keras.to_keras makes one of any other."
        )
    return keras_configs.write(initializer)


def scope() -> contextlib.AbstractContextManager[Any]:
    """Returns a context in which the names of Keras's initializers mean ours.

    The defaults of layers are names, and so the context reaches models whose code is
    not yours.

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
    """Stands for a Keras class under one of its names."""

    def __init__(self, name: str) -> None:
        self._name = name

    def from_config(self, config: Mapping[str, Any]) -> "KerasInitializer":
        return to_keras(from_keras({"class_name": self._name, "config": config}))


class KerasInitializer(keras.initializers.Initializer):
    """A jaxinit initializer with the interface of Keras; made by `to_keras`.

    Attributes:
        initializer: The jaxinit initializer, which draws.
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
        # Where there is no seed: as Keras's, repeated by keras.utils.set_random_seed.
        self._start = random.randint(1, 10**9) if self.seed is None else 0
        self._uses = 0

    def __call__(self, shape: Any, dtype: Any = None, layout: Any = None) -> Any:
        """Draws a tensor.

        Args:
            shape: Its shape.
            dtype: Its dtype; None for ``keras.config.floatx()``.
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
        """Returns the configs of initializer and seed, plain data."""
        return {
            "initializer": registry.serialize(self.initializer),
            "seed": keras.saving.serialize_keras_object(self.seed),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "KerasInitializer":
        """Makes the initializer of a config.

        Args:
            config: A dict as `get_config` returns; ``EinsumDense`` adds its
                ``input_axes`` and ``output_axes`` to it.

        Returns:
            An initializer as `to_keras` returns.
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
        """Makes the key of this use from an integer and a counter, as Keras does."""
        if getattr(self.initializer, "deterministic", False):
            return None
        seed = self.seed
        if isinstance(seed, keras.random.SeedGenerator):
            # Keras calls initializers in the mesh of their layout; its seeds have
            # another mesh.
            with jax.sharding.use_abstract_mesh(_NO_MESH):
                data = seed.next()
            if not is_traced(data):
                data = np.asarray(keras.ops.convert_to_numpy(data), np.uint32)
        elif seed is None:
            data = np.array([self._start, self._uses], np.uint32)
            self._uses += 1
        else:
            data = np.array([seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF], np.uint32)
        return jax.random.wrap_key_data(jnp.asarray(data), impl="threefry2x32")


class KerasVarianceScaling(KerasInitializer, keras.initializers.VarianceScaling):
    """A `KerasInitializer` that scales by a fan.

    Keras passes the axes of a kernel to instances of its ``VarianceScaling``. Scale,
    mode and distribution are those of ``initializer``.
    """

    @property
    def input_axes(self) -> list[int] | None:
        """The axes that the user counts as inputs; None for those of the layer."""
        axes = keras_axes.explicit_axes(self.initializer)
        return axes and list(axes.inputs)

    @property
    def output_axes(self) -> list[int] | None:
        """The axes that the user counts as outputs; None for those of the layer."""
        axes = keras_axes.explicit_axes(self.initializer)
        return axes and list(axes.outputs)


# Both classes have one name in configs; KerasInitializer reads it.
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
    """Reads the config of an initializer, a layer or a model."""
    found = [] if _is_initializer(config) else keras_configs.initializers(config)
    if not found and not _is_bare_layer(config):
        return registry.deserialize(config)  # or an error that says what is wrong
    made: dict[str, Any] = {}
    foreign: dict[str, str] = {}
    for path, value, axes in found:
        if path.rpartition("/")[2] in keras_configs.KERAS_1:
            foreign[path] = "initializers of Keras 1 had other laws."
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
    """True if the config, which has no initializer, is that of a layer or model."""
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
    # A Dense without the argument is incomplete; with None for it, it is not.
    is_complete = any(key.endswith("initializer") for key in fields)
    return is_layer and (is_complete or not _takes_initializers(config["class_name"]))


def _takes_initializers(name: Any) -> bool:
    layer = getattr(keras.layers, name, None) if isinstance(name, str) else None
    if not isinstance(layer, type):
        return False
    return any(p.endswith("initializer") for p in inspect.signature(layer).parameters)


def _named(name: str) -> dict[str, Any]:
    return {"module": "keras.initializers", "class_name": name}
