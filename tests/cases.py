"""Records of every registered initializer: instance, shapes, expected draws.

Every contract test loops over CASES; a registered class without a record fails
(test_contract.py). Adding an initializer means adding its record here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.sharding import PartitionSpec as P
from scipy import stats

import jaxinit

NARROW = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "float8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "float8_e5m2": ml_dtypes.float8_e5m2,
}


BOTH = P("a", "b")
# Operations that a sharded draw must not compile to.
COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "reduce-scatter",
)


@dataclass(frozen=True)
class Case:
    """An initializer, a small shape, and its distribution or its exact values."""

    id: str
    init: jaxinit.Initializer
    shape: tuple[int, ...] = (24, 16)
    # True if the initializer reads shapes as (*taps, in, out) and names no axes.
    reads_layout: bool = False
    spec: P = BOTH  # of a 4 x 2 mesh, for the small shape
    empty: tuple[int, ...] = (0, 16)
    # Random: the law (SciPy's distribution) of a real entry for the shape `many`, and
    # of |w - mean|^2 for a complex entry; None if complex dtypes are refused. A record
    # has no law if its entries are dependent or have atoms. Its own test file tests it.
    law: Any = None
    modulus2: Any = None
    many: tuple[int, ...] = (1000, 1000)
    # True for matrix products, whose sums another program may order differently.
    products: bool = False
    # Deterministic: the values in float64 for a shape.
    values: Callable[[tuple[int, ...]], np.ndarray] | None = None
    # "same_program": the program of another record draws it, with other numbers.
    # "same_law": its law in other dtypes follows from the law of another record.
    notes: tuple[str, ...] = ()

    @property
    def tags(self) -> set[str]:
        """The tags by which tests select records.

        "exact" or "random"; "law" if `law` is set; "real" if complex dtypes are
        refused; "products"; and the notes.
        """
        found = {"exact" if self.values is not None else "random", *self.notes}
        if self.law is not None:
            found |= {"law"} if self.modulus2 is not None else {"law", "real"}
        return found | {"products"} if self.products else found


def _normal(mean: float, stddev: float) -> dict[str, Any]:
    return {
        "law": stats.norm(mean, stddev),
        "modulus2": stats.expon(scale=stddev**2),
    }


def _truncated(
    mean: float, stddev: float, lower: float, upper: float, on_complex: bool = True
) -> dict[str, Any]:
    symmetric = lower == -upper and on_complex
    return {
        "law": stats.truncnorm(lower, upper, mean, stddev),
        "modulus2": stats.truncexpon(upper**2, scale=stddev**2) if symmetric else None,
    }


def _uniform(low: float, high: float) -> dict[str, Any]:
    return {
        "law": stats.uniform(low, high - low),
        "modulus2": stats.uniform(0, (high - low) ** 2 / 6),
    }


def _scaled(variance: float, distribution: str) -> dict[str, Any]:
    """E|w|^2 = variance in real and complex."""
    if distribution == "normal":
        return _normal(0, variance**0.5)
    if distribution == "uniform":
        return _uniform(-((3 * variance) ** 0.5), (3 * variance) ** 0.5)
    real = (variance / stats.truncnorm(-2, 2).var()) ** 0.5
    complex_ = (variance / stats.truncexpon(4.0).mean()) ** 0.5
    return {
        "law": stats.truncnorm(-2, 2, 0, real),
        "modulus2": stats.truncexpon(4.0, scale=complex_**2),
    }


def _unit_vector(n: int) -> dict[str, Any]:
    """An entry of a uniform unit vector of n dimensions."""
    return {
        "law": stats.beta((n - 1) / 2, (n - 1) / 2, loc=-1, scale=2),
        "modulus2": stats.beta(1, n - 1),
        "products": True,
    }


def _stft(side: str, win: Callable[[int], np.ndarray], scale: Callable[..., float]):
    def values(shape: tuple[int, ...]) -> np.ndarray:
        # Keras's angles are rounded after each operation; all else is exact here.
        wide = np.float64 if jax.config.jax_enable_x64 else np.float32
        out = np.zeros(shape)
        window = win(shape[0])
        for t in range(shape[0]):
            for k in range(shape[2]):
                turns = wide(k) / wide(2 * (shape[2] - 1))
                angle = float(wide(-2 * t) * turns * wide(math.pi))
                wave = math.cos(angle) if side == "real" else math.sin(angle)
                out[t, 0, k] = wave * window[t] / scale(window)
        return out

    return values


def _hann(n: int) -> np.ndarray:
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / (n - 1))


def _eye(shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.eye(shape[-2], shape[-1]), shape)


def _dirac(groups: int) -> Callable[[tuple[int, ...]], np.ndarray]:
    def values(shape: tuple[int, ...]) -> np.ndarray:
        out = np.zeros(shape)
        per_group = shape[-1] // groups
        center = tuple((k - 1) // 2 for k in shape[:-2])
        for group in range(groups):
            for d in range(min(shape[-2], per_group)):
                out[(*center, d, group * per_group + d)] = 1
        return out

    return values


def _hadamard(shape: tuple[int, ...]) -> np.ndarray:
    h = np.ones((1, 1))
    while len(h) < shape[1]:
        h = np.block([[h, h], [h, -h]])
    return h[: shape[0], : shape[1]] / np.sqrt(len(h))


def _tent(shape: tuple[int, ...]) -> np.ndarray:
    """(1, 3, ..., k - 1, k - 1, ..., 3, 1) / k along each spatial axis of even k."""
    out = np.eye(*shape[-2:])
    for k in reversed(shape[:-2]):
        ramp = (np.arange(k // 2) + 0.5) / (k // 2)
        tent = np.concatenate([ramp, ramp[::-1]])
        out = tent.reshape(-1, *(1,) * out.ndim) * out
    return out


_ROW = np.linspace(-1.0, 2.0, 16)
_BLOCK = np.arange(24.0 * 16).reshape(24, 16) / 64  # exact in bfloat16 and wider

CASES = [
    Case("zeros", jaxinit.Zeros(), values=np.zeros),
    Case("ones", jaxinit.Ones(), values=np.ones),
    Case("constant", jaxinit.Constant(0.3), values=lambda s: np.full(s, 0.3)),
    Case(
        "constant_array",
        jaxinit.Constant(_ROW),
        values=lambda s: np.broadcast_to(_ROW, s),
    ),
    Case("from_array", jaxinit.FromArray(_BLOCK), empty=(), values=lambda s: _BLOCK),
    Case("identity", jaxinit.Identity(), reads_layout=True, values=_eye),
    Case(
        "identity_batch",
        jaxinit.Identity(gain=0.5, batch_axis=0),
        shape=(4, 6, 8),
        spec=P("a", None, "b"),
        empty=(0, 6, 8),
        values=lambda s: 0.5 * _eye(s),
    ),
    Case(
        "identity_shift",
        jaxinit.Identity(shift=19),
        reads_layout=True,
        values=lambda s: np.roll(np.eye(*s), 19, axis=1),
    ),
    Case(
        "dirac",
        jaxinit.Dirac(),
        reads_layout=True,
        shape=(3, 4, 8, 16),
        spec=P(None, None, "a", "b"),
        empty=(3, 0, 8, 16),
        values=_dirac(1),
    ),
    Case(
        "dirac_groups",
        jaxinit.Dirac(groups=2),
        reads_layout=True,
        shape=(5, 8, 32),
        spec=P(None, "a", "b"),
        empty=(5, 8, 0),
        values=_dirac(2),
    ),
    Case("zer_o", jaxinit.ZerO(), reads_layout=True, values=_eye),
    Case(
        "zer_o_hadamard",
        jaxinit.ZerO(),
        reads_layout=True,
        shape=(16, 24),
        values=_hadamard,
    ),
    Case(
        "bilinear_upsampling",
        jaxinit.BilinearUpsampling(),
        reads_layout=True,
        shape=(4, 6, 8, 8),
        spec=P("a", None, None, "b"),
        empty=(4, 0, 8, 8),
        values=_tent,
    ),
    Case(
        "linear_downsampling",
        jaxinit.LinearDownsampling(),
        reads_layout=True,
        shape=(4, 6, 8, 8),
        spec=P("a", None, None, "b"),
        empty=(4, 6, 0, 0),
        values=lambda s: _tent(s) / (s[0] * s[1] / 4),
    ),
    Case("sparse", jaxinit.Sparse(0.3), reads_layout=True, spec=P(None, ("a", "b"))),
    Case(
        "sparse_axes",
        jaxinit.Sparse(0.8, 0.5, axis=(0, -2)),
        shape=(3, 8, 16),
        spec=P(None, None, "a"),
        empty=(0, 8, 16),
    ),
    Case(
        "icnr",
        jaxinit.ICNR("he_normal"),
        reads_layout=True,
        shape=(3, 3, 8, 16),
        spec=P(None, None, ("a", "b")),
        empty=(3, 3, 0, 16),
    ),
    Case(
        "icnr_pixel_shuffle",
        jaxinit.ICNR(jaxinit.RandomUniform(0.5, 3.0), 3, "pixel_shuffle"),
        reads_layout=True,
        shape=(5, 8, 12),
        spec=P(None, "a"),
        empty=(0, 8, 12),
    ),
    Case(
        "stft",
        jaxinit.STFT(),
        reads_layout=True,
        shape=(16, 1, 9),
        spec=P(("a", "b")),
        empty=(0, 1, 9),
        values=_stft("real", _hann, lambda w: math.sqrt((w * w).sum())),
    ),
    Case(
        "stft_imag",
        jaxinit.STFT("imag", window=[1.0, 2.0] * 8, scaling="spectrum"),
        reads_layout=True,
        shape=(16, 1, 9),
        spec=P("a"),
        empty=(),
        values=_stft("imag", lambda n: np.array([1.0, 2.0] * 8), lambda w: w.sum()),
    ),
    Case("random_normal", jaxinit.RandomNormal(), **_normal(0, 0.05)),
    Case(
        "random_normal_mean",
        jaxinit.RandomNormal(0.5, 2.0),
        notes=("same_program",),
        **_normal(0.5, 2.0),
    ),
    Case("random_uniform", jaxinit.RandomUniform(), **_uniform(-0.05, 0.05)),
    Case(
        "random_uniform_mean",
        jaxinit.RandomUniform(0.5, 3.0),
        notes=("same_program",),
        **_uniform(0.5, 3.0),
    ),
    Case(
        "truncated_normal", jaxinit.TruncatedNormal(), **_truncated(0, 0.05, -2.0, 2.0)
    ),
    Case(
        "truncated_normal_asymmetric",
        jaxinit.TruncatedNormal(0.2, 0.5, lower=-0.5, upper=3.0),
        **_truncated(0.2, 0.5, -0.5, 3.0),
    ),
    Case(
        "truncated_normal_corrected",
        jaxinit.TruncatedNormal(0.0, 0.1, lower=-1.0, upper=1.0, corrected=True),
        notes=("same_program",),
        law=stats.truncnorm(-1, 1, 0, 0.1 / stats.truncnorm(-1, 1).std()),
        modulus2=stats.truncexpon(1.0, scale=0.01 / stats.truncexpon(1.0).mean()),
    ),
    Case(
        "truncated_normal_absolute",
        jaxinit.TruncatedNormal(0.1, 0.5, lower=-0.4, upper=0.8, bounds="absolute"),
        notes=("same_program",),
        **_truncated(0.1, 0.5, -1.0, 1.4),
    ),
    Case(
        "truncated_normal_one_side",
        jaxinit.TruncatedNormal(0.0, 1.0, lower=1.5, upper=math.inf),
        **_truncated(0.0, 1.0, 1.5, math.inf),
    ),
    Case(
        "truncated_normal_wide",
        jaxinit.TruncatedNormal(0.0, 1.0, lower=-100.0, upper=100.0),
        notes=("same_program",),
        **_truncated(0.0, 1.0, -100.0, 100.0),
    ),
    Case(
        "truncated_normal_tail",
        jaxinit.TruncatedNormal(0.0, 1.0, lower=-math.inf, upper=-6.0),
        **_truncated(0.0, 1.0, -math.inf, -6.0),
    ),
    Case(
        "truncated_normal_far",
        jaxinit.TruncatedNormal(0.0, 0.1, lower=8.0, upper=9.0),
        notes=("same_program",),
        **_truncated(0.0, 0.1, 8.0, 9.0),
    ),
    Case(
        "lecun_normal",
        jaxinit.LecunNormal(),
        notes=("same_program",),
        reads_layout=True,
        **_scaled(1e-3, "truncated_normal"),
    ),
    Case(
        "lecun_uniform",
        jaxinit.LecunUniform(),
        notes=("same_program",),
        reads_layout=True,
        **_scaled(1e-3, "uniform"),
    ),
    Case(
        "he_normal",
        jaxinit.HeNormal(),
        reads_layout=True,
        **_scaled(2e-3, "truncated_normal"),
    ),
    Case(
        "he_uniform",
        jaxinit.HeUniform(),
        notes=("same_program",),
        reads_layout=True,
        **_scaled(2e-3, "uniform"),
    ),
    Case(
        "he_normal_batch",
        jaxinit.HeNormal(batch_axis=0),
        notes=("same_program",),
        shape=(4, 6, 8),
        spec=P("a", None, "b"),
        empty=(4, 0, 8),
        many=(10, 200, 500),
        **_scaled(2 / 200, "truncated_normal"),
    ),
    Case(
        "glorot_normal",
        jaxinit.GlorotNormal(),
        notes=("same_program",),
        reads_layout=True,
        many=(500, 2000),
        **_scaled(2 / 2500, "truncated_normal"),
    ),
    Case(
        "glorot_uniform",
        jaxinit.GlorotUniform(),
        notes=("same_program",),
        reads_layout=True,
        many=(500, 2000),
        **_scaled(2 / 2500, "uniform"),
    ),
    Case(
        "variance_scaling",
        jaxinit.VarianceScaling(),
        notes=("same_program",),
        reads_layout=True,
        shape=(3, 3, 8, 16),
        spec=P(None, None, "a", "b"),
        empty=(3, 3, 0, 16),
        many=(3, 3, 300, 400),
        **_scaled(1 / 2700, "truncated_normal"),
    ),
    Case(
        "variance_scaling_out_normal",
        jaxinit.VarianceScaling(3.0, "fan_out", "untruncated_normal"),
        notes=("same_program",),
        reads_layout=True,
        many=(500, 2000),
        **_scaled(3 / 2000, "normal"),
    ),
    Case(
        "variance_scaling_geo_uniform",
        jaxinit.VarianceScaling(0.5, "fan_geo_avg", "uniform", in_axis=1, out_axis=0),
        notes=("same_program",),
        many=(500, 2000),
        **_scaled(0.5 / 1000, "uniform"),
    ),
    Case(
        "activation_scaled",
        jaxinit.ActivationScaled("hard_tanh", "fan_out", "normal"),
        notes=("same_program",),
        reads_layout=True,
        many=(500, 2000),
        **_scaled(1 / (0.516058550962 * 2000), "normal"),
    ),
    Case(
        "torch_kernel",
        jaxinit.TorchKernel(),
        notes=("same_program",),
        reads_layout=True,
        **_uniform(-(1e-3**0.5), 1e-3**0.5),
    ),
    Case(
        "torch_bias",
        jaxinit.TorchBias(fan_in=25),
        notes=("same_program",),
        **_uniform(-0.2, 0.2),
    ),
    Case(
        "lecun_normal_any_rank",
        jaxinit.LecunNormal(in_axis=None, out_axis=None),
        notes=("same_program",),
        reads_layout=True,
        shape=(48,),
        spec=P(("a", "b")),
        empty=(0,),
        many=(1_000_000,),
        **_scaled(1e-6, "truncated_normal"),
    ),
    Case(
        "variance_scaling_attention",
        jaxinit.VarianceScaling(in_axis=0, out_axis=(1, 2)),
        notes=("same_program",),
        shape=(16, 4, 8),
        spec=P("b", "a"),
        empty=(16, 0, 8),
        many=(500, 4, 500),
        **_scaled(1 / 500, "truncated_normal"),
    ),
    Case(
        "scaled",
        jaxinit.Scaled("he_normal", -0.5),
        notes=("same_law",),
        reads_layout=True,
        **_scaled(5e-4, "truncated_normal"),
    ),
    Case(
        "depth_scaled",
        jaxinit.DepthScaled(jaxinit.RandomNormal(stddev=0.02), 12),
        notes=("same_program",),
        **_normal(0, 0.02 / math.sqrt(24)),
    ),
    Case(
        "depth_scaled_index",
        jaxinit.DepthScaled("lecun_uniform", 12, 1, mode="index", index=7),
        notes=("same_program",),
        reads_layout=True,
        **_scaled(1e-3 / 8, "uniform"),
    ),
    Case(
        "depth_scaled_stacked",
        jaxinit.DepthScaled(jaxinit.Stacked("he_normal", 1), 4, mode="index", axis=1),
        shape=(8, 4, 6),
        spec=P("a", None, "b"),
        empty=(0, 4, 6),
    ),
    Case(
        "normalized",
        jaxinit.Normalized("normal", axis=-1, norm=32.0),
        spec=P(("a", "b")),
        law=stats.beta(499.5, 499.5, -32, 64),
        modulus2=stats.beta(1, 999, 0, 1024),
    ),
    Case(
        "masked", jaxinit.Masked("random_normal", np.arange(16) % 3 > 0), empty=(0, 16)
    ),
    Case(
        "masked_sparsity", jaxinit.Masked("he_normal", sparsity=0.4), reads_layout=True
    ),
    Case("clipped", jaxinit.Clipped(jaxinit.RandomNormal(stddev=1.0), -2.5, 2.5)),
    Case("as_dtype", jaxinit.AsDtype("he_normal", "bfloat16"), reads_layout=True),
    Case(
        "stacked",
        jaxinit.Stacked("he_normal"),
        notes=("same_law",),
        shape=(4, 6, 8),
        spec=P("a", None, "b"),
        empty=(0, 6, 8),
        many=(10, 200, 500),
        **_scaled(2 / 200, "truncated_normal"),
    ),
    Case(
        "stacked_twice",
        jaxinit.Stacked(jaxinit.Stacked("glorot_uniform", axis=-1), axis=1),
        notes=("same_law",),
        shape=(8, 4, 6, 2),
        spec=P(("a", "b")),
        empty=(8, 4, 0, 2),
        many=(300, 3, 200, 6),
        **_scaled(2 / 500, "uniform"),
    ),
    Case(
        "blocks",
        jaxinit.Blocks("glorot_normal", 3),
        notes=("same_law",),
        reads_layout=True,
        shape=(16, 24),
        spec=P("a"),
        empty=(0, 24),
        many=(500, 2001),
        **_scaled(2 / (500 + 667), "truncated_normal"),
    ),
    Case(
        "blocks_sizes",
        jaxinit.Blocks("he_normal", (12, 4), axis=1),
        notes=("same_law",),
        spec=P(("a", "b")),
        many=(62_500, 16),
        **_scaled(2 / 62_500, "truncated_normal"),
    ),
    Case(
        "concatenate",
        jaxinit.Concatenate(
            (jaxinit.RandomNormal(stddev=0.3), jaxinit.Scaled("normal", 6)), axis=0
        ),
        notes=("same_law",),
        spec=P(None, ("a", "b")),
        **_normal(0, 0.3),
    ),
    Case(
        "concatenate_constants",
        jaxinit.Concatenate(("zeros", "ones", jaxinit.Constant(0.3)), (4, 4, 8)),
        spec=P(("a", "b")),
        values=lambda s: np.broadcast_to(np.repeat([0, 1, 0.3], [4, 4, 8]), s),
    ),
    Case("orthogonal", jaxinit.Orthogonal(), reads_layout=True, **_unit_vector(1000)),
    Case(
        "orthogonal_attention",
        jaxinit.Orthogonal(column_axis=(2, 3), batch_axis=0),
        notes=("same_law",),
        shape=(4, 16, 2, 4),
        spec=P("a", None, "b"),
        empty=(4, 16, 0, 4),
        many=(4, 500, 10, 50),
        **_unit_vector(500),
    ),
    Case(
        "delta_orthogonal",
        jaxinit.DeltaOrthogonal(),
        notes=("same_law",),
        reads_layout=True,
        shape=(1, 16, 24),
        spec=P(None, "b", "a"),
        empty=(3, 0, 16),
        many=(1, 1000, 1000),
        **_unit_vector(1000),
    ),
    Case(
        "conv_orthogonal",
        jaxinit.ConvOrthogonal(),
        notes=("same_law",),
        reads_layout=True,
        shape=(3, 3, 8, 16),
        spec=P(None, None, "a", "b"),
        empty=(3, 3, 0, 16),
        many=(1, 1000, 1000),
        **_unit_vector(1000),
    ),
]


def tagged(*tags: str, without: str = "") -> list[Case]:
    """Returns the records with all ``tags`` and without the tag ``without``."""
    return [c for c in CASES if c.tags >= set(tags) and without not in c.tags]


EXACT = tagged("exact")
DRAWN = tagged("random")
RANDOM = tagged("law")
# For slow tests outside of the contract: a record of each program, and of each law.
ONE_EACH = tagged("random", without="same_program")
LAWS = [case for case in tagged("law", without="same_law") if case in ONE_EACH]


def ids(cases: list[Case]) -> list[str]:
    """Returns the ids for pytest.mark.parametrize."""
    return [case.id for case in cases]


def ks_pvalue(draws: np.ndarray, law: Any) -> float:
    """Returns the p-value of a Kolmogorov-Smirnov test at 4095 quantiles."""
    p = np.arange(1, 4096) / 4096
    below = np.searchsorted(np.sort(draws), law.ppf(p), side="right") / draws.size
    return float(stats.kstwobign.sf(abs(below - p).max() * draws.size**0.5))


def assert_same(case: Case, a: Any, b: Any) -> None:
    """Asserts equality to one ulp, or to the rounding of reordered sums."""
    if case.products:
        eps = float(jnp.finfo(a.dtype).eps)
        single = np.float32 if jnp.finfo(a.dtype).bits < 32 else a.dtype
        a, b = (np.asarray(x).astype(single) for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=eps, atol=16 * min(eps, 2**-23))
    else:
        assert ulps(a, b) <= 1


def ulps(a: Any, b: Any) -> int:
    """Returns the largest distance of two float arrays in units in the last place."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape and a.dtype == b.dtype, (a.shape, b.shape)
    if a.dtype.kind == "c":
        return max(ulps(a.real, b.real), ulps(a.imag, b.imag))
    if a.size == 0:
        return 0
    bits = np.dtype(f"int{8 * a.dtype.itemsize}")
    lowest = int(np.iinfo(bits).min)

    def order(x: np.ndarray) -> np.ndarray:
        i = (
            np.ascontiguousarray(x)
            .view(bits)
            .astype(object if bits == "int64" else int)
        )
        return np.where(i < 0, lowest - i, i)

    return int(np.abs(order(a) - order(b)).max())
