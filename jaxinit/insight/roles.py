"""The roles of the parameters of a model, on which their initializers depend."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..initializers.constant import Constant, Ones, Zeros
from ..initializers.random import RandomNormal
from .places import Site
from .recurrence import orthogonal, recurrent_sites
from .sources import Source, biases_of, sources_of
from .tasks import PRODUCTS, branch_ends
from .trace import Traced


@dataclasses.dataclass(frozen=True, eq=False)
class Role:
    """The role of a parameter in the model.

    Attributes:
        kind: "product", "lookup", "scale", "bias" or "kept".
        start: Initializer before any gain is known; None keeps the parameter.
        site: The first site that reads the parameter, or None.
        source: The parameter as the source of the weight of this site, or None.
        target: Second moment that the result of the site should have, without the bias;
            None for a recurrent product, whose result has the moment of the state.
        branches: If the site ends a residual branch, the number of branches of its
            stream, else 0.
        is_tied: True for a product with an embedding, whose start holds for both.
    """

    kind: str
    start: Any
    site: Any = None
    source: Any = None
    target: float | None = 1.0
    branches: int = 0
    is_tied: bool = False


def roles_of(traced: Traced) -> dict[int, Role]:
    """The role of every parameter, by its position."""
    level = traced.level
    ends, recurrent = branch_ends(level), recurrent_sites(level)
    first: dict[str, dict[int, tuple[Site, Source]]] = {
        kind: {} for kind in ("product", "lookup", "scale", "bias")
    }
    for site, source in sources_of(level):
        kind = "product" if site.kind in PRODUCTS else site.kind
        if isinstance(source, Source) and source.is_whole and kind in first:
            first[kind].setdefault(source.leaf, (site, source))
    for site, source in biases_of(level):
        if isinstance(source, Source) and source.is_whole:
            first["bias"].setdefault(source.leaf, (site, source))
    tied = [first["product"][i][0] for i in first["lookup"] if i in first["product"]]
    embedding = 1 / (tied[0].fan_in or 1) if tied else 1.0
    roles: dict[int, Role] = {}
    for leaf in traced.parameters:
        kind = next((kind for kind, known in first.items() if leaf in known), None)
        if kind is None:
            roles[leaf] = Role("kept", None)
            continue
        site, source = first[kind][leaf]
        branches = 0 if kind == "bias" else ends.get(site.index, 0)
        target: float | None = 1 / max(1, branches)
        array = traced.arrays[leaf]
        if kind == "product":
            start: Any = RandomNormal(stddev=(site.fan_in or 1) ** -0.5)
            if site.index in recurrent:
                gates = orthogonal(site, source, array.shape)
                start, target = (start, target) if gates is None else (gates, None)
        elif kind == "lookup":
            target = embedding
            start = RandomNormal(stddev=embedding**0.5)
        elif kind == "scale":
            is_one = bool(jnp.all(array == 1))
            start = Constant(target**0.5) if branches else Ones() if is_one else None
        else:
            is_meant = _rms(array) > (site.fan_in or 1) ** -0.5
            start = None if is_meant else Zeros()
        is_tied = kind == "product" and leaf in first["lookup"]
        roles[leaf] = Role(kind, start, site, source, target, branches, is_tied)
    return roles


def _rms(x: Any) -> float:
    wide = np.asarray(x).astype(complex if jnp.iscomplexobj(x) else np.float64)
    return float(np.sqrt(np.mean(np.square(np.abs(wide))))) if x.size else 0.0
