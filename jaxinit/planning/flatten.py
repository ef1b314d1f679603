"""A traced function as one flat program of live nodes."""

import itertools
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compat import (
    callees,
    is_key,
    jaxpr_as_fun,
    make_jaxpr,
    scan_parts,
    sub_jaxpr,
)
from .._prng import is_threefry
from .._program import PROGRAM_PREFIX
from .ir import Atom, Node, Program, Value, live, program_of, values

# The parameter that holds the callee of each primitive that only calls it.
_CALLEES = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
# The primitives among them that XLA compiles as functions, too.
_FUNCTIONS = {"jit", "pjit", "closed_call", "core_call"}
_INVARS, _OUTVARS = operator.attrgetter("invars"), operator.attrgetter("outvars")
_Live = list[tuple[Node, tuple[bool, ...]]]  # each with which of its outputs are used


def flatten(
    closed: Any,
    *,
    batch_scans: bool = False,
    keeps: Callable[[Node], bool] | None = None,
) -> Program:
    """Inlines every call of a closed jaxpr and removes dead code.

    Control flow (scan, while, cond) stays one node each, without the outputs that
    nothing uses and what only they needed inside.

    Args:
        closed: The jaxpr.
        batch_scans: Whether a scan over layers, whose steps do not depend on each
            other, is inlined too, as the operations of all its steps at once. The
            keys that its body computes are then keys of the program.
        keeps: True for calls that stay one node each, because their derivative is not
            that of the operations inside. None: no call stays.
    """
    flat = _Flattener(batch_scans, keeps)
    jaxpr, _ = sub_jaxpr(closed)
    inputs = [flat.new(v.aval) for v in jaxpr.invars]
    used = (True,) * len(jaxpr.outvars)
    outputs = flat.inline(closed, inputs, used, from_call=[False] * len(inputs))
    drawn = frozenset(flat.drawn)
    return Program(flat.nodes, inputs, outputs, flat.constants, flat.avals, drawn)


