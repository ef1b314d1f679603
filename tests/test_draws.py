"""The distribution of every random initializer in every dtype, at fixed keys."""

import functools
import json
import pathlib
import platform

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

import jaxinit
from cases import DRAWN, LAWS, NARROW, RANDOM, Case, ids, ks_pvalue, ulps
from jaxinit import _draws

pytestmark = pytest.mark.accelerator

random = pytest.mark.parametrize("case", RANDOM, ids=ids(RANDOM))
ON_COMPLEX = [case for case in LAWS if case.modulus2 is not None]
GOLDEN = pathlib.Path(__file__).with_name("golden_draws.json")
# Where they were stored. Elsewhere XLA may round the last steps of a draw otherwise.
STORED_ON = "0.10.2", "cpu", "x86_64"


@functools.cache
def grid(dtype: str) -> np.ndarray:
    """Returns all finite values of a narrow dtype, ascending, in float64."""
    bits = 8 * np.dtype(NARROW[dtype]).itemsize
    codes = np.arange(2**bits).astype(f"uint{bits}")
    with np.errstate(all="ignore"):
        values = codes.view(NARROW[dtype]).astype(np.float64)
    return np.unique(values[np.isfinite(values)])


def check_moments(draws: np.ndarray, mean: float, variance: float, fourth: float):
    """Asserts mean and variance within 5 standard errors of the given moments."""
    n = draws.size
    assert abs(draws.mean() - mean) <= 5 * np.sqrt(variance / n)
    error = np.sqrt(max(fourth - variance**2, 0) / n)
    assert abs(draws.var() - variance) <= 5 * error + 1e-6 * variance


@random
def test_float32_law(case: Case):
    draws = np.asarray(case.init(jax.random.key(1), case.many), np.float64).ravel()
    assert draws.size >= 10**6 - 1
    mean, variance, kurtosis = case.law.stats("mvk")
    check_moments(draws, mean, variance, (kurtosis + 3) * variance**2)
    assert ks_pvalue(draws, case.law) > 1e-3
    low, high = case.law.support()
    slack = 1e-6 * max(1.0, abs(mean))
    assert draws.min() >= low - slack and draws.max() <= high + slack


@pytest.mark.parametrize("case", LAWS, ids=ids(LAWS))
def test_narrow_law(case: Case):
    """Compares with the exact distribution of the rounded variable, point by point."""

    @jax.jit
    def draw(key):
        return {dtype: case.init(key, case.many, dtype) for dtype in NARROW}

    for dtype, draws in draw(jax.random.key(2)).items():
        check_narrow_law(case, np.asarray(draws, np.float64).ravel(), grid(dtype))


def check_narrow_law(case: Case, draws: np.ndarray, values: np.ndarray):
    # P(value <= g) is the CDF at the midpoint between g and the next value.
    above = case.law.cdf((values[1:] + values[:-1]) / 2)
    cdf = np.append(above, 1.0)
    pmf = np.diff(cdf, prepend=0.0)
    mean = pmf @ values
    variance = pmf @ (values - mean) ** 2
    check_moments(draws, mean, variance, pmf @ (values - mean) ** 4)
    empirical = np.searchsorted(np.sort(draws), values, side="right") / draws.size
    distance = np.abs(empirical - cdf).max()
    # Ties to even put the mass of a midpoint on one side: bound it, too.
    assert stats.kstwobign.sf(distance * np.sqrt(draws.size)) > 1e-3


@pytest.mark.parametrize("case", ON_COMPLEX, ids=ids(ON_COMPLEX))
def test_complex_law(case: Case):
    draws = np.asarray(case.init(jax.random.key(3), case.many, jnp.complex64))
    draws = draws.astype(np.complex128).ravel()
    center = case.law.mean()
    modulus2 = np.abs(draws - center) ** 2
    expected = case.modulus2.mean()
    error = 5 * case.modulus2.std() / np.sqrt(draws.size)
    assert abs(modulus2.mean() - expected) < error
    assert ks_pvalue(modulus2, case.modulus2) > 1e-3
    # Circular: E(w - m) = 0, E(w - m)^2 = 0 and a uniform phase.
    assert abs(draws.mean() - center) < 5 * np.sqrt(expected / draws.size)
    fourth = np.sqrt((modulus2**2).mean() / draws.size)
    assert abs(((draws - center) ** 2).mean()) < 5 * fourth
    phase = np.angle(draws - center) / (2 * np.pi) + 0.5
    assert ks_pvalue(phase, stats.uniform) > 1e-3


