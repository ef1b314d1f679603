"""The demo's table: expected and measured standard deviations of the parameters."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..rules.table import columns
from .expected import expected_stddev

TOLERANCE = 5.0  # standard errors that a measured value may be off
Makers = dict[str, tuple[str, Any]]  # role and initializer by path
_CHUNK = 2**18
_HEAD = ("parameter", "shape", "arrays", "expected", "measured", "off by")


@dataclasses.dataclass(frozen=True)
class Row:
    """Arrays of one maker and one expected standard deviation, measured together."""

    maker: str  # "role: initializer"
    path: str
    shape: str
    arrays: int
    expected: float | None  # None if no formula is known
    measured: float
    off: float | None  # distance of measured from expected, in standard errors

    @property
    def is_right(self) -> bool:
        """True unless the measured value contradicts the expected one."""
        return self.off is None or self.off <= TOLERANCE

    def cells(self) -> tuple[str, ...]:
        """The row as text."""
        expected = "unknown" if self.expected is None else _digits(self.expected)
        verdict = "ok" if self.is_right else "WRONG"
        off = "" if self.off is None else f"{self.off:.1f} se  {verdict}"
        numbers = str(self.arrays), expected, _digits(self.measured), off
        return f"  {self.path}", self.shape, *numbers


def rows(params: Mapping[str, np.ndarray], makers: Makers) -> list[Row]:
    """Groups the parameters in the order of their makers, and measures each group.

    Parameters of a group differ by the number of their layer alone. Constants of one
    role and one name are a single group.
    """
    groups: dict[Any, list[str]] = {}
    for path, maker in makers.items():
        shape = params[path].shape
        expected = expected_stddev(maker[1], shape)
        place = (_pattern(path), shape) if expected else path.rpartition("/")[2]
        groups.setdefault((*maker, expected, place), []).append(path)
    found: list[Row] = []
    for (role, init, expected, name), paths in groups.items():
        leaves = [params[path] for path in paths]
        patterns = {_pattern(path) for path in paths}
        shapes = {",".join(map(str, leaf.shape)) for leaf in leaves}
        path = patterns.pop() if len(patterns) == 1 else f"**/{name}"
        shape = shapes.pop() if len(shapes) == 1 else "various"
        measured, error = stddev_and_error(leaves)
        if init.deterministic:  # nothing but rounding can differ
            error = float(jnp.finfo(leaves[0].dtype).eps) * measured
        off = None
        if expected is not None:
            off = abs(measured - expected) / (error or math.ulp(0.0))
        maker = f"{role}: {init!r}"
        found.append(Row(maker, path, shape, len(paths), expected, measured, off))
    return found


def lines(rows: Sequence[Row]) -> list[str]:
    """The table as text, with a heading for each maker."""
    text = columns([_HEAD, *(row.cells() for row in rows)])
    for i in reversed(range(len(rows))):
        if i == 0 or rows[i].maker != rows[i - 1].maker:
            text.insert(i + 1, rows[i].maker)
    return text


def stddev_and_error(leaves: Sequence[np.ndarray]) -> tuple[float, float]:
    """Standard deviation of all entries together, and its standard error.

    For independent entries the variance of the sample variance is
    (m4 - m2^2) / n, m4 and m2 the central moments, as measured.
    """
    flat = [leaf.reshape(-1) for leaf in leaves if leaf.size]
    if not flat:
        return 0.0, 0.0
    shift = float(flat[0][0])  # near the mean: nothing cancels, constants are exact
    powers = np.zeros(5)
    for leaf in flat:
        for start in range(0, leaf.size, _CHUNK):
            x = leaf[start : start + _CHUNK].astype(np.float64) - shift
            x2 = x * x
            powers += np.array([x.size, x.sum(), x2.sum(), x2 @ x, x2 @ x2])
    s1, s2, s3, s4 = powers[1:] / powers[0]
    m2 = max(0.0, s2 - s1**2)
    if m2 == 0:
        return 0.0, 0.0
    m4 = s4 - 4 * s1 * s3 + 6 * s1**2 * s2 - 3 * s1**4
    stddev = math.sqrt(m2)
    return stddev, math.sqrt(max(0.0, m4 - m2**2) / powers[0]) / (2 * stddev)


def _pattern(path: str) -> str:
    """The path with ``*`` for the number of the layer."""
    layer, slash, rest = path.partition("/")
    return re.sub(r"\d+", "*", layer) + slash + rest


def _digits(x: float) -> str:
    return f"{x:#.4g}" if x else "0"
