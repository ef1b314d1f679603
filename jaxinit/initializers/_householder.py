"""Haar-distributed orthogonal and unitary matrices, computed as products.

Factorize a Gaussian matrix as Q R, with signs that make the diagonal of R positive.
Then Q is uniform on the Stiefel manifold. The factorization itself is not needed: its
step i reduces a Gaussian vector of length n - i, which is independent of the earlier
steps. So the Householder vector v_i of that step is drawn directly, and
Q = H_1 ... H_k [I 0]^T D with H_i = I - v_i v_i^*. The product of a strip of
reflections is I - V T V^*, where the inverse of T is the upper triangle of V^* V with
its diagonal halved.

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

# A CPU uses the loop between these numbers of entries (of all copies), because the loop
# compiles faster. With more entries its extra products cost more than that saves. With
# fewer entries the unrolled program is short, too.
_ROLLED_BETWEEN = 2**18, 2**20
# Least and greatest number of columns of a strip. A strip has an eighth of all columns
# within these bounds, or more if there were over 16 strips and so a long program.
_WIDTHS = 128, 256
_ROLLED = 128  # columns of a strip in a loop
_HALVINGS = 3  # times that a triangle is halved before it is inverted; 1 if small


def haar(
    key: jax.Array, rows: int, columns: int, dtype: np.dtype[Any], copies: int = 1
) -> jax.Array:
    """Draws a uniform matrix with orthonormal columns; ``rows >= columns >= 1``.

    Args:
        key: PRNG key. It gives a standard normal matrix of shape ``(columns, rows)``;
            column i uses row i of this matrix from the diagonal on.
        rows: Length of a column.
        columns: Number of columns.
        dtype: float32, float64, complex64 or complex128.
        copies: Number of matrices that the caller draws in the same program.

    Returns:
        Array of shape ``(rows, columns)``.
    """
    v, phase = _reflectors(key, rows, columns, dtype)
    low, high = _ROLLED_BETWEEN
    on_cpu = _rolled if low < copies * rows * columns <= high else _unrolled
    # Products compile slowly elsewhere: on a GPU XLA tries many kernels for each shape,
    # and on a TPU each product of full precision takes seconds.
    q = lax.platform_dependent(
        v, cuda=_solved, rocm=_solved, tpu=_rolled, default=on_cpu
    )
    return q * phase


# The Householder vectors are rows, because on a CPU XLA multiplies V^T faster than V.
def _reflectors(
    key: jax.Array, rows: int, columns: int, dtype: np.dtype[Any]
) -> tuple[jax.Array, jax.Array]:
    """Returns V^T, whose rows are Householder vectors of squared norm 2, and D."""
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
    return jnp.where(i == j, diagonal + phase * norm, x) / scale, -phase.T


def _solved(v: jax.Array) -> jax.Array:
    """Multiplies the reflections by the routine of the GPU's solver library."""
    diagonal = jnp.diagonal(v)[:, None]
    tau = jnp.square(jnp.abs(diagonal[:, 0])).astype(v.dtype)
    return lax.linalg.householder_product((v / diagonal).T, tau)


def _unrolled(v: jax.Array) -> jax.Array:
    """Multiplies the reflections strip by strip, each with the rows that it changes."""
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
    """Returns the number of columns of a strip: all of them, or a multiple of 8."""
    least, most = _WIDTHS
    eighth, sixteenth = (8 * -(-columns // (8 * strips)) for strips in (8, 16))
    return min(columns, max(least, min(eighth, most), sixteenth))


def _rolled(v: jax.Array) -> jax.Array:
    """Multiplies the reflections in a loop: more work in a shorter program."""
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
    """Inverts unit upper triangles by Newton's iteration.

    The result is exact if 2^steps >= n, because (U - I)^n = 0.
    """
    n = u.shape[-1]
    twice = jnp.broadcast_to(2 * jnp.eye(n, dtype=u.dtype), u.shape)
    steps = (n - 1).bit_length()
    return lax.fori_loop(
        1, steps, lambda _, x: matmul(x, twice - matmul(u, x)), twice - u
    )
