"""``probe``: the effect of an initialization on the signal of a user's model."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

import jaxinit

from .. import _files
from ..insight.report import Report
from . import progress
from .explain import find, load_rules
from .usage import UsageError, usage_errors, user_errors

# The module with the class of models, by the adapter that takes them.
_FRAMEWORKS = {"linen": "flax.linen", "nnx": "flax.nnx", "equinox": "equinox"}
_CURE = (
    "return (fn, params, inputs), or (model, inputs) with a module of Flax or Equinox"
)


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
        rules: File of rules that draw the parameters first.
        allow_regex: Whether these may have regular expressions.
        compare: JSON file of the earlier report.
        html: File for the page of the report.
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
    """Calls the factory, draws the parameters where it is asked for, and probes."""
    draw, signs = jax.random.split(key)
    with user_errors(factory):
        made = find(factory)()
    if not isinstance(made, tuple) or len(made) not in (2, 3):
        raise UsageError(f"{factory} returned {_kinds(made)}; {_CURE}")
    *model, inputs = made
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    if len(model) == 2:
        fn, params = model
        params = _redrawn(draw, params, rules)
        with user_errors(factory, "probe("):
            return jaxinit.probe(fn, params, *inputs, key=signs)
    (module,) = model
    name = next(_frameworks(module), None)
    if name is None:
        raise UsageError(f"{factory} returned {_kinds(made)}; {_CURE}")
    adapter: Any = getattr(jaxinit, name)
    if name == "linen":
        with user_errors(factory):
            like = jaxinit.eval_shape(module.init, draw, *inputs)
            compiled = progress.compiled
            variables = adapter.init(module, draw, *inputs, progress=compiled)
        inputs = (_redrawn(draw, variables, rules, like), *inputs)
    else:
        module = _redrawn(draw, module, rules)
    progress.show(f"probing {factory}")
    with user_errors(factory, "probe("):
        return adapter.probe(module, *inputs, key=signs)


def _redrawn(
    key: jax.Array, params: Any, rules: jaxinit.Rules | None, like: Any = None
) -> Any:
    """The parameters, those that the rules match drawn by these."""
    if rules is None:
        return params
    with usage_errors("draw the parameters"):
        compiled = progress.compiled
        return jaxinit.reinit(key, params, rules, like=like, progress=compiled)


def _frameworks(model: Any) -> Iterator[str]:
    """The adapters that take a model; its framework is loaded if there is one."""
    for name, module in _FRAMEWORKS.items():
        if isinstance(model, getattr(sys.modules.get(module), "Module", ())):
            yield name


def _kinds(made: Any) -> str:
    """The types in the result of a factory."""
    if isinstance(made, tuple):
        return f"({', '.join(type(x).__name__ for x in made)})"
    return f"a {type(made).__name__}"
