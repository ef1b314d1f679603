"""The text of print(report) and of print(comparison)."""

from typing import Any

from .._checks import printable

# Heading of each column, and the field of the row that it shows.
COLUMNS = (
    ("in rms", "in_rms"),
    ("out mean", "out_mean"),
    ("out std", "out_std"),
    ("zeros", "zeros"),
    ("cosine", "cosine"),
    ("grad rms", "grad_rms"),
    ("w rms", "weight_rms"),
    ("gain", "gain"),
    ("branch", "branch"),
    ("entropy", "entropy"),
)
_CHANGE = 1.1  # a comparison shows the places that change by a larger factor


def render(report: Any) -> str:
    """Verdicts first, then the numbers of the model, then a line for each place."""
    lines = [str(v) for v in report.verdicts] or ["no fault found"]
    lines.append(_whole(report))
    names = list(map(_place, report.rows))
    width = max([20, *map(len, names)])
    lines.append(f"{'place':<{width}}" + "".join(f"{t:>10}" for t, _ in COLUMNS))
    for name, row in zip(names, report.rows, strict=True):
        cells = "".join(f"{cell(getattr(row, field)):>10}" for _, field in COLUMNS)
        after = f"  {printable(row.activation)}" if row.activation else ""
        lines.append(f"{name:<{width}}{cells}{after}".rstrip())
    return "\n".join(lines)


def render_comparison(comparison: Any) -> str:
    """The numbers of both models, and the places that differ."""
    ours, theirs = comparison.ours, comparison.theirs
    lines = [f"{_whole(ours)}  ->  {_whole(theirs)}"]
    fields = [field for _, field in COLUMNS]
    for a, b in comparison.pairs:
        changed = [
            f"{f} {cell(getattr(a, f))} -> {cell(getattr(b, f))}"
            for f in fields
            if _differs(getattr(a, f), getattr(b, f))
        ]
        if changed:
            lines.append(f"{_place(a)}: {', '.join(changed)}")
    lines += [f"{_place(row)}: only in one report" for row in comparison.missing]
    return "\n".join(lines)


def summary(report: Any) -> list[tuple[str, str]]:
    """Names and values of the numbers of the model."""
    jacobian = "none" if report.jacobian is None else f"{report.jacobian:.4g}"
    return [
        ("signal", _growth(report.forward)),
        ("gradient", _growth(report.backward)),
        ("variance of the output", f"{report.output_variance:.4g}"),
        ("mean squared singular value of the Jacobian", jacobian),
    ]


def _place(row: Any) -> str:
    """The name and the kind of a row; a path may be long, or hold escape bytes."""
    return printable(f"{row.name} {row.kind}")


def _whole(report: Any) -> str:
    return "; ".join(f"{name} {value}" for name, value in summary(report))


def _growth(growth: Any) -> str:
    if growth is None:
        return "too shallow for a rate"
    return (
        f"x {growth.rate:.3g} +- {growth.error:.1g} a layer, x {growth.total:.2g} over "
        f"{growth.layers}"
    )


def cell(x: float | None) -> str:
    """The text of a number in a table; empty for None."""
    return "" if x is None else f"{x:.3g}"


def _differs(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is not b
    low, high = sorted((abs(a), abs(b)))
    return high > _CHANGE * low and high - low > 1e-3
