"""Keras's initializers as ours, with the same law, and its configs."""

import json
import warnings

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
# Every random built-in with its arguments, and the ranks it serves.
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
    """The key that Keras draws from on the JAX backend."""
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
    """The same key gives the same values, and so the same law."""
    ours = from_keras(theirs)(key_of(3), shape)
    # An ulp of the largest: Keras adds the mean, and scales, in float32 steps.
    scale = float(abs(ours).max())
    np.testing.assert_allclose(ours, theirs(shape), rtol=1e-6, atol=1e-6 * scale)


# Equal values of one key have one law; these are equal in law alone.
@pytest.mark.parametrize(("theirs", "shape"), cases(ORTHOGONAL))
def test_law_is_that_of_keras(theirs, shape):
    """Two samples of independent keys, and exactly the same support."""
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
    """Bit for bit; in narrow dtypes Keras rounds each operation, ours the last."""
    ours = from_keras(theirs)
    for shape in [(16, 1, 9), (16, 1, 257)]:
        np.testing.assert_array_equal(ours(None, shape), theirs(shape))
        jitted = jax.jit(lambda shape=shape: ours(None, shape))()
        np.testing.assert_array_equal(jitted, theirs(shape))
        narrow = ours(None, shape, "bfloat16")
        np.testing.assert_array_equal(narrow, theirs(shape).astype("bfloat16"))


def test_depthwise_kernels_have_the_fans_of_keras():
    """Which count all channels as inputs; README.md says how to count one."""
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
def test_configs_of_keras_come_back(theirs):
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
def test_our_configs_come_back(case):
    """Through Keras where it has the same law, and else refused by name."""
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
def test_what_keras_lacks_is_refused_by_name(ours, message):
    with pytest.raises(ValueError, match=rf"Keras has no .*{message}"):
        to_config(ours)


KERAS2 = "keras.initializers.initializers_v2"


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        ("glorot_uniform", jaxinit.GlorotUniform(None, None)),
        ("GlorotUniform", jaxinit.GlorotUniform(None, None)),
        ("zero", jaxinit.Zeros()),
        ("normal", jaxinit.RandomNormal()),
        ("uniform", jaxinit.RandomUniform()),
        ("IdentityInitializer", jaxinit.Identity()),
        ("STFTInitializer", jaxinit.STFT()),
        (I.HeNormal, jaxinit.HeNormal(None, None)),
        (I.Constant, jaxinit.Constant()),
        (None, None),
        (np.arange(3.0), jaxinit.FromArray(np.arange(3.0))),
        (jnp.arange(3.0), jaxinit.FromArray(np.arange(3, dtype=np.float32))),
        # Keras 2: no module, or its own; he_normal() was this VarianceScaling.
        (
            {
                "class_name": "VarianceScaling",
                "config": {
                    "scale": 2.0, "mode": "fan_in", "distribution": "normal",
                    "seed": None, "dtype": "float32",
                },
            },
            jaxinit.VarianceScaling(2.0, in_axis=None, out_axis=None),
        ),
        (
            {"class_name": "GlorotUniform", "config": {"seed": 5, "dtype": "float16"}},
            jaxinit.GlorotUniform(None, None, seed=5),
        ),
        (
            {"module": KERAS2, "class_name": "RandomNormal", "config": {"stddev": 0.1},
             "registered_name": None},
            jaxinit.RandomNormal(stddev=0.1),
        ),
        (
            {"module": "keras.src.initializers.random_initializers",
             "class_name": "HeUniform", "config": {}, "registered_name": "HeUniform"},
            jaxinit.HeUniform(None, None),
        ),
        ({"class_name": "Zeros", "config": {"dtype": "float32"}}, jaxinit.Zeros()),
        ({"class_name": "Ones"}, jaxinit.Ones()),
        ({"class_name": "HeNormalV2", "config": {}}, jaxinit.HeNormal(None, None)),
        (
            {"class_name": "Constant",
             "config": {"value": {"type": "ndarray", "value": [1.0, 2.0]}}},
            jaxinit.Constant([1.0, 2.0]),
        ),
        (
            {"class_name": "RandomNormal",
             "config": {"stddev": {"type": "ndarray", "value": 0.5}}},
            jaxinit.RandomNormal(stddev=0.5),
        ),
    ],
)  # fmt: skip
def test_forms_of_keras_initializers(x, expected):
    assert from_keras(x) == expected
    if isinstance(x, dict):
        assert jaxinit.deserialize(x) == from_keras(json.dumps(x)) == expected


