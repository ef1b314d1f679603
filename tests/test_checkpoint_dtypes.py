"""The dtypes of fill_missing: casts, and 64-bit values without 64 bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit

pytestmark = pytest.mark.accelerator

KEY = jax.random.key(0)


def leaf(*shape, dtype="float32", sharding=None):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


# cast

CASTS = {
    ("float32", "bfloat16"): True,
    ("float32", "float8_e4m3fn"): True,
    ("float64", "float32"): True,
    ("bfloat16", "float32"): True,
    ("int64", "int32"): True,
    ("int8", "float16"): True,
    ("bool", "int8"): True,
    ("float32", "complex64"): True,
    ("float32", "int32"): False,
    ("complex64", "float32"): False,
    ("int32", "bool"): False,
}


@pytest.mark.parametrize(("start", "end"), CASTS)
@pytest.mark.parametrize("kind", ["numpy", "jax"])
def test_casts_are_those_of_astype(start, end, kind):
    values = np.array([0, 1, 1.2345678, 100.4]).astype(jnp.dtype(start))
    loaded = {"a": {"w": values if kind == "numpy" else jnp.asarray(values)}}
    shapes = {"a": {"w": leaf(4, dtype=end)}}
    kept = jaxinit.fill_missing(KEY, loaded, shapes, {})["a"]["w"]
    assert kept is loaded["a"]["w"]
    if not CASTS[start, end]:
        message = rf"would lose values of:\n  a/w: {start} to {end}\n"
        with pytest.raises(ValueError, match=message):
            jaxinit.fill_missing(KEY, loaded, shapes, {}, cast=True)
        return
    made = jaxinit.fill_missing(KEY, loaded, shapes, {}, cast=True)["a"]["w"]
    assert made.dtype == end
    np.testing.assert_array_equal(made, values.astype(jnp.dtype(end)))


def test_a_cast_leaf_keeps_its_object_if_it_has_the_dtype():
    loaded = {"w": np.ones(2, np.float32), "n": 3, "key": jax.random.key(1)}
    shapes = {"w": leaf(2), "n": leaf(dtype="bfloat16"), "key": jax.random.key(0)}
    made = jaxinit.fill_missing(KEY, loaded, shapes, {}, cast=True)
    assert made["w"] is loaded["w"] and made["key"] is loaded["key"]
    assert made["n"].dtype == jnp.bfloat16 and made["n"] == 3
    raw = {"key": np.zeros((), np.uint32)}
    with pytest.raises(ValueError, match=r"key: uint32 to key<fry>"):
        jaxinit.fill_missing(KEY, raw, {"key": KEY}, {}, cast=True)
    with pytest.raises(TypeError, match="cast"):
        jaxinit.fill_missing(KEY, loaded, shapes, {}, cast=1)


@pytest.mark.parametrize(
    ("values", "start", "end"),
    [
        ([1e10, -1e10], "float32", "float16"),
        ([1, -65520], "float32", "float16"),
        ([1e6], "float32", "float8_e4m3fn"),
        ([1e6], "bfloat16", "float8_e5m2"),
        ([3.4e38, np.nan], "float32", "bfloat16"),
        ([7.5], "float32", "float4_e2m1fn"),
        ([-1], "float16", "float8_e8m0fnu"),
        ([1e6j], "complex64", "float16"),
        ([1e300j], "complex128", "complex64"),
        ([100_000], "int32", "float16"),
    ],
)
def test_a_cast_keeps_every_number_finite(values, start, end):
    """These become infinity, NaN, or the greatest number of a dtype without both."""
    given = np.array(values).astype(jnp.dtype(start))
    shapes = {"a": leaf(len(values), dtype=end)}
    arrays = [given]
    if start != "complex128":
        arrays += [jnp.asarray(given)]
    for array in arrays:
        with pytest.raises(ValueError, match=f"lose values of:\n  a: {start} to {end}"):
            jaxinit.fill_missing(KEY, {"a": array}, shapes, {}, cast=True)


@pytest.mark.parametrize(
    ("values", "end"),
    [
        ([np.inf, -np.inf, np.nan, 2], "float16"),
        ([65504, 65519], "float16"),
        ([463.0, -448], "float8_e4m3fn"),
        ([6.9, -7], "float4_e2m1fn"),
        ([1e-30], "float16"),
    ],
)
def test_a_cast_rounds_what_is_in_range(values, end):
    given = np.array(values, np.float32)
    expected = given.astype(jnp.dtype(end))
    shapes = {"a": leaf(len(values), dtype=end)}
    for array in given, jnp.asarray(given):
        made = jaxinit.fill_missing(KEY, {"a": array}, shapes, {}, cast=True)["a"]
        assert made.dtype == end
        np.testing.assert_array_equal(np.asarray(made), expected)


def test_the_range_of_a_constant_is_found_inside_jit():
    shapes = {"a": leaf(2, dtype="float16")}

    def fill(given):
        return jaxinit.fill_missing(KEY, {"a": given}, shapes, {}, cast=True)["a"]

    small, great = jnp.array([1.0, 2]), jnp.array([1, 1e6])
    assert jax.jit(lambda: fill(small))().tolist() == [1, 2]
    with pytest.raises(ValueError, match="a: float32 to float16, with values from 1 "):
        jax.jit(lambda: fill(great))()


def test_the_range_of_sharded_leaves_is_found():
    values = np.arange(16, dtype=np.float32).reshape(2, 8)
    for kind in AxisType.Auto, AxisType.Explicit:
        mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
        for most in 300.0, 1e6:
            values[1, 5] = most
            given = jax.device_put(values, NamedSharding(mesh, P(None, "x")))
            shapes = {"a": leaf(2, 8, dtype="float16", sharding=given.sharding)}
            if most == 300:
                made = jaxinit.fill_missing(KEY, {"a": given}, shapes, {}, cast=True)
                assert made["a"].sharding == given.sharding
                np.testing.assert_array_equal(made["a"], values)
                continue
            with pytest.raises(ValueError, match=r"with values from 0 to 1e\+06\n"):
                jaxinit.fill_missing(KEY, {"a": given}, shapes, {}, cast=True)


# 64 bits

NARROWED = [
    ([3_000_000_000], "int64", "int32"),
    ([-1], "int64", None),
    ([2**40 + 5], "int64", "int32"),
    ([2**63], "uint64", "uint32"),
    ([1e300], "float64", "float32"),
    ([1e300j], "complex128", "complex64"),
]


@pytest.mark.parametrize(("values", "start", "end"), NARROWED)
@pytest.mark.parametrize("target", ["same", "narrow"])
@pytest.mark.parametrize("cast", [False, True])
def test_a_sharding_keeps_64_bit_values_or_refuses(values, start, end, target, cast):
    given = np.array(values, start)
    dtype = end or "int32" if target == "narrow" else start
    one = NamedSharding(jax.make_mesh((1,), ("x",), (AxisType.Auto,)), P())
    shapes = {"s": leaf(1, dtype=dtype, sharding=one)}
    if end is None:
        made = jaxinit.fill_missing(KEY, {"s": given}, shapes, {}, cast=cast)["s"]
        assert made.dtype == "int32" and made.tolist() == values
    else:
        with pytest.raises(ValueError) as e:
            jaxinit.fill_missing(KEY, {"s": given}, shapes, {}, cast=cast)
        assert f"lose values of:\n  s: {start} to {end}, with values from" in str(
            e.value
        )
        of_jax = not cast or target == "same"
        assert ("jax_enable_x64" in str(e.value)) == of_jax
    bare = {"s": leaf(1, dtype=start)}
    kept = jaxinit.fill_missing(KEY, {"s": given}, bare, {}, cast=cast)["s"]
    assert kept is given
    with jax.enable_x64(True):
        wide = {"s": leaf(1, dtype=start, sharding=one)}
        made = jaxinit.fill_missing(KEY, {"s": given}, wide, {}, cast=cast)["s"]
        assert made.dtype == start and made.tolist() == values


def test_a_wide_target_of_a_jax_array_keeps_its_values():
    """Without 64 bits an array of uint32 would be cast to int32."""
    given = jnp.array([3_000_000_000], jnp.uint32)
    shapes = {"n": leaf(1, dtype=np.int64)}
    with pytest.raises(ValueError, match=r"n: uint32 to int32, .*3000000000"):
        jaxinit.fill_missing(KEY, {"n": given}, shapes, {}, cast=True)


def test_python_numbers_that_do_not_fit_name_their_leaf():
    shapes = {"a": {"step": leaf(dtype=jnp.int32)}, "x": leaf()}
    good = {"a": {"step": 2**31 - 1}, "x": 0.1}
    made = jaxinit.fill_missing(KEY, good, shapes, {})
    assert made["a"]["step"].dtype == jnp.int32 and made["a"]["step"] == 2**31 - 1
    assert made["x"] == jnp.float32(0.1) and not made["x"].weak_type
    for step in 2**31, 2**40, -(2**40), 2**63:
        with pytest.raises(
            ValueError, match=rf"\n  a/step: .* to u?int32, .* {step}\n"
        ):
            jaxinit.fill_missing(KEY, {"a": {"step": step}, "x": 0.1}, shapes, {})
    with pytest.raises(TypeError, match="a/step must be an int of 64 bits; got 1000"):
        jaxinit.fill_missing(KEY, {"a": {"step": 10**40}, "x": 0.1}, shapes, {})
    with pytest.raises(ValueError, match=r"\n  x: float64 to float32, .* 1e\+300\n"):
        jaxinit.fill_missing(KEY, {"a": {"step": 1}, "x": 1e300}, shapes, {})
    wide = {"step": leaf(dtype=jnp.float32)}
    made = jaxinit.fill_missing(KEY, {"step": 2**40}, wide, {}, cast=True)
    assert made["step"] == 2.0**40
    # A number without a place is extra, as before.
    made = jaxinit.fill_missing(
        KEY, good | {"big": 10**40}, shapes, {}, on_extra="ignore"
    )
    assert made["a"]["step"] == 2**31 - 1


def test_a_cast_keeps_every_integer():
    for values, end in ([300], "int8"), ([-1], "uint8"), ([0, 2**20], "int16"):
        given = np.array(values, np.int32)
        shapes = {"n": leaf(len(values), dtype=end)}
        for array in given, jnp.asarray(given):
            with pytest.raises(
                ValueError, match=f"lose values of:\n  n: int32 to {end}"
            ):
                jaxinit.fill_missing(KEY, {"n": array}, shapes, {}, cast=True)
        fits = {"n": np.minimum(np.abs(given), 127)}
        made = jaxinit.fill_missing(KEY, fits, shapes, {}, cast=True)["n"]
        assert made.dtype == end and made.tolist() == fits["n"].tolist()
