"""Orthogonal convolutions, with one nonzero tap or with all taps."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from .._checks import Axes, check_axes, check_draw, check_number, error
from .._compat import OutSharding, Shape
from .._fans import resolve_axes
from .._program import program
from ._householder import haar, matmul
from .base import Initializer, unless_axes_are_named
from .orthogonal import check_uniform, draw_slices, scale_factor, uniform_matrix


def delta_orthogonal(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    gain: float = 1.0,
    batch_axis: Axes = (),
    method: str = "householder",
    scale: str | None = None,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Convolution kernel with one nonzero tap, an orthogonal matrix: an isometry.

    W is zero except at the tap (k - 1) // 2 of each spatial axis. With "SAME" padding
    this tap reads the input at the position of the output. It is a Haar-distributed
    orthogonal (in, out) matrix times ``gain``. With in <= out and gain 1 the
    convolution keeps norms and angles.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: ``(*taps, in, out)`` with one to three spatial axes, besides the
            axes of ``batch_axis``.
        dtype: Floating or complex dtype.
        gain: Factor of the kernel.
        batch_axis: Axis or axes of stacked kernels, which are independent draws.
        method: As in `orthogonal`; ``"qr"`` has the values of
            ``jax.nn.initializers.delta_orthogonal``.
        scale: As in `orthogonal`. With a scale in > out is allowed, and the tap then
            has orthonormal columns.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If the shape does not have one to three spatial axes, or in > out
            without a ``scale``.

    Example:
        >>> w = delta_orthogonal(jax.random.key(0), (3, 3, 8, 16))
        >>> tap = w[1, 1]
        >>> bool(jnp.allclose(tap @ tap.T, jnp.eye(8), atol=1e-5))
        True

    References:
        Xiao et al., "Dynamical isometry and a mean field theory of CNNs", 2018.
    """
    where = "delta_orthogonal"
    a = check_uniform(
        where, gain=gain, batch_axis=batch_axis, method=method, scale=scale
    )
    key, shape, dtype, out_sharding = check_draw(where, key, shape, dtype, out_sharding)
    batch = _batch(where, shape, a["batch_axis"], isometry=a["scale"] is None)
    *_, fan_in, fan_out = (d for i, d in enumerate(shape) if i not in batch)
    return _delta(
        key,
        shape,
        dtype,
        out_sharding,
        a["gain"] * scale_factor(a["scale"], fan_out / max(1, fan_in)),
        batch=batch,
        method=a["method"],
    )


