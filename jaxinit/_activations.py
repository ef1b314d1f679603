"""Activations by name: those of jax.nn, and those that users register."""

import difflib
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import jax

from ._checks import error, short
from ._quadrature import Grid, grid_of

# The elementwise functions of jax.nn. A name in a config is looked up here, so that it
# can reach nothing else.
NAMES = (
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "swish",
    "tanh",
)
_registered: dict[str, Callable[[Any], Any]] = {}


def is_activation(target: Any) -> bool:
    """True if ``target`` is a function of one argument; False for classes."""
    if isinstance(target, type) or not callable(target):
        return False
    try:
        inspect.signature(target).bind(None)
    except (TypeError, ValueError):
        return False
    return True


def register(f: Callable[[Any], Any], name: str, override: bool) -> None:
    """Makes a function known by a name.

    Raises:
        ValueError: If the name is empty or taken.
    """
    if not name:
        raise ValueError("register(): the name must not be empty.")
    if (name in NAMES or name in _registered) and not override:
        raise ValueError(
            f"register({name!r}): an activation of this name is known already. Choose "
            "another name, as 'package>name', or pass override=True."
        )
    _registered[name] = f
    _second_moment.cache_clear()


def find(where: str, activation: Any) -> Callable[[Any], Any]:
    """The function of a name; a function is returned unchanged.

    Raises:
        TypeError: If it is neither.
        ValueError: If the name is unknown.
    """
    if callable(activation):
        return activation
    if not isinstance(activation, str):
        rule = "the name of an activation or a function of one array"
        raise error(TypeError, where, "activation", rule, activation)
    check_name(where, activation)
    return _registered.get(activation) or getattr(jax.nn, activation)


def check_name(where: str, activation: Any) -> str:
    """Checks the name of an activation.

    Raises:
        TypeError: If it is no str.
        ValueError: If it is unknown.
    """
    rule = "the name of an activation, of jax.nn or registered"
    if not isinstance(activation, str):
        cure = "Name a function of your own with @jaxinit.register('package>name')."
        raise error(TypeError, where, "activation", rule, activation, cure)
    if activation in _registered or activation in NAMES:
        return activation
    close = difflib.get_close_matches(activation[:80], [*NAMES, *_registered], n=1)
    cure = f"Did you mean {close[0]!r}?" if close else f"Names: {', '.join(NAMES)}."
    raise error(ValueError, where, "activation", rule, activation, cure)


def second_moment(where: str, activation: Any) -> float:
    """E[f(z)^2] for z ~ N(0, 1), exact to about 1e-12.

    Raises:
        ValueError: If it is 0 or not finite.
    """
    if isinstance(activation, str):
        check_name(where, activation)
        return _second_moment(where, activation)
    return moment_of(where, activation, grid_of(where, find(where, activation)))


def moment_of(where: str, activation: Any, grid: Grid) -> float:
    """E[f(z)^2] from the grid of a function; see `second_moment`."""
    moment = grid.mean(grid.values**2)
    if not 0 < moment < math.inf:
        rule = "a function f with 0 < E[f(z)^2] < inf for z ~ N(0, 1)"
        got = f"{short(activation)}, of which it is {moment:g}"
        raise error(ValueError, where, "activation", rule, got)
    return moment


@functools.cache
def _second_moment(where: str, name: str) -> float:
    return moment_of(where, name, grid_of(where, find(where, name)))
