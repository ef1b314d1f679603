"""The report of a probe, as data."""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any, Self

from .. import _files
from . import page as pages
from . import plots, records, table

VERSION = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The statistics of one place in a model; None for numbers that do not apply.

    Attributes:
        path: Path of the parameter; of an addition or a softmax, the part of the path
            that the parameters around it share.
        kind: "dot", "conv", "lookup", "scale", "add" (a parameter that is added and is
            no bias), "residual", "softmax", or the name of a call that is a place as a
            whole, as "custom_vjp_call".
        layer: Number of the layer in a scan over layers, a tuple in nested ones.
        depth: Number of products on the longest way from the inputs, itself included.
        in_mean: Mean of the data that it reads; of an addition, of the stream.
        in_std: Standard deviation of these.
        in_rms: Root of their second moment.
        out_mean: Mean of the result, after the bias.
        out_std: Standard deviation of the result.
        out_rms: Root of the second moment of the result.
        cosine: Mean cosine similarity of two rows of the result.
        rank: Effective rank of the rows of the result, as a share of the largest.
        activation: Name of the activation that follows, where it is one of jax.nn's.
        zeros: Share of zeros after the activation, or in the result if none follows.
        saturation: Share of elements at which the slope of the activation is below
            0.05.
        grad_std: Standard deviation of the gradient of the loss by the result.
        grad_rms: Root of its second moment.
        weight_rms: Root of the second moment of the weight.
        weight_grad_rms: The same of the gradient by the weight, as used here.
        fan_in: Number of products that one element of the result sums.
        gain: weight_rms * sqrt(fan_in), which `jaxinit.gain` is to be compared with.
        branch: rms of the branch over that of the stream, at an addition.
        entropy: Mean entropy of a softmax, over that of equal probabilities.
        histogram: Counts of some elements of the result, in 32 bins from -4 to 4
            standard deviations around their mean; the outer ones count the elements
            beyond, too.
    """

    path: str
    kind: str
    layer: int | tuple[int, ...] | None = None
    depth: int = 0
    in_mean: float | None = None
    in_std: float | None = None
    in_rms: float | None = None
    out_mean: float | None = None
    out_std: float | None = None
    out_rms: float | None = None
    cosine: float | None = None
    rank: float | None = None
    activation: str | None = None
    zeros: float | None = None
    saturation: float | None = None
    grad_std: float | None = None
    grad_rms: float | None = None
    weight_rms: float | None = None
    weight_grad_rms: float | None = None
    fan_in: int | None = None
    gain: float | None = None
    branch: float | None = None
    entropy: float | None = None
    histogram: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """The path and the layer, for messages."""
        return self.path if self.layer is None else f"{self.path}[{self.layer}]"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter and the gradient of the loss by it.

    Attributes:
        path: Its path.
        shape: Its shape.
        rms: Root of its second moment.
        grad_std: Standard deviation of the gradient.
        grad_rms: Root of its second moment.
        sgd_step: rms of a step of SGD over that of the parameter, at learning rate 1:
            the gradient over the weight.
        adam_step: The same of the first step of Adam, whose every entry is +-1 where
            there is a gradient.
        is_used: Whether the result depends on it at all.
    """

    path: str
    shape: tuple[int, ...]
    rms: float
    grad_std: float
    grad_rms: float
    sgd_step: float
    adam_step: float
    is_used: bool


