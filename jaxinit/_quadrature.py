"""Means of elementwise functions of a normal variable, kinks and jumps included.

A function is evaluated once, on a grid that suits it: Gauss-Legendre panels between
powers of two, halved until two rules agree. A kink ends in a panel as narrow as
float64 allows, and so costs no accuracy. Between powers of two the density of N(0, q)
is smooth for every q, so that one grid serves all variances.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import error
from ._compat import may_transfer

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(20)  # on [-1, 1]
_BATCH = 4096  # nodes that one call of the compiled function evaluates
_ROUNDS = 60  # halvings; 52 make a panel as narrow as float64 allows
_MOST = 2000  # panels that are halved again; a function that needs more is noise
_EDGES = 2.0 ** np.arange(-24, 9)
_FAR = 2.0 ** np.arange(9, 41)
MOST_VARIANCE = 400.0  # up to which the grid, on [-256, 256], holds N(0, q)

_Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, float]]


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """A function and its slope on a grid that integrates them.

    Attributes:
        x: Nodes.
        weights: Their weights in an integral over x.
        values: The function at the nodes.
        slopes: Its derivative there.
        far: The function at -2^40, ..., -2^9, 2^9, ..., 2^40, which no mean needs.
    """

    x: np.ndarray
    weights: np.ndarray
    values: np.ndarray
    slopes: np.ndarray
    far: np.ndarray

    def mean(self, integrand: np.ndarray, variance: float = 1.0) -> float:
        """E[integrand(x)] for x ~ N(0, variance), from values at the nodes."""
        density = np.exp(-(self.x**2) / (2 * variance))
        density /= math.sqrt(2 * math.pi * variance)
        return float((self.weights * density) @ integrand)


def grid_of(where: str, f: Callable[[Any], Any]) -> Grid:
    """The grid of an elementwise function of JAX.

    Raises:
        TypeError: If ``f`` is no such function.
    """
    with jax.enable_x64(True), jax.disable_jit(False), may_transfer(), _on_host():
        return _refine(_evaluator(where, f))


def _refine(evaluate: _Evaluate) -> Grid:
    edges = np.concatenate([-_EDGES[::-1], [0.0], _EDGES])
    a, b = edges[:-1], edges[1:]
    total, nodes, epsilon = _panels(evaluate, a, b)
    size = np.abs(total)
    at_one = size * np.exp(-(np.minimum(abs(a), abs(b)) ** 2) / 2)
    # Relative to the panel, so that each variance is as exact; but no finer than what
    # counts at variance 1, where a function that cancels leaves only rounding.
    tolerance = epsilon * (400 * size + 4 * at_one.sum(-1, keepdims=True))
    found: list[np.ndarray] = []
    for _ in range(_ROUNDS):
        middle = (a + b) / 2
        a, b = (np.stack(x, -1).ravel() for x in ((a, middle), (middle, b)))
        parts, nodes, _ = _panels(evaluate, a, b)
        change = np.abs(parts.reshape(len(parts), -1, 2).sum(-1) - total)
        is_right = (change <= tolerance).all(0).repeat(2)
        found.append(nodes[:, is_right])
        left = ~is_right
        a, b, total, nodes = a[left], b[left], parts[:, left], nodes[:, left]
        tolerance = tolerance.repeat(2, axis=1)[:, left]
        if not 0 < len(a) <= _MOST:
            break
    found.append(nodes)
    far, _, _ = evaluate(np.concatenate([-_FAR[::-1], _FAR]))
    x, weights, values, slopes = np.concatenate(found, axis=1).reshape(4, -1)
    return Grid(x, weights, values, slopes, far)


def _panels(
    evaluate: _Evaluate, a: np.ndarray, b: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Integrals of f, f^2 and f'^2 over panels; their nodes; the precision of f."""
    half = (b - a)[:, None] / 2
    x = (a + b)[:, None] / 2 + half * _POINTS
    weights = half * _WEIGHTS
    values, slopes, epsilon = evaluate(x.ravel())
    values, slopes = values.reshape(x.shape), slopes.reshape(x.shape)
    integrals = [weights * g for g in (abs(values), values**2, slopes**2)]
    nodes = np.stack([x, weights, values, slopes])
    return np.stack(integrals).sum(-1), nodes, epsilon


def _evaluator(where: str, f: Callable[[Any], Any]) -> _Evaluate:
    """Compiles a function and its derivative, for any number of points."""

    def apply(x: Any) -> Any:  # jit, given a ufunc of NumPy itself, ends the process
        return f(x)

    scalar, points = (jax.ShapeDtypeStruct(n, jnp.float64) for n in ((), (_BATCH,)))
    try:
        (result,) = jax.tree.leaves(jax.eval_shape(apply, scalar))
        if result.shape != () or not jnp.issubdtype(result, jnp.floating):
            raise TypeError(f"The result for a scalar is {result}.")
        # Compiled ahead, so that it also runs while JAX traces the caller.
        both = jax.vmap(jax.value_and_grad(apply))
        compiled = jax.jit(both).lower(points).compile()
        compiled(np.zeros(_BATCH))  # fails if f reads a traced value of the caller
    except Exception as e:
        raise _no_activation(where, f) from e
    epsilon = float(jnp.finfo(result.dtype).eps)

    def evaluate(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        made: list[np.ndarray] = []
        for start in range(0, len(x), _BATCH):
            batch = x[start : start + _BATCH]
            padded = np.pad(batch, (0, _BATCH - len(batch)))
            made.append(np.stack(compiled(padded))[:, : len(batch)])
        values, slopes = np.concatenate(made, axis=1)
        return values, slopes, epsilon

    return evaluate


def _no_activation(where: str, f: Any) -> Exception:
    rule = "an elementwise function from one floating array to another, of JAX's"
    cure = "Give lambda x: ... of jax.numpy, or a name of jax.nn such as 'silu'."
    return error(TypeError, where, "activation", rule, f, cure)


@functools.cache
def _host() -> Any:
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS names others alone
        return None


def _on_host() -> Any:
    """A context of the CPU, where float64 is float64."""
    return jax.default_device(_host())
