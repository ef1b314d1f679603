"""Peak memory of building GPT-2 (163 million parameters with its own head).

Each figure is the peak of resident memory above that of the idle process, divided by
the bytes of the parameters, in a fresh process. On a GPU it is memory of the device.
Linux only. Run `python benchmarks/bench_memory.py`.
"""

from pathlib import Path

import harness

TESTS = Path(__file__).parent.parent / "tests"
PROGRAM = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import jax, jax.numpy as jnp, jaxinit
from models import GPT

def status(field):
    with open("/proc/self/status") as lines:
        return next(1024 * int(x.split()[1]) for x in lines if x.startswith(field))

model, x, key = GPT({{layers}}, 768, 50257, tied=False), jnp.zeros((1, 8), int), None
key = jax.block_until_ready(jax.random.key(0))
"""
HOW = {
    "plan": "make = jaxinit.plan(model.init, key, x).compile()",
    "jit": "make = jax.jit(model.init).lower(key, x).compile()",
    "eager": "make = model.init",
}
MEASURE = """
device = jax.devices()[0]
stats = device.memory_stats() or {}
open("/proc/self/clear_refs", "w").write("5")  # the peak begins here
resting = stats.get("bytes_in_use", status("VmRSS"))
params = jax.block_until_ready(make(key, x))
size = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
peak = device.memory_stats()["peak_bytes_in_use"] if stats else status("VmHWM")
print((peak - resting) / size)
"""


def main() -> None:
    args = harness.arguments(__doc__)
    program = PROGRAM.format(layers=1 if args.quick else 12)
    programs = {name: f"{program}{make}{MEASURE}" for name, make in HOW.items()}
    peaks = harness.fresh(programs, 1 if args.quick else 3)
    rows = [[name, f"{peak['median']:.2f}"] for name, peak in peaks.items()]
    harness.table("Peak memory over the parameters", ["how", "ratio"], rows)
    reached = [harness.goal("peak of plan", peaks["plan"]["median"], "<=", 1.15)]
    harness.report("Targets", reached)
    record = {
        "quick": args.quick,
        "environment": harness.environment("flax"),
        "targets": reached,
        "ratio": peaks,
    }
    harness.save(args.out, "memory", record)


if __name__ == "__main__":
    main()
