"""Haar-distributed orthogonal and unitary matrices, made of matrix products.

The Q of the QR factorization of a Gaussian matrix, with signs that make R's
diagonal positive, is uniform on the Stiefel manifold. No matrix has to be
factorized: step i of a QR factorization meets a Gaussian vector of length n - i,
whatever the earlier steps were, so its Householder vector v_i can be drawn
directly. Then Q = H_1 ... H_k [I 0]^T D with H_i = I - v_i v_i^*. The product of a
strip of reflections is I - V T V^*, where the inverse of T is the upper triangle of
V^* V with its diagonal halved.

References:
    Stewart, "The efficient generation of random orthogonal matrices", 1980;
    Mezzadri, "How to generate random matrices from the classical compact
    groups", 2007; Schreiber and Van Loan, "A storage-efficient WY
    representation", 1989.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .. import _draws

# Full precision: by default a TPU rounds the factors to bfloat16, a GPU to TF32.
matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)

# The loop is used between these numbers of entries of all copies, because it compiles
# faster. With more entries, its extra products take longer than that saves; with fewer,
# the unrolled program is short as well.
_ROLLED_BETWEEN = 2**18, 2**20
# A strip has an eighth of the columns, but at least the first of these numbers and at
# most the second, unless that makes more than 16 strips, so that programs stay short.
_WIDTHS = 128, 256
_ROLLED = 128  # columns of a strip in a loop
_HALVINGS = 3  # of a triangle that is inverted, or 1 of a small one


def haar(
    key: jax.Array, rows: int, columns: int, dtype: np.dtype[Any], copies: int = 1
) -> jax.Array:
    """Draws a uniform matrix with orthonormal columns; ``rows >= columns >= 1``.

    Args:
        key: PRNG key. Column i uses row i, from the diagonal on, of the standard
            normal matrix of that key and ``(columns, rows)``.
        rows: Length of a column.
        columns: Number of columns.
        dtype: float32, float64, complex64 or complex128.
        copies: Number of such matrices that the caller draws at once.

    Returns:
        Array of shape ``(rows, columns)``.
    """
    v, phase = _reflectors(key, rows, columns, dtype)
    low, high = _ROLLED_BETWEEN
    on_cpu = _rolled if low < copies * rows * columns <= high else _unrolled
    # For a GPU XLA tries many kernels for each shape of a product, and for a TPU each
    # product of full precision takes it seconds to compile.
    q = lax.platform_dependent(
        v, cuda=_solved, rocm=_solved, tpu=_rolled, default=on_cpu
    )
    return q * phase


# The vectors are rows, because XLA's products on a CPU are faster with V^T than with V.
def _reflectors(
    key: jax.Array, rows: int, columns: int, dtype: np.dtype[Any]
) -> tuple[jax.Array, jax.Array]:
    """Returns V^T, Householder vectors of squared norm 2 as rows, and the phases D."""
    x = _draws.normal(key, (columns, rows), dtype, None, 0.0, 1.0)
    i, j = (lax.broadcasted_iota(jnp.int32, x.shape, axis) for axis in (0, 1))
    x = jnp.where(j >= i, x, 0)
    x = jnp.where((i == j) & (x == 0), dtype.type(1e-10), x)  # 0 has no phase
    # Not jnp.diagonal, whose gather would double the compile time on a TPU.
    diagonal = jnp.sum(jnp.where(i == j, x, 0), axis=1, keepdims=True)
    modulus = jnp.abs(diagonal)
    squares = jnp.square(x.real) + jnp.square(x.imag) if dtype.kind == "c" else x * x
    norm = jnp.sqrt(jnp.sum(squares, axis=1, keepdims=True))
    scale = jnp.sqrt(norm * (norm + modulus))
    modulus, norm, scale = (a.astype(dtype) for a in (modulus, norm, scale))
    phase = diagonal / modulus
    return jnp.where(i == j, diagonal + phase * norm, x) / scale, -phase[:, 0]


def _solved(v: jax.Array) -> jax.Array:
    """Multiplies the reflections by the GPU solver's routine for them."""
    diagonal = jnp.diagonal(v)[:, None]
    tau = jnp.square(jnp.abs(diagonal[:, 0])).astype(v.dtype)
    return lax.linalg.householder_product((v / diagonal).T, tau)


