"""The inverse error function away from its ends, with the bits that XLA computes.

XLA has one polynomial for |x| < 0.9966 and one for the tails, and selects between
their coefficients for every element. A normal truncated at two standard deviations
stays within 0.955, where this takes an eighth less time.

References:
    Giles, "Approximating the erfinv function", 2010, single precision.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax import lax

from .._compat import ERF_INV_IS_GILES, is_literal
from .flatten import Node, Value

_CENTER = 0.99
_LARGE = 100.0  # what is rounded where values are larger may change their ends
# Of w = -log(1 - x^2) - 2.5, from its highest power.
_COEFFICIENTS = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
    -0.00125372503,
    -0.00417768164,
    0.246640727,
    1.50140941,
)
# Operations that keep or turn the order of what varies, if one operand does.
_MONOTONE: dict[str, Any] = {
    "add": np.add,
    "broadcast_in_dim": np.asarray,
    "div": np.divide,
    "erf": np.vectorize(math.erf),
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "or": np.bitwise_or,
    "reshape": np.asarray,
    "shift_right_logical": np.right_shift,
    "sub": np.subtract,
}


def central_erf_inv(x: Any) -> jax.Array:
    """``lax.erf_inv`` of float32 operands of magnitude at most 0.99."""
    w = -lax.log1p(x * -x) - np.float32(2.5)
    highest, *others = map(np.float32, _COEFFICIENTS)
    return functools.reduce(lambda p, c: p * w + c, others, highest) * x


def central_nodes(draw: Node, steps: Sequence[Node]) -> set[Value]:
    """Outputs of the operations that `central_erf_inv` can take the place of.

    Only between a bound and a product, as in a truncated normal: next to others, XLA
    and LLVM may merge parts of theirs with parts of erf_inv.

    Args:
        draw: A draw of random bits.
        steps: Operations on them, element by element.
    """
    central = set[Value]()
    if not ERF_INV_IS_GILES or all(node.name != "erf_inv" for node in steps):
        return central
    makers = {node.outputs[0]: node.name for node in steps}
    width = np.dtype(f"uint{draw.params['bit_width']}")
    # What each value is for the lowest and the highest bits.
    ends = {draw.outputs[0]: np.array([0, -1]).astype(width)}
    for node in steps:
        out = node.outputs[0]
        inputs = [_literal(a) if is_literal(a) else ends.get(a) for a in node.inputs]
        known = [x for x in inputs if x is not None]
        if len(known) < len(inputs):
            continue
        if node.name == "erf_inv" and known[0].dtype == np.float32:
            x = node.inputs[0]
            bounded = not is_literal(x) and makers.get(x) in ("clamp", "max", "min")
            users = [n.name for n in steps if any(v is out for v in n.inputs)]
            inside = np.abs(known[0]).max() <= _CENTER
            if bounded and users == ["mul"] and inside:
                central.add(out)
        elif sum(x[0] != x[1] for x in known) <= 1:
            with np.errstate(all="ignore"):
                made = _ends(node, known)
            if made is not None:
                ends[out] = made
    return central


def _literal(atom: Any) -> np.ndarray:
    return np.full(2, np.asarray(atom.val, atom.aval.dtype).reshape(()))


def _ends(node: Node, known: list[np.ndarray]) -> np.ndarray | None:
    """The ends of a result; None if what lies between may be beyond them."""
    if node.eqn.outvars[0].aval.dtype != np.float32:
        # On integers without a sign, those whose order no carry breaks.
        disjoint = node.name == "or" and not (known[0] & known[1]).any()
        kept = disjoint or node.name in ("shift_right_logical", "reshape")
        kept = kept and known[0].dtype.kind == "u"
        return _MONOTONE[node.name](*known) if kept else None
    if node.name == "bitcast_convert_type" and known[0].dtype == np.uint32:
        made = known[0].view(np.float32)  # ordered as integers are, if positive
        return made if made.min() > 0 and made.max() < _LARGE else None
    if node.name == "convert_element_type":
        made = known[0]
    elif node.name in _MONOTONE and (node.name != "div" or known[1][0] == known[1][1]):
        made = _MONOTONE[node.name](*known)
    else:
        return None
    return made.astype(np.float32) if np.abs(made).max() < _LARGE else None
