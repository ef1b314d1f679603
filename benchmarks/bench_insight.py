"""Compares `suggest` and `calibrate` with AnyInit, and measures the cost of `probe`.

Each figure comes from a fresh process. The seconds of one call include tracing and
compiling, but not imports and the model's own init. A probe then measures second
moments. The target of AnyInit is 1 for the input of each product. The target of jaxinit
is 1 for the result of each product, and 1 / L for the ends of L residual branches. Each
library is compared with its own target. A compiled probe is also compared with one
forward and backward pass.

Run `python benchmarks/bench_insight.py`.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness

TESTS = Path(__file__).parent.parent / "tests"
SETUP = f"""
import json, sys, time
sys.path.insert(0, {str(TESTS)!r})
import flax.linen as nn, jax, jax.numpy as jnp, numpy as np
from flax.core import DenyList
import jaxinit, models
from jaxinit.cli import models as demo
key = jax.random.key(0)

class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        for _ in range(20):
            x = nn.silu(nn.Dense(256)(x))
        return nn.Dense(10)(x)

def normal(*shape):
    return jax.random.normal(jax.random.key(1), shape)

def tokens(*shape):
    return jax.random.randint(jax.random.key(1), shape, 0, 256)

model, x = {{model}}
written = DenyList("params")
fn = lambda variables, x: model.apply(variables, x, mutable=written)[0]
variables = jax.block_until_ready(jaxinit.init(model.init, key, x))
"""
MODELS = {
    "MLP, 20 x 256, silu": "MLP(), normal(64, 256)",
    "ResNet-50": "models.ResNet(), normal(4, 64, 64, 3)",
    "pre-norm transformer, 12 x 256": "models.GPT(12, 256, tied=False), tokens(4, 64)",
}
GPT2 = "demo.GPT(), tokens(4, 128)"
QUICK = {
    "MLP, 20 x 256, silu": "MLP(), normal(8, 256)",
    "ResNet-50": "models.ResNet((1, 1), 8), normal(2, 32, 32, 3)",
    "pre-norm transformer, 12 x 256": "models.GPT(1, 32, tied=False), tokens(2, 8)",
}
CALLS = {
    "suggest": (
        "like = jaxinit.eval_shape(model.init, key, x)\n"
        "rules = jaxinit.suggest(fn, variables, x, key=key, like=like).rules\n"
        "made = jaxinit.reinit(key, variables, rules, like=like)"
    ),
    "calibrate": "made = jaxinit.calibrate(fn, variables, x)",
    "AnyInit analytic": (
        "made, _ = anyinit.initialize_params(model, variables, x, 'analytic', seed=0)"
    ),
    "AnyInit empirical": (
        "made, _ = anyinit.initialize_params(model, variables, x, 'empirical', seed=0)"
    ),
}
# Largest factors between second moments and 1. "products": results of products that do
# not end a branch. "inputs": inputs of all products but the first. "branches": ends of
# branches, times their number. "stream": residual additions.
MEASURE = """
from jaxinit.insight.tasks import branch_ends
from jaxinit.insight.trace import trace
from jaxinit.insight.rows import walk
report = jaxinit.probe(fn, made, x, key=key)
level = trace("bench", fn, made, (x,)).level
ends = branch_ends(level)
found = {"products": [], "inputs": [], "branches": [], "stream": []}
for (place, *_), row in zip(walk(level, (), 0), report.rows, strict=True):
    if row.fan_in is not None:
        end = place.index in ends
        found["branches" if end else "products"].append(
            row.out_rms**2 * ends.get(place.index, 1))
        found["inputs"].append(row.in_rms**2)
    elif row.kind == "residual":
        found["stream"].append(row.out_rms**2)
found["inputs"] = found["inputs"][1:]
off = {name: max(max(x, 1 / x if x else np.inf) for x in moments)
       for name, moments in found.items() if moments}
print(json.dumps({"seconds": seconds, "off": off}))
"""
RUN = """
start = time.perf_counter()
{call}
jax.block_until_ready(made)
seconds = time.perf_counter() - start
"""
PROBE = """
from jaxinit.insight.measure import compiled_once
from jaxinit.insight.probe import program_of
from jaxinit.insight.trace import trace
start = time.perf_counter()
jaxinit.probe(fn, variables, x, key=key)
seconds = time.perf_counter() - start
traced = trace("bench", fn, variables, (x,))
measure = compiled_once(program_of(traced, None), traced.arrays)
grad = jax.jit(jax.value_and_grad(lambda v: jnp.sum(fn(v, x))))
def timed(call):
    jax.block_until_ready(call())
    found = []
    for _ in range(3):
        start = time.perf_counter()
        jax.block_until_ready(call())
        found.append(time.perf_counter() - start)
    return float(np.median(found))
ours, plain = timed(lambda: measure(traced.arrays, key)), timed(lambda: grad(variables))
print(json.dumps({"seconds": seconds, "warm": ours, "pass": plain}))
"""


def measure(program: str, limit: float) -> dict[str, Any]:
    """Returns the last line that a program prints in a new process, or its error."""
    env = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    command = [sys.executable, "-W", "ignore", "-c", program]
    try:
        done = subprocess.run(
            command, text=True, capture_output=True, env=env, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit:.0f} s"}
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1][:200]}
    return json.loads(done.stdout.splitlines()[-1])


def aim(name: str, off: dict[str, float]) -> float:
    """The largest factor between a second moment and the target of the library."""
    aims = ["inputs"] if name.startswith("AnyInit") else ["products", "branches"]
    return max(off[x] for x in aims if x in off)


def median(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns the run with the median of seconds, or a failed run if there is one."""
    failed = [run for run in runs if "failed" in run]
    ordered = sorted(runs, key=lambda run: run.get("seconds", 0.0))
    return (failed or ordered[len(ordered) // 2 :])[0]


def main(args: argparse.Namespace) -> None:
    peer = harness.peer("anyinit")
    sizes = QUICK if args.quick else MODELS
    models = {name: sizes[name] for name in args.models}
    record: dict[str, Any] = {
        "quick": args.quick,
        "environment": harness.environment("flax", "anyinit"),
        "unit": "seconds of the first call in a fresh process; factors",
        "models": {},
        "probe": {},
    }
    for model, made in models.items():
        setup = SETUP.format(model=made)
        for name, call in CALLS.items():
            other = name.startswith("AnyInit")
            if other and peer is None:
                record["models"].setdefault(model, {})[name] = {
                    "failed": "not installed"
                }
                continue
            head = "import anyinit\n" if other else ""
            program = setup + head + RUN.format(call=call) + MEASURE
            runs = [measure(program, args.limit) for _ in range(args.repeats)]
            record["models"].setdefault(model, {})[name] = median(runs)
    probed = {next(iter(models)): next(iter(models.values()))} if models else {}
    probed |= {} if args.quick else {"GPT-2, 12 x 768": GPT2}
    for model, made in probed.items():
        program = SETUP.format(model=made) + PROBE
        runs = [measure(program, args.limit) for _ in range(args.repeats)]
        record["probe"][model] = median(runs)
    rows: list[list[str]] = []
    for model, calls in record["models"].items():
        for name, r in calls.items():
            if "failed" in r:
                cells = [r["failed"], ""]
            else:
                cells = [f"{r['seconds']:.2f}", f"{aim(name, r['off']):.3g}"]
            rows.append([model, name, *cells])
    harness.table("Seconds; factor", ["model", "call", "seconds", "off by"], rows)
    for model, r in record["probe"].items():
        print(model, r)
    harness.save(args.out, "insight", record)


if __name__ == "__main__":
    main(harness.arguments(__doc__, MODELS))
