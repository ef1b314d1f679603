"""ZerO, compared with the formula in its authors' code."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import hadamard

import jaxinit


def by_the_authors(outputs, inputs):
    """Returns I* H I* / 2^(m / 2) in PyTorch's layout, or a partial identity."""
    if outputs <= inputs:
        return np.eye(outputs, inputs)
    m = math.ceil(math.log2(outputs))
    return (
        np.eye(outputs, 2**m) @ (hadamard(2**m) / 2 ** (m / 2)) @ np.eye(2**m, inputs)
    )


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (5, 3), (3, 5), (7, 8), (8, 9), (16, 64), (33, 100)]
)
def test_values_are_the_transpose_of_the_authors_matrix(shape):
    w = jaxinit.ZerO()(None, shape)
    np.testing.assert_allclose(w.T, by_the_authors(*shape[::-1]), rtol=1e-7)


@pytest.mark.parametrize("inputs", [1, 3, 64])
@pytest.mark.parametrize("outputs", [64, 128, 1024])
def test_keeps_lengths_where_outputs_are_a_power_of_two(inputs, outputs):
    w = np.asarray(jaxinit.ZerO()(None, (inputs, outputs)))
    np.testing.assert_allclose(w @ w.T, np.eye(inputs), atol=1e-6)


def test_convolution_has_the_matrix_at_the_center_tap_only():
    kernel = np.array(jaxinit.ZerO()(None, (4, 3, 6, 10)))
    np.testing.assert_array_equal(kernel[1, 1], jaxinit.ZerO()(None, (6, 10)))
    kernel[1, 1] = 0
    assert not kernel.any()


def test_values_are_exact_in_narrow_dtypes_if_the_power_is_even():
    w = jaxinit.ZerO()(None, (8, 64), jnp.float8_e5m2).astype(jnp.float32)
    np.testing.assert_array_equal(np.abs(w), 1 / 8)


def test_refused_arguments():
    with pytest.raises(ValueError, match=r"zer_o\(shape=.*in, out\); got \(3,\)"):
        jaxinit.ZerO()(None, (3,))
    with pytest.raises(TypeError, match="dtype"):
        jaxinit.ZerO()(None, (3, 4), jnp.int32)
