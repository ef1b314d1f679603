"""Compiling initializers for a TPU v5e, without a TPU: ours beside JAX's.

The package libtpu (Linux, Python 3.13) compiles ahead of time for a described topology.
Each program is compiled in its own process, one at a time, within a time limit. Run
`python benchmarks/bench_tpu_compile.py`.
"""

import json
import os
import subprocess
import sys
from typing import Any

import harness

LIMIT = 420  # seconds for one program
PROGRAM = """
import json, os, sys, time
os.environ["TPU_SKIP_MDS_QUERY"] = "1"
os.environ.setdefault("TPU_LIBRARY_PATH", __import__("libtpu").get_library_path())
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import jaxinit
name, size, sharded = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "sharded"
topology = topologies.get_topology_desc("v5e:2x4", platform="tpu")
devices = np.array(topology.devices)
mesh = Mesh(devices.reshape(2, 4), ("a", "b"))
everywhere, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("a", "b"))
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
NAMES = ("HeNormal", "jax he_normal", "Orthogonal", "jax orthogonal")


def measure(name: str, size: int, sharded: str) -> dict[str, Any]:
    command = [sys.executable, "-c", PROGRAM, name, str(size), sharded]
    env = os.environ | {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=LIMIT, env=env
        )
    except subprocess.TimeoutExpired:
        return {"seconds": None, "failed": f"not done after {LIMIT} s"}
    if done.returncode:
        return {"seconds": None, "failed": done.stderr.strip().splitlines()[-1]}
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    args = harness.arguments(__doc__)
    if harness.peer("libtpu") is None:
        return
    rows, results = [], []
    for size in (1024,) if args.quick else (1024, 4096):
        for sharded in ("replicated", "sharded"):
            for name in NAMES[:1] if args.quick else NAMES:
                made = measure(name, size, sharded)
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


if __name__ == "__main__":
    main()
