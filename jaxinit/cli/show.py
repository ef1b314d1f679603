"""``show``: what an initializer makes, in numbers."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .expected import expected_stddev
from .usage import UsageError

PERCENT = (1, 5, 25, 50, 75, 95, 99)
_MOST_VALUES = 2**26
# Multiplications of a singular value decomposition that stays within seconds.
_MOST_WORK = 1e10


@dataclasses.dataclass(frozen=True)
class Summary:
    """Statistics of a tensor; of the modulus from ``low`` on, if complex."""

    mean: complex
    stddev: float
    low: float
    quantiles: tuple[float, ...]
    high: float
    distinct: int
    size: int
    finite: bool
    matrix: tuple[int, int] | None
    singular: np.ndarray | None


def draw(
    init: Any, shape: tuple[int, ...], dtype: np.dtype[Any], seed: int | None
) -> np.ndarray:
    """The initializer's tensor in float64 or complex128.

    Args:
        init: An initializer.
        shape: Shape of the tensor.
        dtype: Its dtype.
        seed: Of the key; None for the initializer's own, or 0 if it has none.

    Returns:
        NumPy array, whose every value is one that ``dtype`` holds.

    Raises:
        UsageError: If the arguments do not suit the initializer.
    """
    size = math.prod(shape)
    if not 0 < size <= _MOST_VALUES:
        raise UsageError(
            f"argument --shape: {shape} has {size} elements; show takes 1 to "
            f"{_MOST_VALUES}"
        )
    own = seed is None and getattr(init, "seed", None) is not None
    try:
        values = init(None if own else jax.random.key(seed or 0), shape, dtype)
    except (TypeError, ValueError, OverflowError, ImportError) as e:
        raise UsageError(e) from None
    exact = np.complex128 if dtype.kind == "c" else np.float64
    return np.asarray(values).astype(exact)


def summarize(values: np.ndarray) -> Summary:
    """Statistics of ``values``, not empty."""
    flat = values.ravel()
    finite = bool(np.isfinite(flat).all())
    on_line = np.abs(flat) if values.dtype.kind == "c" else flat
    matrix = None if values.ndim < 2 else (-1, values.shape[-1])
    singular = None
    if matrix is not None:
        folded = values.reshape(matrix)
        matrix = folded.shape
        if finite and math.prod(matrix) * min(matrix) <= _MOST_WORK:
            singular = np.linalg.svd(folded, compute_uv=False)
    with np.errstate(all="ignore"):  # what overflowed shows as inf and nan
        mean = flat.mean()
        stddev = np.sqrt((np.abs(flat - mean) ** 2).mean())
        quantiles = np.percentile(on_line, PERCENT)
    return Summary(
        mean=mean.item(),
        stddev=float(stddev),
        low=float(on_line.min()),
        quantiles=tuple(float(q) for q in quantiles),
        high=float(on_line.max()),
        distinct=len(np.unique(flat)),
        size=flat.size,
        finite=finite,
        matrix=matrix,
        singular=singular,
    )


def lines(
    init: Any, shape: tuple[int, ...], dtype: np.dtype[Any], s: Summary
) -> Iterator[str]:
    """The summary as text."""
    yield f"{init!r}, shape {shape}, {dtype.name}"
    yield ""
    yield f"mean      {s.mean:.6g}"
    expected = expected_stddev(init, shape, on_complex=dtype.kind == "c")
    promise = "" if expected is None else f"   (expected {expected:.6g})"
    yield f"std       {s.stddev:.6g}{promise}"
    where = "|w| at    " if dtype.kind == "c" else "quantiles "
    heads = ("min", *(f"{p}%" for p in PERCENT), "max")
    yield where + "".join(f"{h:>10}" for h in heads)
    numbers = (s.low, *s.quantiles, s.high)
    yield " " * len(where) + "".join(f"{x:>10.3g}" for x in numbers)
    yield f"distinct  {s.distinct:,} of {s.size:,} values"
    yield f"singular  {_spectrum(s)}"


def _spectrum(s: Summary) -> str:
    if s.matrix is None:
        return "no values: fewer than two dimensions"
    folded = f"of the {s.matrix[0]} x {s.matrix[1]} matrix"
    if s.singular is None:
        why = "too large" if s.finite else "not all values are finite"
        return f"values {folded} not computed: {why}"
    largest, middle, least = s.singular[0], np.median(s.singular), s.singular[-1]
    ratio = f"{largest / least:.4g}" if least > 0 else "infinite"
    return (
        f"values {folded}: largest {largest:.4g}, median {middle:.4g}, "
        f"smallest {least:.4g}, ratio {ratio}"
    )
