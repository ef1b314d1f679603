"""``show --plot``: histogram and spectrum as a picture."""

import io
from pathlib import Path

import numpy as np

from .show import Summary
from .usage import require, write_whole


def plot(path: Path, title: str, values: np.ndarray, summary: Summary) -> None:
    """Writes a PNG of the histogram and, of a matrix, the singular values.

    Args:
        path: File to write; an existing one is replaced.
        title: Heading of the picture.
        values: The tensor.
        summary: Its statistics.

    Raises:
        UsageError: If matplotlib is missing or the file cannot be written.
    """
    figure = require("matplotlib.figure", "plots").Figure(
        figsize=(10, 4), layout="constrained"
    )
    figure.suptitle(title, wrap=True)
    left, right = figure.subplots(1, 2)
    on_line = np.abs(values) if values.dtype.kind == "c" else values
    left.hist(on_line[np.isfinite(on_line)], bins=100, density=True)
    left.set_xlabel("modulus" if values.dtype.kind == "c" else "value")
    left.set_ylabel("density")
    left.set_title(f"mean {summary.mean:.3g}, std {summary.stddev:.3g}")
    right.set_title("singular values")
    if summary.singular is None:
        right.set_axis_off()
        right.text(0.5, 0.5, "not computed", ha="center", va="center")
    else:
        right.plot(np.arange(1, len(summary.singular) + 1), summary.singular, ".-")
        right.set_xlabel("rank")
        right.set_ylim(bottom=0)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_whole(path, picture.getvalue())
