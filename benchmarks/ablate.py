"""The gain of each mechanism of a plan: the same models with one mechanism off.

Each figure comes from a fresh process, without imports; variants take turns. Figures
are seconds of wall time and of processor time, for the first call (tracing and
compiling included) and for a second call with another key. A ratio above 1 means that
the mechanism helps.

Run `python benchmarks/ablate.py`.
"""

import random
import subprocess
import sys
from typing import Any

import bench_models
import harness

# Each variant switches one mechanism off, after `import jaxinit`. The results named
# "ablate_deleted" are from a version with more mechanisms, which were deleted. Three
# saved less than a tenth of the first call of two models: pairs of rows, a polynomial
# in place of erf_inv, and a faster compilation of long programs, which also changed
# values. Two were faults: memory of dropped leaves was reused while a user could still
# see it, and garbage collection was paused for other threads, too.
VARIANTS = {
    "plain": "",
    "plain again": "",  # shows the noise between equal variants
    "blocks not in place": """
from jaxinit.planning.makers.cpu_rows import rows
class Jax:
    def __getattr__(self, name): return getattr(jax, name)
    def jit(self, f, donate_argnums=(), **options): return jax.jit(f, **options)
rows.jax = Jax()
""",
    "memory of NumPy": """
from jaxinit.planning.makers.cpu_rows import rows
rows._PAGES = 10**18
""",
    "layers apart": """
from jaxinit.planning.makers.cpu_rows import rows
find = rows.find_draw
def one_key(component, avals):
    draw = find(component, avals)
    return None if draw is None or draw.keys > 1 else draw
rows.find_draw = one_key
""",
    # No mechanism for speed: with it the values are those of jit to the last bit.
    "closure arrays as inputs": """
from jaxinit.planning import closure
from jaxinit.planning.makers import per_leaf
closure.compiled_in = per_leaf.compiled_in = lambda component, program: {}
""",
    "a program for each scale": """
import numpy as np
from jaxinit.planning.makers.cpu_rows import draws
draws._without_factor = lambda nodes, drawn: (nodes, np.zeros((), np.float32))
""",
    "a program for each shape": """
from jaxinit.planning import makers
makers.MAKERS = makers.constant.claim, makers.per_leaf.claim
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
    """Returns the figures of each variant in each round."""
    samples: dict[str, list[list[float]]] = {name: [] for name in VARIANTS}
    for turn in range(repeats):
        order = random.Random(turn).sample(list(VARIANTS), len(VARIANTS))
        for name in order:
            command = [sys.executable, "-c", program(setup, call, VARIANTS[name])]
            printed = subprocess.check_output(command, text=True)
            samples[name].append([float(x) for x in printed.split()[-len(CALLS) :]])
    return samples


def ratios(samples: dict[str, list[list[float]]]) -> dict[str, dict[str, float]]:
    """Returns the least figure of each variant, divided by that of "plain".

    Other processes can only add to a figure, so the least is the most accurate.
    """
    least = {
        name: [min(figures) for figures in zip(*rounds, strict=True)]
        for name, rounds in samples.items()
    }
    return {
        name: {
            figure: x / y
            for figure, x, y in zip(CALLS, figures, least["plain"], strict=True)
        }
        for name, figures in least.items()
    }


def main() -> None:
    large = "Llama 3 8B, bfloat16"  # each leaf is its own work
    args = harness.arguments(__doc__, [m for m in bench_models.MODELS if m != large])
    chosen = ["one Dense layer"] if args.quick else args.models
    models = {name: bench_models.MODELS[name] for name in chosen}
    repeats = 1 if args.quick else args.repeats
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
