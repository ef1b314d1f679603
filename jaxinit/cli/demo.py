"""``demo``: initializes a model from a config, measures it and times it."""

import argparse
import functools
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxinit

from ..rules.table import columns
from . import progress, recipes
from .explain import load_rules
from .rows import TOLERANCE, Makers, lines, rows
from .usage import UsageError, require

_MODELS = {  # class, and the shape and dtype of its input
    "gpt2": ("GPT", (1, 8), jnp.int32),
    "resnet50": ("ResNet", (1, 64, 64, 3), jnp.float32),
    "mlp": ("MLP", (1, 784), jnp.float32),
}
MODELS = tuple(_MODELS)
_MOST_PARAMETERS = 2_000_000_000
_MOST_BLOCKS = 16  # of ResNet-50
Arrays = dict[str, np.ndarray]  # by path


def demo(args: argparse.Namespace) -> int:
    """Runs the demo with the options of the command; returns 1 if a check failed."""
    start = time.perf_counter()
    model = build(args)
    key, x = jax.random.key(args.seed), jnp.zeros(*_MODELS[args.model][1:])
    shapes = jaxinit.eval_shape(model.init, key, x)
    sizes = [leaf.size for leaf in jax.tree.leaves(shapes["params"])]
    text = f"{sum(sizes):,} parameters"
    if sum(sizes) > _MOST_PARAMETERS:
        raise UsageError(f"{text}; the demo stops at {_MOST_PARAMETERS:,}")
    extra = [load_rules(args.rules, args.allow_regex)] if args.rules else []
    by_rule = assign(extra[0], shapes, args.rules) if extra else {}
    roles = recipes.roles(args.model, model.layers)
    recipe = {role: initializer for _, role, initializer in roles}
    with tempfile.TemporaryDirectory() as folder:
        path = args.config or Path(folder, "jaxinit-demo.json")
        found = os.path.exists(path)  # unlike Path.exists, it never raises
        if found:
            recipe = recipes.read(path, set(recipe))
        else:
            recipes.write(path, recipe)
        reread = recipes.read(path, set(recipe))
        by_role = assign(recipes.rules(roles, recipe), shapes, path, roles)

    def init_by(recipe: recipes.Recipe) -> Callable[..., Any]:
        init = model.init
        for rules in (recipes.rules(roles, recipe), *extra):  # the last one wins
            init = functools.partial(jaxinit.init, init, rules=rules)
        return init

    def plan(recipe: recipes.Recipe) -> jaxinit.Plan:
        return jaxinit.plan(init_by(recipe), key, x, progress=progress.compiled)

    vocab = f", vocabulary {model.vocab}" if args.model == "gpt2" else ""
    size = f"{model.layers} layers, width {model.width}{vocab}"
    print(f"{args.model}: {size}, {args.dtype.name}")
    print(f"{text} in {len(sizes)} arrays")
    where = args.config or "a temporary file (--config FILE keeps it)"
    print(f"Config: {'read from' if found else 'wrote'} {where}\n")
    planned, ours, first = timed(lambda: plan(recipe), key, x)
    table = rows(first, by_rule | by_role | by_rule)  # rules come first, and win
    print("Standard deviation of the parameters, by role and initializer")
    print("(*: number of a layer; se: standard errors of the measured value)\n")
    print(*lines(table), "", sep="\n")

    changed = different(first, timed(lambda: plan(reread), key, x)[2])
    _, by_jit, jitted = timed(lambda: jax.jit(init_by(recipe)), key, x)
    unequal = different(first, jitted)
    del jitted
    _, by_flax, _ = timed(lambda: jax.jit(model.init), key, x)
    seconds = {
        f"jaxinit.plan, {len(planned.groups)} programs": ours,
        "jit(init)": by_jit,
        "jit(init), Flax's own initializers": by_flax,
    }
    head = ("seconds", "first call, compiling", "second call")
    cells = [(name, f"{a:.2f}", f"{b:.2f}") for name, (a, b) in seconds.items()]
    print(*columns([head, *cells]), "", sep="\n")

    known = [row.is_right for row in table if row.off is not None]
    is_same = recipe == reread
    print(f"{sum(known)} of {len(known)} standard deviations within {TOLERANCE:g} se")
    print(f"Config, read again: initializers {'equal' if is_same else 'DIFFERENT'}")
    print(f"Parameters by that config: {_equality(first, changed)}")
    print(f"Parameters by jit(init): {_equality(first, unequal)}\n")
    passed = all(known) and is_same and not changed and not unequal
    verdict = "All checks passed" if passed else "A CHECK FAILED"
    print(f"{verdict} ({time.perf_counter() - start:.1f} s).")
    return 0 if passed else 1


def build(args: argparse.Namespace) -> Any:
    """The Flax module that the options describe."""
    name = args.model
    if args.vocab is not None and name != "gpt2":
        raise UsageError(f"argument --vocab: {name} has no vocabulary")
    if name == "resnet50" and (args.layers or 0) > _MOST_BLOCKS:
        raise UsageError(f"argument --layers: {name} has {_MOST_BLOCKS} blocks")
    require("flax.linen", "flax")
    from . import models

    sizes = {"layers": args.layers, "width": args.width, "vocab": args.vocab}
    given = {option: size for option, size in sizes.items() if size is not None}
    return getattr(models, _MODELS[name][0])(**given, param_dtype=args.dtype)


def assign(
    rules: jaxinit.Rules, shapes: Any, path: Path, roles: recipes.Roles | None = None
) -> Makers:
    """Role (else rule) and initializer of each parameter that the rules make."""
    assignment = rules.assign(shapes)
    unfit, idle = assignment.unfit(), assignment.idle() if rules.strict else []
    if idle:
        raise UsageError(f"{path}: {'; '.join(idle)}")
    makers: Makers = {}
    for row in sorted(assignment.rows, key=lambda row: row.rule):
        name = roles[row.rule - 1][1] if roles else f"rule {assignment.rule_of(row)}"
        if row.path in unfit:
            raise UsageError(f"{path}, {row.path} by {name!r}: {unfit[row.path]}")
        if row.initializer is not None and row.path.startswith("params/"):
            makers[row.path.removeprefix("params/")] = name, row.initializer
    return makers


def timed(
    prepare: Callable[[], Any], key: jax.Array, x: jax.Array
) -> tuple[Any, tuple[float, float], Arrays]:
    """Prepares an ``init`` and calls it twice.

    Returns the ``init``; the seconds of the first call, preparation included, and of
    the second; and the parameters.
    """
    start = time.perf_counter()
    init = prepare()
    params = jax.block_until_ready(init(key, x))["params"]
    between = time.perf_counter()
    jax.block_until_ready(init(key, x))
    seconds = between - start, time.perf_counter() - between
    name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return init, seconds, {name(path): np.asarray(leaf) for path, leaf in leaves}


def different(a: Arrays, b: Arrays) -> list[str]:
    """Paths of the arrays that are not equal bit for bit."""
    return [path for path in a if a[path].tobytes() != b[path].tobytes()]


def _equality(arrays: Arrays, changed: Sequence[str]) -> str:
    same = f"{len(arrays) - len(changed)} of {len(arrays)} equal, bit for bit"
    return f"{same}; DIFFERENT: {', '.join(changed[:10])}" if changed else same
