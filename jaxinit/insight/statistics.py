"""The numbers that are taken of an array inside the compiled program.

They are float32 whatever the array's dtype, and survive values whose squares do not.
"""

import dataclasses
import itertools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_ROWS = 64  # of which the angles are measured
_SAMPLES = 512  # pairs of an activation's input and output
_SCALES = 1.0, 2.0**50, 2.0**-50
STACKED = 2**22  # elements up to which arrays of one shape are stacked
_SLOTS = 3  # numbers that a tap returns


class Moments(NamedTuple):
    """Statistics of the elements of an array.

    Attributes:
        mean: Their mean.
        std: Their standard deviation.
        zeros: Share of exact zeros.
    """

    mean: Any
    std: Any
    zeros: Any


class Array(NamedTuple):
    """An array whose moments are asked for.

    Attributes:
        x: The array.
    """

    x: Any


class Matrix(NamedTuple):
    """Rows whose angles are asked for.

    Attributes:
        x: The rows, with an axis in front for each scan around them.
    """

    x: Any


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Ref:
    """Where a result stands among those that were computed together.

    Attributes:
        group: Number of the group.
        position: Position in it.
    """

    group: int
    position: int


class Angles(NamedTuple):
    """How alike the rows of a matrix are.

    Attributes:
        cosine: Mean cosine similarity of two rows.
        rank: Effective rank (tr G)^2 / tr G^2 of their Gram matrix G, over the largest
            rank that it can have.
    """

    cosine: Any
    rank: Any


def batch(tree: Any) -> tuple[Any, list[Any]]:
    """Computes what is asked for in a tree; arrays of one shape together.

    XLA compiles a dozen kernels for one array, and as many for a stack of them.

    Returns:
        The tree with a `Ref` for each `Array` and `Matrix`, and the results by group.
    """
    groups: dict[tuple[Any, ...], dict[int, Any]] = {}
    alone = itertools.count()

    def place(asked: Any) -> tuple[tuple[Any, ...], int]:
        if not isinstance(asked, _ASKED):
            return (), 0
        x = asked.x
        of = alone if isinstance(asked, Array) and x.size > STACKED else None
        group = type(asked), x.shape, x.dtype, of and next(of)
        members = groups.setdefault(group, {})
        members.setdefault(id(x), x)
        return group, list(members).index(id(x))

    leaves, structure = jax.tree.flatten(tree, is_leaf=lambda x: isinstance(x, _ASKED))
    places = list(map(place, leaves))
    order = {group: i for i, group in enumerate(groups)}
    refs = [
        Ref(order[group], position) if group else leaf
        for leaf, (group, position) in zip(leaves, places, strict=True)
    ]
    results = [
        angles(jnp.stack(list(members.values())))
        if group[0] is Matrix
        else jax.vmap(moments)(jnp.stack(list(members.values())))
        for group, members in groups.items()
    ]
    return jax.tree.unflatten(structure, refs), results


def resolve(tree: Any, results: list[Any]) -> Any:
    """The tree of `batch` with the results in it, as float64."""

    def of(leaf: Any) -> Any:
        if not isinstance(leaf, Ref):
            return np.asarray(leaf, np.float64)
        group = results[leaf.group]
        return type(group)(*(np.asarray(x[leaf.position], np.float64) for x in group))

    return jax.tree.map(of, tree, is_leaf=lambda x: isinstance(x, Ref))


def moments(x: jax.Array) -> Moments:
    """Mean, standard deviation and share of zeros, in one pass over the array."""
    return Moments(*_moments(_real(x)))


def _moments(x: jax.Array) -> tuple[jax.Array, ...]:
    x = jnp.atleast_1d(x)
    if not x.size:
        return (jnp.zeros(()),) * 3
    first = x[(0,) * x.ndim]  # near the mean, so that little cancels
    y = x - first
    # Squares of the values, and of values larger and smaller by a power of two, which
    # neither overflow nor vanish where the squares do.
    terms = (y, *(jnp.square(y * scale) for scale in _SCALES), jnp.float32(x == 0))
    zero = (jnp.float32(0),) * len(terms)
    sums = lax.reduce(
        terms, zero, lambda a, b: tuple(map(jnp.add, a, b)), (x.ndim - 1,)
    )
    mean, *squares, zeros = _total(jnp.stack(sums)) / x.size
    roots = [jnp.sqrt(s) / scale for s, scale in zip(squares, _SCALES, strict=True)]
    middle, small, large = roots
    root = jnp.where(middle < 1e-12, small, middle)
    root = jnp.where(middle > 1e12, large, root)
    std = root * jnp.sqrt(
        jnp.maximum(0, 1 - jnp.square(mean / jnp.where(root, root, 1)))
    )
    return first + mean, std, zeros


