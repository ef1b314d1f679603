"""Interpolation kernels interpolate: sums of weights, ramps, channels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxinit

UP, DOWN = jaxinit.BilinearUpsampling(), jaxinit.LinearDownsampling()
KERNELS = [2, 3, 4, 5, 6, 7, 8]
HIGHEST = lax.Precision.HIGHEST


def upsample(x, kernel, stride):
    """Upsamples (batch, *spatial, channels) by a transposed convolution, as Flax."""
    letters = "HW"[: x.ndim - 2]
    dims = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    strides = (stride,) * (x.ndim - 2)
    return lax.conv_transpose(
        x, kernel, strides, "SAME", dimension_numbers=dims, precision=HIGHEST
    )


def downsample(x, kernel, stride, groups=1):
    letters = "HW"[: x.ndim - 2]
    dims = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride,) * (x.ndim - 2),
        "VALID",
        dimension_numbers=dims,
        feature_group_count=groups,
        precision=HIGHEST,
    )


@pytest.mark.parametrize("k", KERNELS)
def test_upsampling_keeps_constants_and_ramps(k):
    """Inside, second differences vanish and the slope is divided by s."""
    stride = (k + 1) // 2
    kernel = UP(None, (k, 1, 1))
    inside = slice(2 * k, -2 * k)
    ones = upsample(jnp.ones((1, 20, 1)), kernel, stride)[0, :, 0]
    assert ones.shape == (20 * stride,)
    np.testing.assert_allclose(ones[inside], 1, rtol=1e-6)
    ramp = upsample(jnp.arange(20.0)[None, :, None], kernel, stride)[0, :, 0]
    np.testing.assert_allclose(np.diff(ramp[inside]), 1 / stride, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_upsampling_by_the_usual_kernel_is_centered(stride):
    """With k = 2 s - s % 2 taps the middle of the image keeps its value."""
    kernel = UP(None, (2 * stride - stride % 2, 1, 1))
    ramp = upsample(jnp.arange(-10.0, 11)[None, :, None], kernel, stride)[0, :, 0]
    positions = (np.arange(21 * stride) - (21 * stride - 1) / 2) / stride
    inside = slice(2 * stride, -2 * stride)
    np.testing.assert_allclose(ramp[inside], positions[inside], atol=1e-5)


def test_upsampling_is_bilinear_and_keeps_channels_apart():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    y = upsample(x, UP(None, (4, 4, 3, 3)), 2)
    expected = jax.image.resize(x, (2, 16, 16, 3), "bilinear")
    inside = np.s_[:, 2:-2, 2:-2]
    np.testing.assert_allclose(y[inside], expected[inside], atol=1e-5)


def test_depthwise_upsampling():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    y = lax.conv_general_dilated(
        x,
        UP(None, (4, 4, 1, 3)),
        (1, 1),
        ((2, 2), (2, 2)),
        lhs_dilation=(2, 2),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3,
        precision=HIGHEST,
    )
    full = upsample(x, UP(None, (4, 4, 3, 3)), 2)
    np.testing.assert_allclose(y, full, atol=1e-6)


@pytest.mark.parametrize("k", KERNELS)
def test_downsampling_keeps_constants_and_ramps(k):
    stride = (k + 1) // 2
    kernel = DOWN(None, (k, 1, 1))
    ones = downsample(jnp.ones((1, 40, 1)), kernel, stride)
    np.testing.assert_allclose(ones, 1, rtol=1e-6)
    ramp = downsample(jnp.arange(40.0)[None, :, None], kernel, stride)[0, :, 0]
    positions = stride * np.arange(len(ramp)) + (k - 1) / 2  # centers of the windows
    np.testing.assert_allclose(ramp, positions, rtol=1e-5)


def test_downsampling_keeps_channels_apart():
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 3))
    diagonal = downsample(x, DOWN(None, (3, 4, 3, 3)), 2)
    depthwise = downsample(x, DOWN(None, (3, 4, 1, 3)), 2, groups=3)
    np.testing.assert_allclose(diagonal, depthwise, atol=1e-6)
    first = downsample(x[..., :1], DOWN(None, (3, 4, 1, 1)), 2)
    np.testing.assert_allclose(diagonal[..., :1], first, atol=1e-6)


def test_the_kernel_is_the_product_of_one_filter_per_axis():
    one, other = UP(None, (4, 1, 1)).ravel(), UP(None, (7, 1, 1)).ravel()
    both = UP(None, (4, 7, 1, 1))[..., 0, 0]
    np.testing.assert_allclose(both, np.outer(one, other), rtol=1e-6)


@pytest.mark.parametrize("init", [UP, DOWN])
@pytest.mark.parametrize("shape", [(3, 3), (4, 4, 2, 3), (4, 4, 3, 1), (3,)])
def test_other_shapes_are_refused(init, shape):
    with pytest.raises(ValueError, match="in == out or in == 1"):
        init(None, shape)
