"""``demo``: a model initialized from a config, twice, measured and timed."""

import functools
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxinit

from . import recipes
from .explain import load_rules
from .rows import rows
from .usage import UsageError, require

Inits = Mapping[str, Callable[..., jax.Array]]
Make = Callable[[Inits], Any]  # initializers by role -> model

_MOST_PARAMETERS = 2_000_000_000
_MOST_BLOCKS = 16  # of ResNet-50
MODELS = tuple(recipes.RECIPES)
_CLASSES = {"gpt2": "GPT", "resnet50": "ResNet", "mlp": "MLP"}
_INPUTS = {
    "gpt2": ((1, 8), jnp.int32),
    "resnet50": ((1, 64, 64, 3), jnp.float32),
    "mlp": ((1, 784), jnp.float32),
}


def demo(
    model: str,
    *,
    layers: int | None,
    width: int | None,
    vocab: int | None,
    dtype: np.dtype[Any],
    seed: int,
    config: Path | None,
    rules: Path | None = None,
    allow_regex: bool = False,
) -> int:
    """Runs the demo and prints it.

    Args:
        model: ``"gpt2"``, ``"resnet50"`` or ``"mlp"``.
        layers: Number of blocks or hidden layers; None for the usual.
        width: Width; None for the usual.
        vocab: Vocabulary of ``"gpt2"``; None for the usual.
        dtype: Of the parameters.
        seed: Of the key.
        config: Config file, read if it exists and written if not; None for a
            temporary one.
        rules: File of rules, which go before the config; or None.
        allow_regex: Whether the rules may have regular expressions.

    Returns:
        0, or 1 if a check failed.

    Raises:
        UsageError: If an argument or the config is wrong, or an extra missing.
    """
    start = time.perf_counter()
    sizes = {"layers": layers, "width": width, "vocab": vocab}
    sizes = {name: size for name, size in sizes.items() if size is not None}
    if vocab is not None and model != "gpt2":
        raise UsageError(f"argument --vocab: {model} has no vocabulary")
    if model == "resnet50" and (layers or 1) > _MOST_BLOCKS:
        raise UsageError(f"argument --layers: {model} has {_MOST_BLOCKS} blocks")
    require("flax.linen", "flax")
    require("rich", "flax")
    from . import models, report

    governed = None if rules is None else load_rules(rules, allow_regex)
    cls = getattr(models, _CLASSES[model])
    sizes.setdefault("layers", cls.layers)
    recipe = recipes.RECIPES[model](sizes["layers"])

    def make(inits: Inits) -> Any:
        return cls(**sizes, param_dtype=dtype, **inits)

    with tempfile.TemporaryDirectory() as folder:
        path = config or Path(folder, "jaxinit-demo.json")
        found = os.path.exists(path)  # unlike Path's, never raises
        if found:
            recipe = recipes.read(path, set(recipe))
        x = jnp.zeros(*_INPUTS[model])
        roles, shapes = survey(make, set(recipe), x)
        size = sum(math.prod(shape) for shape in shapes)
        if size > _MOST_PARAMETERS:
            raise UsageError(
                f"this model has {size:,} parameters; the demo stops at "
                f"{_MOST_PARAMETERS:,}"
            )
        made: dict[str, Any] = {name: recipe[role] for name, role in roles.items()}
        if governed is not None:
            made |= ruled(governed, make({}), x)
        if not found:
            recipes.write(path, recipe)
        report.heading(model, make({}), size, len(shapes))
        report.config("read from" if found else "wrote", config, recipe)

        key = jax.random.key(seed)
        initializers = checked(recipe, path)
        with report.progress() as progress:
            planned, first, ours = build(make(initializers), key, x, governed, progress)
        reread = recipes.read(path, set(recipe))
        _, second, _ = build(make(checked(reread, path)), key, x, governed)
    changed = different(first, second)
    same_config = recipe == reread
    report.equality(same_config, len(first), changed)
    del second
    table = rows(first, made)
    report.parameters(table)
    by_jit, jitted = jit(make(initializers), key, x, governed)
    unequal = different(first, by_jit)
    del first, by_jit
    _, flax = jit(make({}), key, x, None)
    report.timings(ours, jitted, flax, len(planned.groups), unequal)
    passed = same_config and not changed and not unequal
    passed = passed and all(row.is_right for row in table)
    report.conclusion(passed, time.perf_counter() - start)
    return 0 if passed else 1


