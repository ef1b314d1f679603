"""Recognizes an activation from pairs of its input and output."""

import math
from collections.abc import Callable

import numpy as np

_CLOSE = 3e-3  # of the largest value; a rounding to bfloat16 is 4e-3 at most
_FLAT = 0.05  # slope below which an activation is saturated
_SMALL = 0.1  # range of inputs in which every smooth activation is a line


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(x / 2)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, 0)


def _elu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def _selu(x: np.ndarray) -> np.ndarray:
    negative = 1.6732632423543772 * np.expm1(np.minimum(x, 0))
    return 1.0507009873554805 * np.where(x > 0, x, negative)


def _hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x + 3, 0, 6) / 6


def _sparse_plus(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 1, x, np.clip(x + 1, 0, 2) ** 2 / 4)


# Aliases of jax.nn are left out; the first that fits is taken.
FORMULAS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": _elu,
    "selu": _selu,
    "softplus": _softplus,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "relu6": lambda x: np.clip(x, 0, 6),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "hard_sigmoid": _hard_sigmoid,
    "hard_silu": lambda x: x * _hard_sigmoid(x),
    "log_sigmoid": lambda x: -_softplus(-x),
    "soft_sign": lambda x: x / (1 + np.abs(x)),
    "sparse_plus": _sparse_plus,
    "sparse_sigmoid": lambda x: np.clip(x + 1, 0, 2) / 2,
    "squareplus": lambda x: (x + np.sqrt(x**2 + 4)) / 2,
}

_KINKS = "relu", "leaky_relu"  # the same at every scale of the inputs


def recognize(x: np.ndarray, y: np.ndarray) -> str | None:
    """The name of the activation of jax.nn that maps x to y; None if none does.

    One that does up to a factor is taken if none does exactly.
    """
    is_known = np.isfinite(x) & np.isfinite(y)
    x, y = x[is_known], y[is_known]
    if len(x) < 8:
        return None
    is_narrow = np.ptp(x) < _SMALL
    if is_narrow and not x.min() < 0 < x.max():
        return None
    names = _KINKS if is_narrow else tuple(FORMULAS)
    best, least = None, _CLOSE * float(np.abs(y).max())
    made = {name: FORMULAS[name](x) for name in names}
    for scaled in (False, True):
        for name, z in made.items():
            factor = (z @ y) / max(z @ z, 1e-30) if scaled else 1.0
            error = float(np.abs(factor * z - y).max())
            if error < least:
                best, least = name, error
        if best is not None:
            break
    return best


def saturation(x: np.ndarray, y: np.ndarray) -> float | None:
    """Share of elements at which the slope of y by x is small."""
    order = np.argsort(x)
    dx, dy = np.diff(x[order]), np.diff(y[order])
    is_apart = dx > 1e-5 * float(np.ptp(x))
    if not is_apart.any():
        return None
    slopes = np.abs(dy[is_apart] / dx[is_apart])
    return float(np.mean(slopes < _FLAT))
