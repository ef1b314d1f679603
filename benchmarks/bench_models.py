"""Building whole models: `jaxinit.plan` beside jit, eager init and PyTorch.

Each figure comes from a fresh process, without imports. "first" is the first call,
tracing and compiling included. "second" is a call with another key, after the arrays of
the first are deleted. "kept" is one more call, while the arrays of the second exist.
The models are those of tests/models.py.

Run `python benchmarks/bench_models.py`.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import harness

TESTS = Path(__file__).parent.parent / "tests"
SETUP = f"""
import sys, time
sys.path.insert(0, {str(TESTS)!r})
import jax, jax.numpy as jnp
key, other = jax.block_until_ready((jax.random.key(0), jax.random.key(1)))
tokens, images = jnp.zeros((1, 16), jnp.int32), jnp.zeros((1, 64, 64, 3))
jax.block_until_ready((tokens, images))
"""
LINEN = "import models; model = models.{model}\nfn = lambda k: model.init(k, {x})\n"
# NNX builds a model, which is itself a pytree.
NNX = """
from flax import nnx
class Block(nnx.Module):
    def __init__(self, width, rngs):
        self.norm1 = nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)
class GPT(nnx.Module):
    def __init__(self, layers, width, vocab, rngs):
        self.embed = nnx.Embed(vocab, width, rngs=rngs)
        self.position = nnx.Embed(64, width, rngs=rngs)
        self.blocks = nnx.List([Block(width, rngs) for _ in range(layers)])
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, vocab, use_bias=False, rngs=rngs)
make = lambda rngs: GPT(48, 256, 50257, rngs)
streams, others = nnx.Rngs(0), [nnx.Rngs(1), nnx.Rngs(1)]
"""
HAIKU = """
import haiku as hk
init = hk.transform_with_state(
    lambda x: hk.nets.ResNet50(1000)(x, is_training=True)).init
fn = lambda k: init(k, images)
"""
TORCH = """
import time, torch
from torch import nn
def build():
    d = 768
    def block():
        return nn.ModuleList([nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d),
            nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)])
    return nn.ModuleList([nn.Embedding(50257, d), nn.Embedding(64, d),
        *[block() for _ in range(12)], nn.LayerNorm(d),
        nn.Linear(d, 50257, bias=False)])
nn.Linear(2, 2)
def first(): build()
def second(): build()
"""
# PyTorch's layers draw their defaults when they are built. Then GPT-2's own
# initialization draws again, as in its PyTorch implementations.
GPT2_IN_TORCH = """
layers = build
def draw(module):
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=0.02)
        if getattr(module, "bias", None) is not None: nn.init.zeros_(module.bias)
def build(): layers().apply(draw)
"""
CALLS = {
    "plan": (
        "import jaxinit; made = []\n"
        "def first():\n"
        "    made.append(jaxinit.plan(fn, key)); return made[0](key)\n"
        "def second(): return made[0](other)"
    ),
    "jit": "f = jax.jit(fn)\ndef first(): return f(key)\ndef second(): return f(other)",
    "eager": "def first(): return fn(key)\ndef second(): return fn(other)",
}
NNX_CALLS = {
    "plan": (
        "import jaxinit; made = []\n"
        "def first():\n"
        "    made.append(jaxinit.nnx.plan(make, streams))\n"
        "    return made[0](streams)\n"
        "def second(): return made[0](others.pop())"
    ),
    "jit": (
        "f = nnx.jit(make)\n"
        "def first(): return f(streams)\n"
        "def second(): return f(others.pop())"
    ),
    "eager": (
        "def first(): return make(streams)\ndef second(): return make(others.pop())"
    ),
}
RUN = """
import gc
def timed(f):
    gc.collect()  # or one of a tenth of a second may come at any time
    start = time.perf_counter()
    made = f()
    if made is not None: jax.block_until_ready(made)
    return time.perf_counter() - start, made
