"""Evaluates a program and takes statistics at its sites, forward and backward."""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from .._compat import scan_parts
from ..planning.ir import Node, Value, evaluate, literal
from . import statistics
from .places import Inner, Level, Place, Residual, Site, Softmax
from .statistics import Array, Matrix

_SMALL = 2**22  # largest number of elements in a small model and its inputs

# By the number of a place: the arguments of its taps; its statistics.
Taps = dict[int, dict[str, jax.Array]]
Found = dict[int, dict[str, Any]]


def compiled_once(f: Callable[..., Any], arrays: Sequence[Any]) -> Callable[..., Any]:
    """Jits a program that runs a few times: it compiles faster and runs slower.

    On the CPU, level 0 compiles a third faster than level 1, but the program runs half
    as fast. This matters only for large models, which get level 1.

    Args:
        f: The program.
        arrays: The parameters and inputs; their size decides the level.
    """
    if jax.default_backend() != "cpu":
        return jax.jit(f)
    level = int(sum(x.size for x in arrays) > _SMALL)
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": level})


def taps_of(level: Level) -> Taps:
    """The arguments of all taps: zeros, by which gradients are taken.

    A tap named "array" is added to a result, so the gradient by the tap is the gradient
    by the result. The other taps come from `statistics.tap` and return statistics
    alone. They serve loops, large arrays, and weights computed from parameters.
    """
    found: Taps = {}
    for place in level.places:
        if isinstance(place, Inner):
            found |= _summaries(place, ())
        elif isinstance(place, Site | Residual):
            aval = level.program.avals[place.output]
            is_small = math.prod(aval.shape) <= statistics.STACKED
            taps = {"array": jnp.zeros(aval.shape, aval.dtype)} if is_small else {}
            taps |= {} if is_small else {"output": statistics.slot()}
            if isinstance(place, Site) and level.parameter(place) is None:
                taps["weight"] = statistics.slot()
            found[place.index] = taps
    return found


def _summaries(inner: Inner, lengths: tuple[int, ...]) -> Taps:
    lengths = lengths if inner.length is None else (*lengths, inner.length)
    found: Taps = {}
    for place in inner.level.places:
        if isinstance(place, Inner):
            found |= _summaries(place, lengths)
        elif isinstance(place, Site):
            names = "output", "weight"
            found[place.index] = {name: statistics.slot(lengths) for name in names}
        elif isinstance(place, Residual):
            found[place.index] = {"output": statistics.slot(lengths)}
    return found


def run(level: Level, inputs: Sequence[Any], taps: Taps) -> tuple[list[Any], Found]:
    """Evaluates a level.

    Args:
        level: The program and its places.
        inputs: Its arguments.
        taps: Arguments of the taps.

    Returns:
        The results, and the requests of every place for `statistics.batch`; inside a
        scan the moments themselves, with an axis of iterations in front.
    """
    program = level.program
    env = {**program.constants, **dict(zip(program.inputs, inputs, strict=True))}
    reader = _Reader(level, inputs, taps)
    env = evaluate(program.nodes, env, {}, reader.apply)
    outputs = [env[a] if type(a) is Value else literal(a) for a in program.outputs]
    return outputs, reader.found


class Samples:
    """Takes samples of the activations of a level, while it is evaluated."""

    def __init__(self, level: Level, inputs: Sequence[Any]):
        """Takes note of the inputs of the level, which an activation may read."""
        self._after = {x.after: x for x in level.activations}
        self._read = {x.before for x in level.activations}
        known = zip(level.program.inputs, inputs, strict=True)
        self._before = {v: x for v, x in known if v in self._read}

    def of(self, value: Value, x: Any) -> Iterator[tuple[int, jax.Array]]:
        """Yields the number of the activation that made a value, and its samples."""
        if value in self._read:
            self._before[value] = x
        if value in self._after:
            activation = self._after[value]
            pairs = statistics.samples(self._before[activation.before], x)
            yield activation.index, pairs


