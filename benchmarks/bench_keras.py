"""Building a Keras model with its own initializers and with jaxinit's.

Each figure is the time of `keras.applications.ResNet50(weights=None)` on the JAX
backend in a fresh process. It includes compilation and all weights, but no imports.
With jaxinit the model is built inside `jaxinit.keras.scope()`.
Run `python benchmarks/bench_keras.py`.
"""

import os
import sys

import harness

SETUP = """
import contextlib, time
import jax, keras
import jaxinit.keras
jax.block_until_ready((jax.random.key(0), jax.numpy.ones(3) + 1))
"""
BUILD = """
def build():
    model = keras.applications.{model}(weights=None)
    jax.block_until_ready([w.value for w in model.weights])
    return model
start = time.perf_counter()
with {scope}:
    model = build()
print(time.perf_counter() - start)
found = jaxinit.keras.from_keras(model.get_config())
ours = model.to_json().count("jaxinit>KerasInitializer")
assert ours == ({ours} and len(found)), (ours, len(found))
"""
SCOPES = {"keras": "contextlib.nullcontext()", "jaxinit": "jaxinit.keras.scope()"}
GOALS = {"ResNet50": 1.5}


def main() -> None:
    args = harness.arguments(__doc__)
    os.environ["KERAS_BACKEND"] = "jax"  # here and in the processes
    if harness.peer("keras") is None:
        sys.exit(1)
    models = ["ResNet50"] if args.quick else ["ResNet50", "MobileNetV2"]
    results, rows, reached = {}, [], []
    for model in models:
        programs = {
            name: SETUP + BUILD.format(model=model, scope=scope, ours=name == "jaxinit")
            for name, scope in SCOPES.items()
        }
        times = harness.fresh(programs, 1 if args.quick else 5)
        results[model] = times
        ratio = times["keras"]["median"] / times["jaxinit"]["median"]
        medians = (f"{times[name]['median']:.2f}" for name in SCOPES)
        rows.append([model, *medians, f"{ratio:.2f}x"])
        if model in GOALS:
            label = f"{model}: build, Keras's initializers over jaxinit's"
            reached.append(harness.goal(label, ratio, ">=", GOALS[model]))
    harness.table("Seconds to build", ["model", *SCOPES, "faster"], rows)
    harness.report("Targets", reached)
    record = {
        "quick": args.quick,
        "environment": harness.environment("keras"),
        "unit": "seconds",
        "targets": reached,
        "models": results,
    }
    harness.save(args.out, "keras", record)


if __name__ == "__main__":
    main()
