"""Compiles initializers and whole models for a TPU v5e, without a TPU.

The package libtpu (Linux, Python 3.13) compiles ahead of time for a topology of 2 x 4
devices. The benchmark compares initializers with those of JAX, and the programs of a
plan with the one program of `jax.jit(init)`. Each figure comes from its own process,
which has a time limit. The processes run one at a time.

Run `python benchmarks/bench_tpu_compile.py`.
"""

import argparse
import json
import os
import subprocess
import sys
from typing import Any

import bench_models
import harness

LIMIT = 420  # seconds for one initializer
TOPOLOGY = """
import json, os, sys, time
os.environ["TPU_SKIP_MDS_QUERY"] = "1"
os.environ.setdefault("TPU_LIBRARY_PATH", __import__("libtpu").get_library_path())
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import jaxinit
topology = topologies.get_topology_desc("v5e:2x4", platform="tpu")
devices = np.array(topology.devices)
mesh = Mesh(devices.reshape(2, 4), ("a", "b"))
everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("a", "b"))
"""
INITIALIZER = """
name, size, sharded = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "sharded"
init = {
    "HeNormal": jaxinit.HeNormal(), "jax he_normal": jax.nn.initializers.he_normal(),
    "Orthogonal": jaxinit.Orthogonal(),
    "jax orthogonal": jax.nn.initializers.orthogonal(),
}[name]
def draw(words):
    return init(jax.random.wrap_key_data(words), (size, size), jnp.float32)
made = jax.jit(draw, out_shardings=split if sharded else everywhere)
words = jax.ShapeDtypeStruct((2,), jnp.uint32, sharding=everywhere)
lowered = made.lower(words)
start = time.perf_counter()
compiled = lowered.compile()
seconds = time.perf_counter() - start
cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
cost = cost[0] if isinstance(cost, list) else cost
print(json.dumps({
    "seconds": seconds, "flops": (cost or {}).get("flops"),
    "temporaries": memory.temp_size_in_bytes if memory else None,
}))
"""
# Each matrix is split over both axes of the mesh, as far as its dimensions allow.
MODEL = """
COLLECTIVES = "all-gather", "all-reduce", "all-to-all", "collective-permute"
shapes = jax.eval_shape(fn, key)
def split_of(leaf):
    axes = dict(zip((-2, -1), ("a", "b"))) if len(leaf.shape) > 1 else {}
    spec = [axes.get(i - len(leaf.shape)) for i in range(len(leaf.shape))]
    fits = [a if a and n % mesh.shape[a] == 0 else None
            for a, n in zip(spec, leaf.shape)]
    return NamedSharding(mesh, P(*fits))
shardings = jax.tree.map(split_of, shapes)
if sys.argv[1] == "plan":
    groups = jaxinit.plan(fn, key, out_shardings=shardings).groups
    builds = [build for group in groups if (build := group.maker.lower())]
else:
    words = jax.ShapeDtypeStruct((2,), jnp.uint32, sharding=everywhere)
    made = jax.jit(lambda w: fn(jax.random.wrap_key_data(w)), out_shardings=shardings)
    builds = [made.lower(words).compile]
seconds, cpu, collectives = [], [], 0
for build in builds:
    start, before = time.perf_counter(), time.process_time()
    compiled = build()
    seconds.append(time.perf_counter() - start)
    cpu.append(time.process_time() - before)
    text = compiled.as_text()
    collectives += sum(text.count(name) for name in COLLECTIVES)
print(json.dumps({
    "programs": len(builds), "seconds": sum(seconds), "longest": max(cpu),
    "cpu": sum(cpu), "collectives": collectives,
}))
"""
MODELS = "GPT-2-like, 48 x 256, Linen", "Llama 3 8B, bfloat16"
NAMES = ("HeNormal", "jax he_normal", "Orthogonal", "jax orthogonal")


def measure(program: str, args: list[str], limit: float) -> dict[str, Any]:
    """Returns the figures that a program prints, or the reason of its failure."""
    command = [sys.executable, "-c", program, *args]
    env = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit, env=env
        )
    except subprocess.TimeoutExpired:
        return {"seconds": None, "failed": f"not done after {limit} s"}
    if done.returncode:
        return {"seconds": None, "failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def compile_models(args: argparse.Namespace) -> None:
    """Compiles each model with a plan and with jit."""
    results, rows = [], []
    for name in args.models:
        setup, _ = bench_models.MODELS[name]
        for how in ("plan", "jit"):
            program = f"{TOPOLOGY}{bench_models.SETUP}{setup}{MODEL}"
            found = measure(program, [how], args.limit)
            results.append({"model": name, "how": how, **found})
            keys = "programs", "seconds", "cpu", "longest", "collectives"
            shown = [
                f"{found[key]:.3g}" if found.get(key) is not None else ""
                for key in keys
            ]
            rows.append([name, how, *shown, found.get("failed", "")])
            print(*rows[-1], flush=True)
    columns = ["model", "how", "programs", "s", "CPU s", "longest", "collectives", ""]
    harness.table("Whole models, TPU v5e, 2 x 4, ahead of time", columns, rows)
    record = {
        "limit": args.limit,
        "environment": harness.environment("libtpu", "flax"),
        "results": results,
    }
    harness.save(args.out, "tpu_models", record)


def compile_initializers(args: argparse.Namespace) -> None:
    """Compiles initializers of two shapes, whole and sharded."""
    rows, results = [], []
    for size in (1024,) if args.quick else (1024, 4096):
        for sharded in ("replicated", "sharded"):
            for name in NAMES[:1] if args.quick else NAMES:
                made = measure(
                    TOPOLOGY + INITIALIZER, [name, str(size), sharded], LIMIT
                )
                results.append(
                    {"initializer": name, "size": size, "layout": sharded, **made}
                )
                seconds = made["seconds"]
                shown = made.get("failed") if seconds is None else f"{seconds:.1f}"
                rest = (str(made.get(key)) for key in ("flops", "temporaries"))
                rows.append([name, str(size), sharded, str(shown), *rest])
                print(*rows[-1], flush=True)
    columns = ["initializer", "size", "layout", "compile s", "flops", "temporaries"]
    harness.table("TPU v5e, 2 x 4, ahead of time", columns, rows)
    goals = [
        harness.goal(
            f"{r['initializer']} {r['size']} {r['layout']}: compile seconds",
            r["seconds"],
            "<=",
            10,
        )
        for r in results
        if not r["initializer"].startswith("jax") and r["seconds"] is not None
    ]
    harness.report("Targets", goals)
    record = {
        "quick": args.quick,
        "limit": LIMIT,
        "environment": harness.environment("libtpu"),
        "targets": goals,
        "results": results,
    }
    harness.save(args.out, "tpu_compile", record)


def main() -> None:
    args = harness.arguments(__doc__, MODELS)
    if harness.peer("libtpu") is None:
        return
    if args.models == list(MODELS):  # no model was chosen
        compile_initializers(args)
    if not args.quick:
        compile_models(args)


if __name__ == "__main__":
    main()
