"""Drawing one tensor: jaxinit beside jax.nn, Keras, PyTorch and NumPy.

Run `python benchmarks/bench_draws.py`, best on an otherwise idle machine.
"""

import itertools
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

import jax
import jax.numpy as jnp
import numpy as np

import harness
import jaxinit

Shape = tuple[int, ...]
Draw = Callable[[], Any]
Library = Callable[[str, Shape, str], Draw | None]
Times = dict[str, harness.Timing]
Results = dict[tuple[str, Shape, str], Times]

SHAPES = ((64, 64), (1024, 1024), (8192, 4096))
DTYPES = ("float32", "bfloat16")
LAWS = ("HeNormal", "RandomNormal", "TruncatedNormal", "RandomUniform")
SCALE = 0.05  # standard deviation, or upper end of the uniform on [0, SCALE)


def draw_jaxinit(law: str, shape: Shape, dtype: str) -> Draw:
    init = {
        "HeNormal": jaxinit.HeNormal(),
        "RandomNormal": jaxinit.RandomNormal(stddev=SCALE),
        "TruncatedNormal": jaxinit.TruncatedNormal(stddev=SCALE),
        "RandomUniform": jaxinit.RandomUniform(0.0, SCALE),
    }[law]
    return partial(init, jax.random.key(0), shape, jnp.dtype(dtype))


def draw_jax(law: str, shape: Shape, dtype: str, jit: bool = True) -> Draw:
    nn = jax.nn.initializers
    init = {
        "HeNormal": nn.he_normal(),
        "RandomNormal": nn.normal(SCALE),
        "TruncatedNormal": nn.truncated_normal(SCALE),
        "RandomUniform": nn.uniform(SCALE),
    }[law]
    if not jit:
        return partial(init, jax.random.key(0), shape, jnp.dtype(dtype))
    # The fastest form of a jitted call: nothing static to compare.
    jitted = jax.jit(lambda key: init(key, shape, jnp.dtype(dtype)))
    return partial(jitted, jax.random.key(0))


def draw_keras(keras: Any, law: str, shape: Shape, dtype: str) -> Draw:
    init = {
        "HeNormal": keras.initializers.HeNormal(seed=0),
        "RandomNormal": keras.initializers.RandomNormal(stddev=SCALE, seed=0),
        "TruncatedNormal": keras.initializers.TruncatedNormal(stddev=SCALE, seed=0),
        "RandomUniform": keras.initializers.RandomUniform(0.0, SCALE, seed=0),
    }[law]
    return partial(init, shape, dtype)


def draw_torch(torch: Any, law: str, shape: Shape, dtype: str) -> Draw:
    nn = torch.nn.init
    fill = {
        # Torch's weights are (out, in): its fan_out is the first axis of ours.
        "HeNormal": partial(nn.kaiming_normal_, mode="fan_out"),
        "RandomNormal": partial(nn.normal_, std=SCALE),
        # Its bounds are absolute.
        "TruncatedNormal": partial(
            nn.trunc_normal_, std=SCALE, a=-2 * SCALE, b=2 * SCALE
        ),
        "RandomUniform": partial(nn.uniform_, a=0.0, b=SCALE),
    }[law]
    cuda = torch.cuda.is_available()
    device = "cuda" if cuda else "cpu"

    def draw() -> Any:
        w = fill(torch.empty(shape, dtype=getattr(torch, dtype), device=device))
        if cuda:
            torch.cuda.synchronize()
        return w

    return draw


def draw_numpy(law: str, shape: Shape, dtype: str) -> Draw | None:
    generator = np.random.default_rng(0)
    stddev = math.sqrt(2 / shape[0]) if law == "HeNormal" else SCALE
    if law == "TruncatedNormal":
        return None  # NumPy has none; its HeNormal here is not truncated.
    draw = generator.random if law == "RandomUniform" else generator.standard_normal

    def scaled() -> Any:
        w = draw(shape, np.float32)
        w *= stddev
        return w.astype(jnp.dtype(dtype), copy=False)

    return scaled


def installed() -> dict[str, Library]:
    found: dict[str, Library] = {
        "jaxinit": draw_jaxinit,
        "jax.nn jit": draw_jax,
    }
    if keras := harness.peer("keras"):
        found["keras"] = partial(draw_keras, keras)
    if torch := harness.peer("torch"):
        found["torch"] = partial(draw_torch, torch)
    return found | {"numpy": draw_numpy}


COLD = """
import os, time
os.environ["KERAS_BACKEND"] = "jax"
import jax, jax.numpy as jnp
shape, dtype = {shape}, jnp.dtype("{dtype}")
{setup}
key = jax.block_until_ready(jax.random.key(0))
start = time.perf_counter()
jax.block_until_ready({call})
print(time.perf_counter() - start)
"""
COLD_CALLS = {
    "jaxinit": ("import jaxinit; f = jaxinit.HeNormal()", "f(key, shape, dtype)"),
    "jax.nn jit": (
        "f = jax.jit(jax.nn.initializers.he_normal(), static_argnums=(1, 2))",
        "f(key, shape, dtype)",
    ),
    "jax.nn eager": ("f = jax.nn.initializers.he_normal()", "f(key, shape, dtype)"),
    "keras": (
        "import keras; f = keras.initializers.HeNormal(seed=0)",
        "f(shape, dtype.name)",
    ),
}
IMPORT = """
import jax, time
start = time.perf_counter()
import jaxinit
print(time.perf_counter() - start)
"""


