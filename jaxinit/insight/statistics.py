"""The numbers that are taken of an array, most of them inside the compiled program.

There they are float32 whatever the array's dtype, and survive values whose squares do
not.
"""

import dataclasses
import functools
import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._compat import explicit_sharding, replicated

_COUNT = 64  # of which the angles are measured
BINS = 32  # bins of a histogram
_COUNTED = 2**14  # a histogram counts about so many elements of a matrix
_REACH = 4.0  # standard deviations on each side of the mean in a histogram
_FLAT = 1e-9  # a smaller standard deviation, over the largest element, is rounding
_PAIRS = 512  # pairs of an activation's input and output
_SCALES = 1.0, 2.0**50, 2.0**-50
_SMALL = 2**14  # elements up to which the host takes the moments of an array
STACKED = 2**22  # elements up to which arrays of one shape are stacked
_SLOTS = 4  # numbers that a tap returns


class Moments(NamedTuple):
    """Statistics of the elements of an array.

    Attributes:
        mean: Their mean, a complex number for complex elements.
        std: Their standard deviation; of complex elements z, sqrt(E|z - E z|^2).
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
    """A request for the statistics of rows: angles and histogram.

    Attributes:
        x: The rows, with an axis in front for each scan around them.
    """

    x: Any


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Ref:
    """The position of a result among those that are computed together.

    Attributes:
        group: Number of the group.
        position: Position in it.
    """

    group: int
    position: int


class Rows(NamedTuple):
    """Statistics of the rows of a matrix.

    Attributes:
        cosine: Mean cosine similarity of two rows. None for rows of one number, which
            are either equal or opposite in direction.
        rank: Effective rank (tr G)^2 / tr G^2 of their Gram matrix G, over the largest
            rank that it can have.
        counts: The histogram of the elements, see `histogram`.
    """

    cosine: Any
    rank: Any
    counts: Any


def batch(tree: Any) -> tuple[Any, list[Moments]]:
    """Computes moments that are asked for in a tree; arrays of one shape together.

    XLA compiles a dozen kernels for one array, and as many for a stack of them. Small
    arrays are left to the host.

    Returns:
        The tree with a `Ref` for each larger `Array`, and the moments by group.
    """
    groups: dict[Hashable, dict[int, jax.Array]] = {}

    def place(leaf: Any) -> Any:
        if not isinstance(leaf, Array) or leaf.x.size <= _SMALL:
            return leaf
        x = leaf.x
        alone = id(x) if x.size > STACKED else None
        group = x.shape, x.dtype, explicit_sharding(jax.typeof(x)), alone
        members = groups.setdefault(group, {})
        members.setdefault(id(x), x)
        return Ref(list(groups).index(group), list(members).index(id(x)))

    placed = jax.tree.map(place, tree, is_leaf=_is_asked)
    stacks = [jnp.stack(list(members.values())) for members in groups.values()]
    return placed, list(map(replicated(jax.vmap(_all_moments)), stacks))


def resolve(tree: Any, results: Sequence[Moments]) -> Any:
    """Copies the results of `batch` to the host, in float64."""

    def of(leaf: Any) -> Any:
        if isinstance(leaf, Ref):
            group = results[leaf.group]
            return Moments(*(_wide(x[leaf.position]) for x in group))
        if isinstance(leaf, Array):
            return _moments_of(np.asarray(leaf.x))
        if isinstance(leaf, Matrix):
            x = np.asarray(leaf.x, np.float64)
            return Rows(*angles(x), histogram(x))
        return _wide(leaf)

    return jax.tree.map(of, tree, is_leaf=_is_asked)


def _is_asked(x: Any) -> bool:
    return isinstance(x, Array | Matrix | Ref)


def _moments_of(x: np.ndarray) -> Moments:
    """The moments of a small array on the host."""
    x = _wide(x)
    if not x.size:
        return Moments(*np.zeros(3))
    return Moments(np.mean(x), np.std(x), np.mean(x == 0))


def _wide(x: Any) -> np.ndarray:
    """A copy in float64 or complex128."""
    return np.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64)


def moments(x: jax.Array) -> Moments:
    """Mean, standard deviation and share of zeros, in one pass over the array."""
    return replicated(_all_moments)(x)


def _all_moments(x: jax.Array) -> Moments:
    if not jnp.iscomplexobj(x):
        return Moments(*_moments(_real(x)))
    x = lax.stop_gradient(x)
    (real, a, _), (imag, b, _) = _moments(_real(x.real)), _moments(_real(x.imag))
    zeros = jnp.mean(x == 0, dtype=jnp.float32) if x.size else jnp.zeros(())
    return Moments(lax.complex(real, imag), jnp.hypot(a, b), zeros)


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
    return replicated(functools.partial(_rows, features=features))(x)


def _rows(x: jax.Array, features: tuple[int, ...]) -> jax.Array:
    x = _real(x)
    others = tuple(axis for axis in range(x.ndim) if axis not in features)
    count = math.prod(x.shape[axis] for axis in others)
    if others + features != tuple(range(x.ndim)):
        x = x.transpose(*others, *features)
    x = x.reshape(count, math.prod(x.shape[len(others) :]))
    return _spread(x, _COUNT)


def _spread(x: jax.Array, count: int) -> jax.Array:
    """At most ``count`` entries of the first axis, at equal steps."""
    step = max(1, len(x) // count)
    return lax.slice_in_dim(x, 0, min(len(x), step * count), step)


def angles(x: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Cosine similarity and effective rank of the rows of matrices.

    Args:
        x: Matrices; the axes before the last two are theirs.
    """
    count, width = x.shape[-2:]
    x = x / np.maximum(np.abs(x).max((-2, -1), keepdims=True, initial=0), 1e-300)
    gram = x @ np.swapaxes(x, -1, -2)
    squares = np.diagonal(gram, axis1=-2, axis2=-1)
    lengths = np.sqrt(np.where(squares > 0, squares, 1))
    unit = gram / (lengths[..., :, None] * lengths[..., None, :])
    pairs = max(1, count * (count - 1))
    cosine = (unit.sum((-2, -1)) - (squares > 0).sum(-1)) / pairs
    total = np.square(gram).sum((-2, -1))
    rank = np.square(squares.sum(-1)) / np.where(total > 0, total, 1)
    return None if width == 1 else cosine, rank / max(1, min(count, width))


