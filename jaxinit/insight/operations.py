"""The kinds of operations in a program, by the names of their primitives."""

from .._compat import callees
from ..planning.flatten import flatten, nodes_within
from ..planning.ir import Node

PRODUCTS = {
    "dot_general": "dot",
    "conv_general_dilated": "conv",
    "ragged_dot": "dot",
    "ragged_dot_general": "dot",
}
LOOKUPS = {"gather", "dynamic_slice"}
RESHAPING = {
    "broadcast_in_dim",
    "convert_element_type",
    "copy",
    "expand_dims",
    "reshape",
    "reduce_precision",
    "squeeze",
    "transpose",
}
LINEAR = set("add convert_element_type copy div mul neg sub".split())
ELEMENTWISE = LINEAR | set(
    "abs and atan atan2 cbrt ceil clamp cos cosh eq erf erf_inv erfc exp exp2 expm1 "
    "floor ge gt integer_pow is_finite le log log1p logistic lt max min ne not or pow "
    "reduce_precision rem round rsqrt select_n sign sin sinh sqrt square "
    "stop_gradient tan tanh xor".split()
)
REMAT = {"checkpoint", "remat2"}
_CUSTOM_VJP = {"custom_vjp_call", "custom_vjp_call_jaxpr"}


def keeps(node: Node) -> bool:
    """True if a call stays one operation, because it has its own derivative rule.

    A function with a rule for forward derivatives, as relu, is looked into only if it
    holds a product. A remat stays a level of its own, so that it saves memory.
    """
    if node.name == "custom_jvp_call":
        inner = nodes_within(flatten(node.params["call_jaxpr"]).nodes)
        return not any(n.name in PRODUCTS for n in inner)
    return node.name in _CUSTOM_VJP or node.name in REMAT


def is_inverse(node: Node, of_constant: bool) -> bool:
    """True for 1 / x, x ** -n and 1 / sqrt(x).

    Args:
        node: The operation.
        of_constant: True if its first input is constant.
    """
    if node.name == "integer_pow":
        return node.params["y"] < 0
    return node.name in ("rsqrt", "pow") or (node.name == "div" and of_constant)


def is_elementwise(node: Node) -> bool:
    """True for an operation, or a call of operations, on each element by itself."""
    if callees(node.params):
        inner = nodes_within(flatten(callees(node.params)[0]).nodes)
        return all(n.name in ELEMENTWISE | {"broadcast_in_dim"} for n in inner)
    return node.name in ELEMENTWISE
