"""Feature axes of the result of a site; all other axes are rows."""

import math

from ..planning.ir import Node


def features_of(
    node: Node, weight: int, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], int | None]:
    """Axes of features of a result, and the fan-in of its elements."""
    last = (len(shape) - 1,) if shape else ()
    avals = [v.aval for v in node.eqn.invars]
    if node.name in ("dot_general", "ragged_dot_general"):
        numbers, groups = node.params.get("dimension_numbers"), ()
        if numbers is None:  # rows in groups, each with a matrix of its own
            ragged = node.params["ragged_dot_dimension_numbers"]
            numbers = ragged.dot_dimension_numbers
            groups = ragged.rhs_group_dimensions if weight == 1 else ()
        contracted, batch = numbers
        sizes = [avals[weight].shape[axis] for axis in contracted[weight]]
        used = len(contracted[weight]) + len(batch[weight]) + len(groups)
        count = len(avals[weight].shape) - used
        start = len(batch[0]) if weight == 0 else len(shape) - count
        return tuple(range(start, start + count)), math.prod(sizes)
    if node.name == "conv_general_dilated":
        numbers = node.params["dimension_numbers"]
        kernel = avals[1].shape
        taps = [kernel[axis] for axis in numbers.rhs_spec[1:]]
        return (numbers.out_spec[1],), math.prod(taps)
    if node.name == "gather":
        return tuple(node.params["dimension_numbers"].offset_dims), None
    return last, None


def moved(
    node: Node, features: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Returns the feature axes after an operation that changes the shape alone."""
    if node.name == "transpose":
        places = [node.params["permutation"].index(axis) for axis in features]
        return tuple(sorted(places))
    if node.name == "broadcast_in_dim":
        return tuple(node.params["broadcast_dimensions"][axis] for axis in features)
    if node.name in ("reshape", "squeeze", "expand_dims"):
        # Counted from the end, which is where most layers have their features.
        return (len(shape) - 1,) if shape else ()
    return features
