"""The result of suggest: rules, and the second moments that they give."""

import dataclasses
import math
from typing import Any

from ..rules.rules import Rules
from ..rules.table import columns
from .report import Report


@dataclasses.dataclass(frozen=True)
class Suggested:
    """A place of the model under the suggested rules.

    Attributes:
        path: Path of its parameter.
        kind: "dot", "conv", "lookup" or "scale".
        layer: Number of the layer in a scan over layers, or None.
        initializer: The initializer of its parameter, or None if the model makes it.
        gain: Root mean square of the weights times sqrt(fan_in). For a lookup or a
            scale, the root mean square alone.
        expected: Target second moment of the result, and that of a bias which the model
            keeps. None if the rules set none, as for a recurrent kernel.
        measured: Second moment of the result after an initialization by the rules.
    """

    path: str
    kind: str
    layer: int | tuple[int, ...] | None
    initializer: Any
    gain: float
    expected: float | None
    measured: float


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """Rules for a model, and their second moments; ``print`` shows both.

    Attributes:
        rules: The rules.
        rows: The places, in order, with expected and measured second moments.
        report: Probe of the model after an initialization by the rules.
        kept: Paths of the parameters that the model itself makes.
    """

    rules: Rules
    rows: tuple[Suggested, ...]
    report: Report
    kept: tuple[str, ...]

    @property
    def deviation(self) -> float:
        """Largest factor between measured and expected second moments, 1 if equal."""
        known = [(r.measured, r.expected) for r in self.rows if r.expected is not None]
        ratios = [a / b if a > 0 else 0.0 for a, b in known]
        return max([max(x, 1 / x if x else math.inf) for x in ratios], default=1.0)

    def __str__(self) -> str:
        """The rules, a row for each place, and the verdicts of the probe."""
        rules = [(str(pattern), repr(x)) for pattern, x in self.rules.rules]
        rules = [(p, "the model's own" if x == "None" else x) for p, x in rules]
        head = ("place", "kind", "gain", "expected", "measured", "initializer")
        rows = [
            (
                row.path if row.layer is None else f"{row.path}[{row.layer}]",
                row.kind,
                f"{row.gain:.3g}",
                "" if row.expected is None else f"{row.expected:.3g}",
                f"{row.measured:.3g}",
                "" if row.initializer is None else repr(row.initializer),
            )
            for row in self.rows
        ]
        found = [str(verdict) for verdict in self.report.verdicts]
        return "\n".join(
            [
                *columns([("rule", "initializer"), *rules]),
                "",
                *columns([head, *rows]),
                *([""] if found else []),
                *found,
            ]
        )
