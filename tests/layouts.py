"""Arrays stored as a `Layout` says, from the kernels that an initializer would give."""

import math

import numpy as np


def kernels_of(layout, shape, seed=0):
    """Float64 kernels of an array of ``shape``: one, or one for each stacked layer."""
    lead = tuple(shape)[: layout.stacked]
    return np.random.default_rng(seed).standard_normal((*lead, *layout.shape))


def stored(layout, kernels):
    """The array that holds these kernels, in float32; what a rule has to make."""
    lead = kernels.shape[: layout.stacked]
    assert kernels.shape == (*lead, *layout.shape)
    slices = [
        kernel.reshape(layout.split).transpose(layout.order)
        for kernel in kernels.reshape(math.prod(lead), *layout.shape)
    ]
    return np.stack(slices).reshape(*lead, *layout.stored).astype(np.float32)
