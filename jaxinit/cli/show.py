"""``show``: statistics and a picture of the values that an initializer makes."""

import dataclasses
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import _files
from .._checks import short
from .expected import expected_stddev
from .usage import UsageError, require, usage_errors

PERCENT = (1, 5, 25, 50, 75, 95, 99)
_MOST_VALUES = 2**26
_MOST_WORK = 1e10  # multiplications; a singular value decomposition takes seconds


@dataclasses.dataclass(frozen=True)
class Summary:
    """Statistics of a tensor; `quantiles` are those of the modulus if it is complex."""

    mean: complex
    stddev: float
    quantiles: tuple[float, ...]  # the least value, those at PERCENT, the largest
    distinct: int
    singular: np.ndarray | None  # of the last axis against the others, if computed


def draw(
    init: Any, shape: tuple[int, ...], dtype: np.dtype[Any], seed: int | None
) -> np.ndarray:
    """Draws a tensor as float64 or complex128; without a seed by init's own, or 0."""
    size = math.prod(shape)
    if not 0 < size <= _MOST_VALUES:
        rule = f"show takes 1 to {_MOST_VALUES}"
        raise UsageError(
            f"argument --shape: {short(shape)} has {short(size)} elements; {rule}"
        )
    has_seed = seed is None and getattr(init, "seed", None) is not None
    with usage_errors(f"draw {init!r}"):
        values = init(None if has_seed else jax.random.key(seed or 0), shape, dtype)
    return np.asarray(values).astype(complex if dtype.kind == "c" else float)


def summarize(values: np.ndarray) -> Summary:
    """Statistics of a tensor that is not empty."""
    singular = None
    if values.ndim >= 2 and np.isfinite(values).all():
        matrix = values.reshape(-1, values.shape[-1])
        if matrix.size * min(matrix.shape) <= _MOST_WORK:
            singular = np.linalg.svd(matrix, compute_uv=False)
    with np.errstate(all="ignore"):  # values that overflowed show as inf and nan
        mean, stddev = values.mean().item(), values.std().item()
        inner = np.percentile(real(values), PERCENT)
    quantiles = real(values).min(), *inner, real(values).max()
    return Summary(mean, stddev, quantiles, len(np.unique(values)), singular)


def real(values: np.ndarray) -> np.ndarray:
    """The values, or their modulus if they are complex."""
    return np.abs(values) if values.dtype.kind == "c" else values


def lines(
    init: Any, values: np.ndarray, dtype: np.dtype[Any], s: Summary
) -> Iterator[str]:
    """The summary of the values as text."""
    is_complex = dtype.kind == "c"
    yield f"{init!r}, shape {values.shape}, {dtype.name}\n"
    yield f"mean      {s.mean:.6g}"
    expected = expected_stddev(init, values.shape, on_complex=is_complex)
    promise = "" if expected is None else f"   (expected {expected:.6g})"
    yield f"std       {s.stddev:.6g}{promise}"
    heads = "min", *(f"{p}%" for p in PERCENT), "max"
    where = "|w| at    " if is_complex else "quantiles "
    yield where + "".join(f"{head:>10}" for head in heads)
    yield " " * len(where) + "".join(f"{x:>10.3g}" for x in s.quantiles)
    yield f"distinct  {s.distinct:,} of {values.size:,} values"
    yield f"singular  {_spectrum(values, s.singular)}"


def _spectrum(values: np.ndarray, singular: np.ndarray | None) -> str:
    if values.ndim < 2:
        return "no values: fewer than two dimensions"
    columns = values.shape[-1]
    matrix = f"of the {values.size // columns} x {columns} matrix"
    if singular is None:
        why = "too large" if np.isfinite(values).all() else "not all values are finite"
        return f"values {matrix} not computed: {why}"
    largest, middle, least = singular[0], np.median(singular), singular[-1]
    ratio = f"{largest / least:.4g}" if least > 0 else "infinite"
    return (
        f"values {matrix}: largest {largest:.4g}, median {middle:.4g}, "
        f"smallest {least:.4g}, ratio {ratio}"
    )


def plot(path: Path, title: str, values: np.ndarray, summary: Summary) -> None:
    """Writes a PNG of the histogram and, for a matrix, of the singular values."""
    matplotlib = require("matplotlib.figure", "plots")
    figure = matplotlib.Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(title, wrap=True)
    left, right = figure.subplots(1, 2)
    numbers = real(values)
    try:
        left.hist(numbers[np.isfinite(numbers)], bins=100, density=True)
    except ValueError:  # no floats lie between the values, as near 1e300
        left.text(0.5, 0.5, "not computed", ha="center", va="center")
    label = "modulus" if values.dtype.kind == "c" else "value"
    left.set(xlabel=label, ylabel="density")
    left.set_title(f"mean {summary.mean:.3g}, std {summary.stddev:.3g}")
    right.set_title("singular values")
    if summary.singular is None:
        right.set_axis_off()
        right.text(0.5, 0.5, "not computed", ha="center", va="center")
    else:
        right.plot(range(1, len(summary.singular) + 1), summary.singular, ".-")
        right.set(xlabel="rank", ylim=(0, None))
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    with usage_errors(f"write {path}"):
        _files.write_whole(path, picture.getvalue())
