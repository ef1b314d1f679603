"""Rules and manifests: a model from shapes and rules, and seconds per GB of digests.

The model is GPT-2-like, 48 layers of width 256. Its parameters come from rules
without the model, from the plan of ``model.init``, and from that plan under the same
rules. Each figure is the first call in a fresh process. Digests are of arrays in
memory, before and after their programs are compiled.
Run `python benchmarks/bench_rules.py`.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp

import harness
import jaxinit
from bench_models import SETUP, gpt

RULES = """
import jaxinit
shapes = jax.eval_shape(fn, key)
rules = jaxinit.Rules({
    "**/bias": "zeros",
    "**/scale": "ones",
    "**/attention/out/kernel": jaxinit.LecunNormal(in_axis=(0, 1)),
    "**/attention/*/kernel": jaxinit.LecunNormal(in_axis=0, out_axis=(1, 2)),
    "**/kernel": "lecun_normal",
}, default=jaxinit.RandomNormal(stddev=0.02))
"""
CALLS = {
    "init_tree": "jaxinit.init_tree(key, shapes, rules)",
    "init with rules": "jaxinit.init(fn, key, rules=rules)",
    "init": "jaxinit.init(fn, key)",
    "manifest": "jaxinit.manifest(made, rules, key)",
}
RUN = """
made = jax.block_until_ready(jaxinit.init(fn, key, rules=rules)) if {made} else None
start = time.perf_counter()
result = {call}
if isinstance(result, dict): jax.block_until_ready(result)
print(time.perf_counter() - start)
"""
DTYPES = ("float32", "bfloat16", "int8")


def programs(layers: int) -> dict[str, str]:
    setup = f"{SETUP}{gpt(layers, 256)}{RULES}"
    return {
        name: setup + RUN.format(call=call, made=name == "manifest")
        for name, call in CALLS.items()
    }


def digest(dtype: str, gigabytes: float) -> dict[str, float]:
    """Returns the seconds per GB of the first manifest of four arrays, and the next."""
    rows = int(gigabytes * 1e9 / 4 / 4096 / jnp.dtype(dtype).itemsize)
    arrays = [jnp.full((rows, 4096), i, dtype) for i in range(4)]
    size = sum(x.nbytes for x in jax.block_until_ready(arrays)) / 1e9
    seconds: list[float] = []
    for _ in range(4):
        start = time.perf_counter()
        jaxinit.manifest(arrays)
        seconds.append((time.perf_counter() - start) / size)
    return {"first": seconds[0], "again": min(seconds[1:])}


def main() -> None:
    args = harness.arguments(__doc__)
    seconds = harness.fresh(programs(2 if args.quick else 48), 1 if args.quick else 3)
    rows = [[name, f"{t['median']:.3f}"] for name, t in seconds.items()]
    harness.table("Seconds, 48 layers of width 256", ["call", "first call"], rows)
    digests = {dtype: digest(dtype, 0.1 if args.quick else 1.0) for dtype in DTYPES}
    rows = [[dtype, *(f"{x:.3f}" for x in t.values())] for dtype, t in digests.items()]
    harness.table("Seconds per GB", ["manifest of", "compiling", "compiled"], rows)
    ratio = seconds["init"]["median"] / seconds["init_tree"]["median"]
    reached = [harness.goal("48 layers: init over init_tree", ratio, ">=", 1.0)]
    for dtype, t in digests.items():
        label = f"seconds per GB of a {dtype} manifest, compiling"
        reached.append(harness.goal(label, t["first"], "<=", 1.0))
    harness.report("Targets", reached)
    record: dict[str, Any] = {
        "quick": args.quick,
        "environment": harness.environment("flax"),
        "unit": "seconds; of digests, seconds per GB",
        "targets": reached,
        "model": seconds,
        "digests": digests,
    }
    harness.save(args.out, "rules", record)


if __name__ == "__main__":
    main()