def conv_orthogonal(
    key: jax.Array,
    shape: Shape,
    dtype: Any = None,
    *,
    gain: float = 1.0,
    batch_axis: Axes = (),
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Convolution kernel that uses all its taps and is an isometry.

    W = H * B_1 * ... * B_(k-1), where * convolves along the spatial axes. H is a matrix
    with orthonormal rows. B_i = [P, I - P] along each axis in turn, where P projects
    onto a random subspace, uniform and of binomial dimension. At every frequency all
    singular values of W are ``gain``. With gain 1 and circular padding the convolution
    keeps norms and angles.

    Args:
        key: PRNG key, typed or raw, never reused by this function.
        shape: ``(*taps, in, out)`` with one to three spatial axes and
            in <= out, besides the axes of ``batch_axis``.
        dtype: Floating or complex dtype.
        gain: Factor of the kernel.
        batch_axis: Axis or axes of stacked kernels, which are independent draws.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ValueError: If the shape does not have one to three spatial axes, or in > out.

    Example:
        >>> w = conv_orthogonal(jax.random.key(0), (5, 8, 16))
        >>> at_frequency_zero = w.sum(0)
        >>> gram = at_frequency_zero @ at_frequency_zero.T
        >>> bool(jnp.allclose(gram, jnp.eye(8), atol=1e-5))
        True

    References:
        Xiao et al., "Dynamical isometry and a mean field theory of CNNs", 2018,
        algorithm 1; Kautsky and Turcajova, "A matrix approach to discrete
        wavelets", 1994.
    """
    where = "conv_orthogonal"
    a = _check_conv(where, gain=gain, batch_axis=batch_axis)
    draw = check_draw(where, key, shape, dtype, out_sharding)
    batch = _batch(where, draw[1], a["batch_axis"], isometry=True)
    return _conv(*draw, a["gain"], batch=batch)


def _batch(
    where: str, shape: tuple[int, ...], batch_axis: Axes, *, isometry: bool
) -> tuple[int, ...]:
    """Returns the batch axes of kernels that have one to three spatial axes."""
    batch = resolve_axes(where, "batch_axis", batch_axis, shape)
    kernel = [d for axis, d in enumerate(shape) if axis not in batch]
    if len(kernel) not in (3, 4, 5):
        rule = "(*taps, in, out) with one to three spatial axes besides batch_axis"
        raise error(ValueError, where, "shape", rule, shape)
    if isometry and kernel[-2] > kernel[-1]:
        rule = "a shape with in <= out, because no isometry maps to fewer channels"
        raise error(ValueError, where, "shape", rule, shape)
    return tuple(sorted(batch))


def _check_conv(where: str, *, gain: Any, batch_axis: Any) -> dict[str, Any]:
    return {
        "gain": check_number(where, "gain", gain),
        "batch_axis": check_axes(where, "batch_axis", batch_axis),
    }


@functools.partial(program, parts="batch")
def _delta(key, shape, dtype, gain, *, batch, method):
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    copies = math.prod(shape[axis] for axis in batch)

    def draw(key: jax.Array, one: tuple[int, ...]) -> jax.Array:
        *taps, fan_in, fan_out = one
        tap = uniform_matrix(key, fan_in, fan_out, dtype, method, copies)
        tap = tap.reshape([1] * len(taps) + [fan_in, fan_out])
        around = [((k - 1) // 2, k // 2) for k in taps]
        return jnp.pad(tap, [*around, (0, 0), (0, 0)])

    return gain * draw_slices(draw, key, shape, batch)


@functools.partial(program, parts="batch")
def _conv(key, shape, dtype, gain, *, batch):
    if 0 in shape:
        return jnp.zeros(shape, dtype)
    copies = math.prod(shape[axis] for axis in batch)

    def draw(key: jax.Array, one: tuple[int, ...]) -> jax.Array:
        *taps, fan_in, fan_out = one
        key, basis_key, mask_key = jax.random.split(key, 3)
        matrix = uniform_matrix(key, fan_in, fan_out, dtype, "householder", copies)
        kernel = jnp.zeros(one, dtype).at[(0,) * len(taps)].set(matrix)
        steps, count = max(taps) - 1, len(taps)
        if steps == 0:
            return kernel
        # One projection for each step and axis. An axis with fewer taps than steps
        # gets the identity in the steps that are left.
        n = copies * steps * count
        keys = jax.random.split(basis_key, steps * count)
        basis = jax.vmap(lambda key: haar(key, fan_out, fan_out, dtype, n))(keys)
        half = np.float32(0.5)  # a Python float would draw other bits under x64
        mask = jax.random.bernoulli(mask_key, half, (steps * count, 1, fan_out))
        kept = basis * mask.astype(dtype)
        projections = matmul(kept, basis.conj().swapaxes(1, 2))
        ended = jnp.array([[t >= k - 1 for k in taps] for t in range(steps)])
        projections = projections.reshape(steps, count, fan_out, fan_out)
        identity = jnp.eye(fan_out, dtype=dtype)
        projections = jnp.where(ended[..., None, None], identity, projections)

        def convolve(
            kernel: jax.Array, projection: jax.Array
        ) -> tuple[jax.Array, None]:
            for axis in range(count):
                here = matmul(kernel, projection[axis])
                kernel = here + jnp.roll(kernel - here, 1, axis)
            return kernel, None

        return lax.scan(convolve, kernel, projections)[0]

    return gain * draw_slices(draw, key, shape, batch)


@dataclass(frozen=True, repr=False)
class DeltaOrthogonal(Initializer):
    """Convolution kernel with one nonzero tap, an orthogonal matrix: an isometry.

    W is zero except at the tap (k - 1) // 2 of each spatial axis. That tap is an
    orthogonal (in, out) matrix times ``gain``. The shape is ``(*taps, in, out)`` with
    one to three spatial axes and in <= out, besides the axes of ``batch_axis``.

    Attributes:
        gain: Factor of the kernel.
        batch_axis: Axis or axes of stacked kernels, which are independent draws.
        method: ``"householder"`` multiplies random reflections; ``"qr"``, slower,
            has the values of ``jax.nn.initializers.delta_orthogonal``.
        scale: A further factor, where r = out / in: max(1, sqrt(r)) for
            ``"scaled_uniform"``, sqrt(r) for ``"spectral"``, 1 for None. With a scale
            in > out is allowed, and the tap then has orthonormal columns.
        seed: Seed for calls without a key.

    Raises:
        ValueError: In a call, if the shape does not have one to three spatial axes,
            or in > out without a ``scale``.

    Example:
        >>> DeltaOrthogonal()(jax.random.key(0), (3, 3, 8, 16)).shape
        (3, 3, 8, 16)

    References:
        Xiao et al., "Dynamical isometry and a mean field theory of CNNs", 2018.
    """

    gain: float = 1.0
    batch_axis: Axes = ()
    method: str = "householder"
    scale: str | None = None
    seed: int | None = None

    function = staticmethod(delta_orthogonal)
    check = staticmethod(check_uniform)
    identifiers = ("delta_orthogonal",)
    reads_layout = unless_axes_are_named


@dataclass(frozen=True, repr=False)
class ConvOrthogonal(Initializer):
    """Convolution kernel that uses all its taps and is an isometry.

    At every frequency all singular values of W are ``gain``. With gain 1 and circular
    padding the convolution keeps norms and angles. The shape is ``(*taps, in, out)``
    with one to three spatial axes and in <= out, besides the axes of ``batch_axis``.

    Attributes:
        gain: Factor of the kernel.
        batch_axis: Axis or axes of stacked kernels, which are independent draws.
        seed: Seed for calls without a key.

    Raises:
        ValueError: In a call, if the shape does not have one to three spatial axes,
            or in > out.

    Example:
        >>> ConvOrthogonal()(jax.random.key(0), (3, 3, 8, 16)).shape
        (3, 3, 8, 16)

    References:
        Xiao et al., "Dynamical isometry and a mean field theory of CNNs", 2018,
        algorithm 1.
    """

    gain: float = 1.0
    batch_axis: Axes = ()
    seed: int | None = None

    function = staticmethod(conv_orthogonal)
    check = staticmethod(_check_conv)
    identifiers = ("conv_orthogonal",)
    reads_layout = unless_axes_are_named
