"""Selects the rows that count as the layers of a model, for fits and charts."""

from collections.abc import Sequence
from typing import Any

LOST = 100.0  # a signal that all layers change by this factor is lost


def layers_of(rows: Sequence[Any]) -> tuple[str, list[Any]]:
    """Returns the rows of the layers and their kind.

    Returns:
        "residual" and the residual additions, if these have three depths or more; else
        "product" and the products.
    """
    sums = [row for row in rows if row.kind == "residual"]
    if len({row.depth for row in sums}) >= 3:
        return "residual", sums
    return "product", [row for row in rows if row.fan_in is not None]
