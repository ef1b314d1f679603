"""Bad arguments: the error names the argument, the rule, the value, the cure."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from jaxinit import functional

KEY = jax.random.key(0)
HE = jaxinit.HeNormal()


def on_one_device(*spec):
    return jax.NamedSharding(jax.make_mesh((1,), ("x",)), jax.P(*spec))


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: jaxinit.HeNormal("x"), TypeError, r"HeNormal\(in_axis=.*tuple.*'x'"),
        (lambda: jaxinit.HeNormal((0, 0)), ValueError, "distinct"),
        (lambda: jaxinit.HeNormal(1.5), TypeError, "in_axis"),
        (lambda: jaxinit.HeNormal(True), TypeError, "in_axis"),
        (lambda: jaxinit.HeNormal(seed="1"), TypeError, "seed"),
        (lambda: jaxinit.HeNormal(seed=2**64), ValueError, "seed.*64 bits"),
        (lambda: jaxinit.RandomNormal(stddev=-1), ValueError, r"at least 0; got -1"),
        (lambda: jaxinit.RandomNormal(mean=float("nan")), ValueError, "mean.*finite"),
        (lambda: jaxinit.RandomNormal(stddev="1e-3"), TypeError, r"stddev.*1\.0e-3"),
        (lambda: jaxinit.RandomNormal(stddev=None), TypeError, "stddev"),
        (lambda: jaxinit.RandomNormal(stddev=True), TypeError, "stddev"),
        (lambda: jaxinit.RandomNormal(stddev=[1.0]), TypeError, "stddev"),
        (lambda: jaxinit.RandomUniform(1.0, 0.0), ValueError, r"at least minval=1"),
        (lambda: jaxinit.RandomUniform(-1.7e308, 1.7e308), ValueError, "range"),
        (lambda: jaxinit.TruncatedNormal(lower=2, upper=1), ValueError, "greater"),
        (lambda: jaxinit.TruncatedNormal(lower=50, upper=60), ValueError, "within 37"),
        (lambda: jaxinit.TruncatedNormal(bounds="abs"), ValueError, "'absolute'"),
        (lambda: jaxinit.TruncatedNormal(corrected=1), TypeError, "True or False"),
        (
            lambda: jaxinit.TruncatedNormal(
                stddev=0.6, lower=-1, upper=1, bounds="absolute", corrected=True
            ),
            ValueError,
            "stddev.*below 0.577",
        ),
        (
            lambda: jaxinit.TruncatedNormal(5, 0, lower=-1, upper=1, bounds="absolute"),
            ValueError,
            "mean.*stddev is 0",
        ),
        (
            lambda: jaxinit.TruncatedNormal(
                stddev=1e-4, lower=1, upper=2, bounds="absolute", corrected=True
            ),
            ValueError,
            r"stddev.*at least 0\.0007",
        ),
        (lambda: jaxinit.Clipped("ones", np.nan, 1), ValueError, "lower.*infinity"),
        (lambda: jaxinit.HeNormal(None), ValueError, "out_axis.*in_axis"),
        (lambda: jaxinit.HeNormal(None, None, 0), ValueError, "batch_axis"),
        (lambda: jaxinit.TorchBias(10**400), ValueError, "fan_in.*64 bits"),
        (lambda: jaxinit.VarianceScaling(mode="in"), ValueError, "'fan_geo_avg'"),
        (lambda: jaxinit.VarianceScaling(distribution=3), ValueError, "distribution"),
        (lambda: jaxinit.VarianceScaling(-1.0), ValueError, "scale"),
        (lambda: jaxinit.Constant("x"), TypeError, "value"),
        (lambda: jaxinit.Constant([[1], [2, 3]]), ValueError, "value"),
        (lambda: jaxinit.Constant(None), TypeError, "value"),
        (lambda: jaxinit.STFT("left"), ValueError, "'imag'"),
        (lambda: jaxinit.STFT(window="kaisr"), ValueError, "window.*scipy"),
        (lambda: jaxinit.STFT(window=3), TypeError, "window"),
        (lambda: jaxinit.STFT(window=[1j] * 4), TypeError, "window.*real"),
        (lambda: jaxinit.Rules({}, strict="no"), TypeError, "strict.*True or False"),
        (lambda: jaxinit.Identity(gain="1"), TypeError, "gain"),
    ],
)
def test_arguments_are_checked_when_built(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda: HE(0, (2, 3)), TypeError, r"key=.*jax.random.key\(0\)"),
        (lambda: HE(jnp.ones(2), (2, 3)), TypeError, "PRNG key"),
        (lambda: HE(jax.random.split(KEY), (2, 3)), ValueError, r"jax\.vmap"),
        (lambda: HE(jnp.zeros((5, 2), "uint32"), (2, 3)), ValueError, r"jax\.vmap"),
        (lambda: HE(KEY, 3), TypeError, r"Write \(3,\)"),
        (lambda: HE(KEY, (2, -3)), ValueError, "non-negative"),
        (lambda: HE(KEY, (2, 3.0)), TypeError, "shape"),
        (lambda: HE(KEY, "23"), TypeError, "shape"),
        (lambda: HE(KEY, (3,)), ValueError, r"he_normal\(shape=.*in_axis=0"),
        (lambda: HE(KEY, (2, 3), "int32"), TypeError, "dtype"),
        (lambda: HE(KEY, (2, 3), "float99"), TypeError, "dtype"),
        (lambda: HE(KEY, (2, 3), "f4,("), TypeError, "dtype"),
        (lambda: HE(KEY, (2, 3), ">f4"), TypeError, "dtype of JAX"),
        (lambda: HE(KEY, (2, 3), np.longdouble), TypeError, "dtype of JAX"),
        (lambda: HE(jnp.zeros(4, "uint32"), (2, 3)), ValueError, "wrap_key_data"),
        (lambda: HE(KEY, (2, 3), "float8_e8m0fnu"), TypeError, "signed"),
        (lambda: HE(KEY, (2, 3), None, "data"), TypeError, "out_sharding"),
        (
            lambda: HE(KEY, (2, 3), None, jax.P(None, None, "x")),
            ValueError,
            "at most 2",
        ),
        (
            lambda: HE(KEY, (2, 3), out_sharding=on_one_device(None, None, None)),
            ValueError,
            r"out_sharding=.*at most 2",
        ),
        (lambda: jaxinit.Constant(0.5)(None, (2,), "int32"), ValueError, "int32"),
        (lambda: jaxinit.Constant(1j)(None, (2,)), ValueError, "float32"),
        (lambda: jaxinit.Constant(1 + 0j)(None, (2,), "int32"), ValueError, "int32"),
        (lambda: jaxinit.Constant(2)(None, (2,), bool), ValueError, "bool"),
        (lambda: jaxinit.Constant(2**70)(None, (2,), "int32"), ValueError, "int32"),
        (lambda: jaxinit.Constant(10**400)(None, (2,)), ValueError, "float32"),
        (lambda: jaxinit.Constant(1e3)(None, (2,), "float8_e4m3fn"), ValueError, "e4"),
        (
            lambda: jaxinit.Constant(np.nan)(None, (2,), "float4_e2m1fn"),
            ValueError,
            "4",
        ),
        (
            lambda: jaxinit.Constant(np.inf)(None, (2,), "float4_e2m1fn"),
            ValueError,
            "4",
        ),
        (lambda: functional.constant(None, (2,), value="1"), ValueError, "float32"),
        (
            lambda: jaxinit.Constant(np.array(3, jnp.int4))(None, (2,), "int2"),
            ValueError,
            "int2",
        ),
        (lambda: jaxinit.Zeros()(None, (2,), "float8_e8m0fnu"), ValueError, "e8m0fnu"),
        (lambda: jaxinit.Identity(0.5)(None, (2, 2), "int8"), ValueError, "gain.*int8"),
        (lambda: jaxinit.RandomUniform(-3e38, 2e38)(KEY, (2,)), ValueError, "float32"),
        (lambda: jaxinit.Constant([1, 2])(None, (3,)), ValueError, r"shape \(2,\)"),
        (lambda: jaxinit.Constant([[1, 2]])(None, (2,)), ValueError, "broadcastable"),
        (lambda: jaxinit.FromArray([1, 2])(None, (1, 2)), ValueError, r"\(2,\)"),
        (lambda: jaxinit.Identity()(None, (2, 2, 2)), ValueError, "batch_axis"),
        (lambda: jaxinit.Identity(batch_axis=5)(None, (2, 2)), ValueError, "within"),
        (lambda: jaxinit.STFT()(None, (8, 2, 5)), ValueError, r"\(T, 1"),
        (lambda: jaxinit.STFT()(None, (8, 1, 5), "int32"), TypeError, "stft.dtype"),
        (lambda: jaxinit.STFT(window=[1.0])(None, (8, 1, 5)), ValueError, r"\(8,\)"),
        (
            lambda: jaxinit.TruncatedNormal(lower=-1)(KEY, (2,), "complex64"),
            ValueError,
            "lower.*complex",
        ),
    ],
)
def test_calls_are_checked(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_a_traced_shape_is_explained():
    with pytest.raises(TypeError, match="static"):
        jax.jit(lambda n: HE(KEY, (n, 3)))(3)


@pytest.mark.parametrize(
    ("value", "dtype"), [(-1, "uint8"), (200, "int8"), (2**31, "int32")]
)
def test_integers_do_not_wrap(value, dtype):
    unsigned = np.dtype(dtype).kind == "u"
    of_its_width = dtype.removeprefix("u") if unsigned else "u" + dtype
    held = jaxinit.FromArray(np.array([value], of_its_width))
    assert np.asarray(held(None, (1,), of_its_width)) == value
    with pytest.raises(ValueError, match=f"representable in {dtype}"):
        held(None, (1,), dtype)


def test_traced_numbers_go_to_functions():
    with pytest.raises(TypeError, match=r"not traced"):
        jax.jit(
            lambda x: functional.clipped(
                None, (2,), initializer="ones", lower=-x, upper=x
            )
        )(1.0)
    with pytest.raises(TypeError, match=r"stddev=.*jaxinit\.functional"):
        jax.jit(lambda x: jaxinit.RandomNormal(stddev=x)(KEY, (2,)))(1.0)


def test_a_traced_number_cannot_set_absolute_bounds():
    def f(stddev):
        return functional.truncated_normal(KEY, (2,), stddev=stddev, bounds="absolute")

    with pytest.raises(TypeError, match="concrete"):
        jax.jit(f)(0.1)


def test_float64_without_x64_warns():
    with pytest.warns(UserWarning, match="jax_enable_x64"):
        assert HE(KEY, (2, 3), "float64").dtype == jnp.float32


@pytest.mark.parametrize("cls", [jaxinit.HeNormal, jaxinit.Zeros, jaxinit.Constant])
@pytest.mark.parametrize("key", [KEY, jax.random.PRNGKey(0)], ids=["typed", "raw"])
def test_a_class_called_as_an_initializer_says_to_add_parentheses(cls, key):
    message = rf"kernel_init=jaxinit\.{cls.__name__}\(\)"
    with pytest.raises(TypeError, match=message):
        cls(key, (2, 3), jnp.float32)


def test_numpy_numbers_become_python_ones():
    init = jaxinit.RandomNormal(np.float32(0.5), jnp.asarray(2.0), seed=np.int64(3))
    assert init == jaxinit.RandomNormal(0.5, 2.0, 3)
    assert [type(v) for v in init.get_config().values()] == [float, float, int]
    assert jaxinit.HeNormal([np.int32(0)], batch_axis=[]).in_axis == (0,)
