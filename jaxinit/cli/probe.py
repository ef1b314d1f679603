"""``probe``: measures the signal of a user's model, forward and backward."""

from pathlib import Path
from typing import Any

import jax

import jaxinit

from .. import _files
from ..insight.report import Report
from . import progress
from .explain import load_rules
from .factories import read_model
from .usage import usage_errors, user_errors


def probe(
    factory: str,
    *,
    rules: Path | None = None,
    allow_regex: bool = False,
    compare: Path | None = None,
    html: Path | None = None,
    json: Path | None = None,
    seed: int = 0,
) -> int:
    """Prints the report of a model, or its comparison with an earlier one.

    Args:
        factory: ``MODULE:FACTORY``.
        rules: File of rules, by which the parameters are drawn before the probe.
        allow_regex: Whether the rules may have regular expressions.
        compare: JSON file of the earlier report.
        html: File for the report as an HTML page.
        json: File for the report as JSON.
        seed: Seed of the key.

    Returns:
        1 if a verdict is a fault, else 0.
    """
    given = None if rules is None else load_rules(rules, allow_regex)
    earlier = None if compare is None else _load(compare)
    try:
        progress.show(f"probing {factory}")
        report = _measure(factory, given, jax.random.key(seed))
    finally:
        progress.show("")
    if html is not None:
        with usage_errors(f"write {html}"):
            report.save(html, title=factory)
    if json is not None:
        with usage_errors(f"write {json}"):
            _files.write_whole(json, report.to_json().encode())
    if earlier is None:
        print(report)
    else:
        print(*report.verdicts or ["no fault found"], sep="\n")
        print(earlier.compare(report))
    return int(any(verdict.is_fault for verdict in report.verdicts))


def _load(path: Path) -> Report:
    with usage_errors(f"read {path}"), _files.in_file(path):
        return Report.from_json(_files.read_text(path))


def _measure(factory: str, rules: jaxinit.Rules | None, key: jax.Array) -> Report:
    """Calls the factory, draws the parameters that the rules match, and probes."""
    draw, signs = jax.random.split(key)
    model = read_model(factory, draw)
    params = model.params
    if rules is not None:
        with usage_errors("draw the parameters"):
            options: Any = {"like": model.like, "progress": progress.compiled}
            params = jaxinit.reinit(draw, params, rules, **options)
    progress.show(f"probing {factory}")
    with user_errors(factory, "probe("):
        return jaxinit.probe(model.fn, params, *model.inputs, key=signs)
