"""The forms of configs that from_keras reads: of initializers, layers and models."""

import json
import warnings

import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit

keras = pytest.importorskip("keras")
I = keras.initializers  # noqa: E741
from_keras = jaxinit.keras.from_keras

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
    """A class with the name and arguments of Keras's, but defined by a user."""


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
def test_refused_configs(x, kind, message):
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
    """The types in which json, h5py and NumPy return the text of a config."""
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
    """An initializer that a user defined."""

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
    """For instance "glorot_normal" of Keras 1 was not truncated."""
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
def test_layers_without_initializers(config):
    assert from_keras(config) == {}
    if not isinstance(config, str):
        assert from_keras(json.dumps(config)) == {}


def test_two_initializers_at_one_path_are_refused():
    layer = {"class_name": "Dense", "config": {"name": "d", "initializer": "zeros"}}
    with pytest.raises(ValueError, match="the path 'd/initializer'"):
        from_keras({"name": "m", "layers": [layer, layer]})
