"""Factories: functions of users that the command line names as ``MODULE:FACTORY``."""

import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

import jaxinit

from . import progress
from .usage import UsageError, user_errors

_CURE = "return (fn, params, inputs), or a model of Flax or Equinox and its inputs"


class Model(NamedTuple):
    """The model of a factory, as a function of parameters and inputs.

    Attributes:
        fn: Function of the parameters and the inputs.
        params: The parameters.
        inputs: The inputs.
        like: The result of `jaxinit.eval_shape` for the parameters, as
            `jaxinit.reinit` takes it; or None.
    """

    fn: Callable[..., Any]
    params: Any
    inputs: tuple[Any, ...]
    like: Any = None


def find(factory: str) -> Any:
    """Imports a factory, also from the current folder."""
    module, _, name = factory.partition(":")
    if not module or not name:
        raise UsageError(f"{factory!r} names no factory; write MODULE:FACTORY")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, TypeError) as e:
        raise UsageError(f"cannot import {factory}: {e}") from None
    if not callable(found):
        raise UsageError(f"{factory} is not callable")
    return found


def read_model(factory: str, key: jax.Array) -> Model:
    """Calls a factory without arguments, and reads the model that it returns.

    The factory returns ``(fn, params, inputs)``, or ``(model, inputs)`` with a model of
    Flax Linen, Flax NNX or Equinox. The inputs are one array or a tuple. A module of
    Equinox is applied to each example of a batch.

    Args:
        factory: ``MODULE:FACTORY``.
        key: Key that initializes a Linen module.
    """
    with user_errors(factory):
        return _model(factory, find(factory)(), key)


def _model(factory: str, made: Any, key: jax.Array) -> Model:
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise UsageError(f"{factory} returned {_kinds(made)}: {_CURE}")
    inputs = made[-1] if isinstance(made[-1], tuple) else (made[-1],)
    if len(made) == 3:
        if not callable(made[0]):
            raise UsageError(f"{factory} returned {_kinds(made)}: {_CURE}")
        return Model(made[0], made[1], inputs)
    model = made[0]
    if isinstance(model, _loaded("flax.linen", "Module")):
        return _linen(model, inputs, key)
    if isinstance(model, _loaded("flax.nnx", "Module")):
        return Model(lambda model, *inputs: model(*inputs), model, inputs)
    if isinstance(model, _loaded("equinox", "Module")):
        return Model(_over_examples, model, inputs)
    raise UsageError(f"{factory} returned {_kinds(made)}: {_CURE}")


def _over_examples(model: Any, *inputs: Any) -> Any:
    try:
        return jax.vmap(model)(*inputs)
    except Exception as e:
        e.add_note(
            "A module of Equinox is called under jax.vmap: each input needs an axis of "
            "examples first. For another call return (fn, params, inputs)."
        )
        raise


def _linen(model: Any, inputs: tuple[Any, ...], key: jax.Array) -> Model:
    def apply(variables: Any, *inputs: Any) -> Any:
        # The module may write statistics of the batch, which are thrown away.
        written = [name for name in variables if name != "params"]
        out, _ = model.apply(variables, *inputs, mutable=written, rngs=keys)
        return out

    keys = {"dropout": jax.random.fold_in(key, 1)}
    params = jaxinit.init(model.init, key, *inputs, progress=progress.compiled)
    like = jaxinit.eval_shape(model.init, key, *inputs)
    return Model(apply, params, inputs, like)


def _loaded(module: str, name: str) -> type | tuple[()]:
    """Returns a class for isinstance, or () if its module is not loaded."""
    return getattr(sys.modules.get(module), name, ())


def _kinds(made: Any) -> str:
    if not isinstance(made, tuple):
        return type(made).__name__
    return f"({', '.join(type(x).__name__ for x in made[:5])})"
