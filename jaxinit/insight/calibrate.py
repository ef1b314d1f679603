"""Calibrate: scales weights so that their products have one second moment."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_int, check_number, error
from ..planning.ir import Node, Value, evaluate, literal
from ..rules.patterns import Pattern, compile_pattern
from .measure import compiled_once, enter
from .places import Inner, Level, Residual, Site
from .sources import Source, sources_of
from .trace import Traced, trace

_KINDS = "dot", "conv"
_SHOWN = 5  # places that a warning names


def calibrate(
    fn: Callable[..., Any],
    params: Any,
    *inputs: Any,
    target: float = 1.0,
    only: Pattern | None = None,
    branch: float | None = None,
    tolerance: float = 0.01,
    passes: int = 10,
) -> Any:
    """Scales weights so that the product of each has the second moment ``target``.

    Layer-sequential unit variance on the graph of any function: the sites are taken in
    the order of the graph, and the factor of each is found and applied while the
    function is evaluated, so that one pass calibrates a network of any depth. The
    layers of a scan get factors of their own. A weight that several places share gets
    the factor of the first one, in further passes. Biases count: with W x = y, the
    factor s solves E[(s y + b)^2] = target. A matrix is multiplied by one number, so
    that an orthogonal one stays orthogonal up to this factor.

    Args:
        fn: Any function of parameters and inputs, as for `jaxinit.probe`.
        params: The parameters, a pytree.
        *inputs: A batch.
        target: Second moment of the result of each product, the bias included.
        only: The parameters that may be scaled: a glob of paths as ``"**/kernel"``, a
            compiled regular expression, or a predicate. None: the kernels of all
            matrix products and convolutions.
        branch: Target of the products that end a residual branch, as a share of
            ``target``. None: 1 / L, L the number of residual additions, so that the
            stream at most doubles.
        tolerance: Relative error of a second moment that is left.
        passes: Most evaluations of the function.

    Returns:
        The parameters, with the same structure, dtypes and shardings.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a number is out of its range, or ``only`` matches no weight.

    Warns:
        UserWarning: If a target cannot be reached; it names the place and the reason.

    Example:
        >>> params = {"a": jnp.ones((4, 8)), "b": jnp.eye(8)}
        >>> def fn(params, x):
        ...     return jnp.tanh(x @ params["a"]) @ params["b"]
        >>> params = calibrate(fn, params, jnp.eye(4))
        >>> round(float(jnp.mean(fn(params, jnp.eye(4)) ** 2)), 4)
        1.0

    References:
        Mishkin and Matas, "All you need is a good init", 2016; Krahenbuhl et al.,
        "Data-dependent initializations of convolutional neural networks", 2016.
    """
    where = "calibrate"
    target = _positive(where, "target", target)
    tolerance = _positive(where, "tolerance", tolerance)
    passes = check_int(where, "passes", passes, minimum=1)
    if branch is not None:
        branch = _positive(where, "branch", branch)
    traced = trace(where, fn, params, inputs)
    chosen = _choose(traced, only, target, branch)
    if not chosen:
        rule = "a pattern that matches the weight of a product"
        raise error(ValueError, where, "only", rule, only)
    arrays = list(traced.arrays)
    by_site = {task.site.index: task for task in chosen}
    measure = compiled_once(functools.partial(_evaluate, traced.level, by_site))
    factors: dict[int, np.ndarray] = {}
    for _ in range(passes):
        found = jax.device_get(measure(arrays))
        factors = {i: _factor(task, found[i]) for i, task in by_site.items()}
        if all(_is_close(x, tolerance) for x in factors.values()):
            break
        for i, task in by_site.items():
            x = np.where(np.isfinite(factors[i]), factors[i], 1)
            leaf = task.source.leaf
            arrays[leaf] = _scale(arrays[leaf], x, axes=task.source.axes)
    _warn(traced, by_site, factors, tolerance)
    calibrated, _ = traced.with_arrays(arrays)
    return calibrated


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """A site whose weight is scaled.

    Attributes:
        site: The site.
        source: Its parameter.
        target: Second moment of its result.
    """

    site: Site
    source: Source
    target: float


def _positive(where: str, name: str, value: Any) -> float:
    number = check_number(where, name, value, minimum=0.0)
    if number == 0:
        raise error(ValueError, where, name, "above 0", value)
    return number


def _choose(
    traced: Traced, only: Pattern | None, target: float, branch: float | None
) -> list[_Task]:
    """The sites whose parameters are scaled; the first of each parameter."""
    matches = None if only is None else compile_pattern(only)
    residuals = [p for p in traced.level.walk() if isinstance(p, Residual)]
    ends = {place.end for place in residuals}
    share = branch or 1 / max(1, _count(traced.level))
    chosen: dict[int, _Task] = {}
    for site, source in sources_of(traced.level):
        if isinstance(source, str) or source.leaf in chosen:
            continue
        path, array = traced.paths[source.leaf], traced.arrays[source.leaf]
        if matches is None:
            is_meant = site.kind in _KINDS
        else:
            is_meant = matches(path, jax.ShapeDtypeStruct(array.shape, array.dtype))
            is_meant &= site.kind in (*_KINDS, "lookup")
        if is_meant:
            own = target * share if site.index in ends else target
            chosen[source.leaf] = _Task(site, source, own)
    return list(chosen.values())


def _count(level: Level) -> int:
    """Number of residual additions, those of every layer of a scan counted."""
    total = 0
    for place in level.places:
        if isinstance(place, Inner):
            total += (place.length or 1) * _count(place.level)
        total += isinstance(place, Residual)
    return total


def _evaluate(
    level: Level, tasks: Mapping[int, _Task], inputs: Sequence[Any]
) -> dict[int, Any]:
    """The moments at each site of a task, where the factors before it are applied."""
    _, found = _run(tasks, level, inputs, None)
    return found


def _run(
    tasks: Mapping[int, _Task], level: Level, inputs: Sequence[Any], _: Any
) -> tuple[list[Any], dict[int, Any]]:
    program, found = level.program, dict[int, Any]()
    inner = {p.node: p for p in level.places if isinstance(p, Inner)}
    sites = [p for p in level.places if isinstance(p, Site) and p.index in tasks]
    ends = {(p.bias or p.weight)[0]: p for p in sites}

    def apply(node: Node, inputs: list[Any]) -> list[Any]:
        if node in inner:
            body = functools.partial(_run, tasks)
            outputs, more = enter(inner[node], inputs, None, body)
            found.update(more)
            return outputs
        outputs = node.bind(inputs)
        site = ends.get(node)
        if site is not None:
            y = outputs[0] if site.bias is None else inputs[site.bias[1]]
            bias = outputs[0] - y
            found[site.index] = moments = _moments(y, bias)
            if tasks[site.index].source.is_alone:
                s = _solve(jnp, moments, tasks[site.index].target)
                s = jnp.where(jnp.isfinite(s), s, 1)
                outputs[0] = (y * s + bias).astype(outputs[0].dtype)
        return outputs

    env = {**program.constants, **dict(zip(program.inputs, inputs, strict=True))}
    env = evaluate(program.nodes, env, {}, apply)
    outputs = [env[a] if type(a) is Value else literal(a) for a in program.outputs]
    return outputs, found


def _moments(y: jax.Array, bias: jax.Array) -> jax.Array:
    """E[y^2], E[y b] and E[b^2]."""
    y, bias = (jnp.asarray(x, jnp.float32) for x in (y, bias))
    return jnp.stack([jnp.mean(a * b) for a, b in ((y, y), (y, bias), (bias, bias))])


def _solve(np: Any, moments: Any, target: float) -> Any:
    """The s > 0 with E[(s y + b)^2] = target; NaN or infinite if there is none."""
    square, cross, bias = (moments[..., i] for i in range(3))
    root = np.sqrt(cross**2 - square * (bias - target))
    s = (root - cross) / square
    return np.where(s > 0, s, np.nan)


def _factor(task: _Task, moments: np.ndarray) -> np.ndarray:
    """The factor of a parameter, for each of its layers."""
    moments = np.asarray(moments, np.float64)
    # The mean over iterations that share the weight.
    over = tuple(i for i, layered in enumerate(task.source.loops) if not layered)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _solve(np, moments.mean(over), task.target)


def _is_close(factor: np.ndarray, tolerance: float) -> bool:
    known = factor[np.isfinite(factor)]
    return bool((np.abs(known**2 - 1) <= tolerance).all())


@functools.partial(jax.jit, static_argnames="axes")
def _scale(x: jax.Array, factor: Any, axes: tuple[int, ...]) -> jax.Array:
    factor = jnp.asarray(factor, jnp.float32)
    shape = [1] * x.ndim
    for axis, size in zip(axes, factor.shape, strict=True):
        shape[axis] = size
    order = sorted(range(len(axes)), key=axes.__getitem__)
    factor = factor.transpose(order).reshape(shape)
    return (x * factor).astype(x.dtype)


def _warn(
    traced: Traced,
    tasks: Mapping[int, _Task],
    factors: Mapping[int, np.ndarray],
    tolerance: float,
) -> None:
    failed: list[str] = []
    for i, factor in factors.items():
        path = traced.paths[tasks[i].source.leaf]
        if not np.isfinite(factor).all():
            failed.append(
                f"{path}: no factor reaches {tasks[i].target:.3g}, as its result is 0 "
                "or not finite, or its bias alone is larger"
            )
        elif not _is_close(factor, tolerance):
            missed = tasks[i].target / float(np.max(factor) ** 2)
            failed.append(
                f"{path}: at {missed:.3g} instead of {tasks[i].target:.3g} after the "
                "last pass; more passes may help"
            )
    if failed:
        more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        warnings.warn(
            f"calibrate() left {'; '.join(failed[:_SHOWN])}{more}.", stacklevel=3
        )
