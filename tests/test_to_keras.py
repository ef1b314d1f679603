"""Our initializers in Keras models: draws, files, devices, backends."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from cases import CASES, ulps

keras = pytest.importorskip("keras")
to_keras, scope = jaxinit.keras.to_keras, jaxinit.keras.scope
PROCESS = pathlib.Path(__file__).with_name("keras_process.py")


def process(mode, *arguments):
    done = subprocess.run(
        [sys.executable, PROCESS, mode, *map(str, arguments)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_tensors_are_those_of_the_initializer(case):
    ours = to_keras(case.init, seed=3)
    key = None if case.init.deterministic else jnp.array([3, 0], jnp.uint32)
    got = ours(case.shape)
    assert isinstance(got, jax.Array)
    np.testing.assert_array_equal(got, case.init(key, case.shape))


def test_an_instance_draws_anew_for_each_variable():
    shared = to_keras(jaxinit.HeNormal())
    first = keras.layers.Dense(8, kernel_initializer=shared)
    second = keras.layers.Dense(8, kernel_initializer=shared)
    first.build((None, 16))
    second.build((None, 16))
    assert (np.asarray(first.kernel) == np.asarray(second.kernel)).mean() < 0.01
    draws = [np.asarray(shared((8, 8))) for _ in range(10)]
    assert len({draw.tobytes() for draw in draws}) == 10


def test_an_int_seed_repeats_the_values_of_keras():
    for ours in (to_keras("he_normal", seed=3), to_keras(jaxinit.HeNormal(seed=3))):
        draws = [ours((64, 32)) for _ in range(2)]
        np.testing.assert_array_equal(*draws)
        theirs = keras.initializers.HeNormal(seed=3)((64, 32))
        assert ulps(draws[0], theirs) <= 4
    assert to_keras(jaxinit.HeNormal(seed=3), seed=4).seed == 4
    wide = [to_keras("he_normal", seed=s)((8, 8)) for s in (1, 1 + 2**32, -1)]
    assert len({np.asarray(w).tobytes() for w in wide}) == 3


def test_a_seed_generator_advances_and_is_shared():
    generator = keras.random.SeedGenerator(3)
    ours, other = to_keras("he_normal", generator), to_keras("he_normal", generator)
    first, second = ours((8, 8)), other((8, 8))
    np.testing.assert_array_equal(first, to_keras("he_normal", 3)((8, 8)))
    assert (np.asarray(first) == np.asarray(second)).mean() < 0.1
    again = keras.initializers.get(keras.initializers.serialize(ours))
    assert isinstance(again.seed, keras.random.SeedGenerator)
    np.testing.assert_array_equal(again((8, 8)), first)


def test_a_seed_generator_keeps_its_name(tmp_path):
    def generator(model):
        return model.layers[-1].kernel_initializer.seed

    for seed in (7, None):
        ours = to_keras("he_normal", keras.random.SeedGenerator(seed, name="mine"))
        again = keras.initializers.get(keras.initializers.serialize(ours))
        assert again.seed.name == ours.clone().seed.name == "mine"
        assert again.get_config() == ours.get_config()
        layer = keras.layers.Dense(2, kernel_initializer=ours)
        model = keras.Sequential([keras.Input((3,)), layer])
        model.save(tmp_path / "model.keras")
        loaded = keras.models.load_model(tmp_path / "model.keras")
        for other in (loaded, keras.models.clone_model(model)):
            assert generator(other).name == "mine"
            assert generator(other).get_config() == {"seed": seed, "name": "mine"}
    config = keras.initializers.serialize(ours)
    config["config"]["seed"]["config"]["name"] = 3
    with pytest.raises(TypeError, match=r"SeedGenerator\(name=\.\.\.\)"):
        keras.initializers.get(config)


def test_keras_seeds_everything():
    draws = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        draws.append(to_keras("he_normal")((8, 8)))
    np.testing.assert_array_equal(*draws)


def test_dtypes():
    ours = to_keras(jaxinit.HeNormal())
    assert ours((3, 4)).dtype == jnp.float32
    for dtype in (jnp.bfloat16, "float16"):
        key = jnp.array([3, 0], jnp.uint32)
        got = to_keras(jaxinit.HeNormal(), 3)((30, 40), dtype)
        expected = jaxinit.HeNormal()(key, (30, 40), dtype)
        assert got.dtype == jnp.dtype(dtype)
        np.testing.assert_array_equal(got, expected)
    assert to_keras("ones")((3,), "int32").dtype == jnp.int32
    layer = keras.layers.Dense(4, kernel_initializer=ours, dtype="bfloat16")
    layer.build((None, 512))
    assert layer.kernel.dtype == "bfloat16"
    keras.config.set_floatx("float16")
    assert ours((3, 4)).dtype == jnp.float16
    keras.config.set_floatx("float32")


def test_inside_jit():
    ours = to_keras(jaxinit.HeNormal(), seed=3)
    np.testing.assert_array_equal(jax.jit(lambda: ours((8, 4)))(), ours((8, 4)))
    advancing = to_keras(jaxinit.HeNormal())
    a, b = jax.jit(lambda: (advancing((8, 4)), advancing((8, 4))))()
    assert (np.asarray(a) == np.asarray(b)).mean() < 0.1
    advancing((8, 4))  # no tracer was left behind


@pytest.mark.parametrize("wrong", [None, 3, "he_norml", lambda shape: 0])
def test_arguments_that_are_not_initializers(wrong):
    with pytest.raises((TypeError, ValueError)):
        to_keras(wrong)


@pytest.mark.parametrize("seed", [1.5, "3", True, {"seed": 3}])
def test_wrong_seeds(seed):
    with pytest.raises(TypeError, match="seed"):
        to_keras("he_normal", seed)


def test_any_callable_draws_and_only_registered_ones_are_written():
    ours = to_keras(jax.nn.initializers.he_normal())
    assert ours((3, 4)).shape == (3, 4)
    with pytest.raises(TypeError, match=r"jaxinit\.register"):
        ours.get_config()


def network():
    return keras.Sequential(
        [
            keras.Input((4,)),
            keras.layers.Dense(
                16,
                "relu",
                kernel_initializer=to_keras(jaxinit.TruncatedNormal(0.0, 0.4)),
                bias_initializer=to_keras(jaxinit.TorchBias(4)),
            ),
            keras.layers.Dense(
                1, kernel_initializer=to_keras("lecun_uniform", 3), name="last"
            ),
        ]
    )


def test_clone_model():
    model = network()
    clone = keras.models.clone_model(model)
    assert json.loads(clone.to_json()) == json.loads(model.to_json())
    first, last = (
        (np.asarray(model.weights[i]), np.asarray(clone.weights[i])) for i in (0, 2)
    )
    assert (first[0] == first[1]).mean() < 0.1  # drawn anew
    np.testing.assert_array_equal(*last)  # a seed repeats
    again = keras.models.model_from_json(model.to_json())
    assert json.loads(again.to_json()) == json.loads(model.to_json())


def test_train_save_load_in_a_fresh_process_and_continue(tmp_path):
    keras.utils.set_random_seed(0)
    model = network()
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(256, 4)).astype("float32")
    losses = model.fit(x, x[:, :1], epochs=5, verbose=0).history["loss"]
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "x.npy", x)
    fresh = process("load", tmp_path / "model.keras", tmp_path / "x.npy")
    assert losses[-1] < losses[0] and max(fresh["losses"]) < losses[-1]
    expected = model.get_config()["layers"][1]["config"]["kernel_initializer"]
    assert fresh["config"] == json.loads(json.dumps(expected))
    sums = [float(abs(np.asarray(w)).sum()) for w in model.weights]
    np.testing.assert_allclose(fresh["sums"], sums, rtol=1e-6)


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed"
)
def test_torch_backend():
    result = process("torch")
    exact = {"float32", "bfloat16", "float16", "float64", "generator"}
    assert all(result[name] == 0 for name in exact), result
    assert result["repeats"] < 0.1 and result["advances"] < 0.1
    assert result["layer"] == [2, 4] and result["zeros"] == [0, 0]


@pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed"
)
def test_tensorflow_backend():
    code = "import jaxinit.keras, tensorflow\n"
    code += "x = jaxinit.keras.to_keras('he_normal', 3)((3, 4), 'bfloat16')\n"
    code += "assert isinstance(x, tensorflow.Tensor) and x.dtype == 'bfloat16'"
    env = os.environ | {"KERAS_BACKEND": "tensorflow"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


@pytest.fixture
def distribution():
    """Shards only the kernels, over "model", on 8 simulated devices."""
    names = ("batch", "model")
    mesh = keras.distribution.DeviceMesh(
        (2, 4), names, keras.distribution.list_devices()
    )
    layout = keras.distribution.LayoutMap(mesh)
    layout[".*dense.*kernel"] = (None, "model")
    strategy = keras.distribution.ModelParallel(
        layout_map=layout, batch_dim_name="batch"
    )
    keras.distribution.set_distribution(strategy)
    yield layout
    keras.distribution.set_distribution(None)


@pytest.mark.parametrize("generator", [False, True])
def test_keras_distribution(distribution, generator):
    seed = keras.random.SeedGenerator(3) if generator else 3
    dense = keras.layers.Dense(
        16,
        kernel_initializer=to_keras(jaxinit.HeNormal(), seed),
        bias_initializer=to_keras(jaxinit.RandomNormal()),
    )
    dense.build((None, 8))
    kernel = dense.kernel.value
    assert kernel.sharding.spec == P(None, "model")
    assert {s.data.shape for s in kernel.addressable_shards} == {(8, 4)}
    assert len(kernel.sharding.device_set) == 8
    expected = jaxinit.HeNormal()(jnp.array([3, 0], jnp.uint32), (8, 16))
    assert ulps(np.asarray(kernel), np.asarray(expected)) <= 1
    assert dense.bias.value.sharding.is_fully_replicated
    if not generator:
        for case in CASES:
            if case.init.deterministic and len(case.shape) == 2:
                ours = keras.layers.Dense(
                    case.shape[1], kernel_initializer=to_keras(case.init)
                )
                ours.build((None, case.shape[0]))
                got = np.asarray(ours.kernel)
                np.testing.assert_array_equal(got, case.init(None, case.shape))


def test_training_on_simulated_devices(distribution):
    model = network()
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    losses = model.fit(x, x[:, :1], epochs=3, batch_size=16, verbose=0).history["loss"]
    assert losses[-1] < losses[0]


def test_layouts(distribution):
    ours = to_keras(jaxinit.HeNormal(), seed=3)
    expected = ours((8, 16))
    mesh = distribution.device_mesh
    layout = keras.distribution.TensorLayout(("batch", "model"), mesh)
    sharding = NamedSharding(mesh.backend_mesh, P("batch", "model"))
    for given in (layout, sharding):
        got = ours((8, 16), "float32", layout=given)
        assert got.sharding.is_equivalent_to(sharding, 2)
        assert ulps(np.asarray(got), np.asarray(expected)) <= 1


def test_scope_replaces_initializers_asked_for_by_name():
    with scope():
        dense = keras.layers.Dense(4)
        given = keras.initializers.HeNormal()
        kept = keras.layers.Dense(4, kernel_initializer=given)
        legacy = keras.initializers.get(
            {"class_name": "RandomNormal", "config": {"stddev": 2.0}}
        )
    kernel = dense.kernel_initializer
    assert kernel.initializer == jaxinit.GlorotUniform(None, None)
    assert dense.bias_initializer.initializer == jaxinit.Zeros()
    assert kept.kernel_initializer is given
    assert legacy.initializer == jaxinit.RandomNormal(stddev=2.0)
    after = keras.layers.Dense(4).kernel_initializer
    assert type(after) is keras.initializers.GlorotUniform


def test_scope_of_a_model_whose_code_is_not_ours():
    with scope():
        model = keras.applications.MobileNet((32, 32, 3), weights=None, classes=2)
    found = jaxinit.keras.from_keras(model.get_config())
    assert len(found) > 50
    config = model.to_json()
    assert '"module": "keras.initializers"' not in config
    assert config.count("jaxinit>KerasInitializer") >= len(found)
