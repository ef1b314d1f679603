"""Writes the tables of README.md and docs/ from the JSON files in results/.

A page marks the place of a table: `<!-- table: models -->`, or `models on nvidia` for
another device than the CPU. Run `python benchmarks/tables.py` after a benchmark; a
test compares the pages with its output.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GPT2 = "GPT-2, 12 x 768, Linen"
SMALL = "Dense"  # in the name of a model too small for most tables
PEERS = {"HeNormal": "jax he_normal", "Orthogonal": "jax orthogonal"}
DOCS = HERE.parent / "docs"
PAGES = [HERE.parent / "README.md"]
PAGES += [*sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("frameworks/*.md"))]


def result(subject: str, device: str = "cpu") -> dict[str, Any]:
    """Returns the newest result of a subject on a kind of device."""
    paths = sorted((HERE / "results").glob(f"{subject}-{device}-*.json"))
    found = [json.loads(path.read_text()) for path in paths]
    return max(found, key=lambda record: record["environment"]["date"])


def where(record: dict[str, Any], peers: tuple[str, ...] = ("torch", "keras")) -> str:
    """The machine, the versions of JAX and of the peers, and the date."""
    e = record["environment"]
    versions = [
        f"{name} {e['versions'][name]}"
        for name in ("jax", *peers)
        if name in e["versions"]
    ]
    machine = f"{e['cores']} cores of {e['cpu']}"
    if e["device"] not in ("cpu", e["cpu"]):
        machine = f"{e['devices']} {e['device']}, {e['cores']} cores"
    return f"{machine}, {', '.join(versions)}, {e['date'][:10]}"


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
    yield ""
    yield f"{where(record, ())}."


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


PEERS_OF_PLANS = {"jit": "jit(init)", "eager": "eager init", "torch": "PyTorch"}


def times_of_models(
    record: dict[str, Any], call: str, ending: str = "", without: str = "no model"
) -> Iterator[str]:
    """A row of medians for each model, and how many times as long its peers take."""
    for name, times in record["models"].items():
        if without in name:
            continue
        ours = times["plan"][call]["median"]
        cells = [rounded(ours)]
        for peer in peers_of(record):
            taken = times[peer][call]["median"] if peer in times else None
            cells.append(f"{rounded(taken)} ({taken / ours:.1f}x)" if taken else "")
        yield row(name + ending, *cells)


def with_caches(record: dict[str, Any]) -> Iterator[str]:
    """First calls with a warm compilation cache, of the records that have them."""
    cached = {
        name: {"plan": times["plan, warm cache"], "jit": times["jit, warm cache"]}
        for name, times in record["models"].items()
        if "jit, warm cache" in times and SMALL not in name
    }
    yield from times_of_models({**record, "models": cached}, "first", ": warm cache")


def rounded(taken: float) -> str:
    return f"{taken:.2f}" if taken > 0.1 else f"{taken:.3f}"


def peers_of(record: dict[str, Any]) -> dict[str, str]:
    """The peers that build on the device of the record."""
    on_device = record["environment"]["device"] == record.get("torch device", "cpu")
    return {k: v for k, v in PEERS_OF_PLANS.items() if k != "torch" or on_device}


def first(device: str = "cpu") -> Iterator[str]:
    """First calls alone, without the smallest model."""
    record = result("models", device)
    peers = peers_of(record)
    yield row("seconds of the first call", "plan", *peers.values())
    yield row("---", "--:", *(["--:"] * len(peers)))
    yield from times_of_models(record, "first", without=SMALL)
    yield ""
    yield f"{where(record, ('torch',) if 'torch' in peers else ())}."


def models(device: str = "cpu") -> Iterator[str]:
    record = result("models", device)
    peers = peers_of(record)
    yield row("seconds of the first call", "plan", *peers.values())
    yield row("---", "--:", *(["--:"] * len(peers)))
    yield from times_of_models(record, "first")
    yield from times_of_models(record, "second", ": another key", without=SMALL)
    yield from with_caches(record)
    large = [times for name, times in record["models"].items() if SMALL not in name]
    if device == "cpu":
        memory = result("memory")["ratio"]
        peaks = [f"{memory[name]['median']:.2f}" for name in ("plan", "jit", "eager")]
        yield row(f"{GPT2}: peak memory over its parameters", *peaks, "")
    yield ""
    told = where(record, ("torch",) if "torch" in peers else ())
    yield f"Medians of fresh processes: {told}."
    kept = [
        times["jit"]["kept"]["median"] / times["plan"]["kept"]["median"]
        for times in large
    ]
    yield (
        "Another key: when the arrays of the first are gone; while they are kept, "
        f"jit(init) takes {min(kept):.1f} to {max(kept):.1f} times as long as the plan."
    )
    if "torch" in peers:
        bare = record["models"][GPT2]["torch, layers alone"]["first"]["median"]
        yield (
            "PyTorch: its layers, and then GPT-2's normal initialization over their "
            f"own; its layers alone take {bare:.2f} s."
        )


def llama() -> Iterator[str]:
    r = result("llama")
    seconds, size = r["seconds"], r["bytes"]
    talking = r["programs that communicate"]
    yield (
        f"On paper, a Llama of {r['parameters'] / 1e9:.0f} billion parameters on "
        f"{r['devices']} simulated devices:"
    )
    yield (
        f"planned in {seconds['plan']:.1f} s and compiled in "
        f"{seconds['compile']:.1f} s as {r['groups']} programs, "
        f"{talking or 'none'} of which communicates;"
    )
    yield (
        f"{size['result'] / 1e6:.0f} MB on each device, "
        f"{size['peak'] / 1e6:.0f} MB at the peak:"
    )
    yield f"{where(r, ('flax',))}."


def orthogonal() -> Iterator[str]:
    record = result("orthogonal")
    peers = ["jax.nn jit", "torch"]
    yield row("ms, and times as long", "jaxinit", *peers)
    yield row("---", *["--:"] * (1 + len(peers)))
    cold: dict[str, Any] = {"shape": [1024, 1024], "seconds": record["cold"]}
    for r in [*record["results"], cold]:
        times = {name: t["median"] for name, t in r["seconds"].items()}
        ours = times["jaxinit"]
        others = [f"{times[p] / ours:.1f}x" if p in times else "" for p in peers]
        name = " x ".join(map(str, r["shape"])) + (", first call" if r is cold else "")
        yield row(name, f"{ours * 1e3:.0f}", *others)
    yield ""
    yield f"Medians of interleaved repeats: {where(record)}."


def tpu() -> Iterator[str]:
    record = result("tpu_compile")
    seconds = {
        (r["initializer"], r["size"], r["layout"]): r["seconds"]
        for r in record["results"]
    }
    yield row("seconds to compile for 2 x 4 TPU v5e", "jaxinit", "jax.nn")
    yield row("---", "--:", "--:")
    for (name, size, layout), ours in seconds.items():
        theirs = PEERS.get(name)
        if theirs:
            cells = (ours, seconds[theirs, size, layout])
            shown = (f"> {record['limit']}" if s is None else f"{s:.1f}" for s in cells)
            yield row(f"{name} {size} x {size}, {layout}", *shown)
    yield ""
    yield f"Ahead of time: {where(record, ('libtpu',))}."


def tpu_models() -> Iterator[str]:
    record = result("tpu_models")
    found = {(r["model"], r["how"]): r for r in record["results"]}
    yield row("CPU seconds to compile", "plan", "programs", "longest", "jit(init)")
    yield row("---", *["--:"] * 4)
    for model in dict.fromkeys(r["model"] for r in record["results"]):
        ours, theirs = found[model, "plan"], found[model, "jit"]
        jit = f"{theirs['cpu']:.0f}" if theirs["seconds"] else theirs["failed"]
        cells = f"{ours['cpu']:.1f}", f"{ours['programs']}", f"{ours['longest']:.1f}"
        yield row(model, *cells, jit)
    yield ""
    total = sum(r["collectives"] for r in found.values() if r["how"] == "plan")
    yield (
        f"Sharded over 2 x 4 TPU v5e, ahead of time; {total} collectives in the "
        f"programs of the plans: {where(record, ('libtpu',))}."
    )


# Of AnyInit, and of jaxinit; see bench_insight.
AIMS = ("inputs",), ("products", "branches")


def insight() -> Iterator[str]:
    record = result("insight")
    calls = ["suggest", "calibrate", "AnyInit analytic", "AnyInit empirical"]
    yield row("seconds (over those of suggest)", *calls)
    yield row("---", *["--:"] * len(calls))
    reasons: dict[str, list[str]] = {}
    for model, found in record["models"].items():
        ours = found["suggest"]["seconds"]
        cells: list[str] = []
        for name in calls:
            r = found[name]
            if "failed" in r:
                reasons.setdefault(r["failed"], []).append(f"{name} on {model}")
                cells.append("fails")
            else:
                times = "" if name == "suggest" else f" ({r['seconds'] / ours:.1f}x)"
                cells.append(f"{r['seconds']:.1f}{times}")
        yield row(model, *cells)
        yield row(f"{model}: off by", *(off_by(name, found[name]) for name in calls))
    yield ""
    told = where(record, ("flax", "anyinit"))
    yield f"First calls in fresh processes: {told}."
    for reason, names in reasons.items():
        yield f"{', '.join(names)}: `{reason}`."
    for model, r in record["probe"].items():
        told = r.get("failed")
        if told is None:
            times = r["warm"] / r["pass"]
            told = f"{r['seconds']:.1f} s; compiled, {times:.1f} times a forward and "
            told += "backward pass"
        yield f"`probe` of {model}: {told}."


def off_by(name: str, r: dict[str, Any]) -> str:
    """The largest factor between a second moment and the target of the library."""
    if "failed" in r:
        return ""
    aims = AIMS[not name.startswith("AnyInit")]
    return f"{max(r['off'][x] for x in aims if x in r['off']):.3g}"


TABLES: dict[str, Callable[..., Iterator[str]]] = {
    "dtypes": dtypes,
    "draws": draws,
    "first": first,
    "insight": insight,
    "models": models,
    "llama": llama,
    "orthogonal": orthogonal,
    "tpu": tpu,
    "tpu_models": tpu_models,
}


def render(text: str) -> str:
    """Returns the text of a page with new content in every marked table."""

    def new(match: re.Match[str]) -> str:
        name, _, device = match[1].partition(" on ")
        lines = "\n".join(TABLES[name](device) if device else TABLES[name]())
        return f"<!-- table: {match[1]} -->\n{lines}\n<!-- end -->"

    return re.sub(r"<!-- table: ([\w ]+) -->\n.*?<!-- end -->", new, text, flags=re.S)


def plot_depth(device: str, file: str) -> None:
    """Plots the seconds of the first call against depth, if they were measured."""
    from matplotlib import pyplot

    depth = result("models", device)["depth"]
    if not depth:
        return
    layers = [int(n) for n in depth]
    figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
    for name, label in (("jit", "jax.jit(model.init)"), ("plan", "jaxinit.plan")):
        seconds = [times[name]["first"]["median"] for times in depth.values()]
        axes.plot(layers, seconds, marker="o", label=label)
    axes.set(xlabel="layers of width 256", ylabel="seconds, first call", ylim=0)
    axes.legend()
    figure.savefig(DOCS / "images" / file, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    plot_depth("cpu", "depth.png")
    plot_depth("nvidia", "depth-nvidia.png")
    for page in PAGES:
        page.write_text(render(page.read_text()))
