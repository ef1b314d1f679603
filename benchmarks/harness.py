"""Helpers of the benchmarks: timing, the environment, reporting."""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import random
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax

Timing = dict[str, float]


def interleaved(
    cases: Mapping[str, Callable[[], Any]], repeats: int, least: float = 0.02
) -> dict[str, Timing]:
    """Times cases that take turns: A, B, B, A, ... Returns the seconds per call.

    Every call is blocked on. A repeat lasts at least ``least`` seconds: so many calls
    hide the noise of the clock and the scheduler.
    """
    calls: dict[str, int] = {}
    for name, case in cases.items():
        jax.block_until_ready(case())
        calls[name] = max(1, int(least / max(_time(case, 3), 1e-9)))
    samples: dict[str, list[float]] = {name: [] for name in cases}
    order = random.Random(0).sample  # so that no case always follows the same one
    for _ in range(repeats):
        for name in order(list(cases), len(cases)):
            samples[name].append(_time(cases[name], calls[name]))
    return {name: summary(samples[name]) for name in cases}


def _time(case: Callable[[], Any], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        _ = jax.block_until_ready(case())  # the last result is freed later
    return (time.perf_counter() - start) / calls


def fresh(programs: Mapping[str, str], repeats: int) -> dict[str, Timing]:
    """Returns the seconds that Python programs print; each runs in new processes.

    The programs take turns. If there are several rounds, one more round comes first and
    fills the file caches.
    """
    env = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # this process has taken most
    samples: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats + (repeats > 1)):
        for name, program in programs.items():
            command = [sys.executable, "-c", program]
            printed = subprocess.check_output(command, text=True, env=env)
            samples[name].append(float(printed.split()[-1]))
    return {name: summary(samples[name][-repeats:]) for name in programs}


def summary(samples: Sequence[float]) -> Timing:
    low, middle, high = min(samples), statistics.median(samples), max(samples)
    return {"median": middle, "min": low, "max": high, "repeats": len(samples)}


def peer(name: str) -> ModuleType | None:
    """Returns a module to compare with; None, and the reason, if it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as e:
        print(f"skipped {name}: {e}")
        return None


def environment(*peers: str) -> dict[str, Any]:
    """Returns the versions, device, cores and date of this run."""
    versions = {"python": platform.python_version()}
    for package in ("jaxinit", "jax", "jaxlib", "numpy", *peers):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() is empty on Linux
    named = cpuinfo.exists() and re.search(r"model name\s*: (.*)", cpuinfo.read_text())
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions,
        "device": jax.devices()[0].device_kind,
        "devices": jax.device_count(),
        "cpu": named[1] if named else platform.processor(),
        "cores": os.cpu_count(),
    }


def goal(name: str, reached: float, sign: str, required: float) -> dict[str, Any]:
    """Returns a figure with its requirement; ``sign`` is ">=" or "<="."""
    passed = reached >= required if sign == ">=" else reached <= required
    verdict, required_ = "PASS" if passed else "MISS", f"{sign} {required:g}"
    return dict(target=name, reached=reached, required=required_, verdict=verdict)


def report(title: str, goals: Iterable[dict[str, Any]]) -> None:
    """Prints the figure and the requirement of each goal."""
    rows = [[name, f"{x:.3g}", *rest] for name, x, *rest in map(dict.values, goals)]
    table(title, ["target", "reached", "required", ""], rows)


def arguments(
    description: str | None, models: Iterable[str] = ()
) -> argparse.Namespace:
    """Reads the command line.

    Args:
        description: Text of ``--help``.
        models: Names of models, for a benchmark of fresh processes: adds ``--models``,
            ``--repeats`` and ``--limit``.
    """
    parser = argparse.ArgumentParser(description=description)
    if models:
        parser.add_argument("--models", nargs="+", default=list(models), metavar="NAME")
        parser.add_argument("--repeats", type=int, default=3, help="runs of each")
        parser.add_argument(
            "--limit", type=float, default=1200, help="seconds for one process"
        )
    parser.add_argument("--quick", action="store_true", help="small, and no results")
    parser.add_argument("--out", type=Path, help="folder of the JSON file")
    args = parser.parse_args()
    if args.out is None and not args.quick:
        args.out = Path(__file__).parent / "results"
    return args


def save(folder: Path | None, subject: str, record: Mapping[str, Any]) -> None:
    """Writes ``<subject>-<device>-jax<version>.json``, if a folder is given."""
    if folder is not None:
        device = re.sub(r"[^a-z0-9]+", "-", jax.devices()[0].device_kind.lower())
        path = folder / f"{subject}-{device}-jax{jax.__version__}.json"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"subject": subject, **record}, indent=1) + "\n")
        print(f"wrote {path.name}")


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table, by rich if it is installed."""
    try:
        from rich import console, table
    except ImportError:
        lines = [columns, *rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        print(f"\n{title}")
        for line in lines:
            print(*(x.ljust(w) for x, w in zip(line, widths, strict=True)), sep="  ")
        return
    grid = table.Table(*columns, title=title, title_justify="left")
    for row in rows:
        grid.add_row(*row)
    # A pipe has no width of its own, and rich would fold the cells at 80.
    console.Console(width=None if sys.stdout.isatty() else 140).print(grid)