def _total(x: jax.Array) -> jax.Array:
    """Sums over all axes but the first; long sums in two steps, to round less."""
    x = x.reshape(len(x), -1)
    if x.shape[1] > 2**14:
        x = jnp.pad(x, ((0, 0), (0, -x.shape[1] % 256))).reshape(len(x), -1, 256)
        x = x.sum(-1)
    return x.sum(-1)


def rows(x: jax.Array, features: tuple[int, ...]) -> jax.Array:
    """Some of the rows along the axes of features, as a matrix."""
    x = _real(x)
    others = tuple(axis for axis in range(x.ndim) if axis not in features)
    count = math.prod(x.shape[axis] for axis in others)
    if others + features != tuple(range(x.ndim)):
        x = x.transpose(*others, *features)
    x = x.reshape(count, -1)
    return x[:: max(1, count // _ROWS)][:_ROWS]


def angles(x: jax.Array) -> Angles:
    """Cosine similarity and effective rank of the rows of matrices.

    Args:
        x: Matrices; the axes before the last two are theirs.
    """
    count, width = x.shape[-2:]
    largest = jnp.max(jnp.abs(x), (-2, -1), keepdims=True)
    x = x / jnp.maximum(largest, jnp.finfo(jnp.float32).tiny)
    precision = lax.Precision.HIGHEST
    gram = jnp.matmul(x, jnp.swapaxes(x, -1, -2), precision=precision)
    squares = jnp.diagonal(gram, axis1=-2, axis2=-1)
    roots = lax.rsqrt(jnp.where(squares > 0, squares, 1))
    unit = jnp.einsum("...i,...ij,...j->...", roots, gram, roots, precision=precision)
    ones = jnp.sum(squares > 0, -1)
    cosine = (unit - ones) / max(1, count * (count - 1))
    total = jnp.sum(jnp.square(gram), (-2, -1))
    rank = jnp.square(jnp.sum(squares, -1)) / jnp.where(total > 0, total, 1)
    return Angles(cosine, rank / min(count, width))


_ASKED = Array, Matrix


def entropy(p: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Mean entropy of probabilities, over that of equal ones."""
    p = _real(p)
    size = 1
    for axis in axes:
        size *= p.shape[axis]
    found = -jnp.sum(jax.scipy.special.xlogy(p, p), axes)
    return jnp.mean(found) / jnp.log(max(2.0, size))


def samples(x: jax.Array, y: jax.Array) -> jax.Array:
    """Pairs of an activation's input and output, of shape (2, n)."""
    x, y = _real(x).ravel(), _real(y).ravel()
    step = max(1, x.size // _SAMPLES)
    return jnp.stack([x[::step][:_SAMPLES], y[::step][:_SAMPLES]])


def slot(lengths: tuple[int, ...] = ()) -> jax.Array:
    """The argument of `tap` to which the statistics of a gradient are the gradient."""
    return jnp.zeros((*lengths, _SLOTS), jnp.float32)


@jax.custom_vjp
def tap(x: jax.Array, slot: jax.Array) -> jax.Array:
    """``x``; the gradient by ``slot`` is the `moments` of the gradient by ``x``."""
    return x


def _tap(x: jax.Array, slot: jax.Array) -> tuple[jax.Array, None]:
    return x, None


def _tap_gradient(_: None, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    return gradient, jnp.stack(moments(gradient))


tap.defvjp(_tap, _tap_gradient)


def _real(x: jax.Array) -> jax.Array:
    """An array in float32; of complex numbers, both parts."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], -1)
    return lax.stop_gradient(x).astype(jnp.float32)
