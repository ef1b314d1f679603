"""Draws the charts of a report as SVG. The colors are in page.css."""

import html
from collections.abc import Callable, Sequence

from .charts import BANDS, Chart, Histogram, Point

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 52, 388, 12, 190  # of the area inside the axes
_EDGE = 6  # pixels from the border to a value that the axis cannot show


def chart(drawn: Chart) -> str:
    """The picture of a chart. The mark of a place has its name and value as title."""
    low, high = drawn.range
    first, last = drawn.depths[0], drawn.depths[-1]

    def x(depth: float) -> float:
        share = (depth - first) / (last - first) if last > first else 0.5
        return LEFT + 10 + share * (RIGHT - LEFT - 20)

    def y(position: float) -> float:
        return BOTTOM - (position - low) / (high - low) * (BOTTOM - TOP)

    parts = [_band(drawn.start, factor, drawn, y) for factor in reversed(BANDS)]
    parts += [_tick(y(position), label) for position, label in drawn.ticks]
    parts += [_label(x(depth), str(depth)) for depth in drawn.depths]
    points = " ".join(f"{x(d):.1f},{y(p):.1f}" for d, p in drawn.line)
    parts.append(f'<polyline class="line" points="{points}"/>')
    parts += [_mark(p, drawn, x, y) for p in drawn.points]
    return _picture(drawn.title, "depth", parts)


def histogram(drawn: Histogram) -> str:
    """The picture of a histogram. Only the results of `bars` depend on the place."""
    parts = [_label(_bin(edge), f"{edge:g}") for edge in range(-4, 5, 2)]
    most = max(drawn.normal)
    tops = [(edge, share / most) for edge, share in _middles(drawn)]
    curve = " L".join(f"{_bin(edge):.1f} {_height(y):.1f}" for edge, y in tops)
    shapes, factor = bars(drawn)
    parts += [
        f'<path class="bars" d="{shapes}"/>',
        f'<path class="curve" d="M{curve}" transform="{factor}"/>',
    ]
    title = "Histogram of the results of a place"
    return _picture(title, "standard deviations around the mean", parts)


def bars(drawn: Histogram) -> tuple[str, str]:
    """The path of the bars, and the transformation of the normal curve."""
    most = max(*drawn.shares, *drawn.normal)
    shapes: list[str] = []
    for start, end, share in zip(
        drawn.edges, drawn.edges[1:], drawn.shares, strict=False
    ):
        if share:
            width, top = _bin(end) - _bin(start), _height(share / most)
            shapes.append(f"M{_bin(start):g} {BOTTOM}V{top:.0f}h{width:g}V{BOTTOM}z")
    factor = max(drawn.normal) / most
    return "".join(shapes), f"matrix(1 0 0 {factor:.3f} 0 {BOTTOM * (1 - factor):.2f})"


def _picture(title: str, below: str, parts: Sequence[str]) -> str:
    axis = f'<path class="axis" d="M{LEFT} {TOP}V{BOTTOM}H{RIGHT}"/>'
    text = f'<text x="{(LEFT + RIGHT) / 2:g}" y="{HEIGHT - 8}">{below}</text>'
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(title)}">{"".join(parts)}{axis}{text}</svg>'
    )


def _band(
    start: float | None, factor: float, drawn: Chart, y: Callable[[float], float]
) -> str:
    if start is None:
        return ""
    reach = drawn.scale(factor)
    top = max(TOP, y(start + reach))
    height = min(BOTTOM, y(start - reach)) - top
    return (
        f'<rect class="band" x="{LEFT}" y="{top:.1f}" width="{RIGHT - LEFT}" '
        f'height="{height:.1f}"/>'
    )


def _tick(y: float, label: str) -> str:
    return (
        f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>'
        f'<text class="value" x="{LEFT - 6}" y="{y + 4:.1f}">{label}</text>'
    )


def _label(x: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{BOTTOM + 15}">{text}</text>'


def _mark(
    p: Point, drawn: Chart, x: Callable[[float], float], y: Callable[[float], float]
) -> str:
    title = f"<title>{html.escape(p.name)}: {p.value:.3g}</title>"
    if drawn.holds(p.value):
        kind, radius = ("layer", 3.5) if p.is_layer else ("place", 2.5)
        center = f'cx="{x(p.depth):.1f}" cy="{y(drawn.scale(p.value)):.1f}"'
        return f'<circle class="{kind}" {center} r="{radius}">{title}</circle>'
    edge = BOTTOM - _EDGE if p.value == 0 else TOP + _EDGE
    cross = f"M{x(p.depth) - 4:.1f} {edge - 4}l8 8m0-8l-8 8"
    return f'<path class="bad" d="{cross}">{title}</path>'


def _bin(edge: float) -> float:
    return LEFT + (edge + 4) / 8 * (RIGHT - LEFT)


def _height(share: float) -> float:
    return BOTTOM - share * (BOTTOM - TOP)


def _middles(drawn: Histogram) -> list[tuple[float, float]]:
    """The middle of each bin, and the share of a normal variable in it."""
    edges = zip(drawn.edges, drawn.edges[1:], drawn.normal, strict=False)
    return [((a + b) / 2, share) for a, b, share in edges]
