"""Writes the README's tables from the JSON files in results/.

Run `python benchmarks/tables.py` after a benchmark; a test compares the README
with what this gives.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
README = HERE.parent / "README.md"


def result(subject: str) -> dict[str, Any]:
    """The newest CPU result of a subject."""
    paths = sorted((HERE / "results").glob(f"{subject}-cpu-*.json"))
    found = [json.loads(path.read_text()) for path in paths]
    return max(found, key=lambda record: record["environment"]["date"])


def where(record: dict[str, Any]) -> str:
    e = record["environment"]
    names = ("jax", "torch", "keras")
    versions = [f"{n} {e['versions'][n]}" for n in names if n in e["versions"]]
    return f"{e['cores']} cores of {e['cpu']}, {', '.join(versions)}, {e['date'][:10]}"


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def dtypes() -> Iterator[str]:
    record = result("dtypes")
    yield row("dtype", "library", "distinct", "bias", "std / asked", "shift")
    yield row("---", "---", "--:", "--:", "--:", "--:")
    for r in record["results"]:
        if r["initializer"] != "HeNormal":
            continue
        found = r["found"]
        if isinstance(found, str):
            cells = (found, "", "", "")
        else:
            cells = (
                f"{found['distinct']:,}",
                f"{found['mean / std']:+.4f}",
                f"{found['std / asked']:.4f}",
                f"{found['shift']:+.2f}",
            )
        yield row(r["dtype"], r["library"], *cells)


def draws() -> Iterator[str]:
    record = result("draws")
    peers = ["jax.nn jit", "keras", "torch", "numpy"]
    yield row("ms, and times as long", "jaxinit", *peers)
    yield row("---", *["--:"] * (1 + len(peers)))
    for r in record["warm"]:
        if r["shape"] != [8192, 4096]:
            continue
        times = {name: t["median"] for name, t in r["seconds"].items()}
        ours = times["jaxinit"]
        others = [f"{times[p] / ours:.1f}x" if p in times else "" for p in peers]
        name = f"{r['initializer']} 8192 x 4096 {r['dtype']}"
        yield row(name, f"{ours * 1e3:.0f}", *others)
    eager, cold = record["eager"]["seconds"], record["cold"]
    ours, theirs = eager["jaxinit"]["median"], eager["jax.nn eager"]["median"]
    times = f"{theirs / ours:.1f}x", "", "", ""
    yield row("eager HeNormal 64 x 64", f"{ours * 1e3:.2g}", *times)
    for r in cold:
        if (r["shape"], r["dtype"]) == ([1024, 1024], "float32"):
            times = {name: t["median"] for name, t in r["seconds"].items()}
            others = (f"{times[p] / times['jaxinit']:.1f}x" for p in peers[:2])
            name = "first call, HeNormal 1024 x 1024"
            yield row(name, f"{times['jaxinit'] * 1e3:.0f}", *others, "", "")
    yield ""
    yield f"Medians of interleaved repeats: {where(record)}."


TABLES: dict[str, Callable[[], Iterator[str]]] = {"dtypes": dtypes, "draws": draws}


def render(text: str) -> str:
    """The README with every marked table made anew."""
    for name, lines in TABLES.items():
        new = f"<!-- table: {name} -->\n" + "\n".join(lines()) + "\n<!-- end -->"
        pattern = rf"<!-- table: {name} -->\n.*?<!-- end -->"
        text, count = re.subn(pattern, lambda _, new=new: new, text, flags=re.S)
        if count != 1:
            raise SystemExit(f"README.md has {count} places for the table {name}.")
    return text


if __name__ == "__main__":
    README.write_text(render(README.read_text()))