def histogram(x: np.ndarray) -> np.ndarray:
    """Counts of the elements of matrices, in standard deviations around their mean.

    The bins are equal parts of the range from -4 to 4. The outer bins also count the
    elements beyond. Elements that are not finite do not count. Of a large matrix, only
    a regular part of the elements counts.

    Args:
        x: Matrices in the last two axes.
    """
    if not x.size:
        return np.zeros((*x.shape[:-2], BINS), int)
    flat = x.reshape(*x.shape[:-2], -1)
    flat = flat[..., :: flat.shape[-1] // _COUNTED | 1]  # odd: no power of 2 divides it
    finite = np.isfinite(flat)
    clean = np.where(finite, flat, 0)
    scale = np.maximum(np.abs(clean).max(-1, keepdims=True, initial=0), 1e-300)
    clean = clean / scale  # whose squares neither overflow nor vanish
    size = np.maximum(finite.sum(-1, keepdims=True), 1)
    mean = clean.sum(-1, keepdims=True) / size
    off = np.where(finite, clean - mean, 0)
    std = np.sqrt(np.square(off).sum(-1, keepdims=True) / size)
    steps = off / np.where(std > _FLAT, std, 1) * (BINS / (2 * _REACH)) + BINS / 2
    bins = np.clip(np.floor(steps), 0, BINS - 1).astype(int)
    counts = [
        np.bincount(b[f], minlength=BINS)
        for b, f in zip(
            bins.reshape(-1, bins.shape[-1]),
            finite.reshape(-1, bins.shape[-1]),
            strict=True,
        )
    ]
    return np.array(counts).reshape(*x.shape[:-2], BINS)


def entropy(p: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Mean entropy of probabilities, over that of equal ones."""
    return replicated(functools.partial(_entropy, axes=axes))(p)


def _entropy(p: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    p = _real(p)
    size = 1
    for axis in axes:
        size *= p.shape[axis]
    if size == 1:  # the only distribution, and so one of equal probabilities
        return jnp.ones(())
    found = -jnp.sum(jax.scipy.special.xlogy(p, p), axes)
    return jnp.sum(found) / max(1, found.size) / jnp.log(max(2, size))


def samples(x: jax.Array, y: jax.Array) -> jax.Array:
    """Pairs of an activation's input and output, of shape (2, n)."""
    return replicated(_samples)(x, y)


def _samples(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.stack([_spread(_real(a).ravel(), _PAIRS) for a in (x, y)])


def slot(lengths: tuple[int, ...] = ()) -> jax.Array:
    """The argument of `tap` to which the statistics of a gradient are the gradient."""
    return jnp.zeros((*lengths, _SLOTS), jnp.float32)


@jax.custom_vjp
def tap(x: jax.Array, slot: jax.Array) -> jax.Array:
    """``x``; the gradient by ``slot`` holds the `moments` of the gradient by ``x``."""
    return x


def _tap(x: jax.Array, slot: jax.Array) -> tuple[jax.Array, None]:
    return x, None


def _tap_gradient(_: None, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean, std, zeros = moments(gradient)
    return gradient, jnp.stack([jnp.real(mean), jnp.imag(mean), std, zeros])


tap.defvjp(_tap, _tap_gradient)


def tapped(gradient: np.ndarray) -> Moments:
    """The moments that `tap` returned as the gradient by its slot."""
    real, imag, std, zeros = np.moveaxis(np.asarray(gradient, np.float64), -1, 0)
    return Moments(real + 1j * imag, std, zeros)


def _real(x: jax.Array) -> jax.Array:
    """An array in float32; of complex numbers, both parts."""
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        x = jnp.stack([x.real, x.imag], -1)
    return lax.stop_gradient(x).astype(jnp.float32)