print(timed(first)[0])
seconds, kept = timed(second)
print(seconds, timed(second)[0])
"""


def gpt(layers: int, width: int, vocab: int = 50257, scan: bool = False) -> str:
    model = f"GPT({layers}, {width}, {vocab}, tied=False, scan={scan})"
    return LINEN.format(model=model, x="tokens")


MODELS: dict[str, tuple[str, dict[str, str]]] = {
    "GPT-2, 12 x 768, Linen": (gpt(12, 768), CALLS),
    "GPT-2-like, 48 x 256, Linen": (gpt(48, 256), CALLS),
    "GPT-2-like, 48 x 256, NNX": (NNX, NNX_CALLS),
    "GPT-2, 12 x 768, nn.scan": (gpt(12, 768, scan=True), CALLS),
    "ViT-S, 12 x 384, nn.scan": (
        LINEN.format(model="ViT(width=384, scan=True)", x="images"),
        CALLS,
    ),
    "ResNet-50, Linen": (LINEN.format(model="ResNet()", x="images"), CALLS),
    "ResNet-50, Haiku": (HAIKU, {k: CALLS[k] for k in ("plan", "jit")}),
    "one Dense layer": (
        "import flax.linen as nn\nx = jnp.zeros((1, 8))\n"
        "fn = lambda k: nn.Dense(8).init(k, x)\n",
        {k: CALLS[k] for k in ("plan", "jit")},
    ),
}
GOALS = {
    "GPT-2, 12 x 768, Linen": {"jit": 6, "eager": 3.5, "torch": 1.5},
    "GPT-2-like, 48 x 256, Linen": {"jit": 20, "eager": 2},
    "GPT-2-like, 48 x 256, NNX": {"jit": 20, "eager": 1.5},
    "GPT-2, 12 x 768, nn.scan": {"jit": 2, "eager": 2},
    "ViT-S, 12 x 384, nn.scan": {"jit": 2, "eager": 2},
    "ResNet-50, Linen": {"jit": 6, "eager": 6},
    "ResNet-50, Haiku": {"jit": 5},
    "one Dense layer": {"jit": 1 / 1.1},
}
DEPTHS = (6, 12, 24, 48, 96)


def measure(programs: dict[str, str], repeats: int) -> dict[str, dict[str, Any]]:
    """Times the calls of each program, in fresh processes that take turns."""
    samples: dict[str, list[list[float]]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            command = [sys.executable, "-c", program]
            printed = subprocess.check_output(command, text=True)
            samples[name].append([float(x) for x in printed.split()[-3:]])
    return {
        name: {
            call: harness.summary(list(seconds))
            for call, seconds in zip(
                ("first", "second", "kept"), zip(*runs, strict=True), strict=True
            )
        }
        for name, runs in samples.items()
    }


def programs(setup: str, calls: dict[str, str]) -> dict[str, str]:
    return {name: f"{SETUP}{setup}{call}{RUN}" for name, call in calls.items()}


def main() -> None:
    args = harness.arguments(__doc__)
    chosen = dict(list(MODELS.items())[-1:]) if args.quick else MODELS
    repeats = 1 if args.quick else 3
    results: dict[str, Any] = {}
    rows = []
    for name, (setup, calls) in chosen.items():
        if "Haiku" in name and harness.peer("haiku") is None:
            continue
        wanted = programs(setup, calls)
        if "torch" in GOALS[name] and harness.peer("torch"):
            wanted["torch"] = f"import jax{TORCH}{GPT2_IN_TORCH}{RUN}"
            wanted["torch, layers alone"] = f"import jax{TORCH}{RUN}"
        results[name] = measure(wanted, repeats)
        for peer, times in results[name].items():
            first, second = (times[k]["median"] for k in ("first", "second"))
            rows.append([name, peer, f"{first:.3f}", f"{second:.3f}"])
            print(*rows[-1], flush=True)
    harness.table("Seconds", ["model", "how", "first call", "second key"], rows)

    depth = {}
    for layers in () if args.quick else DEPTHS:
        calls = {name: CALLS[name] for name in ("plan", "jit")}
        depth[layers] = measure(programs(gpt(layers, 256, 512), calls), 1)
        print(layers, {k: v["first"]["median"] for k, v in depth[layers].items()})

    reached = []
    for name, goals in GOALS.items():
        times = results.get(name, {})
        for peer, required in goals.items():
            if peer in times:
                ratio = (
                    times[peer]["first"]["median"] / times["plan"]["first"]["median"]
                )
                label = f"{name}: first call, {peer} over plan"
                reached.append(harness.goal(label, ratio, ">=", round(required, 2)))
        if "jit" in times and "Dense" not in name:
            ratio = times["jit"]["second"]["median"] / times["plan"]["second"]["median"]
            label = f"{name}: second key, jit over plan"
            reached.append(harness.goal(label, ratio, ">=", 2.5))
    harness.report("Targets", reached)
    record = {
        "quick": args.quick,
        "environment": harness.environment("flax", "dm-haiku", "torch"),
        "unit": "seconds",
        "targets": reached,
        "models": results,
        "depth": depth,
    }
    harness.save(args.out, "models", json.loads(json.dumps(record)))


if __name__ == "__main__":
    main()