@pytest.mark.parametrize(
    "name", ["random_normal", "he_normal", "glorot_normal", "lecun_normal"]
)
def test_bfloat16_has_many_values_and_no_bias(name):
    """jax.nn draws 128 distinct values with a mean of -0.018 sigma."""
    draws = np.asarray(jaxinit.get(name)(jax.random.key(4), (1024, 1024), jnp.bfloat16))
    values = draws.astype(np.float64)
    assert len(np.unique(values)) > 1000
    assert abs(values.mean()) < 5 * values.std() / 1024


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_tails_are_symmetric_and_reached(dtype):
    init = jaxinit.RandomNormal(stddev=1.0)
    draws = np.asarray(init(jax.random.key(5), (2048, 2048), dtype)).astype(np.float64)
    for threshold in (2.0, 3.0, 4.0):
        left, right = (draws < -threshold).sum(), (draws > threshold).sum()
        assert abs(left - right) < 5 * np.sqrt(left + right)
    assert draws.min() < -4.5 and draws.max() > 4.5


@pytest.mark.parametrize(
    ("lower", "upper"),
    [(-100, 100), (-np.inf, np.inf), (-np.inf, 0.5), (1.9, np.inf), (5, np.inf),
     (-np.inf, -12), (-8, -5), (20, 21), (-5.5, 5.5)],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_atoms_and_no_nan_at_any_bounds(lower, upper, dtype):
    init = jaxinit.TruncatedNormal(stddev=1.0, lower=lower, upper=upper)
    draws = np.asarray(init(jax.random.key(6), (1000, 1000), dtype))
    assert np.isfinite(draws.astype(np.float32)).all()
    if dtype == "float32":
        # 2^23 steps of the uniform, so a few repeats are due but no atoms.
        _, counts = np.unique(draws, return_counts=True)
        assert counts.max() < 100
        assert lower <= draws.min() and draws.max() <= upper


@pytest.mark.parametrize("name", ["lecun_normal", "glorot_uniform", "he_normal"])
def test_same_values_as_jax(name):
    key, shape = jax.random.key(9), (3, 3, 61, 127)
    theirs = jax.jit(lambda k: getattr(jax.nn.initializers, name)()(k, shape))(key)
    assert ulps(jaxinit.get(name)(key, shape), theirs) <= 4


@pytest.mark.parametrize(
    ("mode", "distribution", "impl"),
    [
        ("fan_in", "uniform", "threefry2x32"),
        ("fan_out", "truncated_normal", "rbg"),
        ("fan_avg", "normal", "rbg"),
        ("fan_geo_avg", "normal", "threefry2x32"),
    ],
)
def test_same_values_as_jax_variance_scaling(mode, distribution, impl):
    key, shape = jax.random.key(9, impl=impl), (7, 61, 127)
    theirs = jax.nn.initializers.variance_scaling(
        0.7, mode, distribution, in_axis=0, out_axis=2, batch_axis=1
    )
    ours = jaxinit.VarianceScaling(
        0.7, mode, distribution, in_axis=0, out_axis=2, batch_axis=1
    )
    expected = jax.jit(lambda k: theirs(k, shape))(key)
    assert ulps(ours(key, shape), expected) <= 4


def test_same_values_as_jax_normal_uniform_truncated():
    key, shape = jax.random.key(10), (301, 201)
    peers = jax.nn.initializers
    pairs = [
        (peers.normal(0.3), jaxinit.RandomNormal(stddev=0.3)),
        (peers.uniform(0.3), jaxinit.RandomUniform(0.0, 0.3)),
        (peers.truncated_normal(0.3), jaxinit.TruncatedNormal(stddev=0.3)),
        (
            peers.truncated_normal(0.3, lower=-3.0, upper=3.0),
            jaxinit.TruncatedNormal(stddev=0.3, lower=-3.0, upper=3.0),
        ),
    ]
    for theirs, ours in pairs:
        expected = jax.jit(lambda k, init=theirs: init(k, shape))(key)
        assert ulps(ours(key, shape), expected) <= 4, ours


def test_zero_stddev_is_the_mean():
    key = jax.random.key(0)
    for init in (
        jaxinit.RandomNormal(0.5, 0.0),
        jaxinit.RandomUniform(0.5, 0.5),
        jaxinit.TruncatedNormal(0.5, 0.0),
        jaxinit.TruncatedNormal(0.5, 0.0, lower=0.0, upper=1.0, bounds="absolute"),
    ):
        np.testing.assert_array_equal(init(key, (5,)), np.full(5, 0.5, np.float32))


def test_arguments_may_be_traced():
    """A sweep over stddev in one vmapped program."""
    key, stddevs = jax.random.key(0), jnp.array([0.1, 0.2, 0.4])
    draw = functools.partial(jaxinit.functional.random_normal, key, (64, 64))
    swept = jax.vmap(lambda s: draw(stddev=s))(stddevs)
    for stddev, values in zip(stddevs, swept, strict=True):
        assert ulps(values, draw(stddev=float(stddev))) <= 1
    gradient = jax.grad(lambda s: draw(stddev=s).sum())(0.1)
    np.testing.assert_allclose(gradient, draw(stddev=1.0).sum(), rtol=1e-4)
    uniform = functools.partial(jaxinit.functional.random_uniform, key, (64,))
    for end in ({"minval": -0.5}, {"maxval": 0.5}):
        traced = jax.jit(lambda end: uniform(**end))(end)
        assert ulps(traced, uniform(**end)) <= 1
    for draw in (
        lambda s: uniform(minval=-s, maxval=s),
        lambda s: jaxinit.functional.sparse(key, (8, 8), sparsity=0.5, stddev=s),
    ):
        gradient = jax.grad(lambda s, draw=draw: draw(s).sum())(0.7)
        np.testing.assert_allclose(gradient, draw(0.7).sum() / 0.7, rtol=1e-4)


@pytest.mark.parametrize(
    ("mean", "stddev", "lower", "upper"),
    [(0.0, 0.0098, 1.0, 2.0), (0.0, 0.025, 1.0, 2.0), (3.0, 0.01, -np.inf, 1.0)],
)
def test_corrected_stddev_far_from_the_mean(mean, stddev, lower, upper):
    init = jaxinit.TruncatedNormal(mean, stddev, lower, upper, "absolute", True)
    values = np.asarray(init(jax.random.key(0), (10**5,)), np.float64)
    assert lower <= values.min() and values.max() <= upper
    np.testing.assert_allclose(values.std(), stddev, rtol=0.03)


@pytest.mark.parametrize(
    ("lower", "upper"), [(-2, 2), (-1, 3), (0, 0.001), (3, 9), (-np.inf, -20), (5, 5.1)]
)
def test_truncated_moments(lower, upper):
    """Compares with adaptive quadrature of the density."""
    near = min(max(lower, 0.0), upper)
    low, high = max(lower, near - 40), min(upper, near + 40)
    inside = [near + d for d in (-1, -0.1, 0.1, 1) if low < near + d < high]

    def moment(f):
        def weighted(x):
            return f(x) * np.exp(-(x - near) * (x + near) / 2)

        return quad(weighted, low, high, points=inside, limit=500)[0]

    mass = moment(lambda x: 1.0)
    mean = moment(lambda x: x) / mass
    variance = moment(lambda x: (x - mean) ** 2) / mass
    got = _draws.truncated_moments(float(lower), float(upper))
    np.testing.assert_allclose(got, (mean, variance**0.5), rtol=1e-6, atol=1e-12)


def test_truncation_constants():
    """Real dtypes: JAX's and Keras's constant to 13 digits. Complex: the exact one."""
    real = _draws.truncated_moments(-2.0, 2.0)[1]
    assert abs(real - 0.87962566103423978) < 1e-13
    assert abs(_draws.complex_truncated_stddev(2.0) - 0.96196182800821354) < 1e-15


def test_complex_variance_where_jax_is_off():
    """E|w|^2 * fan_in = 1; jax.nn's lecun_normal gives 1.019."""
    w = jaxinit.LecunNormal()(jax.random.key(11), (1000, 1000), jnp.complex64)
    assert abs(float((jnp.abs(w) ** 2).mean()) * 1000 - 1) < 5e-3


def golden_draws() -> dict[str, list[str]]:
    """Returns the values that must never change, as hexadecimal float32."""
    key = jax.random.fold_in(jax.random.key(2026), 11)
    found = {}
    for case in DRAWN:
        values = np.asarray(case.init(key, case.shape)).ravel()[:12]
        found[case.id] = [float(v).hex() for v in values]
    return found


def here() -> tuple[str, str, str]:
    """What decides how draws are rounded: version, backend and processor."""
    return jax.__version__, jax.default_backend(), platform.machine()


def test_golden_draws():
    """A changed value is a breaking change: CHANGELOG.md, "Changed draws".

    Bit for bit where they were stored, within 4 ulp everywhere else.
    """
    stored, found = json.loads(GOLDEN.read_text()), golden_draws()
    assert stored.keys() == found.keys()
    for case in DRAWN:
        texts = found[case.id], stored[case.id]
        pair = [np.array([float.fromhex(v) for v in x], np.float32) for x in texts]
        if case.products:  # sums in an order of XLA's choice
            np.testing.assert_allclose(*pair, rtol=0, atol=1e-6)
        elif here() == STORED_ON:
            assert texts[0] == texts[1], case.id
        else:
            assert ulps(*pair) <= 4, case.id


if __name__ == "__main__":  # writes the golden file anew
    assert here() == STORED_ON, f"first set STORED_ON to {here()}"
    GOLDEN.write_text(json.dumps(golden_draws(), indent=1) + "\n")
