"""ICNR: the upsampled output is nearest-neighbor upsampling of a smaller layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxinit
from jaxinit.cli.expected import expected_stddev

KEY = jax.random.key(3)
ORDERS = ("depth_to_space", "pixel_shuffle")


def conv(x, kernel):
    letters = "HWD"[: x.ndim - 2]
    dims = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    strides = (1,) * (x.ndim - 2)
    return lax.conv_general_dilated(x, kernel, strides, "SAME", dimension_numbers=dims)


def to_space(x, factor, order):
    """Moves the channels of each pixel to a block of factor x ... x factor pixels."""
    batch, *spatial, channels = x.shape
    n = len(spatial)
    kept, block = channels // factor**n, (factor,) * n
    if order == "depth_to_space":  # as tf.nn.depth_to_space
        x = x.reshape(batch, *spatial, *block, kept)
    else:  # as torch.nn.PixelShuffle
        x = x.reshape(batch, *spatial, kept, *block)
        x = jnp.moveaxis(x, 1 + n, -1)
    pairs = [axis for i in range(n) for axis in (1 + i, 1 + n + i)]
    x = x.transpose(0, *pairs, x.ndim - 1)
    return x.reshape(batch, *(factor * size for size in spatial), kept)


@pytest.mark.parametrize(
    ("ndim", "factor", "order"),
    [(1, 1, ORDERS[0]), (1, 3, ORDERS[1]), (3, 2, ORDERS[0]), (2, 2, ORDERS[1])],
)
def test_output_is_nearest_neighbor_upsampling(order, factor, ndim):
    x = jax.random.normal(jax.random.key(1), (2, *(5, 4, 3)[:ndim], 3))
    taps = (3, 2, 3)[:ndim]
    kernel = jaxinit.ICNR("he_normal", factor, order)(KEY, (*taps, 3, 5 * factor**ndim))
    inner = jaxinit.HeNormal()(KEY, (*taps, 3, 5))
    expected = conv(x, inner)
    for axis in range(1, 1 + ndim):
        expected = jnp.repeat(expected, factor, axis=axis)
    got = to_space(conv(x, kernel), factor, order)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_to_space_is_that_of_torch():
    torch = pytest.importorskip("torch")
    x = np.arange(2.0 * 3 * 4 * 8).reshape(2, 3, 4, 8)
    ours = to_space(jnp.asarray(x), 2, "pixel_shuffle")
    theirs = torch.nn.PixelShuffle(2)(torch.tensor(x).permute(0, 3, 1, 2))
    np.testing.assert_array_equal(ours, theirs.permute(0, 2, 3, 1))


def test_fans_are_those_of_the_kernel_before_copying():
    init = jaxinit.ICNR("glorot_normal")
    w = init(KEY, (3, 3, 200, 400))
    expected = 2 / (9 * (200 + 100))
    assert expected_stddev(init, w.shape) == pytest.approx(expected**0.5)
    n = w.size / 4
    assert abs(float(w.var()) / expected - 1) < 5 * (2 / n) ** 0.5


def test_rounds_once():
    init = jaxinit.ICNR("he_normal")
    narrow = init(KEY, (3, 3, 4, 8), jnp.float16)
    wide = init(KEY, (3, 3, 4, 8))
    np.testing.assert_array_equal(narrow, wide.astype(jnp.float16))


def test_needs_no_key_if_the_inner_initializer_needs_none():
    assert (jaxinit.ICNR("ones")(None, (3, 4, 4)) == 1).all()
    assert (jaxinit.ICNR("ones")(None, (3, 4, 4), jnp.int8) == 1).all()
    assert (jaxinit.functional.icnr(None, (3, 4, 4), initializer="zeros") == 0).all()
    with pytest.raises(TypeError, match="seed=0"):
        jaxinit.ICNR("he_normal")(None, (3, 4, 4))
    with pytest.raises(TypeError, match="key"):
        jaxinit.functional.icnr(None, (3, 4, 4), initializer="he_normal")


def test_accepts_every_identifier_that_get_accepts():
    init = jaxinit.ICNR(jaxinit.HeNormal())
    for same in ("he_normal", jaxinit.HeNormal, jaxinit.serialize(jaxinit.HeNormal())):
        assert jaxinit.ICNR(same) == init
    config = jaxinit.serialize(init)
    assert config["config"]["initializer"]["class_name"] == "HeNormal"
    keras = {"class_name": "HeNormal", "module": "keras.initializers", "config": {}}
    found = jaxinit.deserialize(config | {"config": {"initializer": keras}})
    assert found == jaxinit.ICNR(jaxinit.HeNormal(in_axis=None, out_axis=None))
    table = jaxinit.ICNR(np.ones((3, 2, 1)))
    assert (table(None, (3, 2, 2)) == 1).all()
    foreign = jaxinit.ICNR(jax.nn.initializers.he_normal())
    np.testing.assert_allclose(foreign(KEY, (3, 4, 8)), init(KEY, (3, 4, 8)), rtol=1e-6)
    with pytest.raises(TypeError, match="plain data"):
        foreign.get_config()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: jaxinit.ICNR(None), TypeError, r"ICNR\(initializer=.*name.*None"),
        (lambda: jaxinit.ICNR(3), TypeError, r"ICNR\(initializer=...\): get"),
        (lambda: jaxinit.ICNR(int), TypeError, "initializer"),
        (lambda: jaxinit.ICNR("he_norml"), ValueError, "ICNR.*'he_normal'"),
        (lambda: jaxinit.ICNR("zeros", 0), ValueError, "factor=.*at least 1"),
        (lambda: jaxinit.ICNR("zeros", 2.0), TypeError, "factor=.*an int"),
        (lambda: jaxinit.ICNR("zeros", order="x"), ValueError, "'pixel_shuffle'"),
        (lambda: jaxinit.ICNR("zeros")(None, (4, 4)), ValueError, "spatial"),
        (lambda: jaxinit.ICNR("zeros")(None, (3, 3, 4, 6)), ValueError, "factor^2"),
        (
            lambda: jaxinit.ICNR(lambda key, shape, dtype: jnp.zeros(4))(
                KEY, (3, 4, 4)
            ),
            ValueError,
            r"the requested shape \(3, 4, 2\)",
        ),
    ],
)
def test_refusals(call, kind, message):
    with pytest.raises(kind, match=message.replace("^", r"\^")):
        call()
