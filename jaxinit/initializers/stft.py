"""Short-time Fourier transform kernels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import check_bool, check_choice, check_dtype, check_shape, error, short
from .._compat import OutSharding, Shape, may_transfer
from .._frozen import FrozenArray
from .base import Initializer
from .constant import fill

# The windows of scipy.signal that need no parameter. Names are checked against this set
# and not by SciPy, because loading a config must import nothing.
WINDOWS = frozenset(
    """
    bart barthann bartlett bkh black blackharr blackman blackmanharris blk bman
    bmn bohman box boxcar brt brthan bth cosine exponential flat flattop flt
    halfcosine ham hamm hamming han hann lanczos nut nutl nuttall ones par parz
    parzen poisson rect rectangular sinc taylor taylorwin tri triang triangle
    tuk tukey
    """.split()
)


def stft(
    key: jax.Array | None,
    shape: Shape,
    dtype: Any = None,
    *,
    side: str = "real",
    window: Any = "hann",
    scaling: str | None = "density",
    periodic: bool = False,
    out_sharding: OutSharding = None,
) -> jax.Array:
    """Real or imaginary part of a windowed Fourier basis, as a Conv1D kernel.

    W[t, 0, k] = cos|sin(-2 pi t k / F) * win[t] / s with F = 2 (shape[2] - 1) and
    s = sqrt(sum win^2) ("density"), sum |win| ("spectrum") or 1 (None).

    Args:
        key: Unused; may be None.
        shape: ``(T, 1, F // 2 + 1)``: window length, one channel, frequencies.
        dtype: Floating or complex dtype. The values are computed in float32, or in
            float64 for a 64-bit dtype. The float32 values equal those of Keras.
        side: ``"real"`` (cosines) or ``"imag"`` (sines).
        window: Name of a window of ``scipy.signal``; T window values; or None for no
            window and no scaling.
        scaling: ``"density"``, ``"spectrum"`` or None.
        periodic: Whether the named window is periodic rather than symmetric.
        out_sharding: Sharding of the result.

    Returns:
        Array of ``shape`` and ``dtype``.

    Raises:
        ImportError: If ``window`` is a name and SciPy is not installed.
        ValueError: If the shape is not ``(T, 1, 2 or more)``, or if the window is
            unknown or does not have length T.

    Example:
        >>> stft(None, (4, 1, 3), window=None)[:, 0, 1].round(3) + 0.0
        Array([ 1.,  0., -1.,  0.], dtype=float32)

    References:
        Keras, ``keras.initializers.STFT``.
    """
    where = "stft"
    a = _check_stft(where, side=side, window=window, scaling=scaling, periodic=periodic)
    shape, dtype = check_shape(where, shape), check_dtype(where, dtype)
    if len(shape) == 3 and 0 in shape:
        return fill(where, shape, dtype, 0, out_sharding)
    if len(shape) != 3 or shape[1] != 1 or shape[2] < 2:
        rule = "(T, 1, F // 2 + 1) with F >= 2"
        raise error(ValueError, where, "shape", rule, shape)
    window = a["window"]
    if window is not None:
        if isinstance(window, str):
            window = _named_window(where, window, shape[0], a["periodic"])
        window = np.asarray(window, np.float64)
        if window.shape != shape[:1]:
            rule = f"an array of shape {shape[:1]}, the first dimension of the kernel"
            raise error(ValueError, where, "window", rule, f"shape {window.shape}")
        if a["scaling"] is not None and not window.any():
            cure = "Symmetric windows of length 2 or less vanish: use periodic=True."
            raise error(ValueError, where, "window", "not all zero", window, cure)
    values = _waves(shape, dtype, a["side"], window, a["scaling"])
    return fill(where, shape, dtype, values, out_sharding)


def _waves(
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    side: str,
    window: np.ndarray | None,
    scaling: str | None,
) -> np.ndarray:
    """Returns the values, rounded after each operation as Keras rounds them."""
    length, _, bins = shape
    wide = jnp.float64 if dtype in (np.float64, np.complex128) else jnp.float32
    with may_transfer(), jax.ensure_compile_time_eval():  # one by one in jit, too
        time = jnp.arange(length, dtype=wide).reshape(length, 1, 1)
        frequency = jnp.arange(bins, dtype=wide).reshape(1, 1, bins) / (2 * (bins - 1))
        angles = -2 * time * frequency * jnp.arccos(jnp.asarray(-1, wide))
        values = jnp.cos(angles) if side == "real" else jnp.sin(angles)
        if window is not None:
            win = jnp.asarray(window, wide).reshape(length, 1, 1)
            values = values * win
            if scaling == "density":
                values = values / jnp.sqrt(jnp.sum(jnp.square(win)))
            elif scaling == "spectrum":
                values = values / jnp.sum(jnp.abs(win))
        return np.asarray(values)


def _named_window(where: str, name: str, length: int, periodic: bool) -> np.ndarray:
    try:
        from scipy import signal
    except ImportError:
        raise ImportError(
            f"{where}(window={short(name)}): a named window needs SciPy. Run pip "
            "install scipy, or pass the window's values or None."
        ) from None
    for end in ("_periodic", "_symmetric"):  # which older versions of SciPy do not know
        if name.endswith(end):
            name, periodic = name.removesuffix(end), end == "_periodic"
    try:
        return np.asarray(signal.get_window(name, length, fftbins=periodic))
    except ValueError:
        rule = "the name of a window that this version of SciPy has"
        raise error(ValueError, where, "window", rule, name) from None


def _check_stft(
    where: str, *, side: Any, window: Any, scaling: Any, periodic: Any
) -> dict[str, Any]:
    if isinstance(window, (np.ndarray, jax.Array, Mapping)) or (
        isinstance(window, Sequence) and not isinstance(window, str)
    ):
        window = FrozenArray.from_plain(where, "window", window)
        if np.asarray(window).dtype.kind == "c":
            raise error(TypeError, where, "window", "an array of real numbers", window)
    elif isinstance(window, str):
        name = window.removesuffix("_symmetric").removesuffix("_periodic")
        if name not in WINDOWS:
            rule = "the name of a window in scipy.signal that needs no parameter"
            raise error(ValueError, where, "window", rule, window)
    elif window is not None and not isinstance(window, FrozenArray):
        rule = "the name of a window, its values, or None"
        raise error(TypeError, where, "window", rule, window)
    return {
        "side": check_choice(where, "side", side, ("real", "imag")),
        "window": window,
        "scaling": check_choice(
            where, "scaling", scaling, ("density", "spectrum", None)
        ),
        "periodic": check_bool(where, "periodic", periodic),
    }


@dataclass(frozen=True, repr=False)
class STFT(Initializer):
    """Real or imaginary part of a windowed Fourier basis, as a Conv1D kernel.

    W[t, 0, k] = cos|sin(-2 pi t k / F) * win[t] / s with F = 2 (shape[2] - 1) and
    s = sqrt(sum win^2) ("density"), sum |win| ("spectrum") or 1 (None). The shape is
    ``(T, 1, F // 2 + 1)``: window length, one channel, frequencies.

    Attributes:
        side: ``"real"`` (cosines) or ``"imag"`` (sines).
        window: Name of a window of ``scipy.signal``; T window values; or None for no
            window and no scaling.
        scaling: ``"density"``, ``"spectrum"`` or None.
        periodic: Whether the named window is periodic rather than symmetric.

    Raises:
        ImportError: If ``window`` is a name and SciPy is not installed.
        ValueError: If the window is unknown; in a call, if the shape is not
            ``(T, 1, 2 or more)``, or if the window does not have length T.

    Example:
        >>> STFT("imag", window=None)(None, (4, 1, 3)).shape
        (4, 1, 3)

    References:
        Keras, ``keras.initializers.STFT``.
    """

    side: str = "real"
    window: Any = "hann"
    scaling: str | None = "density"
    periodic: bool = False

    function = staticmethod(stft)
    check = staticmethod(_check_stft)
    identifiers = ("stft", "STFTInitializer")
    deterministic = True
    reads_layout = True
