"""A Llama of 70 billion parameters planned for 512 simulated devices.

It is planned from shapes and compiled, but not run. The results are seconds, groups,
bytes for each device, and whether any program communicates.
Run `python benchmarks/bench_llama.py`.
"""

# ruff: noqa: E402 - the devices are simulated before JAX starts
import os

FLAG = "--xla_force_host_platform_device_count=512"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAG}".strip()
os.environ["JAX_PLATFORMS"] = "cpu"

import re
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import harness
import jaxinit

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from models import Llama

COLLECTIVES = re.compile(
    r"all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
)
# Tensor parallel over heads, hidden units and vocabulary; the other large axis
# is split over data, as in FSDP. The first axis of a block is its layer.
SPECS = {
    "Embed_0/embedding": P("model", "data"),
    "q/kernel": P(None, "data", "model"),
    "k/kernel": P(None, "data", "model"),
    "v/kernel": P(None, "data", "model"),
    "o/kernel": P(None, "model", None, "data"),
    "gate/kernel": P(None, "data", "model"),
    "up/kernel": P(None, "data", "model"),
    "down/kernel": P(None, "model", "data"),
    "Dense_0/kernel": P("data", "model"),
}


def main() -> None:
    args = harness.arguments(__doc__)
    layers = 4 if args.quick else 80
    mesh = jax.make_mesh((64, 8), ("data", "model"), axis_types=(AxisType.Auto,) * 2)
    model = Llama(layers, 8192, 28672, heads=64, groups=8, vocab=128256)

    def sharding(path: str, leaf: Any) -> NamedSharding:
        spec = next((s for name, s in SPECS.items() if path.endswith(name)), P())
        return NamedSharding(mesh, spec)

    key = jax.eval_shape(lambda: jax.random.key(0))
    tokens = jax.ShapeDtypeStruct((1, 16), jnp.int32)
    start = time.perf_counter()
    plan = jaxinit.plan(model.init, key, tokens, out_shardings=sharding)
    planned = time.perf_counter()
    plan.compile()
    compiled = time.perf_counter()
    communicating = [text for text in plan.texts() if COLLECTIVES.search(text)]
    record = {
        "quick": args.quick,
        "environment": harness.environment("flax"),
        "devices": mesh.size,
        "parameters": sum(leaf.bytes for leaf in plan.leaves) // 4,
        "leaves": len(plan.leaves),
        "groups": len(plan.groups),
        "seconds": {"plan": planned - start, "compile": compiled - planned},
        "bytes": {"all": sum(leaf.bytes for leaf in plan.leaves), **plan.memory()},
        "programs that communicate": len(communicating),
    }
    print(plan)
    shown = {k: v for k, v in record.items() if k != "environment"}
    harness.table("Llama", ["", ""], [[k, str(v)] for k, v in shown.items()])
    harness.save(args.out, "llama", record)


if __name__ == "__main__":
    main()
