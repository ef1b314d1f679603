"""Scales weights during an evaluation, so that each product reaches its target."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import may_transfer
from ..planning.ir import Node, Value, evaluate, literal
from . import statistics
from .measure import Samples, compiled_once, enter
from .places import Inner, Level, Site
from .tasks import PRODUCTS, Task
from .trace import Traced

# Number of a site -> its measurements. "moments": E[y^2], E[y b] and E[b^2] of product
# y and bias b. "input": the expected E[y^2] over weights of variance 1 / fan_in.
# Number of an activation -> "pairs": samples of its input and output.
Found = dict[int, dict[str, Any]]


def scale(
    traced: Traced,
    tasks: Mapping[int, Task],
    tolerance: float,
    passes: int,
    *,
    with_inputs: bool = False,
) -> tuple[list[Any], dict[int, np.ndarray], Found]:
    """Evaluates a function until all tasks reach their targets.

    Args:
        traced: The function and its arrays.
        tasks: Number of a site -> its task.
        tolerance: Largest relative error of a second moment.
        passes: Largest number of evaluations.
        with_inputs: Whether to measure "input" and "pairs".

    Returns:
        The arrays of the function with the factors applied; the factors of the last
        pass; and the measurements of the last pass.
    """
    arrays = list(traced.arrays)
    body = functools.partial(_run, tasks, with_inputs)
    measure = compiled_once(lambda arrays: body(traced.level, arrays, None)[1], arrays)
    scaled = {i: task for i, task in tasks.items() if task.is_scaled}
    factors: dict[int, np.ndarray] = {}
    found: Found = {}
    for _ in range(passes):
        found = jax.device_get(measure(arrays))
        factors = {i: _factor(task, found[i]["moments"]) for i, task in scaled.items()}
        if all(is_close(x, tolerance) for x in factors.values()):
            break
        for i, task in scaled.items():
            x = np.where(np.isfinite(factors[i]), factors[i], 1)
            leaf = task.source.leaf
            with may_transfer():
                arrays[leaf] = _scale(arrays[leaf], x, axes=task.source.axes)
    return arrays, factors, found


def is_close(factor: np.ndarray, tolerance: float) -> bool:
    """True if the finite factors change a second moment by less than a tolerance."""
    known = factor[np.isfinite(factor)]
    return bool((np.abs(known**2 - 1) <= tolerance).all())


def _run(
    tasks: Mapping[int, Task],
    with_inputs: bool,
    level: Level,
    inputs: Sequence[Any],
    _: Any,
) -> tuple[list[Any], Found]:
    """Measures each site after the factors of the earlier sites are applied."""
    program, found = level.program, Found()
    inner = {p.node: p for p in level.places if isinstance(p, Inner)}
    sites = [p for p in level.places if isinstance(p, Site)]
    meant = [site for site in sites if site.index in tasks]
    ends = {(site.bias or site.weight)[0]: site for site in meant}
    starts = {site.weight[0]: site for site in meant} if with_inputs else {}
    samples = Samples(level, inputs) if with_inputs else None

    def note(index: int, **numbers: Any) -> None:
        found.setdefault(index, {}).update(numbers)

    def apply(node: Node, inputs: list[Any]) -> list[Any]:
        if node in inner:
            body = functools.partial(_run, tasks, with_inputs)
            outputs, more = enter(inner[node], inputs, None, body)
            found.update(more)
            return outputs
        outputs = node.bind(inputs)
        if node in starts and starts[node].kind in PRODUCTS:
            note(starts[node].index, input=_expected(starts[node], inputs))
        if node in ends:
            site = ends[node]
            outputs[0], moments = _scaled(tasks[site.index], inputs, outputs[0])
            note(site.index, moments=moments)
        for value, x in zip(node.outputs, outputs, strict=True):
            for index, pairs in samples.of(value, x) if samples else ():
                note(index, pairs=pairs)
        return outputs

    env = {**program.constants, **dict(zip(program.inputs, inputs, strict=True))}
    env = evaluate(program.nodes, env, {}, apply)
    outputs = [env[a] if type(a) is Value else literal(a) for a in program.outputs]
    return outputs, found


def _scaled(task: Task, inputs: list[Any], output: Any) -> tuple[Any, jax.Array]:
    """The result of a site with its factor applied, and the moments without it."""
    y = output if task.site.bias is None else inputs[task.site.bias[1]]
    bias = output - y
    moments = _moments(y, bias)
    if not (task.is_scaled and task.source.is_alone):
        return output, moments
    s = _solve(jnp, moments, task)
    s = jnp.where(jnp.isfinite(s), s, 1)
    return (y * s + bias).astype(output.dtype), moments


def _expected(site: Site, inputs: list[Any]) -> jax.Array:
    """E[y^2] over independent weights of variance 1 / fan_in.

    It is the mean of x^2. A convolution may pad with zeros, so it needs the mean of the
    convolution of x^2 with ones, over fan_in.
    """
    node, weight = site.weight
    x = inputs[site.data[1]]
    squares = jnp.square(jnp.abs(x))
    if site.kind != "conv":
        return jnp.mean(squares.astype(jnp.float32))
    inputs = [squares.astype(x.dtype), jnp.ones_like(inputs[weight])]
    (sums,) = node.bind(inputs)
    # Not jnp.mean: on the CPU, XLA of JAX 0.10 and 0.12 returns noise for the mean of a
    # product with a constant.
    return statistics.moments(jnp.real(sums)).mean / (site.fan_in or 1)


def _moments(y: jax.Array, bias: jax.Array) -> jax.Array:
    """E[y^2], E[y b] and E[b^2]; of complex numbers E|y|^2, Re E[y conj(b)], E|b|^2."""

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        if jnp.iscomplexobj(a):
            return product(a.real, b.real) + product(a.imag, b.imag)
        return jnp.mean(jnp.asarray(a, jnp.float32) * jnp.asarray(b, jnp.float32))

    return jnp.stack([product(a, b) for a, b in ((y, y), (y, bias), (bias, bias))])


def _solve(np: Any, moments: Any, task: Task) -> Any:
    """The s > 0 with E[(s y + b)^2] = target; NaN or infinite if there is none."""
    square, cross, bias = (moments[..., i] for i in range(3))
    if not task.with_bias:
        cross, bias = 0, 0
    root = np.sqrt(cross**2 - square * (bias - task.target))
    s = (root - cross) / square
    return np.where(s > 0, s, np.nan)


def _factor(task: Task, moments: np.ndarray) -> np.ndarray:
    """The factor of each layer of a parameter."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return _solve(np, over_layers(task, moments), task)


def over_layers(task: Task, numbers: np.ndarray) -> np.ndarray:
    """The mean over the iterations that share a weight, for each layer of it."""
    over = tuple(i for i, layered in enumerate(task.source.loops) if not layered)
    return np.asarray(numbers, np.float64).mean(over)


@functools.partial(jax.jit, static_argnames="axes")
def _scale(x: jax.Array, factor: Any, axes: tuple[int, ...]) -> jax.Array:
    factor = jnp.asarray(factor, jnp.float32)
    shape = [1] * x.ndim
    for axis, size in zip(axes, factor.shape, strict=True):
        shape[axis] = size
    order = sorted(range(len(axes)), key=axes.__getitem__)
    factor = factor.transpose(order).reshape(shape)
    return (x * factor).astype(x.dtype)