Made = dict[str, np.ndarray]
Seconds = tuple[float, float]  # of the first call, and of the next


def build(
    model: Any, key: jax.Array, x: jax.Array, rules: Any, progress: Any = None
) -> tuple[jaxinit.Plan, Made, Seconds]:
    """Plans ``model.init`` and makes the parameters, twice.

    Args:
        model: A Flax Linen module.
        key: PRNG key.
        x: The model's input.
        rules: As for `jaxinit.plan`.
        progress: As for `jaxinit.plan`.

    Returns:
        The plan, the parameters by path, and the seconds.
    """
    start = time.perf_counter()
    planned = jaxinit.plan(model.init, key, x, rules=rules, progress=progress)
    params = jax.block_until_ready(planned(key, x))
    between = time.perf_counter()
    jax.block_until_ready(planned(key, x))
    seconds = between - start, time.perf_counter() - between
    return planned, arrays(params), seconds


def jit(model: Any, key: jax.Array, x: jax.Array, rules: Any) -> tuple[Made, Seconds]:
    """The parameters as ``jax.jit(model.init)`` makes them, twice, and the seconds."""
    fn = model.init
    if rules is not None:
        fn = functools.partial(jaxinit.init, model.init, rules=rules)
    init = jax.jit(fn)
    start = time.perf_counter()
    params = jax.block_until_ready(init(key, x))
    between = time.perf_counter()
    jax.block_until_ready(init(key, x))
    return arrays(params), (between - start, time.perf_counter() - between)


def arrays(variables: Any) -> Made:
    """Parameters by path, as NumPy arrays."""
    leaves = by_path(variables["params"])
    return {path: np.asarray(leaf) for path, leaf in leaves.items()}


def ruled(rules: jaxinit.Rules, model: Any, x: Any) -> Inits:
    """The initializer of each parameter that a rule makes."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)
    try:
        assignment = rules.assign(shapes)
        assignment.check()
    except ValueError as e:
        raise UsageError(e) from None
    return {
        row.path.removeprefix("params/"): row.initializer
        for row in assignment.rows
        if row.initializer is not None
    }


def different(a: Made, b: Made) -> list[str]:
    """Paths of the arrays that are not equal bit for bit."""
    return [path for path in a if not is_same(a[path], b[path])]


def survey(
    make: Make, names: set[str], x: Any
) -> tuple[dict[str, str], list[tuple[int, ...]]]:
    """The role that fills each parameter, and all shapes: by tracing alone."""
    made: list[tuple[Any, str]] = []
    roles: dict[str, str] = {}

    def marked(role: str) -> Callable[..., jax.Array]:
        def init(key: jax.Array, shape: Any, dtype: Any = None) -> jax.Array:
            made.append((jnp.zeros(shape, dtype), role))
            return made[-1][0]

        return init

    def trace(key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
        model = make({name: marked(name) for name in names})
        params = by_path(model.init(key, x)["params"])
        for path, leaf in params.items():
            roles[path] = next(role for mine, role in made if mine is leaf)
        return params

    params = jax.eval_shape(trace, jax.random.key(0), x)
    return roles, [leaf.shape for leaf in params.values()]


def checked(recipe: recipes.Recipe, path: Path) -> Inits:
    """The initializers, with errors that name their role in the config."""

    def guarded(role: str, initializer: Any) -> Callable[..., jax.Array]:
        def init(key: jax.Array, shape: Any, dtype: Any = None) -> jax.Array:
            try:
                return initializer(key, shape, dtype)
            except (TypeError, ValueError) as e:
                raise UsageError(f"{path}, {role!r}: {e}") from None

        return init

    return {role: guarded(role, initializer) for role, initializer in recipe.items()}


def by_path(tree: Any) -> dict[str, Any]:
    """Leaves of nested dicts by their keys, joined with ``/``."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(part.key for part in path): leaf for path, leaf in leaves}


def is_same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays are equal bit for bit."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    bits = f"u{a.itemsize}"
    return np.array_equal(a.reshape(-1).view(bits), b.reshape(-1).view(bits))
