"""What the demo prints."""

import contextlib
import re
import sys
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import rich.box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .recipes import Recipe
from .rows import TOLERANCE, Row

Seconds = tuple[float, float]  # of the first call, and of the next
_WIDTH = 100


def heading(name: str, model: Any, size: int, arrays: int) -> None:
    """Which model, and how large."""
    sizes = [f"{model.layers} layers", f"width {model.width}"]
    if hasattr(model, "vocab"):
        sizes.append(f"vocabulary {model.vocab}")
    _print(f"{name}: {', '.join(sizes)}, {model.param_dtype.name}")
    _print(f"{size:,} parameters in {arrays} arrays")
    _print()


def config(verb: str, path: Path | None, recipe: Recipe) -> None:
    """Where the config is and what it holds."""
    where = "a temporary file (--config FILE keeps it)" if path is None else str(path)
    _print(f"Config: {verb} {where}")
    for role, initializer in recipe.items():
        _print(f"  {role:<15} {_short(initializer)}")
    _print()


def equality(same_config: bool, arrays: int, changed: Sequence[str]) -> None:
    """Whether the reloaded config is the same and makes the same."""
    _print("Reloaded the config and initialized again:")
    _print(f"  initializers    {'equal' if same_config else 'DIFFERENT'}")
    same = f"{arrays - len(changed)} of {arrays} arrays equal, bit for bit"
    _print(f"  parameters      {same}")
    for path in changed[:10]:
        _print(f"  DIFFERENT       {path}")
    _print()


def parameters(rows: Sequence[Row]) -> None:
    """The table of parameters."""
    table = _table("parameter", "shape", "initializer")
    for name in ("count", "expected", "measured", "se"):
        table.add_column(name, justify="right")
    for row in rows:
        off = "" if row.off is None else f"{row.off:.1f}"
        table.add_row(
            row.path,
            _shapes(row.shapes),
            _short(row.initializer),
            str(len(row.shapes)),
            "unknown" if row.expected is None else _digits(row.expected),
            _digits(row.measured),
            f"{off} {'ok' if row.is_right else 'WRONG'}" if off else "",
        )
    _print("Standard deviations; * numbers layers, se is how many standard errors off:")
    _print()
    _print(table)
    right = sum(row.is_right and row.off is not None for row in rows)
    known = sum(row.off is not None for row in rows)
    _print()
    _print(
        f"  {right} of {known} within {TOLERANCE:g} standard errors of what is expected"
    )
    _print()


@contextlib.contextmanager
def progress() -> Generator[Callable[[int, int, str], None]]:
    """A bar over the programs that a plan compiles, gone when it is done."""
    console = Console(file=sys.stderr)
    quiet = not console.is_terminal
    with Progress(console=console, transient=True, disable=quiet) as bars:
        task = bars.add_task("compiling", total=None)

        def update(done: int, total: int, what: str) -> None:
            bars.update(task, completed=done, total=total, description=what)

        yield update


def timings(
    ours: Seconds, jitted: Seconds, flax: Seconds, groups: int, unequal: Sequence[str]
) -> None:
    """Seconds of first and second call, beside each other, and equality with jit."""
    table = _table("seconds to make them all")
    for name in ("jaxinit.plan", "jit(init)", "jit(init), Flax's defaults"):
        table.add_column(name, justify="right")
    for i, name in enumerate(("first call, compiling", "again, compiled")):
        table.add_row(name, *(f"{how[i]:.2f}" for how in (ours, jitted, flax)))
    _print(table)
    _print()
    said = "equal, bit for bit" if not unequal else f"DIFFERENT at {unequal[0]}"
    _print(f"  The plan has {groups} programs; its values and jit(init)'s are {said}.")
    _print()


def conclusion(passed: bool, seconds: float) -> None:
    """The last line."""
    _print(f"{'All checks passed' if passed else 'A CHECK FAILED'} ({seconds:.1f} s).")


def _table(*columns: str) -> Table:
    table = Table(
        box=rich.box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _print(what: Any = "") -> None:
    # stdout is looked up for each print, as tests replace it.
    width = None if sys.stdout.isatty() else _WIDTH
    console = Console(file=sys.stdout, width=width, highlight=False, markup=False)
    console.print(what, soft_wrap=isinstance(what, str))


def _short(initializer: Any) -> str:
    """Its repr with three digits of every number."""
    return re.sub(
        r"\d+\.\d{5,}(e-?\d+)?", lambda m: f"{float(m[0]):.3g}", repr(initializer)
    )


def _shapes(shapes: Sequence[tuple[int, ...]]) -> str:
    distinct = list(dict.fromkeys(shapes))
    ends = [",".join(map(str, s)) for s in (distinct[0], distinct[-1])]
    return ends[0] if len(distinct) == 1 else " .. ".join(ends)


def _digits(x: float) -> str:
    return f"{x:#.4g}" if x else "0"
