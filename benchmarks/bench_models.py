"""Building whole models: `jaxinit.plan` beside jit, eager init and PyTorch.

Each figure comes from a fresh process, without imports. "first" is the first call,
tracing and compiling included. "second" is a call with another key, after the arrays of
the first are deleted. "kept" is one more call, while the arrays of the second exist.
The models are those of tests/models.py.

Run `python benchmarks/bench_models.py`.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax

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
# The shape of Llama 3 8B, 16 GB in bfloat16, as one would write it by hand.
LLAMA = """
def fn(k):
    d, hidden, kv, words = 4096, 14336, 1024, 128256
    block = {"q": (d, d), "k": (d, kv), "v": (d, kv), "o": (d, d),
             "gate": (d, hidden), "up": (d, hidden), "down": (hidden, d)}
    normal, bf16 = jax.nn.initializers.normal(0.02), jnp.bfloat16
    def layer(k):
        keys = jax.random.split(k, len(block))
        drawn = {n: normal(k, s, bf16) for k, (n, s) in zip(keys, block.items())}
        return drawn | {"norm_1": jnp.ones(d, bf16), "norm_2": jnp.ones(d, bf16)}
    first, last, *keys = jax.random.split(k, 34)
    return {"embed": normal(first, (words, d), bf16), "norm": jnp.ones(d, bf16),
            "head": normal(last, (d, words), bf16), "blocks": list(map(layer, keys))}
"""
LLAMA_BYTES = 16e9
TORCH = """
import time, torch
from torch import nn
if torch.cuda.is_available(): torch.set_default_device("cuda")
def done():
    if torch.cuda.is_available(): torch.cuda.synchronize()
def build():
    d = 768
    def block():
        return nn.ModuleList([nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d),
            nn.LayerNorm(d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)])
    return nn.ModuleList([nn.Embedding(50257, d), nn.Embedding(64, d),
        *[block() for _ in range(12)], nn.LayerNorm(d),
        nn.Linear(d, 50257, bias=False)])
nn.Linear(2, 2)
done()
def first(): build(); done()
def second(): build(); done()
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
def peak():
    stats = jax.devices()[0].memory_stats()
    if stats: return stats["peak_bytes_in_use"]
    with open("/proc/self/status") as lines:
        return next(1024 * int(x.split()[1]) for x in lines if x.startswith("VmHWM"))
print(timed(first)[0])
bytes = peak()
seconds, kept = timed(second)
print(seconds, timed(second)[0], bytes)
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
    "Llama 3 8B, bfloat16": (LLAMA, CALLS),
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
    "Llama 3 8B, bfloat16": {"jit": 20, "eager": 2},
    "one Dense layer": {"jit": 1 / 1.1},
}
DEPTHS = (6, 12, 24, 48, 96)


CACHED = "warm cache"  # in the name of a program
KINDS = "first", "second", "kept", "peak"
SLOW = 10  # seconds of a first call that is measured once


