"""Every Keras layer with initializers: compares Keras's and ours, by variable."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit

keras = pytest.importorskip("keras")
I = keras.initializers  # noqa: E741
from_keras, to_keras = jaxinit.keras.from_keras, jaxinit.keras.to_keras

# Arguments of each layer, and the shapes that it is built for. Each shape of a kernel
# costs a compilation in Keras, and so some layers have kernels of equal shapes.
LAYERS = {
    "BatchNormalization": ({}, [(None, 640)]),
    "Conv1D": ({"filters": 16, "kernel_size": 3}, [(None, 9, 12)]),
    "Conv1DTranspose": ({"filters": 16, "kernel_size": 3}, [(None, 9, 12)]),
    "Conv2D": ({"filters": 16, "kernel_size": 3, "groups": 2}, [(None, 9, 9, 12)]),
    "Conv2DTranspose": ({"filters": 16, "kernel_size": 3}, [(None, 9, 9, 12)]),
    "Conv3D": ({"filters": 8, "kernel_size": 3}, [(None, 5, 5, 5, 6)]),
    "Conv3DTranspose": ({"filters": 8, "kernel_size": 3}, [(None, 5, 5, 5, 6)]),
    "ConvLSTM1D": ({"filters": 6, "kernel_size": 3}, [(None, 2, 8, 12)]),
    "ConvLSTM2D": ({"filters": 6, "kernel_size": 3}, [(None, 2, 8, 8, 12)]),
    "ConvLSTM3D": ({"filters": 4, "kernel_size": 2}, [(None, 2, 4, 4, 4, 6)]),
    "Dense": ({"units": 24}, [(None, 5, 32)]),
    "DepthwiseConv1D": ({"kernel_size": 5, "depth_multiplier": 8}, [(None, 9, 20)]),
    "DepthwiseConv2D": ({"kernel_size": 3, "depth_multiplier": 4}, [(None, 9, 9, 20)]),
    "EinsumDense": (
        {"equation": "abc,cde->abde", "output_shape": (None, 8, 6), "bias_axes": "de"},
        [(None, 5, 28)],
    ),
    "Embedding": ({"input_dim": 60, "output_dim": 12}, [(None, 3)]),
    "GRU": ({"units": 12}, [(None, 3, 20)]),
    "GRUCell": ({"units": 12}, [(None, 20)]),
    "GroupNormalization": ({"groups": 4}, [(None, 5, 640)]),
    "GroupQueryAttention": (
        {"head_dim": 6, "num_query_heads": 8, "num_key_value_heads": 4,
         "use_gate": True},
        [(None, 5, 28), (None, 4, 28)],
    ),
    "LSTM": ({"units": 12}, [(None, 3, 20)]),
    "LSTMCell": ({"units": 12}, [(None, 20)]),
    "LayerNormalization": ({}, [(None, 5, 640)]),
    "MultiHeadAttention": (
        {"num_heads": 8, "key_dim": 6, "use_gate": True},
        [(None, 5, 28), (None, 4, 28)],
    ),
    "PReLU": ({}, [(None, 640)]),
    "ReversibleEmbedding": (
        {"input_dim": 60, "output_dim": 12, "tie_weights": False}, [(None, 3)],
    ),
    "SeparableConv1D": (
        {"filters": 8, "kernel_size": 5, "depth_multiplier": 8}, [(None, 9, 20)],
    ),
    "SeparableConv2D": (
        {"filters": 8, "kernel_size": 3, "depth_multiplier": 4}, [(None, 9, 9, 20)],
    ),
    "SimpleRNN": ({"units": 24}, [(None, 3, 24)]),
    "SimpleRNNCell": ({"units": 24}, [(None, 24)]),
}  # fmt: skip
# Equations with other axes: heads merged, an ellipsis on each side, and an axis that
# kernel, data and result share, which Keras counts as an output.
EINSUMS = [
    ("abcd,cde->abe", (None, 28), "e", (None, 5, 8, 6)),
    ("...x,xy->...y", 24, "y", (None, 5, 32)),
    ("ab...,bcd->acd...", (8, 6), None, (None, 28, 3)),
    ("abc,bcd->abd", (8, 28), "d", (None, 8, 6)),
    ("abc,edc->abde", (None, 6, 8), "de", (None, 5, 28)),
]
ATTENTION = [n for n in LAYERS if n.endswith("Attention")]


def initializer_arguments(cls):
    """Returns the names and defaults of a layer's initializer arguments."""
    parameters = inspect.signature(cls).parameters.items()
    return {n: p.default for n, p in parameters if n.endswith("initializer")}


