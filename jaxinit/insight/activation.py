"""Activations: their effect on variance and correlation in deep networks.

The mean-field theory of wide random networks. A layer makes z' = W f(z) + b with
Var W_ij = sigma_w^2 / n and Var b_i = sigma_b^2. The variance of z follows the map

    q' = sigma_w^2 V(q) + sigma_b^2,    V(q) = E[f(z)^2],  z ~ N(0, q),

and the correlation of two inputs, at the fixed point q*, the map

    c' = (sigma_w^2 E[f(u) f(v)] + sigma_b^2) / q*,    u, v of correlation c.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .._activations import find, moment_of, second_moment
from .._checks import check_number, short
from .._quadrature import MOST_VARIANCE, Grid, grid_of

_LEAST_VARIANCE = 1e-10  # stands for the limit at 0
_DEGREE = 100  # of the Hermite polynomials that make the correlation map
_NEAR = 1e-6  # of 1, for multipliers that are 1 in theory
_EDGE = 0.01  # of 1: 50 layers change a variance by less than the factor 1.65


def gain(activation: str | Callable[[Any], Any]) -> float:
    """The factor that undoes what an activation does to a signal of variance 1.

    gain = 1 / sqrt(E[f(z)^2]), z ~ N(0, 1), by quadrature in float64: kinks and jumps
    are as exact as smooth functions. Weights of standard deviation
    ``gain / sqrt(fan_in)`` then make outputs of second moment 1 from inputs f(z).

    Args:
        activation: A name of ``jax.nn`` or of `jaxinit.register`, or an elementwise
            function of one array.

    Returns:
        The gain.

    Raises:
        TypeError: If ``activation`` is no elementwise function.
        ValueError: If a name is unknown, or E[f(z)^2] is 0 or infinite.

    Example:
        >>> round(gain("relu"), 12) == round(2**0.5, 12)
        True
        >>> round(gain(lambda x: jax.nn.gelu(x, approximate=False)), 10)
        1.5335304412

    References:
        He et al., "Delving Deep into Rectifiers", 2015; Kumar, "On weight
        initialization in deep neural networks", 2017.
    """
    return second_moment("gain", activation) ** -0.5


@dataclasses.dataclass(frozen=True)
class Activation:
    """The effect of an activation on the signal of a deep network; print shows a table.

    Attributes:
        name: The name or the function.
        gain: 1 / sqrt(E[f(z)^2]) for z ~ N(0, 1).
        mean: E[f(z)].
        second_moment: E[f(z)^2].
        slope_moment: E[f'(z)^2].
        weight_variance: sigma_w^2, of the maps below; gain^2 unless it was given.
        bias_variance: sigma_b^2.
        chi: d log E[f(z)^2] / d log Var z at the fixed point.
        fixed_point: Variance q* that a layer keeps; 0 or infinite if the signal
            vanishes or explodes.
        stability: ``"attracts"``, ``"neutral"`` or ``"repels"``: what q* does to a
            variance near it.
        gradient_factor: sigma_w^2 E[f'(z)^2] at q*: the factor of a layer on the
            second moment of gradients, and the slope of the correlation map at 1.
        correlation: Correlation c* to which a deep network brings any two inputs.
        floor: Least E[f(z)^2] over all variances of z.
        ceiling: Largest E[f(z)^2] over all variances of z; None if there is none.
        verdict: ``"edge of chaos"``, ``"ordered"``, ``"chaotic"``, ``"unstable"``,
            ``"vanishing"`` or ``"exploding"``.
        reason: The verdict's reason, with numbers.
    """

    name: str
    gain: float
    mean: float
    second_moment: float
    slope_moment: float
    weight_variance: float
    bias_variance: float
    chi: float
    fixed_point: float
    stability: str
    gradient_factor: float
    correlation: float
    floor: float
    ceiling: float | None
    verdict: str
    reason: str
    _maps: "_Maps" = dataclasses.field(repr=False, compare=False)

    def variance_map(self, variance: float) -> float:
        """The variance after a layer, sigma_w^2 V(q) + sigma_b^2.

        Args:
            variance: q, from 0 to 400.
        """
        q = check_number("variance_map", "variance", variance, minimum=0.0)
        if q > MOST_VARIANCE:
            raise ValueError(f"variance_map(variance=...) must be at most 400; got {q}")
        return self._maps.variance(max(q, _LEAST_VARIANCE))

    def correlation_map(self, correlation: float) -> float:
        """The correlation of two inputs after a layer, at the fixed point.

        Args:
            correlation: c, from 0 to 1.
        """
        c = check_number("correlation_map", "correlation", correlation, minimum=0.0)
        if c > 1:
            raise ValueError(f"correlation_map(correlation=...) must be <= 1; got {c}")
        return self._maps.correlation(c, _within(self.fixed_point))

    def __str__(self) -> str:
        """A table of the numbers, and the verdict."""
        ceiling = "none" if self.ceiling is None else f"{self.ceiling:.6g}"
        rows = [
            ("gain", f"{self.gain:.10g}", "1 / sqrt(E[f(z)^2])"),
            ("E[f(z)]", f"{self.mean:.10g}", "z ~ N(0, 1)"),
            ("E[f(z)^2]", f"{self.second_moment:.10g}", ""),
            ("E[f'(z)^2]", f"{self.slope_moment:.10g}", ""),
            ("floor, ceiling", f"{self.floor:.6g}, {ceiling}", "of E[f(z)^2], any z"),
            ("sigma_w^2", f"{self.weight_variance:.6g}", "variance of a weight * fan"),
            ("sigma_b^2", f"{self.bias_variance:.6g}", "variance of a bias"),
            ("fixed point q*", f"{self.fixed_point:.6g}", self.stability),
            ("chi", f"{self.chi:.6g}", "d log E[f(z)^2] / d log Var z"),
            ("gradient", f"{self.gradient_factor:.6g}", "factor a layer, squared"),
            ("correlation c*", f"{self.correlation:.6g}", "of any two inputs, deep"),
        ]
        lines = [
            f"{name:<15} {value:<20} {note}".rstrip() for name, value, note in rows
        ]
        return "\n".join([self.name, *lines, f"{self.verdict}: {self.reason}"])


def activation(
    f: str | Callable[[Any], Any],
    *,
    weight_variance: float | None = None,
    bias_variance: float = 0.0,
) -> Activation:
    """Judges an activation for deep networks without normalization.

    The variance map tells whether the forward signal keeps its size, the slope of the
    correlation map at 1 whether gradients do, and its fixed point c* whether the
    network still tells two inputs apart. All are exact for wide layers.

    Args:
        f: A name of ``jax.nn`` or of `jaxinit.register`, or an elementwise function.
        weight_variance: sigma_w^2, the variance of a weight times fan_in. None: the
            one at which variance 1 is a fixed point, gain^2 without a bias.
        bias_variance: sigma_b^2, the variance of a bias; below 1 if
            ``weight_variance`` is None.

    Returns:
        The numbers and a verdict; ``print`` shows a table.

    Raises:
        TypeError: If ``f`` is no elementwise function.
        ValueError: If a name is unknown, a variance is out of its range, or
            E[f(z)^2] is 0 or infinite.

    Example:
        >>> jaxinit.activation("relu").verdict
        'edge of chaos'
        >>> print(jaxinit.activation("tanh", weight_variance=3.0).verdict)
        chaotic

    References:
        Poole et al., "Exponential expressivity in deep neural networks through
        transient chaos", 2016; Schoenholz et al., "Deep information propagation", 2017.
    """
    where = "activation"
    grid = grid_of(where, find(where, f))
    moment = moment_of(where, f, grid)
    sigma_b = check_number(where, "bias_variance", bias_variance, minimum=0.0)
    if weight_variance is None:
        if sigma_b >= 1:
            raise ValueError(
                f"activation(bias_variance={sigma_b}) leaves no part of variance 1 to "
                "the weights: pass weight_variance as well."
            )
        maps, fixed = _Maps(grid, (1 - sigma_b) / moment, sigma_b), 1.0
    else:
        sigma_w = check_number(where, "weight_variance", weight_variance, minimum=0.0)
        maps = _Maps(grid, sigma_w, sigma_b)
        fixed = maps.fixed_point()
    q = _within(fixed)
    chi = maps.chi(q)
    slope = chi * (1 - maps.bias / maps.variance(q)) if maps.variance(q) else 0.0
    gradient = maps.weight * grid.mean(grid.slopes**2, q)
    stability = "repels" if slope > 1 + _NEAR else "neutral"
    stability = "attracts" if slope < 1 - _NEAR or fixed != q else stability
    floor, ceiling = _range(grid)
    correlation = maps.correlation_point(q, gradient)
    verdict, reason = _verdict(fixed, slope, gradient, correlation)
    if ceiling is not None:
        reason += (
            f" E[f(z)^2] stays between {floor:.3g} and {ceiling:.3g} whatever the "
            "variance of z, so no scale of the weights before brings it outside."
        )
    return Activation(
        name=f if isinstance(f, str) else getattr(f, "__name__", short(f)),
        gain=moment**-0.5,
        mean=grid.mean(grid.values),
        second_moment=moment,
        slope_moment=grid.mean(grid.slopes**2),
        weight_variance=maps.weight,
        bias_variance=sigma_b,
        chi=chi,
        fixed_point=fixed,
        stability=stability,
        gradient_factor=gradient,
        correlation=correlation,
        floor=floor,
        ceiling=ceiling,
        verdict=verdict,
        reason=reason,
        _maps=maps,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Maps:
    """The variance map and the correlation map of a layer."""

    grid: Grid
    weight: float
    bias: float

    def variance(self, q: float) -> float:
        return self.weight * self.grid.mean(self.grid.values**2, q) + self.bias

    def chi(self, q: float) -> float:
        """The slope d log V(q) / d log q."""
        squares = self.grid.values**2
        # It is E[z f(z) f'(z)] / V(q); by parts, jumps of f count as well.
        change = self.grid.mean((self.grid.x**2 / q - 1) * squares, q) / 2
        moment = self.grid.mean(squares, q)
        return change / moment if moment else 0.0

    def fixed_point(self) -> float:
        """The variance that a signal of variance 1 goes to."""

        def grows(q: float) -> bool:
            return self.variance(q) > q

        change = self.variance(1.0) - 1
        if abs(change) < 1e-12:
            return 1.0
        limits = _LEAST_VARIANCE, MOST_VARIANCE
        steps = np.geomspace(1.0, limits[change > 0], 121).tolist()
        pairs = itertools.pairwise(steps)
        crossing = next((p for p in pairs if grows(p[1]) != (change > 0)), None)
        if crossing is None:
            return math.inf if change > 0 else 0.0
        low, high = sorted(crossing)
        rises = grows(low)
        for _ in range(80):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if grows(middle) == rises else (low, middle)
        return math.sqrt(low * high)

    def correlation(self, c: float, q: float) -> float:
        """E[f(u) f(v)] = sum of a_k^2 c^k, with a_k the Hermite coefficients of f."""
        return self._correlation(self._powers(q), c, q)

    def correlation_point(self, q: float, slope: float) -> float:
        """The fixed point of the correlation map that attracts.

        The map is a power series of positive coefficients, so it is convex: beside 1
        it has at most one fixed point, and one only if its slope at 1 is above 1.
        """
        if slope <= 1 + _NEAR:
            return 1.0
        powers = self._powers(q)
        low, high = 0.0, 1 - 1e-9
        for _ in range(60):
            middle = (low + high) / 2
            grows = self._correlation(powers, middle, q) > middle
            low, high = (middle, high) if grows else (low, middle)
        return low

    def _correlation(self, powers: np.ndarray, c: float, q: float) -> float:
        total = float(powers @ c ** np.arange(len(powers)))
        return (self.weight * total + self.bias) / self.variance(q)

    def _powers(self, q: float) -> np.ndarray:
        """The coefficients a_k^2; the last holds all of higher degrees."""
        z = self.grid.x / math.sqrt(q)
        inside = abs(z) < 40
        z = z[inside]
        weights = (self.grid.weights * self.grid.values)[inside] / math.sqrt(q)
        weights = weights * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        before, now = np.zeros_like(z), np.ones_like(z)
        squares: list[float] = []
        for k in range(_DEGREE):
            squares.append(float(weights @ now) ** 2)
            before, now = now, (z * now - math.sqrt(k) * before) / math.sqrt(k + 1)
        rest = self.grid.mean(self.grid.values**2, q) - sum(squares)
        return np.array([*squares, max(0.0, rest)])


def _within(q: float) -> float:
    """A variance at which the grid can stand for a limit."""
    return min(max(q, _LEAST_VARIANCE), MOST_VARIANCE)


def _range(grid: Grid) -> tuple[float, float | None]:
    """The least and the largest E[f(z)^2] over all variances of z."""
    variances = np.geomspace(_LEAST_VARIANCE, MOST_VARIANCE, 61)
    moments = [grid.mean(grid.values**2, q) for q in variances]
    moments.append(float((grid.far[0] ** 2 + grid.far[-1] ** 2) / 2))
    is_bounded = bool((abs(grid.far) <= 1.01 * abs(grid.values).max()).all())
    floor = min(moments) if is_bounded else min(moments[:-1])
    floor = 0.0 if floor < 10 * _LEAST_VARIANCE else float(floor)
    return floor, float(max(moments)) if is_bounded else None


def _verdict(
    fixed: float, slope: float, gradient: float, correlation: float
) -> tuple[str, str]:
    if fixed == 0:
        return "vanishing", "The variance goes to 0: raise weight_variance."
    if math.isinf(fixed):
        return "exploding", "The variance has no bound: lower weight_variance."
    factor = math.sqrt(gradient)
    backward = f"gradients change by {factor:.4g} a layer, {factor**50:.2g} after 50"
    if slope > 1 + _EDGE:
        return "unstable", (
            f"The fixed point repels: an error of the variance grows by {slope:.4g} a "
            f"layer, {slope**50:.2g} after 50. No scale of the weights holds it; "
            "normalize, or add residual branches."
        )
    if abs(gradient - 1) <= _EDGE:
        return "edge of chaos", f"The variance stays, and {backward}."
    if gradient < 1:
        return "ordered", (
            f"The variance stays, but {backward}, and any two inputs become parallel."
        )
    return "chaotic", (
        f"The variance stays, but {backward}, and any two inputs, however near, "
        f"end at correlation {correlation:.3g}."
    )
