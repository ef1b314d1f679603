"""The layers of a model: the rows by which growth is fitted and drawn."""

from collections.abc import Sequence
from typing import Any

LOST = 100.0  # factor over all layers from which a signal is lost


def layers_of(rows: Sequence[Any]) -> tuple[str, list[Any]]:
    """The rows that stand for the layers, and which rows these are.

    Returns:
        "residual" and the sums of the residual stream where these have three depths or
        more; else "product" and the products.
    """
    sums = [row for row in rows if row.kind == "residual"]
    if len({row.depth for row in sums}) >= 3:
        return "residual", sums
    return "product", [row for row in rows if row.fan_in is not None]