CLASSES = {
    cls: name
    for name, cls in reversed(sorted(vars(keras.layers).items()))
    if isinstance(cls, type) and initializer_arguments(cls)
}


def cases():
    """Yields every class with its arguments and shapes; each must have an entry."""
    for cls, name in CLASSES.items():
        fields, shapes = LAYERS[name]
        yield pytest.param(cls, fields, shapes, id=name)
    for equation, output_shape, bias_axes, shape in EINSUMS:
        fields = {"output_shape": output_shape, "bias_axes": bias_axes}
        fields["equation"] = equation
        yield pytest.param(keras.layers.EinsumDense, fields, [shape], id=equation)
    fields = {"num_heads": 2, "key_dim": 16, "output_shape": (4, 6)}
    shapes = [(None, 3, 4, 20), (None, 3, 4, 20)]
    yield pytest.param(keras.layers.MultiHeadAttention, fields, shapes, id="images")


CASES = list(cases())
every_layer = pytest.mark.parametrize(("cls", "fields", "shapes"), CASES)


def build(cls, fields, shapes, initializers=None):
    """Returns the weights of a layer, by their paths below the layer."""
    layer = cls(**fields, **(initializers or {}))
    layer.build(*shapes)
    return weights(layer)


def weights(layer):
    paths = {v.path.partition("/")[2] or v.path: v for v in layer.variables}
    return {p: np.asarray(v.value) for p, v in paths.items() if "seed" not in p}