def _unrolled(v: jax.Array) -> jax.Array:
    """Multiplies the reflections, each with the part of the result that it changes."""
    columns, rows = v.shape
    width = _width(columns)
    starts = range(0, columns, width)
    v = jnp.pad(v, ((0, len(starts) * width - columns), (0, 0)))
    strips = [v[start : start + width, start:] for start in starts]
    triangles = jnp.stack([_triangle(strip) for strip in strips])
    factors = _inverse(triangles, _HALVINGS if width > _WIDTHS[0] else 1)
    q = jnp.zeros((rows - columns, 0), v.dtype)
    for start, strip, t in reversed(list(zip(starts, strips, factors, strict=True))):
        here = min(width, columns - start)
        strip, t = strip[:here], t[:here, :here]
        # [I 0; 0 q] - V T V^* [I 0; 0 q]
        change = strip[:, :here].conj()
        if q.shape[1]:
            below = matmul(strip[:, here:].conj(), q)
            change = jnp.concatenate([change, below], axis=1)
        change = matmul(strip.T, matmul(t, change))
        q = jnp.pad(q, ((change.shape[0] - q.shape[0], 0), (here, 0)))
        q = q + jnp.where(
            jnp.arange(q.shape[1]) < here, jnp.eye(*q.shape, dtype=q.dtype), 0
        )
        q = q - change
    return q


def _width(columns: int) -> int:
    """Returns the columns of a strip: all of them, or a multiple of 8."""
    least, most = _WIDTHS
    eighth, sixteenth = (8 * -(-columns // (8 * strips)) for strips in (8, 16))
    return min(columns, max(least, min(eighth, most), sixteenth))


def _rolled(v: jax.Array) -> jax.Array:
    """Does the same in a loop over strips of full height: more work, less program."""
    columns, rows = v.shape
    width = min(columns, _ROLLED)
    strips = -(-columns // width)
    v = jnp.pad(v, ((0, strips * width - columns), (0, 0)))

    def apply(i: jax.Array, q: jax.Array) -> jax.Array:
        strip = lax.dynamic_slice_in_dim(v, width * (strips - 1 - i), width)
        t = _newton(_triangle(strip))
        return q - matmul(strip.T, matmul(t, matmul(strip.conj(), q)))

    start = jnp.eye(rows, columns, dtype=v.dtype) + 0 * v[0, 0]  # varies as v does
    return lax.fori_loop(0, strips, apply, start)


def _triangle(v: jax.Array) -> jax.Array:
    """Returns the inverse of T in I - V T V^*, the product of the reflections in V."""
    gram = matmul(v.conj(), v.T)
    return jnp.triu(gram, 1) + jnp.eye(gram.shape[-1], dtype=gram.dtype)


# Not lax.linalg.triangular_solve: stacks of them on more CPU devices than cores
# wait for each other forever (JAX 0.10).
def _inverse(u: jax.Array, halvings: int) -> jax.Array:
    """Inverts unit upper triangles ``(..., n, n)``, halved ``halvings`` times."""
    half, odd = divmod(u.shape[-1], 2)
    if odd or not halvings:
        return _newton(u)
    both = jnp.stack([u[..., :half, :half], u[..., half:, half:]])
    first, last = _inverse(both, halvings - 1)
    corner = -matmul(matmul(first, u[..., :half, half:]), last)
    top = jnp.concatenate([first, corner], axis=-1)
    bottom = jnp.concatenate([jnp.zeros_like(corner), last], axis=-1)
    return jnp.concatenate([top, bottom], axis=-2)


def _newton(u: jax.Array) -> jax.Array:
    """Inverts them by Newton's iteration: exact if 2^steps >= n, as (U - I)^n = 0."""
    n = u.shape[-1]
    twice = 2 * jnp.eye(n, dtype=u.dtype)
    steps = (n - 1).bit_length()
    return lax.fori_loop(
        1, steps, lambda _, x: matmul(x, twice - matmul(u, x)), twice - u
    )
