"""Orthogonal matrices and convolutions: exactness, and the Haar distribution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy import stats

import jaxinit
from cases import COLLECTIVES
from jaxinit.initializers import _householder

pytestmark = pytest.mark.accelerator

KEY = jax.random.key(5)
SHAPES = [(1, 1), (16, 16), (257, 257), (600, 520), (520, 600), (300, 2), (1, 9),
          (2000, 600)]  # fmt: skip
METHODS = ["householder", "qr"]


def gram(w: np.ndarray) -> np.ndarray:
    """Returns the smaller of W^* W and W W^*, in double precision."""
    w = w.astype(np.complex128 if np.iscomplexobj(w) else np.float64)
    tall = w if w.shape[0] >= w.shape[1] else w.T
    return tall.conj().T @ tall


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "complex64", "complex128", "bfloat16", "float16"]
)
def test_orthonormal_to_rounding(dtype):
    eps = float(jnp.finfo(dtype).eps)
    with jax.enable_x64(dtype in ("float64", "complex128")):
        for shape in SHAPES if dtype == "float32" else [(257, 257)]:
            w = jaxinit.Orthogonal()(KEY, shape, dtype)
            assert w.dtype == jnp.dtype(dtype)
            w = np.asarray(w)
            w = w if w.dtype.kind == "c" else w.astype(np.float64)
            error = np.abs(gram(w) - np.eye(min(shape))).max()
            assert error <= 8 * eps * np.sqrt(min(shape)), (shape, error)


@pytest.mark.parametrize("shape", [(512, 512), (640, 300)])
def test_no_further_from_orthonormal_than_qr(shape):
    error = {}
    for method in METHODS:
        w = np.asarray(jaxinit.Orthogonal(method=method)(KEY, shape))
        error[method] = np.linalg.norm(gram(w) - np.eye(shape[1]))
    assert error["householder"] <= 2 * error["qr"]


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((7, 5), "complex64"), ((300, 130), "complex64"), ((1200, 700), "float32")],
)
def test_the_loop_has_the_same_values(shape, dtype):
    @jax.jit
    def both(key):
        v, _ = _householder._reflectors(key, *shape, np.dtype(dtype))
        return _householder._rolled(v), _householder._unrolled(v)

    rolled, unrolled = both(KEY)
    np.testing.assert_allclose(rolled, unrolled, rtol=0, atol=2e-6)


def test_haar_is_the_product_of_the_drawn_reflections():
    """Multiplies one H_i at a time, with v_i from row i of a normal matrix."""
    for dtype, shape in (("float32", (9, 6)), ("complex64", (6, 6))):
        x = np.asarray(jaxinit.RandomNormal(stddev=1.0)(KEY, shape[::-1], dtype))
        n, k = shape
        q, phases = np.eye(n, dtype=np.complex128), np.zeros(k, np.complex128)
        for i in range(k):
            v = np.zeros(n, np.complex128)
            v[i:] = x[i, i:]
            phase = v[i] / abs(v[i])
            v[i] += phase * np.linalg.norm(v)
            q = q @ (np.eye(n) - 2 * np.outer(v, v.conj()) / (v.conj() @ v))
            phases[i] = -phase
        w = jaxinit.Orthogonal()(KEY, shape, dtype)
        np.testing.assert_allclose(w, q[:, :k] * phases, atol=2e-6)


# The Haar distribution, on many small matrices.


@functools.cache
def many(
    method: str, shape: tuple[int, int], dtype: str, count: int = 20000, seed: int = 0
) -> np.ndarray:
    init = jaxinit.Orthogonal(batch_axis=0, method=method)
    return np.asarray(init(jax.random.key(seed), (count, *shape), dtype))


@pytest.mark.parametrize(
    ("method", "shape"),
    [("householder", (5, 5)), ("householder", (6, 3)), ("householder", (3, 6)),
     ("qr", (5, 5))],
)  # fmt: skip
def test_every_entry_is_one_of_a_uniform_unit_vector(method, shape):
    n = max(shape)
    law = stats.beta((n - 1) / 2, (n - 1) / 2, loc=-1, scale=2)
    draws = many(method, shape, "float32").reshape(-1, shape[0] * shape[1])
    least = min(stats.kstest(entry, law.cdf).pvalue for entry in draws.T)
    assert least > 1e-3 / draws.shape[1]
    on_complex = many(method, shape, "complex64").reshape(-1, shape[0] * shape[1])
    modulus2 = stats.beta(1, n - 1)
    for entry in on_complex.T:
        assert stats.kstest(np.abs(entry) ** 2, modulus2.cdf).pvalue > 1e-4
        phase = np.angle(entry) / (2 * np.pi) + 0.5
        assert stats.kstest(phase, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("method", METHODS)
def test_traces_and_determinants(method):
    """Diaconis and Shahshahani: E tr = 0, E tr^2 = 1; E tr(Q^2) = 1."""
    q = many(method, (5, 5), "float32").astype(np.float64)
    count = len(q)
    trace = np.trace(q, axis1=1, axis2=2)
    assert abs(trace.mean()) < 5 / np.sqrt(count)
    assert abs((trace**2).mean() - 1) < 5 * np.sqrt(2 / count)  # E tr^4 = 3
    squares = np.trace(q @ q, axis1=1, axis2=2)
    assert abs(squares.mean() - 1) < 5 * squares.std() / np.sqrt(count)
    sign = np.linalg.slogdet(q)[0]
    assert abs(sign.mean()) < 5 / np.sqrt(count)
    u = many(method, (5, 5), "complex64")
    trace = np.trace(u, axis1=1, axis2=2)
    assert abs(trace.mean()) < 5 / np.sqrt(count)
    assert abs((np.abs(trace) ** 2).mean() - 1) < 5 / np.sqrt(count)  # E |tr|^4 = 2
    phase = np.angle(np.linalg.det(u)) / (2 * np.pi) + 0.5
    assert stats.kstest(phase, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_eigenangles(method):
    """Eigenangles are uniform for unitary matrices and for rotations of the plane."""
    angles = np.angle(np.linalg.eigvals(many(method, (4, 4), "complex64", 5000)))
    for ranked in (angles[:, 0], angles[:, 3]):  # in no order
        assert stats.kstest(ranked / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3
    q = many(method, (2, 2), "float32")
    turns = q[np.linalg.det(q) > 0]
    angle = np.arctan2(turns[:, 1, 0], turns[:, 0, 0])
    assert stats.kstest(angle / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3
    # A reflection has the eigenvalues 1 and -1, and a uniform axis.
    flips = q[np.linalg.det(q) < 0]
    axis = np.arctan2(flips[:, 1, 0], flips[:, 0, 0])
    assert stats.kstest(axis / (2 * np.pi) + 0.5, "uniform").pvalue > 1e-3


def test_eigenangles_of_real_matrices_are_those_of_qr():
    ours, theirs = (
        np.angle(np.linalg.eigvals(many(method, (6, 6), "float32", 5000, seed)))
        for seed, method in enumerate(METHODS)
    )
    smallest = [np.abs(angles).min(axis=1) for angles in (ours, theirs)]
    assert stats.ks_2samp(*smallest).pvalue > 1e-3
    assert stats.ks_2samp(ours.ravel(), theirs.ravel()).pvalue > 1e-3


@pytest.mark.parametrize(
    "shape, dtype", [((5, 5), "float32"), ((6, 3), "float32"), ((5, 5), "complex64")]
)
def test_invariance_from_left_and_right(shape, dtype):
    """Statistics that depend on coordinates are the same for Q, A Q and Q B."""

    def statistics(q):
        return [q[:, 0, 0].real, (q[:, 0, 0] * q[:, 1, 1]).real,
                (q[:, 0, 1] * q[:, 1, 0].conj()).real + q[:, 2, 0].real,
                np.abs(q[:, -1, -1])]  # fmt: skip

    reference = statistics(many("householder", shape, dtype))
    q = many("householder", shape, dtype, seed=1)
    peer = many("qr", shape, dtype, seed=2)
    a, b = (np.asarray(stats.ortho_group.rvs(n, random_state=n)) for n in shape)
    for other in (a @ q, q @ b, peer):
        for x, y in zip(statistics(other), reference, strict=True):
            assert stats.ks_2samp(x, y).pvalue > 1e-3


# Arguments.


@pytest.mark.parametrize(
    ("shape", "axis", "dtype"),
    [
        ((30, 20), -1, "float32"),
        ((20, 30), -1, "float64"),
        ((30, 20), 0, "complex64"),
        ((4, 5, 6), 1, "complex64"),
    ],
)
def test_qr_has_the_values_of_jax(shape, axis, dtype):
    with jax.enable_x64(dtype == "float64"):
        key = jax.random.key(3)
        theirs = jax.nn.initializers.orthogonal(1.5, axis)(key, shape, jnp.dtype(dtype))
        ours = jaxinit.Orthogonal(1.5, axis, method="qr")(key, shape, dtype)
        eps = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(ours, theirs, rtol=4 * eps, atol=4 * eps)


@pytest.mark.parametrize("method", METHODS)
def test_slices_are_the_draws_of_split_keys(method):
    one = jaxinit.Orthogonal(method=method)
    init = jaxinit.Orthogonal(batch_axis=(0, 2), method=method)
    w = init(KEY, (3, 12, 2, 7))
    keys = jax.random.split(KEY, 6).reshape(3, 2)
    for i in range(3):
        for j in range(2):
            np.testing.assert_allclose(w[i, :, j], one(keys[i, j], (12, 7)), atol=1e-6)
    first, second = (
        many("householder", (5, 5), "float32").reshape(-1, 2, 25).swapaxes(0, 1)
    )
    between = first.T @ second / len(first)  # of variance 1/25 / sqrt(count)
    assert np.abs(between).max() < 6 / 5**2 * 5 / np.sqrt(len(first))


def test_column_axes_are_one_dimension_of_the_matrix():
    matrix = jaxinit.Orthogonal()(KEY, (24, 15))
    for shape, axes, order in (
        ((24, 3, 5), (1, 2), (0, 1, 2)),
        ((24, 3, 5), (-1, -2), (0, 1, 2)),
        ((3, 24, 5), (0, 2), (1, 0, 2)),
        ((3, 5, 24), (0, 1), (2, 0, 1)),
    ):
        w = jaxinit.Orthogonal(column_axis=axes)(KEY, shape)
        np.testing.assert_array_equal(np.transpose(w, order).reshape(24, 15), matrix)
    rows = jaxinit.Orthogonal()(KEY, (2, 3, 4, 15))
    np.testing.assert_array_equal(rows.reshape(24, 15), matrix)


@pytest.mark.parametrize("shape", [(10, 40), (40, 10), (20, 20)])
def test_gain_and_scale(shape):
    ratio = shape[1] / shape[0]
    for scale, factor in (
        (None, 1.0),
        ("scaled_uniform", max(1.0, ratio**0.5)),
        ("spectral", ratio**0.5),
    ):
        w = jaxinit.Orthogonal(3.0, scale=scale)(KEY, shape)
        singular = np.linalg.svd(np.asarray(w), compute_uv=False)
        np.testing.assert_allclose(singular, 3.0 * factor, rtol=1e-5)


def test_gain_may_be_traced_and_negative():
    draw = functools.partial(jaxinit.functional.orthogonal, KEY, (8, 8))
    np.testing.assert_array_equal(draw(gain=-1.0), -draw())
    swept = jax.vmap(lambda gain: draw(gain=gain))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(swept[1], 2 * draw(), atol=1e-6)


@pytest.mark.parametrize("n", [1, 3])
def test_matrices_of_one_row_or_column(n):
    signs = {
        round(float(jaxinit.Orthogonal()(jax.random.key(i), (1, 1))[0, 0]), 5)
        for i in range(20)
    }
    assert signs == {-1.0, 1.0}
    for shape in ((1, n), (n, 1)):
        w = jaxinit.Orthogonal()(KEY, shape)
        assert abs(float(jnp.linalg.norm(w)) - 1) < 1e-6


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [
        ((5,), {}, r"orthogonal\(shape=.* rows and of columns"),
        ((), {"column_axis": ()}, "axes of rows and of columns"),
        ((4, 5), {"column_axis": (0, 1)}, "axes of rows and of columns"),
        ((4, 5), {"batch_axis": 0}, "axes of rows and of columns"),
        ((4, 5), {"column_axis": 2}, r"column_axis=.* within the 2 dimensions"),
        ((4, 5, 6), {"batch_axis": 2}, "disjoint from column_axis"),
        ((4, 5), {"method": "lu"}, "'householder', 'qr'"),
        ((4, 5), {"scale": "muon"}, "'scaled_uniform', 'spectral'"),
    ],
)
def test_errors(shape, arguments, message):
    with pytest.raises(ValueError, match=message):
        jaxinit.Orthogonal(**arguments)(KEY, shape)


def test_a_number_as_scale_is_refused():
    with pytest.raises(TypeError, match="pass gain="):
        jaxinit.Orthogonal(scale=1.4)


# Programs.


def test_programs_stop_growing_with_the_matrix():
    def lines(n):
        draw = jax.jit(lambda key: jaxinit.Orthogonal()(key, (n, n)))
        return draw.lower(KEY).as_text().count("\n")

    assert lines(4096) == lines(8192) == lines(16384)


# On a GPU XLA takes seconds to compile each shape of a product.


def lowered_for_gpu(init, shape, platform="cuda", **kwargs):
    draw = jax.jit(lambda key: init(key, shape, **kwargs))
    return draw.trace(KEY).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize(
    ("init", "shape"),
    [
        (jaxinit.Orthogonal(), (512, 512)),  # a loop on a CPU
        (jaxinit.Orthogonal(), (2048, 2048)),
        (jaxinit.Orthogonal(), (1024, 4096)),
        (jaxinit.Orthogonal(batch_axis=0), (48, 512, 512)),
        (jaxinit.DeltaOrthogonal(), (3, 3, 512, 512)),
    ],
)
@pytest.mark.parametrize("platform", ["cuda", "rocm"])
def test_a_gpu_multiplies_reflections_by_its_solver(init, shape, platform):
    text = lowered_for_gpu(init, shape, platform)
    assert text.count("solver_orgqr_ffi(") == 1
    assert "dot_general" not in text


@pytest.mark.parametrize("dtype", ["bfloat16", "complex64", "float64", "complex128"])
def test_a_gpu_multiplies_reflections_of_each_dtype(dtype):
    with jax.enable_x64(True):
        text = lowered_for_gpu(jaxinit.Orthogonal(), (64, 64), dtype=dtype)
    assert "solver_orgqr_ffi(" in text


def test_a_gpu_multiplies_reflections_on_a_mesh():
    mesh = jax.make_mesh((8,), ("a",))
    init = jaxinit.Orthogonal(batch_axis=0)
    with jax.set_mesh(mesh):
        placed = lowered_for_gpu(init, (48, 64, 64), out_sharding=P("a"))
    shards = jax.jit(
        jax.shard_map(
            lambda keys: jaxinit.Orthogonal()(keys[0], (64, 64))[None],
            mesh=mesh,
            in_specs=P("a"),
            out_specs=P("a"),
        )
    )
    keys = jax.device_put(jax.random.split(KEY, 8), NamedSharding(mesh, P("a")))
    traced = shards.trace(keys)
    manual = traced.lower(lowering_platforms=("cuda",)).as_text()
    for text in (placed, manual):
        assert "solver_orgqr_ffi(" in text
        assert "dot_general" not in text


@pytest.mark.parametrize("dtype", ["float32", "complex64", "float64", "complex128"])
def test_a_gpu_makes_the_same_matrices(dtype):
    """Runs LAPACK's routine on the CPU, in place of the same one of a GPU's solver."""
    with jax.enable_x64(True):
        v, phase = _householder._reflectors(KEY, 70, 33, np.dtype(dtype))
        solved = _householder._solved(v) * phase
        made = jaxinit.Orthogonal()(KEY, (70, 33), dtype)
    np.testing.assert_allclose(solved, made, rtol=0, atol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize(  # of strips, and in a loop
    ("shape", "dtype"),
    [((9, 8), "bfloat16"), ((9, 8), "complex64"), ((600, 520), "float32")],
)
def test_strict_promotion_is_allowed(shape, dtype):
    with jax.numpy_dtype_promotion("strict"):
        made = jaxinit.Orthogonal()(KEY, shape, dtype)
    np.testing.assert_array_equal(made, jaxinit.Orthogonal()(KEY, shape, dtype))


def test_gains_share_one_executable(compilations):
    for gain in (1.0, 0.5, 2.0):
        jaxinit.Orthogonal(gain)(KEY, (31, 29))
    assert len(compilations) == 1, compilations


def test_devices_share_the_work_along_batch_axes_only():
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    init, shape = jaxinit.Orthogonal(batch_axis=0), (8, 96, 64)
    expected = init(KEY, shape)

    def compiled(spec):
        sharding = NamedSharding(mesh, spec)
        with jax.set_mesh(mesh):
            f = jax.jit(lambda key: init(key, shape, out_sharding=spec))
            program = f.lower(KEY).compile()
        made = program(KEY)
        assert made.sharding.is_equivalent_to(sharding, 3)
        np.testing.assert_allclose(made, expected, atol=1e-6)
        assert not [op for op in COLLECTIVES if op in program.as_text()]
        return program.cost_analysis()["flops"]

    whole, split = compiled(P(None, "a", "b")), compiled(P("a", None, "b"))
    assert 0.2 * whole < split < 0.3 * whole


def test_partitioned_by_jit_alone():
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, P("a", "b"))
    for shape in ((600, 520), (64, 640)):
        f = jax.jit(
            lambda k, shape=shape: jaxinit.Orthogonal()(k, shape),
            out_shardings=sharding,
        )
        expected = jaxinit.Orthogonal()(KEY, shape)
        np.testing.assert_allclose(f(KEY), expected, rtol=0, atol=2e-6)


# Convolutions.


@jax.jit
def circular(x, w):
    """Convolves channels-last x with w under circular padding."""
    count = x.ndim - 2
    width = [((k - 1) // 2, k // 2) for k in w.shape[:-2]]
    x = jnp.pad(x, [(0, 0), *width, (0, 0)], mode="wrap")
    letters = "XYZ"[:count]
    form = (f"N{letters}C", f"{letters}IO", f"N{letters}C")
    return lax.conv_general_dilated(
        x, w, (1,) * count, "VALID", dimension_numbers=form, precision="highest"
    )


CONVOLUTIONS = [
    jaxinit.DeltaOrthogonal(),
    jaxinit.DeltaOrthogonal(method="qr"),
    jaxinit.ConvOrthogonal(),
]
KERNELS = [(5, 6, 9), (4, 2, 3, 5), (3, 3, 3, 4, 6)]


@pytest.mark.parametrize("init", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_convolutions_are_isometries_at_every_frequency(init, dtype):
    whole = dtype == "float32" and init is not CONVOLUTIONS[1]
    for shape in KERNELS if whole else KERNELS[1:2]:
        w = np.asarray(init(KEY, shape, dtype)).astype(np.complex128)
        spatial = range(len(shape) - 2)
        blocks = np.fft.fftn(w, [7] * len(spatial), axes=spatial)
        singular = np.linalg.svd(blocks, compute_uv=False)
        np.testing.assert_allclose(singular, 1.0, atol=5e-6)


@pytest.mark.parametrize("init", CONVOLUTIONS[::2], ids=str)
def test_convolutions_keep_inner_products(init):
    for shape in KERNELS[:2]:
        *taps, fan_in, _ = shape
        w = init(KEY, shape)
        x, y = jax.random.normal(jax.random.key(1), (2, 3, *[6] * len(taps), fan_in))
        before, after = (
            jnp.vdot(a, b) for a, b in ((x, y), (circular(x, w), circular(y, w)))
        )
        np.testing.assert_allclose(after, before, atol=2e-3)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_tap_of_delta_is_the_center_under_same_padding(k):
    w = jaxinit.DeltaOrthogonal()(KEY, (k, k, 3, 8))
    tap = w[(k - 1) // 2, (k - 1) // 2]
    x = jax.random.normal(KEY, (2, 5, 6, 3))
    y = lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(y, x @ tap, atol=1e-5)
    assert int((w != 0).sum()) == tap.size


@pytest.mark.parametrize("shape", [(3, 4, 5), (3, 2, 4, 5), (2, 3, 1, 4, 5)])
def test_delta_qr_has_the_values_of_jax(shape):
    theirs = jax.nn.initializers.delta_orthogonal(1.5)(KEY, shape)
    ours = jaxinit.DeltaOrthogonal(1.5, method="qr")(KEY, shape)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_delta_with_a_scale_takes_fewer_outputs():
    with pytest.raises(ValueError, match="in <= out"):
        jaxinit.DeltaOrthogonal()(KEY, (3, 8, 4))
    for scale, factor in (("scaled_uniform", 1.0), ("spectral", 0.5**0.5)):
        w = jaxinit.DeltaOrthogonal(scale=scale)(KEY, (3, 8, 4))
        np.testing.assert_allclose(w[1].T @ w[1], factor**2 * np.eye(4), atol=1e-5)


def test_every_tap_of_conv_is_in_use():
    w = np.asarray(jaxinit.ConvOrthogonal()(KEY, (3, 4, 12, 12)))
    energy = (w**2).sum(axis=(2, 3))
    assert energy.min() > 1e-3 and abs(energy.sum() - 12) < 1e-4


def test_conv_of_one_dimension_is_projections_of_random_rank():
    """[P, I - P] times a Haar matrix: |W_0|^2 = rank P, binomial(n, 1/2)."""
    n, count = 6, 4000
    init = jaxinit.ConvOrthogonal(batch_axis=0)
    w = np.asarray(init(KEY, (count, 2, n, n)))
    ranks = np.rint((w[:, 0] ** 2).sum(axis=(1, 2))).astype(int)
    np.testing.assert_allclose((w[:, 0] ** 2).sum(axis=(1, 2)), ranks, atol=1e-4)
    expected = stats.binom(n, 0.5).pmf(range(n + 1)) * count
    found = np.bincount(ranks, minlength=n + 1)
    assert stats.chisquare(found, expected).pvalue > 1e-3


@pytest.mark.parametrize("init", CONVOLUTIONS[::2], ids=str)
def test_stacked_kernels(init):
    stacked = type(init)(2.0, batch_axis=1)
    w = stacked(KEY, (3, 4, 5, 6))
    keys = jax.random.split(KEY, 4)
    for i, key in enumerate(keys):
        np.testing.assert_allclose(w[:, i], 2 * init(key, (3, 5, 6)), atol=1e-6)
    for shape in ((3, 4), (2, 2, 2, 2, 5, 6)):
        with pytest.raises(ValueError, match="one to three spatial axes"):
            init(KEY, shape)