def test_seed_generators_are_reduced_to_their_integer():
    theirs = I.HeNormal(seed=keras.random.SeedGenerator(7))
    with pytest.warns(UserWarning, match=r"HeNormal.* integer, 7\. Pass a key"):
        ours = from_keras(theirs)
    assert ours == jaxinit.HeNormal(None, None, seed=7)
    with pytest.warns(UserWarning, match="integer, 7"):
        assert jaxinit.deserialize(I.serialize(theirs)) == ours
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        unseeded = from_keras(I.HeNormal(seed=keras.random.SeedGenerator()))
    assert unseeded == jaxinit.HeNormal(None, None)
    wrapped = jaxinit.keras.to_keras("he_normal", keras.random.SeedGenerator(7))
    with pytest.warns(UserWarning, match="integer, 7"):
        assert from_keras(wrapped) == jaxinit.HeNormal(seed=7)


class Custom(I.HeNormal):
    """Named and built like Keras's own, but not its own."""


def lecun_like(shape, dtype=None):
    return keras.random.normal(shape, stddev=shape[0] ** -0.5, dtype=dtype)


@pytest.mark.parametrize(
    ("x", "kind", "message"),
    [
        (Custom(), ValueError, "Custom"),
        (lambda shape, dtype=None: 0, TypeError, "an initializer of Keras"),
        (3, TypeError, "an initializer of Keras"),
        (keras.layers.Dense(3), TypeError, "an initializer of Keras"),
        ("xavier", ValueError, "names no registered initializer"),
        ("", ValueError, "names no registered initializer"),
        (I.HeNormal(0, [0], [0]), ValueError, "axis 0 is in 'input_axes' and in"),
        (I.HeNormal(0, [0, 0], [1]), ValueError, "distinct axes"),
        (I.RandomNormal(stddev=-1.0), ValueError, "stddev"),
        ({"class_name": "Dense", "config": {"name": "d"}}, ValueError, "'Dense'"),
        (
            {"name": "d", "kernel_initializer": {"class_name": "Mine", "config": {}}},
            ValueError,
            r"'kernel_initializer': 'Mine' names no",
        ),
        (b"he_norm\xff", ValueError, "text in UTF-8"),
        (I.serialize(lecun_like), ValueError, "'lecun_like' is a function"),
        ({"name": "d", "kernel_initializer": 3}, TypeError, "'kernel_initializer'"),
    ],
)
def test_what_is_refused(x, kind, message):
    with pytest.raises(kind, match=message):
        from_keras(x)


def test_configs_of_layers():
    dense = keras.layers.Dense(3, kernel_initializer="he_normal", name="d")
    expected = {
        "kernel_initializer": jaxinit.HeNormal(None, None),
        "bias_initializer": jaxinit.Zeros(),
    }
    assert from_keras(dense.get_config()) == expected
    assert from_keras(json.dumps(keras.layers.serialize(dense))) == expected
    assert from_keras(keras.layers.ReLU().get_config()) == {}
    attention = keras.layers.MultiHeadAttention(2, 4, kernel_initializer="ones")
    found = from_keras(attention.get_config())
    assert found["query/kernel_initializer"] == jaxinit.Ones()
    assert len(found) == 4 * 2 and "kernel_initializer" not in found
    norm = from_keras(keras.layers.BatchNormalization().get_config())
    assert len(norm) == 4 and norm["moving_variance_initializer"] == jaxinit.Ones()