def measure(
    programs: dict[str, str], repeats: int, limit: float
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """The figures of each program, in fresh processes taking turns, and failures."""
    samples: dict[str, list[list[float]]] = {name: [] for name in programs}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as cache:
        for name, program in programs.items():
            if CACHED in name:  # fills the cache
                run(name, program, limit, cache)
        for _ in range(repeats):
            for name, program in programs.items():
                before = samples[name]
                if name in failed or (before and before[0][0] > SLOW and "jit" in name):
                    continue
                found = run(name, program, limit, cache)
                if isinstance(found, str):
                    failed[name] = found
                    print(name, found, flush=True)
                else:
                    samples[name].append(found)
    figures = {
        name: {
            kind: harness.summary(list(values))
            for kind, values in zip(KINDS, zip(*runs, strict=True), strict=True)
        }
        for name, runs in samples.items()
        if runs
    }
    return figures, failed


def run(name: str, program: str, limit: float, cache: str) -> list[float] | str:
    """The figures that a program prints, or why there are none."""
    env = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}
    env["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # this process may hold the device
    if CACHED in name:
        env["JAX_COMPILATION_CACHE_DIR"] = cache
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return f"not done after {limit:g} s"
    if done.returncode:
        return done.stderr.strip().splitlines()[-1]
    return [float(x) for x in done.stdout.split()[-len(KINDS) :]]


def memory() -> float:
    """Bytes that arrays may take here."""
    stats = jax.devices()[0].memory_stats()
    if stats:
        return stats["bytes_limit"]
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def programs(setup: str, calls: dict[str, str]) -> dict[str, str]:
    made = {name: f"{SETUP}{setup}{call}{RUN}" for name, call in calls.items()}
    cached = {f"{name}, {CACHED}": made[name] for name in ("plan", "jit")}
    return made | cached


def torch_device() -> str:
    """The device, as JAX names it, on which PyTorch builds."""
    torch = harness.peer("torch")
    if torch is None or not torch.cuda.is_available():
        return "cpu"
    return jax.devices()[0].device_kind


def main() -> None:
    args = harness.arguments(__doc__, MODELS)
    wanted = {name: MODELS[name] for name in args.models}
    chosen = dict(list(MODELS.items())[-1:]) if args.quick else wanted
    repeats = 1 if args.quick else args.repeats
    results: dict[str, Any] = {}
    failed: dict[str, Any] = {}
    rows = []
    for name, (setup, calls) in chosen.items():
        if "Haiku" in name and harness.peer("haiku") is None:
            continue
        if setup is LLAMA and memory() < 2.5 * LLAMA_BYTES:
            print(f"skipped {name}: it needs {2.5 * LLAMA_BYTES / 1e9:g} GB")
            continue
        wanted = programs(setup, calls)
        if "torch" in GOALS[name] and harness.peer("torch"):
            wanted["torch"] = f"import jax{TORCH}{GPT2_IN_TORCH}{RUN}"
            wanted["torch, layers alone"] = f"import jax{TORCH}{RUN}"
        results[name], failed[name] = measure(wanted, repeats, args.limit)
        for peer, times in results[name].items():
            first, second = (times[k]["median"] for k in ("first", "second"))
            rows.append([name, peer, f"{first:.3f}", f"{second:.3f}"])
            print(*rows[-1], flush=True)
    harness.table("Seconds", ["model", "how", "first call", "second key"], rows)

    depth = {}
    in_full = args.models == list(MODELS) and not args.quick
    for layers in DEPTHS if in_full else ():
        both = programs(gpt(layers, 256, 512), CALLS)
        both = {name: both[name] for name in ("plan", "jit")}
        depth[layers], _ = measure(both, 1, args.limit)
        print(layers, {k: v["first"]["median"] for k, v in depth[layers].items()})

    reached = []
    for name, goals in GOALS.items():
        times = results.get(name, {})
        for peer, required in goals.items():
            if peer in times and "plan" in times:
                ratio = (
                    times[peer]["first"]["median"] / times["plan"]["first"]["median"]
                )
                label = f"{name}: first call, {peer} over plan"
                reached.append(harness.goal(label, ratio, ">=", round(required, 2)))
        if {"jit", "plan"} <= times.keys() and "Dense" not in name:
            ratio = times["jit"]["second"]["median"] / times["plan"]["second"]["median"]
            label = f"{name}: second key, jit over plan"
            reached.append(harness.goal(label, ratio, ">=", 2))
    harness.report("Targets", reached)
    record = {
        "quick": args.quick,
        "environment": harness.environment("flax", "dm-haiku", "torch"),
        "unit": "seconds",
        "targets": reached,
        "torch device": torch_device(),
        "models": results,
        "failed": {name: why for name, why in failed.items() if why},
        "depth": depth,
    }
    harness.save(args.out, "models", json.loads(json.dumps(record)))


if __name__ == "__main__":
    main()
