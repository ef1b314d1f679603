"""The effect of a dtype on the drawn values: jaxinit beside jax.nn.

The measures, at a fan-in of 4096: the number of distinct values; the bias (mean over
standard deviation); the standard deviation over the requested one; and the shift, which
is the mean over the standard deviation of the pre-activations ``relu(x) @ w`` for
standard normal ``x``. Run `python benchmarks/bench_dtypes.py`.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import harness
import jaxinit

DTYPES = ("float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
COLUMNS = ("initializer", "dtype", "library")
MEASURES = ("distinct", "mean / std", "std / asked", "shift")


def draws(stddev: float) -> dict[tuple[str, str], Callable[..., jax.Array]]:
    nn = jax.nn.initializers  # jitted or not, it draws the same narrow values
    return {
        ("HeNormal", "jaxinit"): jaxinit.HeNormal(),
        ("HeNormal", "jax.nn"): nn.he_normal(),
        ("RandomNormal", "jaxinit"): jaxinit.RandomNormal(stddev=stddev),
        ("RandomNormal", "jax.nn"): nn.normal(stddev),
    }


def measure(w: np.ndarray[Any, Any], stddev: float) -> dict[str, float] | str:
    """Returns the measures of a weight matrix, or why it has none."""
    values = w.astype(np.float32)
    finite = np.isfinite(values).mean()
    if finite < 1:
        return f"{1 - finite:.0%} NaN or infinite"
    x = np.random.default_rng(0).standard_normal((64, len(w)), np.float32)
    h = np.maximum(x, 0) @ values
    mean, std = (float(f(values, dtype=np.float64)) for f in (np.mean, np.std))
    return {
        "distinct": len(np.unique(w.view(f"uint{8 * w.itemsize}"))),
        "mean / std": mean / std,
        "std / asked": std / stddev,
        "shift": float(h.mean(dtype=np.float64) / h.std(dtype=np.float64)),
    }


def cells(found: dict[str, float] | str) -> list[str]:
    if isinstance(found, str):
        return [found, "-", "-", "-"]
    distinct, bias, std, shift = found.values()
    return [f"{distinct:,}", f"{bias:+.5f}", f"{std:.4f}", f"{shift:+.3f}"]


def main() -> None:
    args = harness.arguments(__doc__)
    shape = (256, 256) if args.quick else (4096, 4096)
    stddev = math.sqrt(2 / shape[0])
    results, rows = [], []
    for dtype, (case, draw) in itertools.product(DTYPES, draws(stddev).items()):
        law, library = case
        try:
            w = draw(jax.random.key(0), shape, jnp.dtype(dtype))
            found = measure(np.asarray(w), stddev)
        except Exception as e:  # what a peer refuses to draw is a result
            if library == "jaxinit":
                raise
            found = f"{type(e).__name__}: {e}"
        rows.append([law, dtype, library, *cells(found)])
        results.append(dict(zip(COLUMNS, rows[-1], strict=False)) | {"found": found})
    harness.table(f"Values at {shape[0]} x {shape[1]}", COLUMNS + MEASURES, rows)
    record = {
        "quick": args.quick,
        "environment": harness.environment(),
        "shape": shape,
        "asked": {"mean": 0.0, "std": stddev},
        "results": results,
    }
    harness.save(args.out, "dtypes", record)


if __name__ == "__main__":
    main()
