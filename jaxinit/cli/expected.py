"""The standard deviation that an initializer promises.

Computed from the definition of each law, not by the code that draws it, so
that comparing the two means something.
"""

import itertools
import math
from typing import Any

import numpy as np

import jaxinit
from jaxinit import _draws

# variance * n, and which fan is n.
_SCALED = {
    jaxinit.GlorotNormal: (1.0, "fan_avg"),
    jaxinit.GlorotUniform: (1.0, "fan_avg"),
    jaxinit.HeNormal: (2.0, "fan_in"),
    jaxinit.HeUniform: (2.0, "fan_in"),
    jaxinit.LecunNormal: (1.0, "fan_in"),
    jaxinit.LecunUniform: (1.0, "fan_in"),
    jaxinit.TorchKernel: (1 / 3, "fan_in"),
}
# What holds one initializer, and is symmetric about 0 where that is; Clipped, whose
# bounds need not be, has no formula here.
_HOLDERS = (
    jaxinit.AsDtype,
    jaxinit.Blocks,
    jaxinit.DepthScaled,
    jaxinit.ICNR,
    jaxinit.Masked,
    jaxinit.Normalized,
    jaxinit.Scaled,
    jaxinit.Stacked,
)


def expected_stddev(
    init: Any, shape: tuple[int, ...], *, on_complex: bool = False
) -> float | None:
    """Standard deviation of the entries of ``init(key, shape)``.

    Args:
        init: An initializer.
        shape: A shape that it can fill.
        on_complex: Whether the dtype is complex.

    Returns:
        The population value for random initializers, that of the entries
        themselves for deterministic ones, None where no formula is known.
    """
    kind = type(init)
    if kind is jaxinit.VarianceScaling:
        return _scaled(init, shape, init.scale, init.mode)
    if kind in _SCALED:
        return _scaled(init, shape, *_SCALED[kind])
    if kind is jaxinit.RandomNormal:
        return init.stddev
    if kind is jaxinit.RandomUniform:
        return (init.maxval - init.minval) / math.sqrt(12)
    if kind is jaxinit.TruncatedNormal:
        return _truncated(init, on_complex)
    if kind is jaxinit.TorchBias:
        return 1 / math.sqrt(3 * init.fan_in)
    if kind in (jaxinit.Zeros, jaxinit.Ones):
        return 0.0
    if kind in (jaxinit.Constant, jaxinit.FromArray):
        return float(np.broadcast_to(np.asarray(init.value), shape).std())
    if kind is jaxinit.Orthogonal:
        return _orthogonal(init, shape)
    if kind in (jaxinit.DeltaOrthogonal, jaxinit.ConvOrthogonal):
        return _convolution(init, shape)
    if kind is jaxinit.Identity:
        return _identity(init, shape)
    if kind is jaxinit.Dirac:
        taps = init.groups * min(shape[-2], shape[-1] // init.groups)
        return _two_valued(init.gain, taps, shape)
    if kind is jaxinit.ZerO:
        return _zer_o(shape)
    if kind is jaxinit.Sparse:
        return _sparse(init, shape)
    if kind is jaxinit.BilinearUpsampling:
        return _resampling(shape, mean=False)
    if kind is jaxinit.LinearDownsampling:
        return _resampling(shape, mean=True)
    if kind in (jaxinit.Concatenate, *_HOLDERS):
        return _composed(init, shape, on_complex)
    return None


def _scaled(init: Any, shape: tuple[int, ...], scale: float, mode: str) -> float:
    fan_in, fan_out = jaxinit.fans(shape, init.in_axis, init.out_axis, init.batch_axis)
    n = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
    return math.sqrt(scale / n) if n else 0.0


def _truncated(init: Any, on_complex: bool) -> float:
    if init.corrected or init.stddev == 0:
        return init.stddev
    lower, upper = init.lower, init.upper
    if init.bounds == "absolute":
        lower, upper = ((b - init.mean) / init.stddev for b in (lower, upper))
    if on_complex:
        return init.stddev * _draws.complex_truncated_stddev(upper)
    return init.stddev * _draws.truncated_moments(lower, upper)[1]


def _orthogonal(init: Any, shape: tuple[int, ...]) -> float:
    columns = math.prod(np.take(shape, init.column_axis, axis=0).ravel().tolist())
    stacked = math.prod(np.take(shape, np.array(init.batch_axis, int)).ravel().tolist())
    rows = math.prod(shape) // max(1, columns * stacked)
    return _unit(init, rows, columns) if rows * columns else 0.0


def _convolution(init: Any, shape: tuple[int, ...]) -> float:
    batch = np.atleast_1d(np.asarray(init.batch_axis, int)) % len(shape)
    *taps, fan_in, fan_out = (d for axis, d in enumerate(shape) if axis not in batch)
    size = math.prod(taps) * fan_in * fan_out
    return _unit(init, fan_in, fan_out) / math.sqrt(math.prod(taps)) if size else 0.0


def _unit(init: Any, rows: int, columns: int) -> float:
    """Of a matrix of orthonormal rows or columns, times the gain and the scale."""
    root = math.sqrt(columns / rows)
    scale = {None: 1.0, "scaled_uniform": max(1.0, root), "spectral": root}
    gain = init.gain * scale[getattr(init, "scale", None)]
    return abs(gain) / math.sqrt(max(rows, columns))


def _identity(init: Any, shape: tuple[int, ...]) -> float:
    batch = np.atleast_1d(np.asarray(init.batch_axis, int)) % len(shape)
    rows, columns = (d for axis, d in enumerate(shape) if axis not in batch)
    return _two_valued(init.gain, min(rows, columns), (rows, columns))


def _two_valued(value: float, count: int, shape: tuple[int, ...]) -> float:
    """Of zeros and ``count`` entries of ``value``."""
    share = count / max(1, math.prod(shape))
    return abs(value) * math.sqrt(share * (1 - share))


def _zer_o(shape: tuple[int, ...]) -> float:
    rows, columns = shape[-2:]
    if columns <= rows:
        return _two_valued(1.0, columns, shape)
    order = 2 ** math.ceil(math.log2(columns))
    size = math.prod(shape)
    mean = _hadamard_sum(rows, columns, order) / math.sqrt(order) / size
    return math.sqrt(rows * columns / order / size - mean**2)


def _hadamard_sum(rows: int, columns: int, order: int) -> int:
    """Sum over the first rows and columns of [[H, H], [H, -H]], H of half the order."""
    if rows <= 0 or columns <= 0:
        return 0
    if rows >= order or columns >= order:
        return order  # whole columns sum to 0, but for the first
    half = order // 2
    top, left = min(rows, half), min(columns, half)
    return (
        _hadamard_sum(top, left, half)
        + _hadamard_sum(top, columns - half, half)
        + _hadamard_sum(rows - half, left, half)
        - _hadamard_sum(rows - half, columns - half, half)
    )


def _composed(init: Any, shape: tuple[int, ...], on_complex: bool) -> float | None:
    """Of an initializer that holds others.

    Where their parts or layers differ in variance, it is the mean square that has a
    formula: the answer if all are symmetric about 0.
    """

    def stddev(held: Any, shape: tuple[int, ...]) -> float:
        found = expected_stddev(held, shape, on_complex=on_complex)
        return math.nan if found is None else found

    held, kind = getattr(init, "initializer", None), type(init)
    found = math.nan
    if kind is jaxinit.ICNR:
        copies = init.factor ** (len(shape) - 2)
        found = stddev(held, (*shape[:-1], shape[-1] // copies))
    elif kind is jaxinit.AsDtype:
        found = stddev(held, shape)
    elif kind is jaxinit.Scaled:
        found = abs(init.factor) * stddev(held, shape)
    elif kind is jaxinit.DepthScaled:
        n = init.num_layers if init.mode == "depth" else (init.index or 0) + 1
        if init.mode == "depth" or init.index is not None:
            found = stddev(held, shape) / math.sqrt(init.per_block * n)
    elif kind is jaxinit.Stacked:
        axis = init.axis % len(shape)
        found = stddev(held, (*shape[:axis], *shape[axis + 1 :]))
    elif kind is jaxinit.Masked and init.mask is None and _is_centered(held):
        found = stddev(held, shape) * math.sqrt(1 - init.sparsity)
    elif kind is jaxinit.Normalized and _is_centered(held) and not _has_zeros(held):
        found = init.norm / math.sqrt(np.take(shape, init.axis).prod())
    elif kind in (jaxinit.Blocks, jaxinit.Concatenate) and _is_centered(init):
        axis = init.axis % len(shape)
        parts = init.initializers if held is None else [held]
        sizes = len(parts) if init.sizes is None else init.sizes
        sizes = [shape[axis] // sizes] * sizes if isinstance(sizes, int) else sizes
        squares = (
            size * stddev(part, (*shape[:axis], size, *shape[axis + 1 :])) ** 2
            for size, part in zip(sizes, itertools.cycle(parts), strict=False)
        )
        found = math.sqrt(sum(squares) / shape[axis])
    return None if math.isnan(found) else found


def _is_centered(init: Any) -> bool:
    """Whether its law is known to be symmetric about 0."""
    if isinstance(init, jaxinit.RandomNormal):
        return init.mean == 0
    if isinstance(init, jaxinit.RandomUniform):
        return init.minval == -init.maxval
    if isinstance(init, jaxinit.Concatenate):
        return all(map(_is_centered, init.initializers))
    if isinstance(init, _HOLDERS):
        return _is_centered(init.initializer)
    return isinstance(init, (*_SCALED, jaxinit.VarianceScaling, jaxinit.Sparse))


def _has_zeros(init: Any) -> bool:
    """Whether vectors of zeros are possible."""
    held = [*getattr(init, "initializers", ()), getattr(init, "initializer", None)]
    return isinstance(init, (jaxinit.Masked, jaxinit.Sparse)) or any(
        _has_zeros(other) for other in held if other is not None
    )


def _sparse(init: Any, shape: tuple[int, ...]) -> float:
    n = math.prod(np.asarray(shape)[np.atleast_1d(np.asarray(init.axis, int))].tolist())
    return init.stddev * math.sqrt(1 - math.ceil(init.sparsity * n) / n)


def _resampling(shape: tuple[int, ...], *, mean: bool) -> float:
    *spatial, _, outputs = shape
    total = squares = 1.0
    for k in spatial:
        half, center = (k + 1) // 2, (k - 1) / 2
        taps = np.interp(
            np.arange(k), [center - half, center, center + half], [0, 1, 0]
        )
        taps = taps / taps.sum() if mean else taps
        total, squares = total * taps.sum(), squares * (taps**2).sum()
    share = outputs / math.prod(shape)  # a filter per output, of all entries
    return math.sqrt(share * squares - (share * total) ** 2)
