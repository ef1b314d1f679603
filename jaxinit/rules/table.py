"""The table of ``Rules.explain``: rules, initializers, fans, standard deviations."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _processes
from .._checks import printable
from .._compat import is_traced, may_transfer
from ..planning.plan import Plan
from .assignment import Assignment, Row
from .readings import fans_of
from .trace import Drawn, Source

_HEAD = ("leaf", "array", "drawn as", "rule", "initializer", "fan_in", "fan_out", "std")
_SAMPLE = 2**22  # most entries of a leaf that are measured
_MEASURED = 8  # most leaves of a row that are measured
_FACTOR = 1.5  # ratio of rule and model from which a deviation is marked
_ALIKE = 1.25  # ratio up to which the deviations of a row are shown as one


def render(assignment: Assignment) -> str:
    """Returns the table; leaves whose paths differ only in numbers share a line."""
    unfit = assignment.unfit()
    groups: dict[Any, list[Row]] = {}
    for row in assignment.rows:
        path = re.sub(r"\d+", "*", row.path)
        kind = path, row.shape, row.dtype, row.rule, str(row.draw)
        groups.setdefault((*kind, row.path in unfit), []).append(row)
    fit = [rows for rows in groups.values() if rows[0].path not in unfit]
    given, own = _measure(assignment, [row for rows in fit for row in _some(rows)])
    lines: list[tuple[str, ...]] = [_HEAD]
    for rows in groups.values():
        row = rows[0]
        initializer = "the model's own" if row.initializer is None else row.initializer
        mark = "  !" if row.path in unfit else ""
        line = (
            row.path if len(rows) == 1 else re.sub(r"\d+", "*", row.path),
            f"{row.dtype}[{', '.join(map(str, row.shape))}]",
            str(row.draw) if row.is_known else "",
            assignment.rule_of(row),
            f"{initializer}{mark}",
            *_fans(row),
            _stddevs(given.get(row.path), [own[x.path] for x in rows if x.path in own]),
        )
        lines.append(line)
    notes = [*assignment.misfits(unfit), *assignment.idle()]
    text = [*columns(lines), *(f"! {x}" for x in notes), *assignment.excluded()]
    return "\n".join(text)


def columns(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines of cells as text, every column as wide as its widest cell."""
    cells = [[printable(cell) for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(x.ljust(w) for x, w in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _fans(row: Row) -> tuple[str, str]:
    shapes = set(row.draw.calls)
    fans = fans_of(row.initializer, shapes.pop()) if len(shapes) == 1 else None
    return ("", "") if fans is None else (f"{fans[0]}", f"{fans[1]}")


def _some(rows: Sequence[Row]) -> Sequence[Row]:
    """Returns the rows of a group that are measured: all, or evenly spaced ones."""
    return rows[:: -(-len(rows) // _MEASURED)]


def _stddevs(given: float | None, own: Sequence[float]) -> str:
    """Returns the cell with the standard deviations of the rule and of the model."""
    low, high = min(own, default=0.0), max(own, default=0.0)
    words = [] if given is None else [f"{given:.3g}"]
    if own:
        is_one = high <= _ALIKE * low or len(own) == 1
        words.append(f"own {high:.3g}" if is_one else f"own {low:.3g} to {high:.3g}")
    text = ", ".join(words)
    if given is None or not own:
        return text
    far = low if given > _FACTOR * low else high
    if max(given, far) <= _FACTOR * min(given, far):
        return text
    times = f"{given / far:.3g} times" if given and far else "one of them is 0"
    return f"{text}  ! {times}"


def _measure(
    assignment: Assignment, rows: Sequence[Row]
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the standard deviations by path, under the rules and in the model."""
    leaves = jax.tree.leaves(assignment.tree)
    given = [row for row in rows if row.initializer is not None]
    drawn = [row for row in rows if _is_drawn(leaves[row.index])]
    held = [row for row in rows if _is_concrete(leaves[row.index])]

    def samples(key: jax.Array) -> tuple[list[jax.Array], list[jax.Array]]:
        results: dict[Source, list[jax.Array]] = {}
        for row in drawn:
            source = leaves[row.index].source
            if source not in results:
                results[source] = source.call(source.stand_in())
        return (
            [_sample(assignment.draw(row, key)) for row in given],
            [
                _sample(results[x.source][x.index])
                for x in (leaves[r.index] for r in drawn)
            ],
        )

    with may_transfer(), _processes.alone():  # one process may print for all
        key = jax.random.key(0)
        by_rule, by_model = Plan(samples, (key,), {})(key)
        by_model += [_sample(leaves[row.index]) for row in held]
        return (
            {row.path: _stddev(x) for row, x in zip(given, by_rule, strict=True)},
            {
                row.path: _stddev(x)
                for row, x in zip(drawn + held, by_model, strict=True)
            },
        )


def _is_drawn(leaf: Any) -> bool:
    """True for a leaf of numbers that a function draws independent of its data."""
    return isinstance(leaf, Drawn) and not _is_key(leaf) and leaf.is_independent


def _is_concrete(leaf: Any) -> bool:
    """True for a concrete array of numbers that this process can read."""
    if isinstance(leaf, jax.ShapeDtypeStruct) or is_traced(leaf) or _is_key(leaf):
        return False
    return getattr(leaf, "is_fully_addressable", True)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _sample(x: Any) -> jax.Array:
    return x if x.size <= _SAMPLE else x.reshape(-1)[:_SAMPLE]


def _stddev(x: Any) -> float:
    values = np.asarray(x)
    wide = np.complex128 if jnp.iscomplexobj(x) else np.float64
    return float(values.astype(wide).std()) if values.size else 0.0
