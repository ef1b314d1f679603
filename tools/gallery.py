"""Draws the gallery of the site: a picture of every registered initializer.

`make gallery` writes index.md and the pictures to docs/gallery/, which git ignores. A
registered initializer without an entry in `FAMILIES` is an error.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

import jaxinit

OUT = Path(__file__).parent.parent / "docs" / "gallery"
SHAPE = (256, 128)
GRAY = "#858585"  # readable on the light and on the dark page
BLUE = "#6f8fdc"
RED = "#e4572e"
STYLE: Any = {
    "axes.edgecolor": GRAY,
    "axes.labelcolor": GRAY,
    "axes.titlecolor": GRAY,
    "axes.titlesize": "medium",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 8,
    "savefig.facecolor": "none",
    "text.color": GRAY,
    "xtick.color": GRAY,
    "ytick.color": GRAY,
}
INTRODUCTION = """
Each picture shows one draw with `jax.random.key(0)`. A red line over entries is their
exact density. If a value has a probability of its own, the histogram leaves it out, and
the label names its exact probability. Red points are exact probabilities. A red line
over singular values is no exact density but the limit for large matrices (Marchenko and
Pastur), with the standard deviation of the drawn entries. In images of entries, blue is
negative, red positive.
"""
Panel = Callable[[Axes, np.ndarray], None]


def histogram(distribution: Any, atoms: Mapping[float, float] | None = None) -> Panel:
    """A histogram of the entries, with their exact density.

    Args:
        distribution: Distribution of the entries that are no atoms, of SciPy.
        atoms: Values that have a probability of their own, and this probability. The
            histogram leaves them out, and the label names them.
    """
    atoms = atoms or {}
    continuous = 1 - sum(atoms.values())  # weight of the continuous part

    def draw(axes: Axes, values: np.ndarray) -> None:
        found = values[~np.isin(values, list(atoms))]
        counts, edges = np.histogram(found, 60)
        axes.stairs(counts / values.size / np.diff(edges), edges, fill=True, color=BLUE)
        low, high = distribution.ppf([1e-6, 1 - 1e-6])
        x = np.linspace(low, high, 400)
        axes.plot(x, continuous * distribution.pdf(x), color=RED, linewidth=1.2)
        axes.set(title="entries and density", yticks=[])
        if atoms:
            told = (f"{100 * p:.1f} % are {value:g}" for value, p in atoms.items())
            axes.set_xlabel(f"not drawn: {', '.join(told)}")
        axes.locator_params("x", nbins=5)

    return draw


def rounded(distribution: Any, dtype: Any) -> Panel:
    """Frequencies of the values of a small dtype, with their exact probabilities.

    Args:
        distribution: Distribution before rounding, of SciPy.
        dtype: A dtype of 8 bits.
    """
    every = np.arange(256, dtype=np.uint8).view(dtype).astype(np.float64)
    every = np.unique(every[np.isfinite(every)])
    midpoints = (every[1:] + every[:-1]) / 2
    probabilities = np.diff(distribution.cdf([-np.inf, *midpoints, np.inf]))

    def draw(axes: Axes, values: np.ndarray) -> None:
        frequencies = (values.ravel() == every[:, None]).mean(1)
        is_likely = probabilities > 1e-5
        x = every[is_likely]
        axes.vlines(x, 0, frequencies[is_likely], color=BLUE)
        axes.plot(x, probabilities[is_likely], ".", color=RED, markersize=2)
        title = f"frequencies and probabilities of the {is_likely.sum()} values"
        axes.set(title=title, yticks=[], ylim=(0, None))
        axes.locator_params("x", nbins=5)

    return draw


def spectrum(axes: Axes, values: np.ndarray) -> None:
    """Singular values, with their limit for large matrices.

    Marchenko and Pastur found the limit. It holds for the standard deviation of the
    entries, which is that of the drawn entries here.
    """
    n, m = values.shape
    found = np.linalg.svd(values, compute_uv=False)
    axes.hist(found, 25, density=True, histtype="stepfilled", color=BLUE)
    ratio = m / n
    low, high = (values.std() * (1 + sign * math.sqrt(ratio)) for sign in (-1, 1))
    x = np.linspace(low, high, 400)
    square = np.clip((high**2 - x**2) * (x**2 - low**2), 0, None)
    density = np.sqrt(square) / (math.pi * values.var() * ratio * x)
    axes.plot(x * math.sqrt(n), density / math.sqrt(n), color=RED, linewidth=1.2)
    axes.set(title="singular values and their limit", xlim=(0, None), yticks=[])


def singular_values(axes: Axes, values: np.ndarray) -> None:
    """Singular values in order."""
    axes.plot(np.linalg.svd(values, compute_uv=False), color=BLUE)
    axes.set(title="singular values in order", ylim=(0, 1.2))


def image(title: str = "entries") -> Panel:
    """A picture of a matrix; taps of a kernel and stacked layers are side by side."""

    def draw(axes: Axes, values: np.ndarray) -> None:
        *spatial, rows, columns = values.shape
        down = spatial[0] if len(spatial) > 1 else 1
        across = math.prod(spatial) // down
        grid = values.reshape(down, across, rows, columns).transpose(0, 2, 1, 3)
        picture = grid.reshape(down * rows, across * columns)
        most = abs(picture).max() or 1
        axes.imshow(picture, cmap="coolwarm", vmin=-most, vmax=most, aspect="auto")
        for i in range(1, down):
            axes.axhline(i * rows - 0.5, color=GRAY, linewidth=0.6)
        for i in range(1, across):
            axes.axvline(i * columns - 0.5, color=GRAY, linewidth=0.6)
        axes.set(title=title, xticks=[], yticks=[])

    return draw


def truncated(variance: float) -> Any:
    """A normal distribution cut at two standard deviations, with this variance."""
    return stats.truncnorm(-2, 2, 0, math.sqrt(variance / stats.truncnorm(-2, 2).var()))


def uniform(variance: float) -> Any:
    """A centered uniform distribution with this variance."""
    limit = math.sqrt(3 * variance)
    return stats.uniform(-limit, 2 * limit)


def unit_vector(n: int) -> Any:
    """The distribution of an entry of a random unit vector of n dimensions."""
    return stats.beta((n - 1) / 2, (n - 1) / 2, loc=-1, scale=2)


I, O = SHAPE  # noqa: E741 - fan_in and fan_out
J = jaxinit
SILU = J.gain("silu") ** 2 / I
CORNER = np.add.outer(np.arange(8.0), np.arange(12.0)) / 18
CLIPPED = {-1: float(stats.norm.cdf(-1)), 1.5: float(stats.norm.sf(1.5))}
Entry = tuple[J.Initializer, tuple[int, ...], tuple[Panel, ...]]


def drawn(init: J.Initializer, distribution: Any) -> Entry:
    """The entry of an initializer that draws independent values."""
    return init, SHAPE, (histogram(distribution), spectrum)


# Heading of the page -> its entries: an initializer, a shape and panels.
FAMILIES: dict[str, list[Entry]] = {
    "Variance set by the fans": [
        drawn(J.VarianceScaling(), truncated(1 / I)),
        drawn(J.ActivationScaled("silu"), truncated(SILU)),
        drawn(J.LecunNormal(), truncated(1 / I)),
        drawn(J.LecunUniform(), uniform(1 / I)),
        drawn(J.GlorotNormal(), truncated(2 / (I + O))),
        drawn(J.GlorotUniform(), uniform(2 / (I + O))),
        drawn(J.HeNormal(), truncated(2 / I)),
        drawn(J.HeUniform(), uniform(2 / I)),
        drawn(J.TorchKernel(), uniform(1 / (3 * I))),
        (J.TorchBias(fan_in=512), (8192,), (histogram(uniform(1 / (3 * 512))),)),
    ],
    "Distributions with given parameters": [
        drawn(J.RandomNormal(), stats.norm(0, 0.05)),
        drawn(J.RandomUniform(), stats.uniform(-0.05, 0.1)),
        drawn(J.TruncatedNormal(), stats.truncnorm(-2, 2, 0, 0.05)),
        (
            J.Sparse(0.7),
            (24, 36),
            (image(), histogram(stats.norm(0, 0.01), {0: 17 / 24})),
        ),
    ],
    "Orthogonal matrices": [
        (J.Orthogonal(), SHAPE, (histogram(unit_vector(I)), singular_values)),
        (J.DeltaOrthogonal(), (3, 3, 8, 12), (image("the nine taps of a kernel"),)),
        (J.ConvOrthogonal(), (3, 3, 8, 12), (image("the nine taps of a kernel"),)),
    ],
    "Deterministic values": [
        (J.Zeros(), (8, 12), (image(),)),
        (J.Ones(), (8, 12), (image(),)),
        (J.Constant(np.linspace(-1, 1, 12)), (8, 12), (image(),)),
        (J.FromArray(CORNER), (8, 12), (image(),)),
        (J.Identity(), (12, 18), (image(),)),
        (J.Dirac(), (3, 3, 8, 12), (image("the nine taps of a kernel"),)),
        (J.ZerO(), (16, 24), (image("16 inputs, 24 outputs"),)),
        (J.BilinearUpsampling(), (12, 12, 1, 1), (image("the taps of a kernel"),)),
        (J.LinearDownsampling(), (12, 12, 1, 1), (image("the taps of a kernel"),)),
        (J.STFT(), (64, 1, 33), (image("64 samples, 33 frequencies"),)),
    ],
    "Combinators": [
        drawn(J.Scaled("he_normal", 0.5), truncated(0.5 / I)),
        drawn(
            J.DepthScaled(J.RandomNormal(stddev=0.02), num_layers=12),
            stats.norm(0, 0.02 / math.sqrt(24)),
        ),
        (
            J.Normalized("normal", axis=-1),
            SHAPE,
            (histogram(unit_vector(O)), image("256 vectors of length 1")),
        ),
        (
            J.Masked("he_normal", sparsity=0.5),
            (24, 36),
            (image(), histogram(truncated(2 / 24), {0: 0.5})),
        ),
        (
            J.Clipped(J.RandomNormal(stddev=1.0), -1.0, 1.5),
            SHAPE,
            (histogram(stats.truncnorm(-1, 1.5), CLIPPED),),
        ),
        (
            J.AsDtype("normal", "float8_e4m3fn"),
            SHAPE,
            (rounded(stats.norm(0, 0.05), jnp.float8_e4m3fn),),
        ),
        (J.Stacked("orthogonal"), (4, 16, 16), (image("four layers"),)),
        (J.Blocks("identity", 3), (16, 48), (image("three blocks"),)),
        (J.Concatenate(("identity", "orthogonal")), (16, 32), (image("two parts"),)),
        (J.ICNR("normal"), (1, 1, 8, 32), (image("eight inputs, 32 outputs"),)),
    ],
}


def picture(init: J.Initializer, shape: tuple[int, ...], panels: Any) -> Figure:
    """Draws the panels of one initializer."""
    values = np.asarray(init(jax.random.key(0), shape, np.float32), np.float64)
    if len(shape) > 2 and shape[-2:] == (1, 1):  # one input and one output
        values = values[..., 0, 0]
    if isinstance(init, J.STFT):
        values = values[:, 0]
    figure = Figure(figsize=(3.2 * len(panels), 1.9), layout="constrained")
    for i, panel in enumerate(panels, 1):
        panel(figure.add_subplot(1, len(panels), i), values)
    return figure


def page() -> Iterable[str]:
    """Yields the lines of the page, and writes the pictures."""
    yield "---\nsearch:\n  exclude: true # the reference has the same names\n---\n"
    yield "# Gallery"
    yield INTRODUCTION
    for family, entries in FAMILIES.items():
        yield f"## {family}\n"
        for init, shape, panels in entries:
            name = type(init).__name__
            figure = picture(init, shape, panels)
            figure.savefig(OUT / f"{name}.png", dpi=200, metadata={"Software": None})
            first = (type(init).__doc__ or "").partition("\n")[0]
            yield f"### {name}\n\n{first.replace('``', '`')}\n"
            if len(repr(init)) < 80:
                yield f"`{init!r}` of shape `{shape}`:\n"
            width = 320 * len(panels)
            yield f'![One draw of {name}]({name}.png){{ width="{width}" }}\n'


def shown() -> set[type]:
    """The classes in `FAMILIES`."""
    return {type(entry[0]) for entries in FAMILIES.values() for entry in entries}


def main() -> None:
    """Writes the page and its pictures."""
    missing = {cls.__name__ for cls in set(jaxinit.names().values()) - shown()}
    if missing:
        raise SystemExit(f"FAMILIES in {__file__} lacks {', '.join(sorted(missing))}.")
    OUT.mkdir(exist_ok=True)
    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE):
        (OUT / "index.md").write_text("\n".join(page()))


if __name__ == "__main__":
    main()