@dataclasses.dataclass(frozen=True)
class Growth:
    """The growth of a signal from layer to layer: a fit of log rms over the layers.

    Attributes:
        rate: Factor of one layer on the rms.
        error: Standard error of the rate.
        layers: Number of layers of the fit.
        first: rms at the first of them; backward, at the last.
        last: rms at the end of the fit.
        of: "residual" for the sums of a residual stream, else "product".
    """

    rate: float
    error: float
    layers: int
    first: float
    last: float
    of: str

    @property
    def total(self) -> float:
        """Factor of all layers."""
        return self.rate ** (self.layers - 1)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        kind: "forward", "backward", "not finite", "dead", "saturated", "alike",
            "attention", "unused" or "no gradient".
        is_fault: Whether `Report.check` raises; False for what may be intended.
        text: The numbers and a cure.
    """

    kind: str
    is_fault: bool
    text: str

    def __str__(self) -> str:
        """The text, with its weight."""
        return f"{'fault' if self.is_fault else 'note'}: {self.text}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The effect of an initialization on the signal of a model; print shows a table.

    Attributes:
        rows: The places where parameters meet data, the residual additions and the
            softmaxes, in order; in a scan, layer by layer.
        parameters: Every parameter, and the gradient by it.
        forward: Growth of the signal by layer, or None for fewer than three layers.
        backward: Growth of the gradient by layer, from the last to the first.
        output_variance: Variance of the result.
        output_rms: Root of its second moment.
        jacobian: Mean squared singular value of the Jacobian of the results by the
            floating inputs, estimated from one random vector; None without such inputs.
        loss: The loss.
        verdicts: The findings.
    """

    rows: tuple[Row, ...]
    parameters: tuple[Parameter, ...]
    forward: Growth | None
    backward: Growth | None
    output_variance: float
    output_rms: float
    jacobian: float | None
    loss: float
    verdicts: tuple[Verdict, ...] = ()

    def check(self) -> None:
        """Raises if a verdict is a fault, for tests.

        Raises:
            ValueError: With the text of every fault.
        """
        faults = [v.text for v in self.verdicts if v.is_fault]
        if faults:
            raise ValueError(
                "The initialization is not healthy:\n"
                + "\n".join(f"- {f}" for f in faults)
            )

    def to_json(self) -> str:
        """The report as JSON, which `from_json` reads."""
        return json.dumps({"version": VERSION, **records.plain(self)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The report that `to_json` wrote.

        Raises:
            ValueError: If the text is no report of this version.
        """
        data = _files.loads(text)
        if not isinstance(data, dict) or data.pop("version", None) != VERSION:
            raise ValueError(
                f"from_json(text=...) must be a report, version {VERSION}."
            )
        try:
            for name, kind in _RECORDS.items():
                data[name] = [records.read(kind, x) for x in data[name]]
            for name in ("forward", "backward"):
                if data[name] is not None:
                    data[name] = records.read(Growth, data[name])
            return records.read(cls, data)
        except (KeyError, TypeError, OverflowError) as e:
            raise ValueError(f"from_json(text=...) is no report: {e}") from None

    def save(self, path: str | os.PathLike[str], *, title: str = "Probe") -> None:
        """Writes the report as one HTML file to look at, which needs no network.

        It shows the verdicts, the growth of signal and gradient over depth, the
        residual branches, the attention, histograms, and a table with a search field.

        Args:
            path: The file, which is written whole or not at all.
            title: The title of the page.

        Raises:
            OSError: If the file cannot be written.
        """
        text = pages.page(self, title)
        _files.write_whole(os.fspath(path), text.encode("utf-8", "xmlcharrefreplace"))

    def plot(self, place: str | None = None) -> Any:
        """The charts as a figure of matplotlib, which is in the extra ``plots``.

        Args:
            place: Name of a row, such as "params/Dense_0/kernel" or "w[3]", whose
                histogram is drawn, too.

        Returns:
            A ``matplotlib.figure.Figure``, which pyplot does not know.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If no row of that name has a histogram.
        """
        return plots.figure(self, place)

    def _repr_html_(self) -> str:
        """The page as a notebook shows it."""
        return pages.fragment(self)

    def compare(self, other: "Report") -> "Comparison":
        """This report beside another of the same model.

        Args:
            other: The report to compare with.

        Returns:
            Pairs of rows of the same place; ``print`` shows those that differ.
        """
        return Comparison(self, other)

    def __str__(self) -> str:
        """The verdicts, the numbers of the whole, and a table of the places."""
        return table.render(self)


_RECORDS = {"rows": Row, "parameters": Parameter, "verdicts": Verdict}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two reports, place by place.

    Attributes:
        ours: The first report.
        theirs: The second one.
    """

    ours: Report
    theirs: Report

    @property
    def pairs(self) -> list[tuple[Row, Row]]:
        """Rows of the same place in both."""
        others = dict(zip(_keys(self.theirs.rows), self.theirs.rows, strict=True))
        keyed = zip(_keys(self.ours.rows), self.ours.rows, strict=True)
        return [(row, others[key]) for key, row in keyed if key in others]

    @property
    def missing(self) -> list[Row]:
        """Rows of one report whose place the other has not."""
        both = set(_keys(self.ours.rows)) & set(_keys(self.theirs.rows))
        return [
            row
            for report in (self.ours, self.theirs)
            for key, row in zip(_keys(report.rows), report.rows, strict=True)
            if key not in both
        ]

    def __str__(self) -> str:
        """The numbers of the whole and of every place that differs, as a -> b."""
        return table.render_comparison(self)


def _keys(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Returns the name of a row; places that occur again are numbered."""
    counts: dict[tuple[Any, ...], int] = {}
    keys: list[tuple[Any, ...]] = []
    for row in rows:
        key = row.path, row.kind, row.layer
        counts[key] = counts.get(key, 0) + 1
        keys.append((*key, counts[key]))
    return keys
