"""Keras's initializers and ours have the same distributions; Keras's configs."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jaxinit
from cases import CASES, ulps
from jaxinit.initializers import keras_configs

keras = pytest.importorskip("keras")
I = keras.initializers  # noqa: E741
from_keras, to_config = jaxinit.keras.from_keras, jaxinit.keras.to_config

SHAPES = [(), (2001,), (60, 50), (5, 20, 30), (3, 3, 16, 20), (2, 3, 3, 10, 16)]
SCALED = [I.GlorotNormal, I.GlorotUniform, I.HeNormal, I.HeUniform]
SCALED += [I.LecunNormal, I.LecunUniform]
MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = (
    "truncated_normal",
    "normal",
    "Normal",
    "untruncated_normal",
    "uniform",
)
# Every random initializer of Keras with its arguments, and ranks of shapes for it.
RANDOM = [
    *((cls(seed=3), range(6)) for cls in SCALED[1:3]),
    *((cls(seed=3), [1, 4]) for cls in SCALED[:1] + SCALED[3:]),
    *((cls(3, [0], [2, 1]), [3, 5]) for cls in SCALED),
    *((cls(3, input_axes=[0]), [0, 2, 5]) for cls in SCALED),  # Keras ignores it
    *(
        (I.VarianceScaling(0.5, mode, distribution, seed=3), [0, 1, 4])
        for mode in MODES
        for distribution in DISTRIBUTIONS
    ),
    (I.VarianceScaling(2, "fan_avg", "uniform", 3, [-1], [0, 1]), range(3, 6)),
    (I.VarianceScaling(2.0, seed=3, input_axes=[], output_axes=[-1]), range(1, 6)),
    (I.RandomNormal(seed=3), [0, 1, 4]),
    (I.RandomNormal(0.3, 2.0, seed=3), [0, 1, 4]),
    (I.RandomNormal(jnp.float32(0.3), jnp.float32(2.0), seed=3), [4]),
    (I.RandomUniform(seed=3), [0, 1, 4]),
    (I.RandomUniform(0.5, 2, seed=3), [0, 1, 4]),
    (I.TruncatedNormal(seed=3), [0, 1, 4]),
    (I.TruncatedNormal(-1.0, 0.5, seed=3), [0, 1, 4]),
]
EXACT = [I.Zeros(), I.Ones(), I.Constant(), I.Constant(0.3), I.Constant(2)]
ARRAYS = [
    I.Constant(np.linspace(-1, 1, 16, dtype="float32")),
    I.Constant(jnp.arange(16.0)),
    I.Constant(jnp.asarray(0.25)),
    I.Constant(np.arange(4)[:, None]),
]
IDENTITY = [I.Identity(), I.Identity(gain=-0.5)]
STFT = [
    I.STFT(),
    I.STFT("imag"),
    I.STFT("imag", "hamming", "spectrum", True),
    I.STFT(window=None),
    I.STFT("real", ("blackman"), None),
    I.STFT(window=[1.0, 2.0] * 8),
]
ORTHOGONAL = [(I.Orthogonal(seed=3), [2, 4]), (I.Orthogonal(0.5, 3), [2])]
EVERY = [*(k for k, _ in RANDOM + ORTHOGONAL), *EXACT, *ARRAYS, *IDENTITY, *STFT]


def name(initializer):
    config = initializer.get_config()
    return f"{type(initializer).__name__}-{str(config)[:60]}"


def cases(table):
    return [
        pytest.param(k, SHAPES[rank], id=f"{i}-{type(k).__name__}-{rank}")
        for i, (k, ranks) in enumerate(table)
        for rank in ranks
    ]


def key_of(seed):
    """Returns the key that Keras uses on the JAX backend."""
    return jnp.array([seed, 0], jnp.uint32)


def test_every_class_of_keras_is_in_the_tables():
    classes = {
        cls
        for cls in vars(I).values()
        if isinstance(cls, type) and cls is not I.Initializer
    }
    assert {cls.__name__ for cls in classes} == set(keras_configs.CLASSES)
    missing = classes - {type(k) for k in EVERY}
    assert not missing


@pytest.mark.parametrize(("theirs", "shape"), cases(RANDOM))
def test_values_are_keras_values(theirs, shape):
    """The same key gives the same values, and so the same distribution."""
    ours = from_keras(theirs)(key_of(3), shape)
    # An ulp of the largest: Keras adds the mean, and scales, in float32 steps.
    scale = float(abs(ours).max())
    np.testing.assert_allclose(ours, theirs(shape), rtol=1e-6, atol=1e-6 * scale)


# These have equal distributions, but not equal values from the same key.
@pytest.mark.parametrize(("theirs", "shape"), cases(ORTHOGONAL))
def test_distributions_equal_those_of_keras(theirs, shape):
    """Compares two samples of independent keys, and their supports exactly."""
    ours = np.asarray(from_keras(theirs)(jax.random.key(11), shape)).ravel()
    sample = np.asarray(theirs(shape)).ravel()
    assert stats.ks_2samp(ours, sample).pvalue > 1e-4
    assert abs(ours.std() / sample.std() - 1) < 0.1


@pytest.mark.parametrize("theirs", EXACT + ARRAYS, ids=name)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32"])
def test_constants_equal_those_of_keras(theirs, dtype):
    for shape in [(4, 16), (2, 3, 4, 16)]:
        ours = from_keras(theirs)
        expected = np.asarray(theirs(shape, dtype))
        # A fraction as an integer, which Keras cuts, is refused.
        if dtype == "int32" and (np.asarray(theirs((4, 16))) % 1).any():
            with pytest.raises(ValueError, match="representable in int32"):
                ours(None, shape, dtype)
            continue
        got = np.asarray(ours(None, shape, dtype))
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("theirs", IDENTITY, ids=name)
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3)])
def test_identity_equals_that_of_keras(theirs, shape):
    for dtype in ("float32", "bfloat16"):
        got = np.asarray(from_keras(theirs)(None, shape, dtype))
        np.testing.assert_array_equal(got, np.asarray(theirs(shape, dtype)))
    for wrong in [(4,), (2, 3, 3)]:
        with pytest.raises(ValueError):
            theirs(wrong)
        with pytest.raises(ValueError, match="two dimensions"):
            from_keras(theirs)(None, wrong)


@pytest.mark.parametrize("theirs", STFT, ids=name)
def test_stft_equals_that_of_keras(theirs):
    """Float32 values are equal. In narrow dtypes Keras rounds after each operation."""
    ours = from_keras(theirs)
    for shape in [(16, 1, 9), (16, 1, 257)]:
        np.testing.assert_array_equal(ours(None, shape), theirs(shape))
        jitted = jax.jit(lambda shape=shape: ours(None, shape))()
        np.testing.assert_array_equal(jitted, theirs(shape))
        narrow = ours(None, shape, "bfloat16")
        np.testing.assert_array_equal(narrow, theirs(shape).astype("bfloat16"))


def test_depthwise_kernels_have_the_fans_of_keras():
    """Keras counts all channels as inputs; docs/migration.md tells how to count one."""
    layer = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, use_bias=False)
    layer.depthwise_initializer = I.HeUniform(seed=3)
    layer.build((None, 8, 8, 16))
    (kernel,) = layer.weights
    assert kernel.shape == (3, 3, 16, 2)
    ours = from_keras(layer.depthwise_initializer)
    np.testing.assert_allclose(ours(key_of(3), (3, 3, 16, 2)), kernel, rtol=1e-6)
    one = jaxinit.HeUniform(in_axis=(), out_axis=-1, batch_axis=-2)
    assert abs(one(key_of(3), (3, 3, 16, 2))).max() > 3.5 * abs(kernel.value).max()


@pytest.mark.parametrize("theirs", EVERY, ids=name)
def test_configs_of_keras_round_trip(theirs):
    """Object, config, JSON and to_config name the same initializer."""
    config = json.loads(json.dumps(I.serialize(theirs)))
    ours = from_keras(theirs)
    if type(theirs) is I.Identity:
        config["config"] = {"gain": theirs.gain}
    assert ours == from_keras(config) == from_keras(json.dumps(config))
    assert ours == jaxinit.deserialize(config) == jaxinit.get(config)
    assert from_keras(to_config(ours)) == ours
    written = json.loads(json.dumps(to_config(ours)))
    again = I.get(written)
    assert type(again) is type(theirs)
    assert written == json.loads(json.dumps(to_config(from_keras(again))))
    if type(theirs) is I.Identity:  # Keras loads the gain, and does not write it
        assert written["config"] == {"gain": theirs.gain} == {"gain": again.gain}
        return
    assert written == json.loads(json.dumps(I.serialize(again)))
    plain = theirs.get_config()
    if {"input_axes", "output_axes"} <= set(plain) and None in (
        plain["input_axes"],
        plain["output_axes"],
    ):
        config["config"] |= {"input_axes": None, "output_axes": None}  # one is ignored
    if not any(isinstance(v, dict) for v in config["config"].values()):
        assert written == config
    assert json.loads(json.dumps(jaxinit.serialize(ours))) == jaxinit.serialize(ours)
    assert jaxinit.deserialize(jaxinit.serialize(ours)) == ours


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_our_configs_round_trip(case):
    """By way of Keras, if it has the same distribution; else refused by name."""
    ours = case.init
    wrapped = jaxinit.keras.to_keras(ours)
    assert from_keras(wrapped) == ours
    assert from_keras(json.loads(json.dumps(I.serialize(wrapped)))) == ours
    assert jaxinit.deserialize(I.serialize(wrapped)) == ours
    assert I.get(I.serialize(wrapped)).get_config() == wrapped.get_config()
    try:
        config = json.loads(json.dumps(to_config(ours)))
    except ValueError as e:
        # The class or the argument that Keras lacks.
        words = [type(ours).__name__, *vars(ours)]
        assert "Keras has no" in str(e) and any(word in str(e) for word in words)
        return
    theirs = I.get(config)
    again = from_keras(theirs)
    if getattr(ours, "in_axis", None) == -2:  # of default axes: for any rank now
        assert (again.in_axis, again.out_axis) == (None, None)
    else:
        assert again == ours
    key = key_of(5)
    np.testing.assert_array_equal(again(key, case.shape), ours(key, case.shape))


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        (jaxinit.TorchKernel(), "initializer TorchKernel"),
        (jaxinit.FromArray([1.0]), "initializer FromArray"),
        (jaxinit.HeNormal(batch_axis=0), "batch_axis=0"),
        (jaxinit.HeNormal(in_axis=1, out_axis=0), r"in_axis=1, out_axis=0"),
        (jaxinit.VarianceScaling(mode="fan_geo_avg"), "fan_geo_avg"),
        (jaxinit.VarianceScaling(0.0), "scale=0.0"),
        (jaxinit.TruncatedNormal(upper=3.0), r"upper=3\.0 in TruncatedNormal"),
        (jaxinit.TruncatedNormal(corrected=True), "corrected=True"),
        (jaxinit.Identity(batch_axis=0), "batch_axis=0 in Identity"),
        (jaxinit.Constant(1j), "complex value"),
    ],
)
def test_features_that_keras_lacks_are_refused_by_name(ours, message):
    with pytest.raises(ValueError, match=rf"Keras has no .*{message}"):
        to_config(ours)


def test_the_same_seed_gives_the_values_of_keras():
    """`to_keras` promises this for an int seed."""
    for theirs, shape in [
        (I.HeNormal(seed=9), (31, 7)),
        (I.RandomUniform(seed=9), (5,)),
    ]:
        ours = jaxinit.keras.to_keras(from_keras(theirs))
        assert ulps(ours(shape), theirs(shape)) <= 4