def measure_warm(
    libraries: dict[str, Library], shapes: tuple[Shape, ...], quick: bool
) -> Results:
    warm = {}
    for case in itertools.product(LAWS, shapes, DTYPES):
        draws = {name: draw(*case) for name, draw in libraries.items()}
        draws = {name: draw for name, draw in draws.items() if draw is not None}
        repeats, least = (3, 0.002) if quick else (11, 0.02)
        warm[case] = harness.interleaved(draws, repeats, least)
    return warm


def measure_cold(
    libraries: dict[str, Library], shapes: tuple[Shape, ...], quick: bool
) -> Results:
    cold = {}
    calls = {n: x for n, x in COLD_CALLS.items() if n != "keras" or n in libraries}
    if quick:
        calls, shapes = dict(list(calls.items())[:2]), shapes[:1]
    for shape, dtype in itertools.product(shapes, DTYPES[:1] if quick else DTYPES):
        programs = {
            name: COLD.format(shape=shape, dtype=dtype, setup=setup, call=call)
            for name, (setup, call) in calls.items()
        }
        cold["HeNormal", shape, dtype] = harness.fresh(programs, 1 if quick else 3)
    return cold


def measure_eager(shape: Shape, quick: bool) -> Times:
    cases = {
        "jaxinit": draw_jaxinit("HeNormal", shape, "float32"),
        "jax.nn eager": draw_jax("HeNormal", shape, "float32", jit=False),
    }
    return harness.interleaved(cases, 3 if quick else 101)


def is_correct(shape: Shape) -> bool:
    """True if a bfloat16 HeNormal has the right mean and variance."""
    w = np.asarray(draw_jaxinit("HeNormal", shape, "bfloat16")(), np.float64)
    stddev, error = math.sqrt(2 / shape[0]), 5 / math.sqrt(w.size)
    return bool(abs(w.mean()) < error * stddev and abs(w.std() / stddev - 1) < error)


def goals(
    warm: Results, cold: Results, eager: Times, imported: harness.Timing
) -> Iterator[dict[str, Any]]:
    shape = max(shape for _, shape, _ in warm)
    for law, dtype, other, required in (
        ("HeNormal", "float32", "jax.nn jit", 2.8),
        ("RandomNormal", "float32", "jax.nn jit", 2.8),
        ("TruncatedNormal", "float32", "jax.nn jit", 2.8),
        ("RandomUniform", "float32", "jax.nn jit", 5.0),
        ("HeNormal", "bfloat16", "jax.nn jit", 3.5),
        ("TruncatedNormal", "float32", "torch", 8.0),
        ("HeNormal", "float32", "keras", 3.0),
    ):
        times = warm[law, shape, dtype]
        if other in times:
            name = f"{law} {dtype} {title(shape)}: {other} over jaxinit"
            yield harness.goal(name, ratio(times, other), ">=", required)
    name = f"HeNormal bfloat16 {title(shape)}: mean and variance are right"
    yield harness.goal(name, is_correct(shape), ">=", 1)
    for (law, shape, dtype), times in cold.items():
        name = f"first call of {law} {dtype} {title(shape)}: jaxinit over jax.nn jit"
        yield harness.goal(name, 1 / ratio(times, "jax.nn jit"), "<=", 1)
    name = "eager HeNormal float32 64 x 64: jaxinit over jax.nn eager"
    yield harness.goal(name, 1 / ratio(eager, "jax.nn eager"), "<=", 0.5)
    name = "import jaxinit beyond import jax, ms"
    yield harness.goal(name, imported["median"] * 1e3, "<=", 60)


def title(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def ratio(times: Times, other: str) -> float:
    return times[other]["median"] / times["jaxinit"]["median"]


def rows(results: Results, columns: list[str]) -> Iterator[list[str]]:
    """Yields the milliseconds of each library, and their ratios to ours."""
    for (law, shape, dtype), times in results.items():
        row = [law, title(shape), dtype]
        for name in columns:
            if name not in times:
                row.append("-")
                continue
            beside = "" if name == "jaxinit" else f" ({ratio(times, name):.2f}x)"
            row.append(f"{times[name]['median'] * 1e3:.4g}{beside}")
        yield row


def records(results: Results) -> list[dict[str, Any]]:
    return [
        {"initializer": law, "shape": shape, "dtype": dtype, "seconds": times}
        for (law, shape, dtype), times in results.items()
    ]


def main() -> None:
    args = harness.arguments(__doc__)
    shapes = ((16, 16), (64, 64)) if args.quick else SHAPES
    libraries = installed()
    first = ["initializer", "shape", "dtype"]

    warm = measure_warm(libraries, shapes, args.quick)
    columns = list(libraries)
    harness.table("Warm, ms (over ours)", first + columns, rows(warm, columns))

    cold = measure_cold(libraries, shapes, args.quick)
    columns = list(COLD_CALLS)
    note = "First call in a process, ms (over ours)"
    harness.table(note, first + columns, rows(cold, columns))

    eager = measure_eager((64, 64), args.quick)
    imported = harness.fresh({"import": IMPORT}, 1 if args.quick else 7)["import"]

    reached = list(goals(warm, cold, eager, imported))
    note = "Targets, but of smaller shapes" if args.quick else "Targets"
    harness.report(note, reached)
    record = {
        "quick": args.quick,
        "environment": harness.environment("keras", "torch"),
        "unit": "seconds",
        "targets": reached,
        "warm": records(warm),
        "cold": records(cold),
        "eager": {"initializer": "HeNormal", "shape": (64, 64), "seconds": eager},
        "import": imported,
    }
    harness.save(args.out, "draws", record)


if __name__ == "__main__":
    main()
