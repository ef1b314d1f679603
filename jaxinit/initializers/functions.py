"""Checks of functions that are passed as initializers."""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from .._checks import clip, short


def check_made(initializer: Any, made: Any) -> Any:
    """Returns ``made``, the result of an initializer, unless it is an initializer.

    Raises:
        TypeError: If ``initializer`` is a factory that has to be called first.
    """
    if callable(made) and not hasattr(made, "shape"):
        raise TypeError(_is_factory(initializer))
    return made


def check_signature(f: Callable[..., Any]) -> None:
    """Refuses a function whose signature is not that of an initializer.

    Raises:
        TypeError: If ``f`` is a factory of initializers, or takes other arguments.
    """
    name = short(getattr(f, "__name__", f))
    if str(getattr(f, "__module__", "")).split(".")[0] == "torch":
        raise TypeError(
            f"get(identifier=...): {name} fills a tensor of PyTorch. Pass the jaxinit "
            "initializer of the same distribution: jaxinit.names() lists all, and "
            "TorchKernel is the one of PyTorch's layers."
        )
    if _is_known_factory(f):
        raise TypeError(f"get(identifier=...): {_is_factory(f)}")
    try:
        signature = inspect.signature(f)
    except (TypeError, ValueError):
        return  # some builtins have no signature; a call will tell
    try:
        signature.bind("key", "shape", "dtype")
    except TypeError:
        if _takes_none(signature):
            raise TypeError(f"get(identifier=...): {_is_factory(f)}") from None
        raise TypeError(
            "get(identifier=...) takes callables of (key, shape, dtype); "
            f"{name} takes {clip(str(signature), 300)}."
        ) from None


def _is_known_factory(f: Any) -> bool:
    """True if ``f`` is a function of jax.nn that returns an initializer."""
    name = str(getattr(f, "__name__", ""))
    return name not in ("zeros", "ones") and (
        getattr(jax.nn.initializers, name, None) is f
    )


def _takes_none(signature: inspect.Signature) -> bool:
    try:
        signature.bind()
    except TypeError:
        return False
    return True


def _is_factory(f: Any) -> str:
    name = getattr(f, "__name__", type(f).__name__)
    return f"{name} is a factory: call it, as {name}(...), and pass its result."
