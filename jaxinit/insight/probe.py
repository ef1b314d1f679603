"""Probe: measures the signal of a model, forward and backward, in one program."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_function, check_key, error
from .._compat import explicit_sharding
from .._prng import fused
from .measure import compiled_once, run, taps_of
from .report import Report
from .rows import added_to_signals, growths, parameters_of, rows_of
from .statistics import Array, batch, resolve
from .trace import Traced, trace
from .verdicts import judge


def probe(
    fn: Callable[..., Any],
    params: Any,
    *inputs: Any,
    key: jax.Array,
    loss: Callable[[Any], jax.Array] | None = None,
) -> Report:
    """Measures the signal of a model, forward and backward, where parameters meet data.

    The probe traces ``fn(params, *inputs)`` once, and evaluates its graph once in one
    compiled program. It measures each matrix product, convolution, embedding lookup and
    scale whose weight is computed from parameters, each residual addition, and each
    softmax. It also finds these places inside jit, remat, scan and vmap. A scan over
    layers has a row for each layer.

    Args:
        fn: Any function of parameters and inputs: ``model.apply`` of Flax Linen, or
            ``lambda model, x: model(x)`` for modules of NNX and Equinox. The adapters
            have a function ``probe`` that takes a module.
        params: The parameters, a pytree. Running statistics in it, such as those of
            BatchNorm, do not count as parameters.
        *inputs: A batch: arrays and other values.
        key: PRNG key of the random signs.
        loss: Function from the result to a scalar. The probe measures its gradient.
            None: the sum of the result times random signs, so that the gradient with
            respect to the result is +-1 (to each part of a complex result).

    Returns:
        A report: rows, growth by layer, verdicts; ``print`` shows a table.

    Raises:
        TypeError: If ``fn`` is not callable or ``key`` is not a key.
        ValueError: If there is no floating parameter or result, or no input.

    Example:
        >>> params = [jnp.eye(8)] * 3
        >>> def fn(params, x):
        ...     for w in params:
        ...         x = jnp.tanh(x @ w)
        ...     return x
        >>> report = probe(fn, params, jnp.ones((4, 8)), key=jax.random.key(0))
        >>> [(row.path, row.kind, row.activation) for row in report.rows]
        [('0', 'dot', None), ('1', 'dot', None), ('2', 'dot', None)]
        >>> round(report.rows[0].out_rms, 6)
        1.0

    References:
        Mishkin and Matas, "All you need is a good init", 2016; Schoenholz et al.,
        "Deep information propagation", 2017.
    """
    key = check_key("probe", key)
    if loss is not None:
        check_function("probe", "loss", loss, "None or a function of the result")
    return probe_traced(trace("probe", fn, params, inputs), loss, key)


def probe_traced(
    traced: Traced, loss: Callable[[Any], jax.Array] | None, key: jax.Array
) -> Report:
    """Probes a traced function; see `probe`."""
    measure = compiled_once(program_of(traced, loss), traced.arrays)
    measured = measure(traced.arrays, key)
    with np.errstate(all="ignore"):  # a verdict reports values that are not finite
        return _report(traced, resolve(*jax.device_get(measured)))


def program_of(
    traced: Traced, loss: Callable[[Any], jax.Array] | None
) -> Callable[[list[Any], jax.Array], tuple[Any, list[Any]]]:
    """Returns the function that takes all measurements."""

    def measure(arrays: list[Any], key: jax.Array) -> tuple[Any, list[Any]]:
        places = [*traced.parameters, *traced.inputs]

        def forward(varied: list[Any], taps: Any) -> Any:
            filled = list(arrays)
            for i, x in zip(places, varied, strict=True):
                filled[i] = x
            outputs, found = run(traced.level, filled, taps)
            floating = [x for x in outputs if _is_float(x)]
            return floating, (outputs, found)

        varied = [arrays[i] for i in places]
        taps = taps_of(traced.level)
        floating, pull, (outputs, found) = jax.vjp(forward, varied, taps, has_aux=True)
        if not floating:
            rule = "a function with a floating result"
            raise error(ValueError, "probe", "fn", rule, traced.shapes)
        signs = [_signs(key, i, x) for i, x in enumerate(floating)]
        by_signs, back = pull(signs)
        if loss is None:
            pairs = zip(floating, signs, strict=True)
            total = sum(jnp.real(jnp.sum(x * s)) for x, s in pairs)
            gradients = by_signs
        else:
            of_floats = _of_floats(traced, loss, outputs)
            total, cotangents = jax.value_and_grad(of_floats)(floating)
            gradients, back = pull(cotangents)
        count = len(traced.parameters)
        asked, results = batch(
            {
                "found": found,
                "back": _gradients(back),
                "values": list(map(Array, varied[:count])),
                "gradients": list(map(Array, gradients[:count])),
                "jacobian": list(map(Array, by_signs[count:])),
                "outputs": list(map(Array, floating)),
                "loss": total,
            }
        )
        return asked, results

    return measure


def _signs(key: jax.Array, i: int, x: jax.Array) -> jax.Array:
    key = jax.random.fold_in(fused(key), i) if i else fused(key)
    if jnp.iscomplexobj(x):
        parts = jax.random.rademacher(key, (2, *x.shape), x.real.dtype)
        signs = jax.lax.complex(parts[0], parts[1])
    else:
        signs = jax.random.rademacher(key, x.shape, x.dtype)
    sharding = explicit_sharding(jax.typeof(x))
    return signs if sharding is None else jax.sharding.reshard(signs, sharding)


def _gradients(back: Any) -> Any:
    """The gradients at the taps, by place."""
    return {
        index: {name: Array(x) if name == "array" else x for name, x in own.items()}
        for index, own in back.items()
    }


def _of_floats(
    traced: Traced, loss: Callable[[Any], jax.Array], outputs: list[Any]
) -> Callable[[list[Any]], jax.Array]:
    """The loss as a function of the floating results alone."""

    def of(floating: list[Any]) -> jax.Array:
        rest = iter(floating)
        leaves = [next(rest) if _is_float(x) else x for x in outputs]
        found = loss(jax.tree.unflatten(jax.tree.structure(traced.shapes), leaves))
        is_array = isinstance(found, jax.Array | np.ndarray | np.number | float)
        if not is_array or np.shape(found) or not _is_real(found):
            rule = "a function from the result to one floating number"
            raise error(ValueError, "probe", "loss", rule, found)
        return found

    return of


def _report(traced: Traced, measured: dict[str, Any]) -> Report:
    """Builds the report from the results of the program."""
    sizes = [int(np.size(x)) for x in traced.arrays]
    rows = rows_of(traced, measured)
    parameters = parameters_of(
        [traced.paths[i] for i in traced.parameters],
        [traced.arrays[i] for i in traced.parameters],
        measured["values"],
        measured["gradients"],
        [traced.used[i] for i in traced.parameters],
    )
    forward, backward = growths(rows)
    outputs = [
        x
        for x in jax.tree.leaves(traced.shapes)
        if jnp.issubdtype(x.dtype, jnp.inexact)
    ]
    mean, square = _pooled(measured["outputs"], [math.prod(x.shape) for x in outputs])
    jacobian = None
    if measured["jacobian"]:
        counts = [sizes[i] for i in traced.inputs]
        _, slope = _pooled(measured["jacobian"], counts)
        ends = [traced.arrays[i] for i in traced.inputs], outputs
        jacobian = slope * sum(counts) / max(1, min(map(_dimensions, ends)))
    report = Report(
        rows=rows,
        parameters=parameters,
        forward=forward,
        backward=backward,
        output_variance=square - abs(mean) ** 2,
        output_rms=square**0.5,
        jacobian=jacobian,
        loss=float(measured["loss"]),
    )
    still = any(p.is_used and p.grad_rms == 0 for p in parameters)
    added = added_to_signals(traced, rows) if still else set[str]()
    return dataclasses.replace(report, verdicts=judge(report, added))


def _pooled(all_moments: list[Any], sizes: list[int]) -> tuple[complex, float]:
    """Mean and second moment over all elements of several arrays."""
    means = np.array([m.mean for m in all_moments])
    squares = np.array([m.std**2 + abs(m.mean) ** 2 for m in all_moments])
    weights = np.array(sizes, float) / max(1, sum(sizes))
    return complex(weights @ means), float(weights @ squares)


def _dimensions(arrays: Sequence[Any]) -> int:
    """The real dimensions of the space of all elements; a complex number has two."""
    parts = [1 + jnp.issubdtype(x.dtype, jnp.complexfloating) for x in arrays]
    return sum(n * math.prod(x.shape) for n, x in zip(parts, arrays, strict=True))


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _is_real(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.floating)
