"""Registered names, configs and custom classes."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from cases import ulps
from jaxinit.initializers import registry

KEY = jax.random.key(0)


@pytest.fixture
def scratch(monkeypatch):
    """Restores the registry after the test."""
    monkeypatch.setattr(registry, "_classes", dict(registry._classes))


KERAS_NAMES = """
    Constant Identity IdentityInitializer Ones STFT STFTInitializer Zeros
    GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform
    RandomNormal RandomUniform TruncatedNormal VarianceScaling
    constant identity ones one zeros zero stft glorot_normal glorot_uniform
    he_normal he_uniform lecun_normal lecun_uniform random_normal normal
    random_uniform uniform truncated_normal variance_scaling
    orthogonal Orthogonal OrthogonalInitializer
""".split()


@pytest.mark.parametrize(
    "name",
    [
        *KERAS_NAMES,
        "xavier_normal",
        "xavier_uniform",
        "kaiming_normal",
        "kaiming_uniform",
    ],
)
def test_every_name_builds_its_class_with_defaults(name):
    init = jaxinit.get(name)
    assert init == type(init)() == jaxinit.deserialize(name)
    assert jaxinit.get({"module": "jaxinit", "class_name": name}) == init
    # A config without "module" is Keras's, whose fans exist for any shape.
    keras = {k: None for k in ("in_axis", "out_axis") if hasattr(init, k)}
    expected = dataclasses.replace(init, **keras)
    assert jaxinit.get({"class_name": name, "config": {}}) == expected


def test_snake_case_names_are_aliases_of_the_classes():
    for name, cls in jaxinit.names().items():
        if name.islower() and hasattr(jaxinit, name):
            assert getattr(jaxinit, name) is cls
    assert jaxinit.kaiming_normal is jaxinit.HeNormal


def test_keras_defaults():
    defaults = {
        "RandomNormal": {"mean": 0.0, "stddev": 0.05},
        "RandomUniform": {"minval": -0.05, "maxval": 0.05},
        "TruncatedNormal": {"mean": 0.0, "stddev": 0.05},
        "VarianceScaling": {
            "scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal",
        },
        "Constant": {"value": 0.0},
        "Identity": {"gain": 1.0},
        "Orthogonal": {"gain": 1.0, "seed": None},
        "STFT": {
            "side": "real", "window": "hann", "scaling": "density", "periodic": False,
        },
    }  # fmt: skip
    for name, fields in defaults.items():
        config = jaxinit.get(name).get_config()
        assert fields.items() <= config.items()


def test_serialized_form():
    assert jaxinit.serialize(jaxinit.RandomNormal(stddev=0.5)) == {
        "module": "jaxinit",
        "class_name": "RandomNormal",
        "config": {"mean": 0.0, "stddev": 0.5, "seed": None},
        "registered_name": None,
    }


KERAS3 = {"module": "keras.initializers", "registered_name": None}
ANY_RANK = {"in_axis": None, "out_axis": None}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            KERAS3 | {"class_name": "HeNormal", "config": {"seed": 3}},
            jaxinit.HeNormal(**ANY_RANK, seed=3),
        ),
        (
            {"class_name": "VarianceScaling", "config": {"distribution": "normal"}},
            jaxinit.VarianceScaling(**ANY_RANK),
        ),
        (
            KERAS3
            | {
                "class_name": "VarianceScaling",
                "config": {
                    "scale": 2.0,
                    "mode": "fan_out",
                    "distribution": "untruncated_normal",
                    "seed": None,
                    "input_axes": None,
                    "output_axes": None,
                },
            },
            jaxinit.VarianceScaling(2.0, "fan_out", "normal", **ANY_RANK),
        ),
        (
            KERAS3
            | {
                "class_name": "GlorotUniform",
                "config": {"input_axes": [0], "output_axes": [1, 2]},
            },
            jaxinit.GlorotUniform((0,), (1, 2), "rest"),
        ),
        (
            {
                "module": "jaxinit",
                "class_name": "VarianceScaling",
                "config": {"distribution": "normal"},
            },
            jaxinit.VarianceScaling(distribution="normal"),
        ),
        ({"class_name": "zeros"}, jaxinit.Zeros()),
        (
            KERAS3
            | {
                "class_name": "OrthogonalInitializer",
                "config": {"gain": 2.0, "seed": 3},
            },
            jaxinit.Orthogonal(2.0, seed=3),
        ),
        (
            KERAS3
            | {
                "class_name": "Constant",
                "config": {
                    "value": {
                        "class_name": "__numpy__",
                        "config": {"value": [1.0, 2.0], "dtype": "float32"},
                    }
                },
            },
            jaxinit.Constant(np.array([1, 2], np.float32)),
        ),
    ],
)
def test_accepted_configs(config, expected):
    assert jaxinit.deserialize(json.loads(json.dumps(config))) == expected


def test_keras_axes_leave_other_axes_out_of_the_fans():
    """keras.initializers has no receptive field, too, if both axes are given."""
    config = {"input_axes": [1], "output_axes": [2]}
    init = jaxinit.get({"class_name": "LecunUniform", "config": config})
    w = init(KEY, (5, 100, 300))
    assert abs(float(w.max()) - (3 / 100) ** 0.5) < 1e-3


def deep(levels):
    config = {"class_name": "Zeros", "config": {}}
    for _ in range(levels):
        config = {"class_name": "Zeros", "config": {"value": config}}
    return config


def wide():
    row = [0] * 2000
    return {"class_name": "Constant", "config": {"value": [row] * 2000}}


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("dtype", ["float32", "complex64", "int8"])
def test_empty_arrays_keep_their_shape(shape, dtype):
    init = jaxinit.FromArray(np.zeros(shape, dtype))
    again = jaxinit.deserialize(json.loads(json.dumps(jaxinit.serialize(init))))
    assert again == init and again(None, shape, dtype).shape == shape


@pytest.mark.parametrize(
    "values", [[complex(1, -0.0)], [complex(1, np.inf), complex(np.nan, -0.0)]]
)
def test_complex_arrays_keep_zeros_and_infinities(values):
    init = jaxinit.FromArray(np.array(values))
    assert jaxinit.deserialize(jaxinit.serialize(init)) == init


def test_every_nan_is_the_same_value():
    nan = np.array([0x7FC00000, 0xFFC00001], np.uint32).view(np.float32)
    assert jaxinit.FromArray(nan) == jaxinit.FromArray(np.full(2, np.nan, np.float32))
    pairs = [jaxinit.FromArray([complex(1, sign * np.nan)]) for sign in (1, -1)]
    assert pairs[0] == pairs[1]
    init = jaxinit.FromArray(nan.astype(">f4"))
    assert jaxinit.deserialize(jaxinit.serialize(init)) == init


@pytest.mark.parametrize(
    ("config", "kind", "message"),
    [
        ("he_norml", ValueError, "'he_normal'"),
        ({"class_name": "HeNorml"}, ValueError, "'HeNormal'"),
        ({"class_name": "HeNormal", "config": {"sed": 1}}, ValueError, "'sed'"),
        ({"class_name": "FromArray", "config": {}}, ValueError, "lacks 'value'"),
        ({"class_name": "HeNormal", "config": 3}, TypeError, "must be a dict"),
        ({"class_name": 3}, TypeError, "name must be a str"),
        ({"config": {}}, ValueError, "class_name"),
        ({"class_name": "Zeros", "extra": 1}, ValueError, "extra"),
        ({"class_name": "Zeros", "module": "os"}, ValueError, "imports no modules"),
        ({"class_name": "Zeros", "module": 3}, TypeError, "module"),
        ({"class_name": "os.system"}, ValueError, "names no registered"),
        ({"class_name": "__import__"}, ValueError, "names no registered"),
        ({"class_name": "Zeros", "config": {3: 1}}, TypeError, "must be str"),
        (3, TypeError, "dict or a name"),
        (deep(40), ValueError, "levels deep"),
        (wide(), ValueError, "more than"),
    ],
)
def test_refused_configs(config, kind, message):
    with pytest.raises(kind, match=message):
        jaxinit.deserialize(config)


def test_aliased_nesting_is_refused_before_it_is_expanded():
    value = [0]
    for _ in range(25):
        value = [value] * 10
    with pytest.raises(ValueError, match="more than"):
        jaxinit.deserialize({"class_name": "Constant", "config": {"value": value}})


def test_get_accepts_what_keras_does():
    assert jaxinit.get(None) is None
    assert jaxinit.get(jaxinit.HeNormal) == jaxinit.HeNormal()
    init = jaxinit.HeNormal(seed=1)
    assert jaxinit.get(init) is init
    function = jax.nn.initializers.he_normal()
    assert jaxinit.get(function) is function
    assert jaxinit.get(jaxinit.functional.he_normal) is jaxinit.functional.he_normal
    values = np.arange(6.0).reshape(2, 3)
    for array in (values, jnp.asarray(values)):
        np.testing.assert_array_equal(jaxinit.get(array)(KEY, (2, 3)), values)
        with pytest.raises(ValueError, match=r"\(2, 3\)"):
            jaxinit.get(array)(KEY, (3, 2))


@pytest.mark.parametrize("read", [jaxinit.get, jaxinit.deserialize])
def test_a_name_alone_is_refused_if_a_field_has_no_default(read):
    with pytest.raises(ValueError, match="config of Sparse lacks 'sparsity'"):
        read("sparse")


def test_get_refuses():
    with pytest.raises(ValueError, match="config of ICNR lacks 'initializer'"):
        jaxinit.get(jaxinit.ICNR)
    with pytest.raises(TypeError, match="must be a name"):
        jaxinit.get(3)
    with pytest.raises(TypeError, match=r"\(key, shape, dtype\)"):
        jaxinit.get(lambda shape: None)


def test_custom_class_gets_everything(scratch):
    @jaxinit.register("lab>Laplace")
    @dataclasses.dataclass(frozen=True)
    class Laplace(jaxinit.Initializer):
        scale: float = 0.05
        offsets: tuple = ()
        base: jaxinit.Initializer | None = None
        dtype: str = "float32"
        seed: int | None = None

        def sample(self, key, shape, dtype):
            assert dtype == jnp.float32
            return self.scale * jax.random.laplace(key, shape, dtype)

    init = Laplace(0.5, offsets=[1, [2.5]], base=jaxinit.HeNormal(), dtype=jnp.bfloat16)
    assert init.offsets == (1, (2.5,)) and init.dtype == "bfloat16"
    config = json.loads(json.dumps(jaxinit.serialize(init)))
    assert config["registered_name"] == "lab>Laplace"
    assert config["module"] == __name__ and config["class_name"] == "Laplace"
    assert jaxinit.deserialize(config) == init == init.clone()
    assert jaxinit.get("lab>Laplace") == Laplace()
    assert hash(init) == hash(init.clone())
    # Drawn in float32 from the bits of the key, rounded once.
    expected = 0.5 * jax.random.laplace(KEY, (64, 32))
    assert ulps(init(KEY, (64, 32)), expected) <= 1
    narrow = init(KEY, (64, 32), jnp.bfloat16)
    wide = init(KEY, (64, 32)).astype(jnp.bfloat16)
    np.testing.assert_array_equal(narrow, wide)
    np.testing.assert_array_equal(
        dataclasses.replace(init, seed=0)(None, (64, 32)), init(KEY, (64, 32))
    )
    with pytest.raises(TypeError, match="seed=0"):
        init(None, (2, 2))


def test_custom_class_with_a_nested_array(scratch):
    @jaxinit.register
    @dataclasses.dataclass(frozen=True)
    class Table(jaxinit.Initializer):
        table: object
        deterministic = True

        def sample(self, key, shape, dtype):
            return jnp.asarray(np.asarray(self.table), dtype)

    init = Table(np.arange(3.0))
    np.testing.assert_array_equal(init(None, (3,)), [0.0, 1.0, 2.0])
    assert jaxinit.deserialize(json.loads(json.dumps(jaxinit.serialize(init)))) == init
    with pytest.raises(ValueError, match=r"requested shape \(4,\)"):
        init(None, (4,))


def test_a_sample_does_not_lose_its_imaginary_part():
    @dataclasses.dataclass(frozen=True)
    class Turned(jaxinit.Initializer):
        def sample(self, key, shape, dtype):
            return 1j * jax.random.normal(key, shape)

    assert jnp.all(Turned()(KEY, (3,), jnp.complex64).imag != 0)
    with pytest.raises(TypeError, match=r"Turned.sample.*real for a float32"):
        Turned()(KEY, (3,))


def test_registration_is_refused_if_it_would_mislead(scratch):
    class Plain(jaxinit.Initializer):
        def sample(self, key, shape, dtype):
            return jnp.zeros(shape, dtype)

    with pytest.raises(TypeError, match=r"frozen=True"):
        jaxinit.register(Plain)
    with pytest.raises(TypeError, match="subclass of Initializer"):
        jaxinit.register(lambda key, shape: None)
    frozen = dataclasses.dataclass(frozen=True)(Plain)
    for name in ("he_normal", "HeNormal"):
        with pytest.raises(ValueError, match="registered already"):
            jaxinit.register(name)(frozen)
    with pytest.raises(ValueError, match="empty"):
        jaxinit.register("")(frozen)
    assert jaxinit.get("he_normal") == jaxinit.HeNormal()
    jaxinit.register("he_normal", override=True)(frozen)
    assert jaxinit.get("he_normal") == frozen()


def test_unregistered_classes_and_functions_do_not_serialize():
    @dataclasses.dataclass(frozen=True)
    class Mine(jaxinit.Initializer):
        def sample(self, key, shape, dtype):
            return jnp.zeros(shape, dtype)

    for value in (Mine(), lambda key, shape, dtype: None, "he_normal"):
        with pytest.raises(TypeError, match="register"):
            jaxinit.serialize(value)


@dataclasses.dataclass(frozen=True)
class Half(jaxinit.HeNormal):
    power: float = 1.0
    made: str = dataclasses.field(default="here", init=False)

    def sample(self, key, shape, dtype):
        return jnp.abs(super().sample(key, shape, dtype)) ** self.power


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_subclass_of_a_built_in_may_write_sample_and_add_fields(dtype):
    """The checks and the draws of the built-in class stay."""
    wide = jnp.abs(jaxinit.HeNormal(1, 0)(KEY, (8, 16)))
    np.testing.assert_array_equal(
        Half(1, 0)(KEY, (8, 16), dtype), jnp.asarray(wide, dtype)
    )
    assert jnp.all(Half(1, 0, power=2.0)(KEY, (8, 16)) == wide**2)
    assert Half.from_config(Half(1, 0, power=2.0).get_config()) == Half(1, 0, power=2.0)
    with pytest.raises(TypeError, match="in_axis"):
        Half("x")


def test_a_subclass_may_check_its_own_fields():
    @dataclasses.dataclass(frozen=True)
    class Tripled(jaxinit.HeNormal):
        factor: float = 3.0
        check = staticmethod(lambda where, **fields: fields | {"factor": 3.0})

        def sample(self, key, shape, dtype):
            return self.factor * super().sample(key, shape, dtype)

    wide = 3 * jaxinit.HeNormal()(KEY, (4, 4))
    np.testing.assert_array_equal(Tripled(factor=1.0)(KEY, (4, 4)), wide)


def test_a_subclass_is_a_frozen_dataclass_or_has_no_fields():
    class Plain(jaxinit.Initializer):
        def sample(self, key, shape, dtype):
            return jnp.ones(shape, dtype)

    assert repr(Plain()) == "Plain()" and Plain()(KEY, (2,)).sum() == 2
    with pytest.raises(TypeError, match="frozen=True"):
        dataclasses.dataclass(Plain)()


def test_a_class_of_a_user_may_have_identifiers(scratch):
    @jaxinit.register("lab>Half")
    @dataclasses.dataclass(frozen=True)
    class Half(jaxinit.Initializer):
        value: float = 0.5
        distribution: str = "normal"  # which a config of Keras would read otherwise
        identifiers = ("half",)

        def sample(self, key, shape, dtype):
            return jnp.full(shape, self.value, dtype)

    config = jaxinit.serialize(Half(0.25))
    assert config["registered_name"] == "lab>Half" and config["module"] == __name__
    assert jaxinit.deserialize(config) == Half(0.25)
    assert jaxinit.get("half") == Half()
    assert jaxinit.deserialize({"class_name": "half", "config": {}}) == Half()


def test_a_base_class_without_sample_says_that_it_is_abstract():
    class Base(jaxinit.Initializer, abstract=True):
        pass

    with pytest.raises(TypeError, match="must define sample"):

        class Nothing(Base):
            pass


def test_a_subclass_without_sample_is_refused():
    with pytest.raises(TypeError, match="must define sample"):

        class Nothing(jaxinit.Initializer):
            pass


def test_fields_must_be_plain_data():
    @dataclasses.dataclass(frozen=True)
    class Odd(jaxinit.Initializer):
        field: object = None

        def sample(self, key, shape, dtype):
            return jnp.zeros(shape, dtype)

    with pytest.raises(TypeError, match=r"Odd\(field=.*hashable"):
        Odd({"a": {}})
    with pytest.raises(TypeError, match="plain data"):
        Odd(print).get_config()
