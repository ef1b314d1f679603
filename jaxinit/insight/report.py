"""The report of a probe, as data."""

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from typing import Any, Self

from .. import _files
from .._checks import error, printable, short
from . import page as pages
from . import plots, records, table
from .statistics import BINS

VERSION = 1
_DEEPEST = 2**31
_MOST = 2000  # most characters of a finding in a text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The statistics of one place in a model; None for numbers that do not apply.

    Of complex numbers z, an rms is sqrt(E|z|^2), a standard deviation is
    sqrt(E|z - E z|^2), and a mean is the modulus |E z|. The rows of the angles, the
    activation and the histogram take real and imaginary parts as two numbers.

    Attributes:
        path: Path of the parameter. For an addition or a softmax, the common start of
            the paths of the parameters around it.
        kind: "dot", "conv", "lookup", "scale", "add" (the addition of a parameter that
            is not a bias), "residual", "softmax", or the name of an opaque call, such
            as "custom_vjp_call".
        layer: Number of the layer in a scan over layers; a tuple in nested scans.
        depth: Number of products on the longest path from the inputs to this place,
            this place included.
        in_mean: Mean of the input; at a residual addition, of the stream.
        in_std: Standard deviation of the input.
        in_rms: Root mean square of the input.
        out_mean: Mean of the result, after the bias.
        out_std: Standard deviation of the result.
        out_rms: Root mean square of the result.
        cosine: Mean cosine similarity of two rows of the result; None if a row is one
            number.
        rank: Effective rank of the rows of the result, over the largest possible rank.
        activation: Name of the activation that follows, if jax.nn has it.
        in_activation: Name of the activation that made the input of a product.
        zeros: Share of zeros after the activation, or in the result if none follows.
        saturation: Share of elements where the slope of the activation is below 0.05.
        grad_std: Standard deviation of the gradient with respect to the result.
        grad_rms: Root mean square of this gradient.
        weight_rms: Root mean square of the weight.
        weight_grad_rms: Root mean square of the gradient with respect to the weight,
            through this place alone.
        fan_in: Number of products in the sum of one element of the result.
        gain: weight_rms * sqrt(fan_in); compare it with `jaxinit.gain`.
        branch: rms of the branch over rms of the stream, at a residual addition.
        entropy: Mean entropy of a softmax, over the entropy of equal probabilities.
        histogram: Counts of elements of the result in 32 equal bins, from -4 to 4
            standard deviations around the mean. The outer bins also count the elements
            beyond. Only a part of a large result is counted.
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
    in_activation: str | None = None
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
    """One parameter and its gradient.

    Attributes:
        path: Path of the parameter.
        shape: Shape of the parameter.
        rms: Root mean square of the parameter.
        grad_std: Standard deviation of the gradient.
        grad_rms: Root mean square of the gradient.
        sgd_step: rms of an SGD step at learning rate 1, over rms of the parameter.
        adam_step: rms of the first step of Adam at learning rate 1, over rms of the
            parameter. The step is +-1 in each entry that has a gradient.
        is_used: True if the result depends on the parameter.
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
        rate: Factor by which one layer multiplies the rms.
        error: Standard error of the rate.
        layers: Number of layers of the fit.
        first: rms at the first layer of the fit; for gradients, at the last layer.
        last: rms at the other end of the fit.
        of: "residual" if the layers are residual additions, "product" if products.
    """

    rate: float
    error: float
    layers: int
    first: float
    last: float
    of: str

    @property
    def total(self) -> float:
        """Factor over all layers."""
        try:
            return self.rate ** (self.layers - 1)
        except OverflowError:
            return math.inf


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        kind: "forward", "backward", "not finite", "dead", "saturated", "alike",
            "attention", "unused" or "no gradient".
        is_fault: True if `Report.check` raises an error for it. False if the finding
            may be intended.
        text: The finding with its numbers and a cure.
    """

    kind: str
    is_fault: bool
    text: str

    def __str__(self) -> str:
        """The text after "fault" or "note"."""
        text = printable(self.text, _MOST)
        return f"{'fault' if self.is_fault else 'note'}: {text}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """The effect of an initialization on the signal of a model; print shows a table.

    Attributes:
        rows: The places where parameters meet data, the residual additions and the
            softmaxes, in the order of the graph; in a scan, layer by layer.
        parameters: All parameters and their gradients.
        forward: Growth of the signal by layer, or None for fewer than three layers.
        backward: Growth of the gradient by layer, from the last to the first.
        output_variance: Variance of the result.
        output_rms: Root mean square of the result.
        jacobian: Mean squared singular value of the Jacobian from the floating inputs
            to the results, estimated from one random vector. None if there are no
            floating inputs.
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
        """Raises an error if a verdict is a fault, for use in tests.

        Raises:
            ValueError: If there is a fault. The message has the text of every fault.
        """
        faults = [printable(v.text, _MOST) for v in self.verdicts if v.is_fault]
        if faults:
            raise ValueError(
                "The initialization is not healthy:\n"
                + "\n".join(f"- {f}" for f in faults)
            )

    def to_json(self) -> str:
        """Returns the report as JSON text; `from_json` reads it."""
        return json.dumps({"version": VERSION, **records.plain(self)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Reads the text that `to_json` returned.

        Raises:
            TypeError: If ``text`` is not a str.
            ValueError: If the text is not a report of this version.
        """
        if not isinstance(text, str):
            raise error(TypeError, "from_json", "text", "a str", text)
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
            made = records.read(cls, data)
            _check(made)
            return made
        except (KeyError, TypeError, OverflowError) as e:
            raise ValueError(f"from_json(text=...) is no report: {e}") from None

    def save(self, path: str | os.PathLike[str], *, title: str = "Probe") -> None:
        """Writes the report as one HTML file that needs no network.

        The page shows the verdicts, the signal and the gradient over depth, the
        residual branches, the attention, histograms, and a table with a search field.

        Args:
            path: The file, which is written whole or not at all.
            title: The title of the page.

        Raises:
            OSError: If the file cannot be written.
        """
        text = pages.page(self, title)
        _files.write_whole(
            _files.as_path(path), text.encode("utf-8", "xmlcharrefreplace")
        )

    def plot(self, place: str | None = None) -> Any:
        """Draws the charts with matplotlib, which is in the extra ``plots``.

        Args:
            place: Name of a row, such as "params/Dense_0/kernel" or "w[3]". The figure
                then has the histogram of this row, too.

        Returns:
            A ``matplotlib.figure.Figure`` that pyplot does not manage.

        Raises:
            ImportError: If matplotlib is not installed.
            ValueError: If no row with this name has a histogram.
        """
        return plots.figure(self, place)

    def _repr_html_(self) -> str:
        """Returns the HTML that a notebook shows."""
        return pages.fragment(self)

    def compare(self, other: "Report") -> "Comparison":
        """Compares this report with another report of the same model.

        Args:
            other: The other report.

        Returns:
            Pairs of rows of the same place; ``print`` shows the pairs that differ.
        """
        return Comparison(self, other)

    def __str__(self) -> str:
        """The verdicts, the numbers of the model, and a table of the places."""
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
        """The pairs of rows whose place both reports have."""
        others = dict(zip(_keys(self.theirs.rows), self.theirs.rows, strict=True))
        keyed = zip(_keys(self.ours.rows), self.ours.rows, strict=True)
        return [(row, others[key]) for key, row in keyed if key in others]

    @property
    def missing(self) -> list[Row]:
        """The rows whose place only one of the reports has."""
        both = set(_keys(self.ours.rows)) & set(_keys(self.theirs.rows))
        return [
            row
            for report in (self.ours, self.theirs)
            for key, row in zip(_keys(report.rows), report.rows, strict=True)
            if key not in both
        ]

    def __str__(self) -> str:
        """The numbers of both models and of each place that differs, as a -> b."""
        return table.render_comparison(self)


def _check(report: Report) -> None:
    """Refuses numbers of a file that no probe measures, and no chart can show."""
    for row in report.rows:
        counts = row.histogram
        if counts is not None and (len(counts) != BINS or min(counts) < 0):
            raise TypeError(f"Row.histogram is {short(counts)}")
        if not 0 <= row.depth < _DEEPEST:
            raise TypeError(f"Row.depth is {short(row.depth)}")
    for growth in (report.forward, report.backward):
        if growth is not None and growth.layers < 1:
            raise TypeError(f"Growth.layers is {short(growth.layers)}")


def _keys(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    """Returns a unique key for each row: path, kind, layer and a count."""
    counts: dict[tuple[Any, ...], int] = {}
    keys: list[tuple[Any, ...]] = []
    for row in rows:
        key = row.path, row.kind, row.layer
        counts[key] = counts.get(key, 0) + 1
        keys.append((*key, counts[key]))
    return keys
