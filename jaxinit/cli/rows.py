"""Parameters in groups that promise the same, each measured as one."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from .expected import expected_stddev

# A measured standard deviation may be this many standard errors off.
TOLERANCE = 5.0
_CHUNK = 2**18


@dataclasses.dataclass(frozen=True)
class Row:
    """Parameters of one initializer, one expected std and similar paths."""

    path: str
    shapes: tuple[tuple[int, ...], ...]
    initializer: Any
    expected: float | None
    measured: float
    error: float

    @property
    def off(self) -> float | None:
        """Distance of measured from expected, in standard errors."""
        if self.expected is None:
            return None
        distance = abs(self.measured - self.expected)
        if self.error == 0:
            return 0.0 if math.isclose(self.measured, self.expected) else math.inf
        return distance / self.error

    @property
    def is_right(self) -> bool:
        """Whether nothing speaks against the expectation."""
        return self.off is None or self.off <= TOLERANCE


def rows(params: Mapping[str, np.ndarray], made: Mapping[str, Any]) -> list[Row]:
    """A row for each group of parameters; those that do not vary come last.

    Numbers in the first part of a path count the repeated layers. Paths that
    differ in these alone go together if initializer and shape agree, or if
    the initializer makes them constant.

    Args:
        params: Arrays by path.
        made: The initializer of each path.

    Returns:
        The groups.
    """
    groups: dict[tuple[Any, ...], list[np.ndarray]] = {}
    for path in sorted(params, key=_natural):
        leaf = params[path]
        layer, slash, rest = path.partition("/")
        pattern = re.sub(r"\d+", "*", layer) + slash + rest
        expected = expected_stddev(made[path], leaf.shape)
        shape = leaf.shape if expected else None
        group = (pattern, made[path], expected, shape)
        groups.setdefault(group, []).append(leaf)
    ordered = sorted(groups.items(), key=lambda item: (item[0][2] == 0, item[0][0]))
    return [
        Row(
            pattern,
            tuple(leaf.shape for leaf in leaves),
            init,
            expected,
            *stddev_and_error(leaves),
        )
        for (pattern, init, expected, _), leaves in ordered
    ]


def stddev_and_error(leaves: Iterable[np.ndarray]) -> tuple[float, float]:
    """Standard deviation of all entries together, and its standard error.

    For independent entries the variance of the sample variance is
    (m4 - m2^2) / n, m4 and m2 the central moments, as measured.
    """
    count, powers, shift = 0, np.zeros(4), None
    for leaf in leaves:
        flat = leaf.ravel()
        for start in range(0, flat.size, _CHUNK):
            x = flat[start : start + _CHUNK].astype(np.float64)
            # Near the mean, so that nothing cancels; exact for constants.
            shift = x[0] if shift is None else shift
            x -= shift
            x2 = x * x
            powers += x.sum(), x2.sum(), x2 @ x, x2 @ x2
            count += x.size
    if not count:
        return 0.0, 0.0
    s1, s2, s3, s4 = powers / count
    m2 = max(0.0, s2 - s1**2)
    if m2 == 0:
        return 0.0, 0.0
    m4 = s4 - 4 * s1 * s3 + 6 * s1**2 * s2 - 3 * s1**4
    stddev = math.sqrt(m2)
    return stddev, math.sqrt(max(0.0, m4 - m2**2) / count) / (2 * stddev)


def _natural(path: str) -> list[Any]:
    """A sorting key that puts ``block_2`` before ``block_10``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)]