def model():
    inner = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, name="same")], name="inner"
    )
    x = keras.Input((8, 8, 2))
    y = keras.layers.SeparableConv2D(4, 3, name="conv")(x)
    y = keras.layers.GlobalAveragePooling2D()(y)
    y = keras.layers.Identity(name="identity")(inner(y))
    y = keras.layers.Dense(4, kernel_initializer=I.RandomUniform(0, 1), name="same")(y)
    y = keras.layers.Reshape((2, 2))(y)
    y = keras.layers.TimeDistributed(keras.layers.Dense(2, name="dense"), name="t")(y)
    return keras.Model(x, y)


def test_configs_of_models():
    theirs = model()
    found = from_keras(theirs.get_config())
    assert (
        found
        == from_keras(theirs.to_json())
        == from_keras(json.loads(theirs.to_json()))
    )
    glorot, zeros = jaxinit.GlorotUniform(None, None), jaxinit.Zeros()
    assert found == {
        "conv/depthwise_initializer": glorot,
        "conv/pointwise_initializer": glorot,
        "conv/bias_initializer": zeros,
        "inner/same/kernel_initializer": glorot,
        "inner/same/bias_initializer": zeros,
        "same/kernel_initializer": jaxinit.RandomUniform(0.0, 1.0),
        "same/bias_initializer": zeros,
        "t/dense/kernel_initializer": glorot,
        "t/dense/bias_initializer": zeros,
    }


def test_configs_of_recurrent_models():
    cells = [keras.layers.LSTMCell(3, name=n) for n in "ab"]
    theirs = keras.Sequential(
        [
            keras.Input((4, 2)),
            keras.layers.Bidirectional(
                keras.layers.GRU(3, return_sequences=True, name="gru"),
                name="both",
            ),
            keras.layers.RNN(cells, name="rnn"),
        ]
    )
    found = from_keras(theirs.get_config())
    arguments = ("kernel_initializer", "recurrent_initializer", "bias_initializer")
    layers = ("both/forward_gru", "both/backward_gru")
    assert {f"{layer}/{a}" for layer in layers for a in arguments} <= set(found)
    assert len(found) == 4 * 3
    assert sum("/a/" in path or "/b/" in path for path in found) == 6


def test_a_model_of_keras_2():
    kernel = {
        "class_name": "VarianceScaling",
        "config": {"scale": 1.0, "mode": "fan_avg", "distribution": "uniform",
                   "seed": None},
    }  # fmt: skip
    dense = {"name": "dense_1", "units": 2, "kernel_initializer": kernel}
    dense["bias_initializer"] = "zeros"
    config = {
        "class_name": "Sequential",
        "config": {"name": "s", "layers": [{"class_name": "Dense", "config": dense}]},
        "keras_version": "2.2.4",
        "backend": "tensorflow",
    }
    expected = jaxinit.VarianceScaling(1.0, "fan_avg", "uniform", None, None)
    assert from_keras(json.dumps(config)) == {
        "dense_1/kernel_initializer": expected,
        "dense_1/bias_initializer": jaxinit.Zeros(),
    }


@pytest.mark.parametrize(
    "kind", [str, str.encode, np.str_, lambda t: np.bytes_(t.encode())]
)
def test_texts(kind):
    """What json, h5py and NumPy return as the text of a config."""
    assert from_keras(kind("he_normal")) == jaxinit.HeNormal(None, None)
    dense = keras.layers.Dense(3, kernel_initializer=I.Constant(0.25), name="größe")
    found = from_keras(kind(json.dumps(keras.layers.serialize(dense))))
    assert found["kernel_initializer"] == jaxinit.Constant(0.25)
    dense = json.dumps({"name": "m", "layers": [keras.layers.serialize(dense)]})
    assert "größe/bias_initializer" in from_keras(kind(dense))
    with pytest.raises(ValueError, match="'units' is there twice"):
        from_keras(kind('{"name": "d", "units": 3, "units": 4}'))


