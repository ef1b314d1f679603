"""The charts of a report as data; `svg` and `plots` draw them.

band      the values within a factor of the first layer; for gradients, the last
edge      the place of a value that the axis cannot show: 0 on a log axis, NaN, infinity
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from .layers import LOST, layers_of

BANDS = 10.0, LOST  # factors of the bands; a growth beyond the second is a fault
_OF = {"residual": "residual sums", "product": "products"}


@dataclasses.dataclass(frozen=True)
class Point:
    """One place in a chart.

    Attributes:
        depth: Depth of the place.
        value: Value, which may be infinite or NaN.
        name: Name of the place.
        is_layer: True if the line goes through the point.
    """

    depth: int
    value: float
    name: str
    is_layer: bool


@dataclasses.dataclass(frozen=True)
class Chart:
    """Values over depth.

    Attributes:
        title: The name of the values.
        note: An explanation.
        is_log: True if the axis of the values is logarithmic. Otherwise it is from 0
            to 1.
        points: The places, in order.
        start: Position, on the axis, of the layer where the signal starts: the middle
            of the bands. None for a chart without bands.
    """

    title: str
    note: str
    is_log: bool
    points: tuple[Point, ...]
    start: float | None = None

    def scale(self, value: float) -> float:
        """The position of a value on the axis: its log10 if the axis is logarithmic."""
        return math.log10(value) if self.is_log else value

    def holds(self, value: float) -> bool:
        """True if the axis can show a value."""
        return math.isfinite(value) and (value > 0 or not self.is_log)

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest position on the axis."""
        if not self.is_log:
            return 0.0, 1.0
        found = [self.scale(p.value) for p in self.points if self.holds(p.value)]
        if self.start is not None:
            reach = math.log10(BANDS[0])
            found += [self.start - reach, self.start + reach]
        low, high = math.floor(min(found, default=0)), math.ceil(max(found, default=0))
        return float(low), float(max(high, low + 1))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Positions on the axis and their labels."""
        if not self.is_log:
            return [(x / 4, f"{x / 4:g}") for x in range(5)]
        low, high = map(int, self.range)
        step = math.ceil((high - low) / 6)
        powers = range(low, high + 1, step)
        return [(i, f"{10.0**i:g}" if abs(i) < 4 else f"1e{i}") for i in powers]

    @property
    def depths(self) -> list[int]:
        """Depths for labels below the chart; the first and the last are among them."""
        depths = [p.depth for p in self.points]
        first, last = min(depths), max(depths)
        step = max(1, round((last - first) / 6))
        return [*range(first, last - step // 2, step), last]

    @property
    def line(self) -> list[tuple[int, float]]:
        """Depths, and the mean position of the layers at each depth."""
        return _means(self.points, self)


@dataclasses.dataclass(frozen=True)
class Histogram:
    """The distribution of a result beside that of a normal variable.

    Attributes:
        edges: Edges of the bins, in standard deviations around the mean.
        shares: Share of the elements in each bin.
        normal: Share of a normal variable in each bin.
    """

    edges: tuple[float, ...]
    shares: tuple[float, ...]
    normal: tuple[float, ...]


def charts(report: Any) -> list[Chart]:
    """The charts of a report; a chart without values is left out."""
    of, layers = layers_of(report.rows)
    chosen = set(map(id, layers))
    line = f"The line goes through the {_OF[of]}"
    bands = f"shaded: within a factor of {BANDS[0]:g} and of {BANDS[1]:g} of"
    made = [
        _chart(report.rows, "Signal", "out_std", chosen),
        _chart(report.rows, "Gradient", "grad_std", chosen),
        _chart(report.rows, "Branch over stream", "branch", None),
        _chart(report.rows, "Entropy of attention", "entropy", None, is_log=False),
    ]
    notes = (
        f"Standard deviation of each result. {line}; {bands} the first layer.",
        "Standard deviation of the gradient of the loss by each result. "
        f"{line}; {bands} the last layer.",
        "rms of the branch over that of the stream, at each residual addition.",
        "Entropy of each softmax: 1 for equal probabilities, 0 for a single one.",
    )
    for i, end in ((0, 0), (1, -1)):
        if ends := made[i].line:
            made[i] = dataclasses.replace(made[i], start=ends[end][1])
    return [
        dataclasses.replace(chart, note=note)
        for chart, note in zip(made, notes, strict=True)
        if chart.points
    ]


def histogram(counts: Sequence[int]) -> Histogram:
    """The histogram of a row, from the counts that it stores."""
    edges = tuple(-4 + 8 * i / len(counts) for i in range(len(counts) + 1))
    below = [0.0, *(math.erf(x / math.sqrt(2)) / 2 + 0.5 for x in edges[1:-1]), 1.0]
    normal = tuple(b - a for a, b in itertools.pairwise(below))
    total = max(1, sum(counts))
    return Histogram(edges, tuple(n / total for n in counts), normal)


def _chart(
    rows: Sequence[Any],
    title: str,
    field: str,
    chosen: set[int] | None,
    is_log: bool = True,
) -> Chart:
    def points() -> Iterator[Point]:
        for row in rows:
            value = getattr(row, field)
            if value is not None:
                is_layer = chosen is None or id(row) in chosen
                yield Point(row.depth, value, f"{row.name} {row.kind}", is_layer)

    return Chart(title, "", is_log, tuple(points()))


def _means(points: Sequence[Point], chart: Chart) -> list[tuple[int, float]]:
    by_depth: dict[int, list[float]] = {}
    for p in points:
        if p.is_layer and chart.holds(p.value):
            by_depth.setdefault(p.depth, []).append(chart.scale(p.value))
    return [(depth, sum(y) / len(y)) for depth, y in sorted(by_depth.items())]
