"""What each mechanism of a plan brings: the same models with one of them off.

Figures are of fresh processes, imports excluded, whose variants take turns: seconds
on the clock and of the processor, of the first call (trace and compile included)
and of the next with another key. A ratio is the median over the rounds of variant
over plain; above 1 the mechanism brings something.

Run `python benchmarks/ablate.py`.
"""

import random
import statistics
import subprocess
import sys
from typing import Any

import bench_models
import harness

# Each switches one mechanism off, after `import jaxinit`.
VARIANTS = {
    "plain": "",
    "erf_inv by XLA": """
from jaxinit.planning import law
law.central_nodes = lambda draw, steps: set()
""",
    "rows one by one": """
from jaxinit.planning import rows
rows._in_pairs = lambda laws: False
""",
    "blocks not in place": """
from jaxinit.planning import rows
jit = jax.jit
class J:
    def __getattr__(self, name): return getattr(jax, name)
    def jit(self, f, donate_argnums=(), **options): return jit(f, **options)
rows.jax = J()
""",
    "memory not reused": """
import mmap, numpy as np
from jaxinit.planning import memory
def leaf(self, size, dtype):
    count = size * dtype.itemsize
    if count < memory._LEAST:
        raw = np.empty(count + 64, np.uint8)
        return raw[-raw.ctypes.data % 64 :][:count].view(dtype)
    return np.frombuffer(mmap.mmap(-1, count, access=mmap.ACCESS_COPY), dtype)
memory.Memory._leaf = leaf
memory.Memory.leaves = lambda self, sizes: [self._leaf(*x) for x in sizes]
memory.Memory.keep = lambda self, block, place: None
""",
    "memory of NumPy": """
import numpy as np
from jaxinit.planning import memory
def leaf(self, size, dtype):
    count = size * dtype.itemsize
    raw = np.empty(count + 64, np.uint8)
    return raw[-raw.ctypes.data % 64 :][:count].view(dtype)
memory.Memory._leaf = leaf
memory.Memory.leaves = lambda self, sizes: [self._leaf(*x) for x in sizes]
memory.Memory.keep = lambda self, block, place: None
""",
    "garbage collected": """
import contextlib
from jaxinit import nnx as ours
from jaxinit.planning import plan
plan.collector_paused = ours.collector_paused = contextlib.nullcontext
""",
    "a program for each scale": """
from jaxinit.planning import law
law._without_factor = lambda nodes, drawn, avals: (nodes, None)
""",
    "a program for each shape": """
from jaxinit.planning import group
group.find_law = lambda component, avals: None
""",
    "long programs optimized": """
from jaxinit.planning import group
group._LONG = 10**9
""",
}
RUN = """
import gc
def timed(f):
    gc.collect()
    start, before = time.perf_counter(), time.process_time()
    result = f()
    jax.block_until_ready(result)
    return time.perf_counter() - start, time.process_time() - before, result
*one, result = timed(first)
del result
*two, result = timed(second)
print(*one, *two)
"""
CALLS = ("first", "first_cpu", "second", "second_cpu")


def program(setup: str, call: str, patch: str) -> str:
    setup = bench_models.SETUP + setup
    return f"{setup}import jaxinit, jaxinit.nnx{patch}\n{call}{RUN}"


def measure(setup: str, call: str, repeats: int) -> dict[str, list[list[float]]]:
    """The figures of each variant in each round."""
    samples: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    for turn in range(repeats):
        order = random.Random(turn).sample(list(VARIANTS), len(VARIANTS))
        for name in order:
            command = [sys.executable, "-c", program(setup, call, VARIANTS[name])]
            printed = subprocess.check_output(command, text=True)
            samples[name].append([float(x) for x in printed.split()[-len(CALLS) :]])
    return samples


def ratios(samples: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    """Medians over the rounds of each variant over plain."""
    found: dict[str, dict[str, float]] = {}
    for name, rounds in samples.items():
        pairs = list(zip(rounds, samples["plain"], strict=True))
        found[name] = {
            figure: statistics.median(x[i] / y[i] for x, y in pairs)
            for i, figure in enumerate(CALLS)
        }
    return found


def main() -> None:
    args = harness.arguments(__doc__)
    models = dict(list(bench_models.MODELS.items())[-1:])
    if not args.quick:
        models = dict(list(bench_models.MODELS.items())[:-1])
    repeats = 1 if args.quick else 3
    results: dict[str, Any] = {}
    rows = []
    for model, (setup, calls) in models.items():
        samples = measure(setup, calls["plan"], repeats)
        results[model] = {"seconds": samples, "ratios": ratios(samples)}
        for name, found in results[model]["ratios"].items():
            rows.append([model, name, *(f"{found[figure]:.2f}" for figure in CALLS)])
            print(*rows[-1], flush=True)
    title = "Seconds over those of the plain plan"
    harness.table(title, ["model", "variant", *CALLS], rows)
    record = {
        "quick": args.quick,
        "environment": harness.environment("flax", "dm-haiku"),
        "unit": "seconds",
        "figures": CALLS,
        "models": results,
    }
    harness.save(args.out, "ablate", record)


if __name__ == "__main__":
    main()