@keras.saving.register_keras_serializable("mine")
class Mine(I.Initializer):
    """Of a user's own."""

    def __call__(self, shape, dtype=None):
        return keras.ops.ones(shape, dtype)


@pytest.mark.parametrize(
    ("custom", "message"),
    [
        (lecun_like, "'lecun_like' is a function"),
        (Mine(), "'mine>Mine' names no registered"),
        (Custom(), "Custom' names no registered"),
        (lambda shape, dtype=None: keras.ops.ones(shape), "is a function"),
        ("my_initializer", "'my_initializer' names no registered"),  # of Keras 2
        ({"module": "mine", "class_name": "HeNormal", "config": {}}, "is 'mine'"),
    ],
)
@pytest.mark.filterwarnings("ignore:The object being serialized includes a .lambda")
def test_a_custom_initializer_is_named_and_the_rest_is_read(custom, message):
    layers = [keras.layers.Dense(3, name=name) for name in "ab"]
    if callable(custom):
        layers[1].kernel_initializer = custom
    layers = [keras.layers.serialize(layer) for layer in layers]
    if not callable(custom):
        layers[1]["config"]["kernel_initializer"] = custom
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}
    with pytest.warns(UserWarning, match=f"'b/kernel_initializer'.*{message}") as found:
        made = from_keras(config)
    assert len(found) == 1 and found[0].filename == __file__
    expected = {f"{name}/bias_initializer": jaxinit.Zeros() for name in "ab"}
    glorot = jaxinit.GlorotUniform(None, None)
    assert made == {"a/kernel_initializer": glorot, **expected}


def test_arguments_of_keras_1_are_named():
    """Its "glorot_normal", for one, was not truncated."""
    dense = {"name": "d", "output_dim": 3, "init": "glorot_normal"}
    config = {"class_name": "Dense", "config": dense}
    with pytest.raises(ValueError, match=r"'init': .*Keras 1"):
        from_keras(config)
    other = {"name": "e", "kernel_initializer": "zeros"}
    other = {"class_name": "Dense", "config": other}
    config = {"class_name": "Sequential", "config": [config, other]}
    with pytest.warns(UserWarning, match=r"left out 'd/init'.*Keras 1"):
        assert from_keras(config) == {"e/kernel_initializer": jaxinit.Zeros()}


@pytest.mark.parametrize(
    "config",
    [
        keras.layers.Flatten().get_config(),
        keras.layers.serialize(keras.layers.Flatten()),
        keras.layers.serialize(keras.layers.Identity()),
        keras.layers.serialize(keras.layers.Dropout(0.5, seed=3)),
        keras.layers.serialize(keras.layers.PReLU(None)),
        keras.Sequential([keras.Input((4,)), keras.layers.ReLU()]).get_config(),
        keras.Sequential([keras.Input((4,)), keras.layers.ReLU()]).to_json(),
        {"class_name": "Flatten", "config": {"name": "f", "trainable": True}},
        {"class_name": "Sequential", "config": [{"class_name": "Flatten"}]},
        {"class_name": "Model", "config": {"layers": [], "input_layers": []}},
    ],
)
def test_what_has_no_initializers(config):
    assert from_keras(config) == {}
    if not isinstance(config, str):
        assert from_keras(json.dumps(config)) == {}


def test_two_initializers_at_one_path_are_refused():
    layer = {"class_name": "Dense", "config": {"name": "d", "initializer": "zeros"}}
    with pytest.raises(ValueError, match="both at 'd/initializer'"):
        from_keras({"name": "m", "layers": [layer, layer]})


def test_the_same_seed_gives_the_values_of_keras():
    """What `to_keras` promises of an int seed."""
    for theirs, shape in [
        (I.HeNormal(seed=9), (31, 7)),
        (I.RandomUniform(seed=9), (5,)),
    ]:
        ours = jaxinit.keras.to_keras(from_keras(theirs))
        assert ulps(ours(shape), theirs(shape)) <= 4
