"""Identity and Dirac: maps that return their input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxinit

KEY = jax.random.key(0)


def conv(x, kernel, groups=1):
    """Convolves ``x`` (batch, *spatial, in) with SAME padding."""
    letters = "HWD"[: x.ndim - 2]
    dims = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return lax.conv_general_dilated(
        x,
        kernel,
        (1,) * (x.ndim - 2),
        "SAME",
        dimension_numbers=dims,
        feature_group_count=groups,
        precision=lax.Precision.HIGHEST,
    )


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4), (4, 1)])
@pytest.mark.parametrize("shift", [0, 1, 2, -1, 7])
def test_shifted_identity_moves_input_i_to_output_i_plus_shift(shape, shift):
    rows, columns = shape
    x = jnp.arange(1.0, rows + 1)
    y = np.zeros(columns)
    for i in range(min(rows, columns)):
        y[(i + shift) % columns] = i + 1
    np.testing.assert_array_equal(x @ jaxinit.Identity(shift=shift)(None, shape), y)


def test_shift_in_batches_and_dtypes():
    init = jaxinit.Identity(2.0, batch_axis=1, shift=1)
    w = init(None, (3, 2, 4), jnp.int8)
    expected = 2 * np.roll(np.eye(3, 4), 1, axis=1)
    for batch in range(2):
        np.testing.assert_array_equal(w[:, batch], expected)
    assert jaxinit.Identity(shift=3)(None, (4, 0)).shape == (4, 0)


def test_shifts_share_one_executable(compilations):
    for shift in range(4):
        jaxinit.Identity(shift=shift)(None, (19, 23))
    assert len(compilations) == 1, compilations


def test_shift_of_square_keeps_the_norm_of_a_recurrent_state():
    w = jaxinit.Identity(shift=1)(None, (6, 6))
    x = jax.random.normal(KEY, (6,))
    np.testing.assert_array_equal(jnp.roll(x, 5), np.asarray(x @ w @ w @ w @ w @ w))
    np.testing.assert_array_equal(w @ w.T, np.eye(6))


@pytest.mark.parametrize(
    ("ndim", "k"), [(1, 1), (1, 2), (1, 4), (2, 3), (2, 4), (3, 2), (3, 5)]
)
def test_dirac_is_the_identity_under_same(ndim, k):
    x = jax.random.normal(KEY, (2, *(7, 6, 5)[:ndim], 3))
    kernel = jaxinit.Dirac()(None, (*(k, 3, 2)[:ndim], 3, 3))
    np.testing.assert_array_equal(conv(x, kernel), x)


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("outputs", [4, 8, 12])
def test_dirac_in_groups_returns_the_channels_of_each_group(k, outputs):
    """Two groups of 4 inputs: the first outputs of each are its inputs."""
    x = jax.random.normal(KEY, (2, 9, 8))
    y = conv(x, jaxinit.Dirac(groups=2, gain=0.5)(None, (k, 4, outputs)), groups=2)
    own, kept = outputs // 2, min(4, outputs // 2)
    for group in range(2):
        part = y[..., group * own : (group + 1) * own]
        expected = 0.5 * x[..., group * 4 : group * 4 + kept]
        np.testing.assert_array_equal(part[..., :kept], expected)
        np.testing.assert_array_equal(part[..., kept:], 0)


def test_depthwise_dirac():
    x = jax.random.normal(KEY, (2, 5, 6, 4))
    kernel = jaxinit.Dirac(groups=4)(None, (2, 3, 1, 4))
    np.testing.assert_array_equal(conv(x, kernel, groups=4), x)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: jaxinit.Identity(shift=0.5), TypeError, r"shift=.*an int; got 0\.5"),
        (lambda: jaxinit.Identity(shift=True), TypeError, "shift"),
        (lambda: jaxinit.Dirac(0), ValueError, "groups=.*at least 1; got 0"),
        (lambda: jaxinit.Dirac(gain=float("inf")), ValueError, "gain.*finite"),
        (lambda: jaxinit.Dirac()(None, (4, 4)), ValueError, "shape=.*spatial"),
        (lambda: jaxinit.Dirac(3)(None, (3, 2, 4)), ValueError, "groups=.*divisor"),
        (
            lambda: jaxinit.Dirac(gain=0.5)(None, (3, 2, 4), jnp.int32),
            ValueError,
            "int32",
        ),
    ],
)
def test_refusals(call, kind, message):
    with pytest.raises(kind, match=message):
        call()
