"""How a layer reads one of its arrays, where the class of the layer says so."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Layout:
    """The initializer calls that make an array, and where their results go.

    An initializer reads a kernel as ``(*taps, in, out)``. A layer may store the axes
    in another order, split features over several axes, or stack the kernels of
    several layers. The stored array is, for each of the stacked layers, the result
    of one call, reshaped and transposed.

    Attributes:
        shape: Shape that the initializer is asked for: ``(768, 768)``.
        split: Shape to which the result is reshaped: ``(768, 12, 64)``.
        order: Axis of the reshaped result that each stored axis is: ``(1, 0)`` for
            a kernel that is stored as (out, in).
        stacked: Number of leading axes of the array that count stacked layers.
    """

    shape: tuple[int, ...]
    split: tuple[int, ...]
    order: tuple[int, ...]
    stacked: int = 0

    @classmethod
    def plain(cls, shape: tuple[int, ...], stacked: int = 0) -> "Layout":
        """The layout of an array that is stored as its initializer returns it."""
        return cls(shape, shape, tuple(range(len(shape))), stacked)