class _Reader:
    """Applies operations, and reads what passes by."""

    def __init__(self, level: Level, inputs: Sequence[Any], taps: Taps):
        self.found: Found = {}
        self._taps = taps
        self._inner = {p.node: p for p in level.places if isinstance(p, Inner)}
        self._weights: dict[Node, list[Site]] = {}
        self._data: dict[Node, list[Site]] = {}
        self._made: dict[Value, list[Place]] = {}
        self._samples = Samples(level, inputs)
        self._residuals: dict[Node, Residual] = {}
        self._activated: set[int] = set()
        for place in level.places:
            if isinstance(place, Site):
                self._weights.setdefault(place.weight[0], []).append(place)
                self._data.setdefault(place.data[0], []).append(place)
                self._made.setdefault(place.output, []).append(place)
                if place.activation is not None:
                    self._activated.add(place.activation.index)
            elif isinstance(place, Softmax):
                self._made.setdefault(place.output, []).append(place)
            elif isinstance(place, Residual):
                self._residuals[place.node] = place

    def apply(self, node: Node, inputs: list[Any]) -> list[Any]:
        """Applies an operation, with taps at its weight and its results."""
        for site in self._weights.get(node, ()):
            i = site.weight[1]
            if "weight" in self._taps[site.index]:
                self._note(site, weight=Array(inputs[i]))
            inputs[i] = self._tap(site, "weight", inputs[i])
        for site in self._data.get(node, ()):
            x = inputs[site.data[1]]
            if jnp.issubdtype(jnp.result_type(x), jnp.inexact):
                self._note(site, input=Array(x))
        if node in self._residuals:
            place = self._residuals[node]
            branch, stream = inputs[place.branch], inputs[1 - place.branch]
            self._note(place, branch=Array(branch))
            self._note(place, input=Array(stream))
        inner = self._inner.get(node)
        outputs = node.bind(inputs) if inner is None else self._enter(inner, inputs)
        for i, value in enumerate(node.outputs):
            for place in self._made.get(value, ()):
                outputs[i] = self._read(place, outputs[i])
            for index, pairs in self._samples.of(value, outputs[i]):
                self._note(index, pairs=pairs)
                if index in self._activated:
                    self._note(index, after=Array(outputs[i]))
        if node in self._residuals:
            place = self._residuals[node]
            self._note(place, output=Array(outputs[0]))
            outputs[0] = self._tap(place, "output", outputs[0])
        return outputs

    def _read(self, place: Place, x: Any) -> Any:
        if isinstance(place, Softmax):
            self._note(place, entropy=statistics.entropy(x, place.axes))
            return x
        assert isinstance(place, Site)
        features = tuple(axis for axis in place.features if axis < x.ndim)
        self._note(place, output=Array(x), rows=Matrix(statistics.rows(x, features)))
        return self._tap(place, "output", x)

    def _tap(self, place: Place, name: str, x: Any) -> Any:
        own = self._taps.get(place.index, {})
        if name == "output" and "array" in own:
            return jax.lax.add(x, own["array"])
        return statistics.tap(x, own[name]) if name in own else x

    def _note(self, place: Place | int, **numbers: Any) -> None:
        index = place if isinstance(place, int) else place.index
        self.found.setdefault(index, {}).update(numbers)

    def _enter(self, inner: Inner, inputs: list[Any]) -> list[Any]:
        numbers = {place.index for place in inner.level.walk()}
        taps = {i: x for i, x in self._taps.items() if i in numbers}
        outputs, found = enter(inner, inputs, taps, _run_inner)
        self.found |= found
        return outputs


def enter(
    inner: Inner, inputs: list[Any], extra: Any, body: Callable[..., tuple[Any, Any]]
) -> tuple[list[Any], Any]:
    """Evaluates a scan or a remat by a function of its body.

    Args:
        inner: The operation.
        inputs: Its inputs.
        extra: What the body gets beside them; of a scan, a slice for each iteration.
        body: From the level, its inputs and ``extra`` to its results and what is found.

    Returns:
        The results of the operation, and what was found; of a scan, stacked.
    """
    params = inner.node.params
    avals = [v.aval for v in inner.node.eqn.invars]
    inputs = list(map(_as_array, inputs, avals))
    if inner.length is None:
        remat = jax.checkpoint(
            functools.partial(body, inner.level),
            policy=params["policy"],
            prevent_cse=params["prevent_cse"],
        )
        return remat(inputs, extra)
    consts, carry, xs = scan_parts(params, inputs)

    def step(carry: list[Any], x: Any) -> tuple[list[Any], Any]:
        xs, extra = x
        outputs, found = body(inner.level, [*consts, *carry, *xs], extra)
        return outputs[: len(carry)], (outputs[len(carry) :], found)

    carry, (ys, found) = jax.lax.scan(
        step,
        carry,
        (xs, extra),
        length=inner.length,
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carry, *ys], found


def _run_inner(level: Level, inputs: Sequence[Any], taps: Taps) -> tuple[Any, Found]:
    """Evaluates the body of a scan or a remat, which keeps no array for later."""
    outputs, found = run(level, inputs, taps)

    def settle(x: Any) -> Any:
        return statistics.moments(x.x) if isinstance(x, Array) else x

    return outputs, jax.tree.map(settle, found, is_leaf=lambda x: isinstance(x, Array))


def _as_array(x: Any, aval: Any) -> jax.Array:
    """A literal as an array of its type."""
    return x if isinstance(x, jax.Array) else jnp.asarray(x, aval.dtype)
