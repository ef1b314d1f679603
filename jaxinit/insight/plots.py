"""Draws the charts of a report with matplotlib, which is in the extra "plots"."""

import math
import textwrap
from typing import Any

from .._checks import error
from .charts import BANDS, Chart, Histogram, charts, histogram

_SHOWN = 3  # verdicts above the charts


def figure(report: Any, place: str | None) -> Any:
    """A matplotlib figure of the charts.

    Args:
        report: The report.
        place: Name of a row, whose histogram is also drawn; or None.

    Raises:
        ImportError: If matplotlib is not installed.
        ValueError: If no row of that name has a histogram.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        cure = "pip install 'jaxinit[plots]'"
        raise ImportError(f"Report.plot needs {e.name}: {cure}.") from e
    drawn: list[Chart | Histogram] = [*charts(report)]
    if place is not None:
        drawn.append(histogram(_counts(report, place)))
    rows = math.ceil(len(drawn) / 2) or 1
    made = Figure(figsize=(11, 3.6 * rows + 0.8), layout="constrained")
    made.suptitle(_heading(report), fontsize=10)
    panels = made.subplots(rows, 2, squeeze=False).ravel()
    for axes, chart in zip(panels, drawn, strict=False):
        if isinstance(chart, Chart):
            _draw(axes, chart)
        else:
            _draw_histogram(axes, chart, place)
    for axes in panels[len(drawn) :]:
        axes.remove()
    return made


def _counts(report: Any, place: str) -> tuple[int, ...]:
    having = [row for row in report.rows if row.histogram is not None]
    for row in having:
        if row.name == place:
            return row.histogram
    names = ", ".join(dict.fromkeys(row.name for row in having[:3]))
    raise error(
        ValueError,
        "Report.plot",
        "place",
        "the name of a row with a histogram",
        place,
        f"The first are {names}." if names else "This report has none.",
    )


def _heading(report: Any) -> str:
    lines = [str(v) for v in report.verdicts[:_SHOWN]] or ["no fault found"]
    more = len(report.verdicts) - _SHOWN
    lines += [f"and {more} more"] if more > 0 else []
    return "\n".join(textwrap.fill(line, 120) for line in lines).replace("$", r"\$")


def _draw(axes: Any, chart: Chart) -> None:
    """Draws a chart in the positions of its axis, and labels the ticks."""
    low, high = chart.range
    if chart.start is not None:
        for factor in BANDS:
            reach = chart.scale(factor)
            axes.axhspan(chart.start - reach, chart.start + reach, alpha=0.1, lw=0)
    for is_layer, style in ((False, {"mfc": "none", "mec": "gray"}), (True, {})):
        held = [
            (p.depth, chart.scale(p.value))
            for p in chart.points
            if p.is_layer == is_layer and chart.holds(p.value)
        ]
        if held:
            axes.plot(*zip(*held, strict=True), "o", color="C0", ms=4, **style)
    if chart.line:
        axes.plot(*zip(*chart.line, strict=True), "-", color="C0")
    if lost := [p for p in chart.points if not chart.holds(p.value)]:
        edges = [low if p.value == 0 else high for p in lost]
        axes.plot([p.depth for p in lost], edges, "x", color="C3", ms=8, clip_on=False)
    axes.set(title=chart.title, xlabel="depth", ylim=(low, high))
    axes.set_yticks(*zip(*chart.ticks, strict=True))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)


def _draw_histogram(axes: Any, chart: Histogram, place: str | None) -> None:
    axes.stairs(chart.shares, chart.edges, fill=True, alpha=0.5)
    axes.stairs(chart.normal, chart.edges, color="black", label="normal")
    title = f"Histogram of {place}".replace("$", r"\$")
    axes.set(title=title, xlabel="standard deviations around the mean")
    axes.legend()
