"""Keras: its initializers and configs here, ours in its layers."""

import contextlib
import random
from collections.abc import Mapping
from typing import Any, Self

import jax
import jax.numpy as jnp
import keras
import numpy as np

from ._checks import check_seed, error, short
from ._compat import is_traced, x64_for
from .initializers import keras_configs, registry

_NO_MESH = jax.sharding.AbstractMesh((), ())
_DEPTH = 256  # of the config of a model; each model inside one takes four


def from_keras(x: Any) -> Any:
    """The initializer, or initializers, that Keras means by ``x``.

    The result has the law of Keras's initializer for every shape. What Keras
    draws from its seed is drawn here from the key of the call.

    Args:
        x: A Keras initializer, its class, its name or its config, of Keras 3 or
            earlier; an array, for its own shape only; None; or the
            ``get_config()`` or ``to_json()`` of a layer or model, as a dict or
            as JSON text.

    Returns:
        An initializer, or None for None. For a layer or model a dict of path
        and initializer, a path being the names of the layers inside and the
        argument: ``"block/dense/kernel_initializer"``.

    Raises:
        TypeError: If ``x`` is something else, such as a function.
        ValueError: If the initializer is not one of Keras's, or has an argument
            that jaxinit cannot translate exactly.

    Example:
        >>> from_keras(keras.initializers.RandomNormal(stddev=0.02, seed=3))
        RandomNormal(stddev=0.02, seed=3)
        >>> from_keras(keras.layers.Dense(4).get_config())["bias_initializer"]
        Zeros()
    """
    if isinstance(x, KerasInitializer):
        seed = keras.saving.serialize_keras_object(x.seed)
        seed = keras_configs.read_seed("from_keras", seed)
        return registry.with_seed(x.initializer, seed)
    if isinstance(x, type) and issubclass(x, keras.initializers.Initializer):
        x = x()
    if isinstance(x, keras.initializers.Initializer):
        x = _serialize(x)
    elif isinstance(x, str) and x.lstrip()[:1] in ("{", "["):
        x = keras_configs.parse(x)
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
    """An initializer that Keras layers take.

    Each use draws other values, from a key that advances like a Keras
    ``SeedGenerator``; with an integer seed each use draws the same ones, those
    that Keras's own initializer draws from it on the JAX backend wherever it
    has the same law in float32 (orthogonal ones with ``method="qr"``). Models that
    use it are saved, loaded and cloned with it; loading needs
    ``import jaxinit.keras``.

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
    return KerasInitializer(initializer, seed)


def to_config(initializer: Any) -> dict[str, Any]:
    """A config that Keras loads without jaxinit, as its own initializer.

    ``from_keras(to_config(x))`` is ``x`` for every ``x`` that `from_keras`
    returns. Fans of default axes are written as Keras's, which are the same for
    two and more dimensions; read back, ``in_axis=None`` says that they are.

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
    """A context in which Keras's initializers, asked for by name, are ours.

    It reaches the defaults of layers, and so models whose code is not yours.

    Example:
        >>> with scope():
        ...     layer = keras.layers.Dense(4)  # kernel_initializer="glorot_uniform"
        >>> type(layer.kernel_initializer).__name__
        'KerasInitializer'
    """
    classes = registry.names()
    names = [n for n, c in classes.items() if c.__name__ in keras_configs.CLASSES]
    return keras.saving.custom_object_scope({name: _Named(name) for name in names})


class _Named:
    """What stands for a Keras class under one of its names."""

    def __init__(self, name: str) -> None:
        self._name = name

    def from_config(self, config: Mapping[str, Any]) -> "KerasInitializer":
        return to_keras(from_keras({"class_name": self._name, "config": config}))


@keras.saving.register_keras_serializable("jaxinit")
class KerasInitializer(keras.initializers.Initializer):
    """A jaxinit initializer as Keras calls one; see `to_keras`.

    Attributes:
        initializer: What draws.
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
        """The configs of initializer and seed, plain data."""
        return {
            "initializer": registry.serialize(self.initializer),
            "seed": keras.saving.serialize_keras_object(self.seed),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """The initializer whose `get_config` is ``config``."""
        seed = config.get("seed")
        if isinstance(seed, Mapping):
            integer = keras_configs.generator_seed(keras_configs.WRAPPER, seed)
            seed = keras.random.SeedGenerator(integer)
        found = registry.deserialize(
            {"class_name": keras_configs.WRAPPER, "config": {**config, "seed": None}}
        )
        return cls(found, seed)

    def _key(self) -> jax.Array | None:
        """The key of this use: as the seeds of Keras, an integer and a counter."""
        if getattr(self.initializer, "deterministic", False):
            return None
        seed = self.seed
        if isinstance(seed, keras.random.SeedGenerator):
            # Keras calls initializers in the mesh of their layout, which is not
            # that of its seeds.
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


def _serialize(theirs: Any) -> dict[str, Any]:
    config: Any = keras.initializers.serialize(theirs)
    if type(theirs) is keras.initializers.Identity:  # its config lacks the gain
        config["config"] = {"gain": theirs.gain}
    return config


def _read(config: Mapping[str, Any]) -> Any:
    """What the config of an initializer, a layer or a model describes."""
    found = {} if _is_initializer(config) else keras_configs.initializers(config)
    if not found and ("class_name" in config or "name" not in config):
        return registry.deserialize(config)  # or an error that says what is wrong
    made: dict[str, Any] = {}
    for path, value in found.items():
        value = _named(value) if isinstance(value, str) else value
        try:
            made[path] = registry.deserialize(value)
        except (TypeError, ValueError) as e:
            raise type(e)(f"{short(path)}: {e}") from None
    return made


def _is_initializer(config: Mapping[str, Any]) -> bool:
    module = config.get("module")
    if isinstance(module, str) and keras_configs.is_keras_module(module):
        return "initializers" in module  # keras.layers has an Identity, too
    name = config.get("registered_name") or config.get("class_name")
    return isinstance(name, str) and name in (*registry.names(), keras_configs.WRAPPER)


def _named(name: str) -> dict[str, Any]:
    return {"module": "keras.initializers", "class_name": name}