def assert_same_values(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        # An ulp of the largest: Keras scales in steps of float32.
        atol = 1e-6 * float(abs(expected).max())
        np.testing.assert_allclose(ours[name], expected, 1e-6, atol, err_msg=name)


def test_the_table_has_no_other_layers():
    assert set(CLASSES.values()) == set(LAYERS)


@every_layer
def test_a_seed_gives_the_values_of_keras(cls, fields, shapes):
    """Passes an initializer that scales by a fan to every argument."""
    theirs = I.VarianceScaling(2.0, "fan_out", "uniform", seed=5)
    names = initializer_arguments(cls)
    ours = to_keras(from_keras(theirs))
    assert isinstance(ours, I.VarianceScaling)
    expected = build(cls, fields, shapes, dict.fromkeys(names, theirs))
    assert_same_values(build(cls, fields, shapes, dict.fromkeys(names, ours)), expected)


@every_layer
def test_default_initializers_give_the_values_of_keras(cls, fields, shapes):
    """Passes `to_keras` of the default name, with an int seed, to the argument."""
    theirs, ours = {}, {}
    for argument, name in initializer_arguments(cls).items():
        if name is None:
            continue
        inits = I.get(name), jaxinit.get(name)
        if name == "orthogonal":
            inits = I.Orthogonal(seed=5), jaxinit.Orthogonal(method="qr")
        elif hasattr(inits[0], "seed"):
            inits = type(inits[0])(seed=5), inits[1]
        theirs[argument], ours[argument] = inits[0], to_keras(inits[1], seed=5)
    assert_same_values(
        build(cls, fields, shapes, ours), build(cls, fields, shapes, theirs)
    )


@every_layer
def test_scope_draws_from_the_distributions_of_keras(cls, fields, shapes):
    """Compares moments within five standard errors, and constants exactly."""
    keras.utils.set_random_seed(0)
    theirs = build(cls, fields, shapes)
    with jaxinit.keras.scope():
        ours = build(cls, fields, shapes)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        got = ours[name]
        assert got.shape == expected.shape
        if expected.std() == 0 or name.endswith("bias"):
            np.testing.assert_array_equal(got, expected)
            continue
        # Var(std) <= std^2 / 2n for a normal, less for truncated and uniform ones.
        bound = 5 / np.sqrt(got.size)
        assert abs(got.std() / expected.std() - 1) < bound, name
        assert abs(got.mean() - expected.mean()) < bound * expected.std() * 2**0.5, name
        assert (got != expected).mean() > 0.5, name  # a draw of its own


@every_layer
def test_configs_give_the_variables(cls, fields, shapes):
    """`from_keras` of the config has an initializer for each kernel as it is stored."""
    theirs = I.GlorotUniform(seed=5)
    names = dict.fromkeys(initializer_arguments(cls), theirs)
    layer = cls(**fields, **names)
    found = from_keras(layer.get_config())
    serialized = keras.saving.serialize_keras_object(layer)
    assert found == from_keras(serialized)
    if cls.__name__ not in ("EinsumDense", *ATTENTION, "GroupedQueryAttention"):
        assert set(found) == set(names)
        return
    layer.build(*shapes)
    expected = weights(layer)
    ours = {p.removesuffix("_initializer"): init for p, init in found.items()}
    assert set(expected) <= set(ours)
    assert set(ours) - set(expected) <= {"bias"}  # where bias_axes is None
    key = jnp.array([5, 0], jnp.uint32)
    drawn = {name: ours[name](key, v.shape) for name, v in expected.items()}
    assert_same_values(drawn, expected)


EQUATION = {"equation": "abc,cde->abde", "output_shape": (None, 8, 6)}


def kernel(initializer):
    layer = keras.layers.EinsumDense(**EQUATION, kernel_initializer=initializer)
    layer.build((None, 5, 28))
    return np.asarray(layer.kernel)


@pytest.mark.parametrize("name", ["glorot_normal", "he_uniform", "lecun_normal"])
def test_an_equation_gives_the_fans(name):
    theirs = type(I.get(name))(seed=5)
    np.testing.assert_allclose(kernel(to_keras(name, 5)), kernel(theirs), rtol=1e-5)


@pytest.mark.parametrize(
    "ours",
    [
        jaxinit.HeNormal(in_axis=(0, 1), out_axis=2),
        jaxinit.HeNormal(in_axis=(-2,), out_axis=(-1,)),
        jaxinit.HeNormal(batch_axis=0),
        jaxinit.Scaled(jaxinit.HeNormal(in_axis=1, out_axis=2, batch_axis="rest"), 2.0),
    ],
)
def test_axes_of_the_user_win(ours):
    key = jnp.array([5, 0], jnp.uint32)
    np.testing.assert_array_equal(kernel(to_keras(ours, 5)), ours(key, (28, 8, 6)))
    layer = keras.layers.EinsumDense(**EQUATION, kernel_initializer=to_keras(ours))
    assert from_keras(layer.get_config())["kernel_initializer"] == ours


@pytest.mark.parametrize(
    "around",
    [
        lambda x: jaxinit.Scaled(x, 2.0),
        lambda x: jaxinit.DepthScaled(x, 6),
        lambda x: jaxinit.Clipped(jaxinit.AsDtype(x, "float32"), -0.3, 0.3),
        lambda x: jaxinit.Masked(x, sparsity=0.5),
        lambda x: jaxinit.Normalized(x, axis=0),
    ],
)
def test_an_equation_reaches_inner_initializers(around):
    inner = jaxinit.LecunNormal(in_axis=0, out_axis=(1, 2))
    key = jnp.array([5, 0], jnp.uint32)
    expected = around(inner)(key, (28, 8, 6))
    ours = to_keras(around(jaxinit.LecunNormal()), 5)
    np.testing.assert_allclose(kernel(ours), expected, rtol=1e-6)
    layer = keras.layers.EinsumDense(**EQUATION, kernel_initializer=ours)
    found = from_keras(layer.get_config())["kernel_initializer"]
    np.testing.assert_allclose(found(key, (28, 8, 6)), expected, rtol=1e-6)


def test_axes_of_torch_kernels():
    key = jnp.array([5, 0], jnp.uint32)
    expected = jaxinit.TorchKernel(0, (1, 2))(key, (28, 8, 6))
    np.testing.assert_array_equal(kernel(to_keras("torch_kernel", 5)), expected)


def attention(initializer):
    return keras.layers.MultiHeadAttention(
        8, 6, kernel_initializer=initializer, name="attention"
    )


def test_a_seed_generator_in_attention():
    """Each sublayer has its copy of the generator, in Keras and here."""
    shapes = [(None, 5, 28), (None, 4, 28)]
    layers = [
        attention(make(keras.random.SeedGenerator(5)))
        for make in (I.GlorotUniform, lambda s: to_keras("glorot_uniform", s))
    ]
    for layer in layers:
        layer.build(*shapes)
    theirs, ours = map(weights, layers)
    kernels = [name for name in theirs if name.endswith("kernel")]
    assert len(kernels) == 4
    assert_same_values({n: ours[n] for n in kernels}, {n: theirs[n] for n in kernels})


def network(initializer):
    x = keras.Input((5, 28))
    y = attention(initializer)(x, x)
    y = keras.layers.EinsumDense(
        "abc,cd->abd", (None, 4), kernel_initializer=initializer, name="einsum"
    )(y)
    return keras.Model(x, y, name="network")


def test_models_are_saved_loaded_and_cloned(tmp_path):
    """The wrappers keep their config, with the axes that the user set."""
    ours = to_keras(jaxinit.DepthScaled("glorot_uniform", 6), seed=5)
    model = network(ours)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    clone = keras.models.clone_model(model)
    json = keras.models.model_from_json(model.to_json())
    for again in (loaded, clone, json):
        wrapper = again.get_layer("einsum").kernel_initializer
        assert type(wrapper) is type(ours) and isinstance(wrapper, I.VarianceScaling)
        assert wrapper.get_config() == ours.get_config() and wrapper.input_axes is None
        for a, b in zip(again.weights, model.weights, strict=True):
            np.testing.assert_array_equal(a, b)
    found = from_keras(model.to_json())
    assert {"attention/query/kernel_initializer", "einsum/kernel_initializer"} < set(
        found
    )
    assert "attention/kernel_initializer" not in found
    query = found["attention/query/kernel_initializer"]
    merge = found["attention/attention_output/kernel_initializer"]
    assert (query.initializer.in_axis, query.initializer.out_axis) == ((0,), (1, 2))
    assert (merge.initializer.in_axis, merge.initializer.out_axis) == ((0, 1), (2,))


def test_configs_of_earlier_wrappers_load():
    """All wrappers have one name in configs; the initializer decides the class."""
    for inner, kind in (("he_normal", True), ("orthogonal", False)):
        ours = to_keras(inner, seed=5)
        config = I.serialize(ours)
        assert config["registered_name"] == "jaxinit>KerasInitializer"
        config["class_name"] = "KerasInitializer"
        again = I.get(config)
        assert type(again) is type(ours) and again.get_config() == ours.get_config()
        assert isinstance(again, I.VarianceScaling) is kind
        cls = jaxinit.keras.KerasInitializer
        assert type(cls.from_config(ours.get_config())) is type(ours)
        assert type(ours.clone()) is type(ours)


def test_wrong_equations_name_their_layer():
    layer = keras.layers.EinsumDense(**EQUATION, name="mix")
    mix = keras.layers.serialize(layer)
    mix["config"]["equation"] = "abc,cde"
    config = {"name": "model", "layers": [mix]}
    with pytest.raises(ValueError, match=r"mix/kernel_initializer.*equation"):
        from_keras(config)
    layer = keras.layers.MultiHeadAttention(2, 4, name="heads").get_config()
    with pytest.raises(TypeError, match=r"kernel_initializer.*output_shape"):
        from_keras(layer | {"output_shape": 2.5})
