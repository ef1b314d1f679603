"""Verdicts: the findings of a report, with their numbers and a cure."""

import collections
import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from .activation import activation, gain
from .layers import LOST
from .report import Growth, Parameter, Report, Row, Verdict

_ONE = 0.9, 1.1  # a rate between these two counts as 1
_DEAD = 0.9
_SATURATED = 0.5
_ALIKE = 0.98  # cosine similarity of rows that the network cannot tell apart
_SHARP = 0.05  # entropy of a softmax, over the largest
_SHOWN = 3  # places that a verdict names


def judge(report: Report, added: Collection[str] = ()) -> tuple[Verdict, ...]:
    """Returns all findings, the most serious first.

    Args:
        report: The numbers.
        added: Paths of the parameters that are added to a signal which gets a gradient.
    """
    broken = list(_not_finite(report))
    if broken:
        return tuple(broken)
    return (
        *_growths(report),
        *_activations(report.rows),
        *_angles(report.rows),
        *_attention(report.rows),
        *_parameters(report.parameters, added),
    )


def _not_finite(report: Report) -> Iterator[Verdict]:
    """The first place where the signal overflows, or else the gradient."""
    ways = (
        ("result", "signal", "out_rms", report.rows),
        ("gradient", "gradient", "grad_rms", report.rows[::-1]),
    )
    for name, what, field, rows in ways:
        for row in rows:
            x = getattr(row, field)
            if x is not None and not math.isfinite(x):
                text = (
                    f"The {name} of {_name(row)} is not finite: the {what} overflows "
                    f"there. Print the report for the places before it."
                )
                yield Verdict("not finite", True, text)
                return


def _growths(report: Report) -> Iterator[Verdict]:
    both = (
        ("signal", "forward", report.forward),
        ("gradient", "backward", report.backward),
    )
    for what, kind, growth in both:
        if growth is None or 1 / LOST < growth.total < LOST:
            continue
        verb = "shrinks" if growth.rate < 1 else "grows"
        text = (
            f"The {what} {verb} by {growth.rate:.3g} a layer, to {growth.last:.2g} "
            f"after {growth.layers}{'' if kind == 'forward' else ', backward'}"
        )
        yield Verdict(kind, True, f"{text}: {_cure(report.rows, kind, growth)}")


def _cure(rows: Sequence[Row], kind: str, growth: Growth) -> str:
    if growth.of == "residual":
        return (
            "scale the branches down by the root of their number "
            "(jaxinit.DepthScaled), or normalize before each branch."
        )
    products = [row for row in rows if row.fan_in is not None]
    # The activation before a product decides its gain. In a scan it may be that of the
    # last iteration, and so after the product.
    read = [row.in_activation or row.activation for row in products]
    names = collections.Counter(name for name in read if name)
    gains = [row.gain for row in rows if row.gain is not None and row.depth > 1]
    yours = float(np.median(gains)) if gains else 0.0
    if not names:
        return f"the gain of linear layers is 1, yours {yours:.4g}."
    name = names.most_common(1)[0][0]
    assert name is not None
    exact = gain(name)
    if abs(yours / exact - 1) > 0.03:
        return (
            f"the gain of {name} is {exact:.4g} (jaxinit.gain), yours {yours:.4g}: "
            f"draw the weights by jaxinit.ActivationScaled({name!r})."
        )
    found = activation(name)
    held = f"your gain, {yours:.4g}, is that of {name}"
    if found.verdict == "edge of chaos":
        return f"{held}; widen or normalize the layers."
    return f"{held}, and no gain keeps the signal: {found.reason}"


def _activations(rows: Sequence[Row]) -> Iterator[Verdict]:
    dead = [r for r in rows if r.saturation is not None and (r.zeros or 0) > _DEAD]
    if dead:
        share = max(r.zeros or 0 for r in dead)
        yield Verdict(
            "dead",
            True,
            f"Up to {share:.0%} of the activations are 0 after {_list(dead)}: lower "
            "the mean of their inputs, as by a bias of 0, or use another activation.",
        )
    flat = [r for r in rows if (r.saturation or 0) > _SATURATED and r not in dead]
    flat = [r for r in flat if (r.saturation or 0) - (r.zeros or 0) > _SATURATED]
    if flat:
        share = max(r.saturation or 0 for r in flat)
        yield Verdict(
            "saturated",
            True,
            f"Up to {share:.0%} of the activations are saturated after {_list(flat)}, "
            f"whose result has rms {max(r.out_rms or 0 for r in flat):.3g}: scale the "
            "weights before them down (jaxinit.calibrate).",
        )


def _angles(rows: Sequence[Row]) -> Iterator[Verdict]:
    products = [r for r in rows if r.fan_in is not None and r.cosine is not None]
    if len(products) < 3:
        return
    first, last = products[0], products[-1]
    alike = [r for r in products if (r.cosine or 0) > _ALIKE]
    if last in alike and first not in alike:
        yield Verdict(
            "alike",
            False,
            f"Rows become alike: their mean cosine similarity is {first.cosine:.3g} "
            f"after {_name(first)} and {last.cosine:.4g} after {_name(last)}. An "
            "activation of mean 0, residual branches or normalization keep them apart.",
        )


def _attention(rows: Sequence[Row]) -> Iterator[Verdict]:
    sharp = [r for r in rows if r.entropy is not None and r.entropy < _SHARP]
    if sharp:
        least = min(r.entropy or 0 for r in sharp)
        yield Verdict(
            "attention",
            False,
            f"A softmax is nearly one-hot at {_list(sharp)} (entropy {least:.2g} of "
            "the largest): scale its queries and keys down.",
        )


def _parameters(
    parameters: Sequence[Parameter], added: Collection[str]
) -> Iterator[Verdict]:
    unused = [p.path or "the array" for p in parameters if not p.is_used]
    if unused:
        text = f"The result does not depend on {_names(unused)}."
        yield Verdict("unused", True, f"{text} Remove or use them.")
    used = [p for p in parameters if p.is_used and p.path not in added]
    still = [p.path or "the array" for p in used if p.grad_rms == 0]
    if still:
        text = f"The gradient of {_names(still)} is exactly 0."
        cure = "This is right for a branch that starts at 0, and a fault elsewhere."
        yield Verdict("no gradient", False, f"{text} {cure}")


def _list(rows: Sequence[Row]) -> str:
    return _names([_name(row) for row in rows])


def _name(row: Row) -> str:
    return row.name or f"the {row.kind}"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
