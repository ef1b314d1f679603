"""Orthogonal matrices: jaxinit beside jax.nn and PyTorch.

Warm calls take turns in one process. Cold calls are the first calls of fresh processes,
tracing and compiling included. JAX uses a GPU if there is one, and so does PyTorch with
CUDA. Run `python benchmarks/bench_orthogonal.py`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import harness
import jaxinit

Shape = tuple[int, ...]
# Required: jax.nn jit over jaxinit, torch over jaxinit. Three dimensions: a stack.
GOALS: dict[Shape, tuple[float, float]] = {
    (4096, 4096): (4.0, 3.0),
    (2048, 2048): (2.7, 2.4),
    (4096, 1024): (2.4, 1.8),
    (512, 512): (1.5, 1.0),
    (48, 512, 512): (2.0, 1.5),
}
COLD = """
import time
import jax
{setup}
key = jax.block_until_ready(jax.random.key(0))
start = time.perf_counter()
jax.block_until_ready({call})
print(time.perf_counter() - start)
"""
COLD_CALLS = {
    "jaxinit": (
        "import jaxinit; init = jaxinit.Orthogonal()",
        "init(key, (1024, 1024))",
    ),
    "jax.nn jit": (
        "f = jax.jit(lambda k: jax.nn.initializers.orthogonal()(k, (1024, 1024)))",
        "f(key)",
    ),
}


def draw_jaxinit(shape: Shape) -> Callable[[], Any]:
    init = jaxinit.Orthogonal(batch_axis=0 if len(shape) > 2 else ())
    return partial(init, jax.random.key(0), shape)


def draw_jax(shape: Shape) -> Callable[[], Any]:
    init = jax.nn.initializers.orthogonal()
    key = jax.random.key(0)
    if len(shape) == 2:
        return partial(jax.jit(lambda key: init(key, shape)), key)
    one = jax.vmap(lambda key: init(key, shape[1:]))
    return partial(jax.jit(lambda key: one(jax.random.split(key, shape[0]))), key)


def draw_torch(torch: Any, shape: Shape) -> Callable[[], Any]:
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"

    def draw() -> Any:
        w = torch.empty(shape, device=device)
        for one in w if len(shape) > 2 else [w]:
            torch.nn.init.orthogonal_(one)
        if device == "cuda":
            torch.cuda.synchronize()
        return w.shape

    return draw


def error(shape: Shape) -> float:
    """Returns the largest entry of Q^T Q - I."""
    q = np.asarray(draw_jaxinit(shape)(), np.float64)
    q = q[0] if len(shape) > 2 else q
    return float(abs(q.T @ q - np.eye(q.shape[1])).max())


def main() -> None:
    args = harness.arguments(__doc__)
    torch = harness.peer("torch")
    if torch and jax.default_backend() == "gpu" and not torch.cuda.is_available():
        print("skipped torch: it has no CUDA here")
        torch = None
    shapes = {(64, 64): (1.0, 1.0)} if args.quick else GOALS
    results, reached, rows = [], [], []
    for shape, required in shapes.items():
        cases = {"jaxinit": draw_jaxinit(shape), "jax.nn jit": draw_jax(shape)}
        if torch:
            cases["torch"] = draw_torch(torch, shape)
        times = harness.interleaved(cases, 1 if args.quick else 7)
        results.append({"shape": shape, "seconds": times, "error": error(shape)})
        ours = times["jaxinit"]["median"]
        title = " x ".join(map(str, shape))
        row = [title, f"{ours * 1e3:.1f}"]
        for peer, least in zip(("jax.nn jit", "torch"), required, strict=True):
            if peer in times:
                ratio = times[peer]["median"] / ours
                row.append(f"{times[peer]['median'] * 1e3:.1f} ({ratio:.1f}x)")
                name = f"{title}: {peer} over jaxinit"
                reached.append(harness.goal(name, ratio, ">=", least))
        rows.append(row)
    columns = ["shape", "jaxinit", "jax.nn jit", *(["torch"] if torch else [])]
    harness.table("Warm, ms (over ours)", columns, rows)

    programs = {
        name: COLD.format(setup=s, call=c) for name, (s, c) in COLD_CALLS.items()
    }
    cold = harness.fresh(programs, 1 if args.quick else 5)
    ratio = cold["jaxinit"]["median"] / cold["jax.nn jit"]["median"]
    name = "first call at 1024 x 1024: jaxinit over jax.nn jit"
    reached.append(harness.goal(name, ratio, "<=", 1.2))
    harness.report("Targets", reached)
    record = {
        "quick": args.quick,
        "environment": harness.environment("torch"),
        "targets": reached,
        "results": results,
        "cold": cold,
    }
    harness.save(args.out, "orthogonal", record)


if __name__ == "__main__":
    main()
