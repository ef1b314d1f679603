"""Calibrate: scales weights so that each product has a given second moment."""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .._checks import check_int, check_number, error, printable
from ..rules.patterns import Pattern
from .scaling import is_close, scale
from .tasks import Tasks, tasks_of
from .trace import Traced, trace

_SHOWN = 5  # parameters that a warning names


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

    This is layer-sequential unit variance (LSUV) on the graph of any function. One
    evaluation in the order of the graph finds each factor and applies it at once, so
    one pass calibrates a network of any depth. Each layer of a scan gets its own
    factor. A weight that several places share gets the factor of the first place, which
    needs further passes. Biases count: with y = W x, the factor s solves
    E[(s y + b)^2] = target. One number multiplies the whole matrix, so an orthogonal
    matrix stays a multiple of an orthogonal one.

    Args:
        fn: Any function of parameters and inputs, as for `jaxinit.probe`.
        params: The parameters, a pytree.
        *inputs: A batch.
        target: Second moment of the result of each product, the bias included.
        only: The parameters to scale: a glob of paths such as ``"**/kernel"``, a
            compiled regular expression, or a predicate. None: the kernels of all
            matrix products and convolutions.
        branch: Target of the products that end a residual branch, as a share of
            ``target``. None: 1 / L for L residual additions, so that all of them
            together add about ``target`` to the second moment of the stream.
        tolerance: Largest relative error of a second moment.
        passes: Largest number of evaluations of the function.

    Returns:
        The parameters, with the same structure, dtypes and shardings.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If a number is out of its range, or ``only`` matches no weight.

    Warns:
        UserWarning: If a target cannot be reached. The warning names the parameter and
            the reason.

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
    tasks = tasks_of(traced, only, target, branch)
    if not tasks.by_site and not tasks.refused:
        if only is not None:
            rule = "a pattern that matches the weight of a product"
            raise error(ValueError, where, "only", rule, only)
        rule = "a function with products of parameters and data"
        cure = "Products inside custom_vjp, cond, while and shard_map do not count."
        raise error(ValueError, where, "fn", rule, fn, cure)
    arrays, factors, _ = scale(traced, tasks.by_site, tolerance, passes)
    _warn(traced, tasks, factors, tolerance)
    calibrated, _ = traced.with_arrays(arrays)
    return calibrated


def _positive(where: str, name: str, value: Any) -> float:
    number = check_number(where, name, value, minimum=0.0)
    if number == 0:
        raise error(ValueError, where, name, "above 0", value)
    return number


def _warn(
    traced: Traced,
    tasks: Tasks,
    factors: Mapping[int, np.ndarray],
    tolerance: float,
) -> None:
    failed = [
        f"{printable(path) or 'the array'} as it is: {why}"
        for path, why in tasks.refused.items()
    ]
    for i, factor in factors.items():
        task = tasks.by_site[i]
        path = printable(traced.paths[task.source.leaf]) or "the array"
        if not np.isfinite(factor).all():
            failed.append(
                f"{path}: no factor reaches {task.target:.3g}, because its result is "
                "0 or not finite, or its bias alone is larger"
            )
        elif not is_close(factor, tolerance):
            missed = task.target / float(np.max(factor) ** 2)
            failed.append(
                f"{path}: at {missed:.3g} instead of {task.target:.3g} after the "
                "last pass; more passes may help"
            )
    if failed:
        more = f"; and {len(failed) - _SHOWN} more" if len(failed) > _SHOWN else ""
        warnings.warn(
            f"calibrate() left {'; '.join(failed[:_SHOWN])}{more}.", stacklevel=3
        )