class _Flattener:
    def __init__(self, batch_scans: bool, keeps: Callable[[Node], bool] | None) -> None:
        self._batch_scans, self._keeps = batch_scans, keeps
        self.nodes: list[Node] = []
        self.avals: dict[Value, Any] = {}
        self.constants: dict[Value, Any] = {}
        self.drawn = set[Value]()
        self._from_literals = set[Value]()  # computed from literals alone
        # JAX traces a function once per shape, so callees recur.
        self._live: dict[tuple[int, tuple[bool, ...]], tuple[Program, _Live]] = {}

    def new(self, aval: Any) -> Value:
        value = Value()
        self.avals[value] = aval
        return value

    def inline(
        self,
        closed: Any,
        arguments: Sequence[Atom],
        used: tuple[bool, ...],
        from_call: Sequence[bool],
    ) -> list[Atom]:
        """Adds the nodes that the used outputs need; returns None for unused outputs.

        Args:
            closed: The jaxpr that is called.
            arguments: What it is called with.
            used: Which of its outputs are used.
            from_call: Which of its arguments are, or are computed from, arguments of
                a function for XLA.
        """
        program, nodes = self._read(closed, used)
        env: dict[Value, Atom] = dict(zip(program.inputs, arguments, strict=True))
        # Two closed jaxprs may share an open one and hold other constants.
        for v, constant in zip(program.constants, sub_jaxpr(closed)[1], strict=True):
            env[v] = self.new(program.avals[v])
            self.constants[env[v]] = constant
        pairs = zip(program.inputs, from_call, strict=True)
        passed = {v for v, passes in pairs if passes}
        for node, node_used in nodes:
            inputs = [env.get(a) if type(a) is Value else a for a in node.inputs]
            reads_passed = bool(passed) and not passed.isdisjoint(values(node.inputs))
            if reads_passed:
                passed.update(node.outputs)
            callee = _CALLEES.get(node.name)
            is_kept = self._keeps is not None and self._keeps(node)
            if callee in node.params and not is_kept:
                is_function = node.name in _FUNCTIONS
                inner = [
                    is_function or (type(a) is Value and a in passed)
                    for a in node.inputs
                ]
                outputs = self.inline(node.params[callee], inputs, node_used, inner)
                if str(node.params.get("name")).startswith(PROGRAM_PREFIX):
                    self.drawn.update(values(outputs))
            else:
                outputs = [self.new(program.avals[v]) for v in node.outputs]
                scalar = False
                if self._from_literals.issuperset(values(inputs)):
                    self._from_literals.update(outputs)
                    scalar = reads_passed and _is_inexact_scalar(node)
                moved = Node(node.eqn, inputs, outputs, from_call_constants=scalar)
                outputs = self._add(moved.keep(node_used), outputs)
            env.update(zip(node.outputs, outputs, strict=True))
        return [env.get(a) if type(a) is Value else a for a in program.outputs]

    def _add(self, node: Node, outputs: Sequence[Value]) -> Sequence[Atom | None]:
        """Adds a node, or what it does to all layers; returns what its outputs are."""
        batched = _batched(node) if self._batch_scans and node.name == "scan" else None
        if batched is None:
            self.nodes.append(node)
            return outputs
        used, from_call = [True] * len(node.outputs), [False] * len(node.inputs)
        made = self.inline(batched, node.inputs, tuple(used), from_call)
        return list(map(dict(zip(node.outputs, made, strict=True)).get, outputs))

    def _read(self, closed: Any, used: tuple[bool, ...]) -> tuple[Program, _Live]:
        """Returns the program of a callee, and the nodes that its used outputs need.

        Inputs of a call count as needed even where its callee ignores them; their
        nodes are dropped in `partition`, which starts from the results.
        """
        jaxpr, _ = sub_jaxpr(closed)
        if (id(jaxpr), used) not in self._live:
            needed = itertools.compress(jaxpr.outvars, used)
            pairs = live(jaxpr.eqns, needed, _INVARS, _OUTVARS)
            program = program_of(closed, [eqn for eqn, _ in pairs])
            masks = [mask for _, mask in pairs]
            nodes = list(zip(program.nodes, masks, strict=True))
            self._live[id(jaxpr), used] = program, nodes
        return self._live[id(jaxpr), used]


def _batched(node: Node) -> Any | None:
    """Returns the jaxpr of all steps of a scan at once; None if a carry joins them."""
    consts, carry, stacked = scan_parts(node.params, node.inputs)
    # Batched, keys of other implementations draw other values than one by one.
    if carry or node.effects or not _all_threefry(node):
        return None
    body = jaxpr_as_fun(node.params["jaxpr"])
    axes = 0, *[None] * len(consts), *[0] * len(stacked)
    steps = jax.vmap(lambda step, *inputs: body(*inputs), axes)
    count = np.arange(node.params["length"])
    avals = [v.aval for v in node.eqn.invars]
    try:
        return make_jaxpr(lambda *inputs: steps(count, *inputs), avals)
    except NotImplementedError:  # JAX cannot batch a callback without vmap_method
        return None


def _all_threefry(node: Node) -> bool:
    """True if all keys that an operation reads or makes are of Threefry-2x32."""
    inside = nodes_within([node])
    avals = [v.aval for n in inside for v in (*n.eqn.invars, *n.eqn.outvars)]
    return all(is_threefry(aval) for aval in avals if is_key(aval))


def _is_inexact_scalar(node: Node) -> bool:
    """True if an operation makes floating-point scalars alone."""
    avals = [v.aval for v in node.eqn.outvars]
    inexact = all(jnp.issubdtype(aval.dtype, jnp.inexact) for aval in avals)
    return inexact and all(math.prod(aval.shape) == 1 for aval in avals)


def nodes_within(nodes: Iterable[Node]) -> Iterator[Node]:
    """Every operation, those inside loops included."""
    for node in nodes:
        yield node
        for inner in callees(node.params):
            yield from nodes_within(flatten(inner).nodes)
