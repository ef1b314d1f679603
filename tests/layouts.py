"""Kernels as an initializer draws them, and the arrays that store them."""

import math

import numpy as np


def kernels_of(layout, shape, seed=0):
    """Returns random float64 kernels for an array, one for each stacked layer."""
    lead = [shape[axis] for axis in layout.stacked]
    return np.random.default_rng(seed).standard_normal((*lead, *layout.shape))


def stored(layout, kernels):
    """Returns the float32 array that stores the kernels, as a rule must make it."""
    lead = kernels.shape[: len(layout.stacked)]
    assert kernels.shape == (*lead, *layout.shape)
    slices = [
        kernel.reshape(layout.split).transpose(layout.order)
        for kernel in kernels.reshape(math.prod(lead), *layout.shape)
    ]
    made = np.stack(slices).reshape(*lead, *layout.stored).astype(np.float32)
    return np.moveaxis(made, range(len(lead)), layout.stacked)
