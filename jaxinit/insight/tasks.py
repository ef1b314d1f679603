"""Tasks: the weights to scale, and the target of each."""

import dataclasses
from collections.abc import Iterator, Mapping

import jax

from ..rules.patterns import Pattern, compile_pattern
from .places import Inner, Level, Residual, Site
from .sources import Source, sources_of
from .trace import Traced

PRODUCTS = "dot", "conv"


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A site whose weight is scaled.

    Attributes:
        site: The site.
        source: Its parameter.
        target: Second moment that its result should have.
        is_scaled: False if the result is only measured.
    """

    site: Site
    source: Source
    target: float
    is_scaled: bool = True


@dataclasses.dataclass(frozen=True, eq=False)
class Tasks:
    """The weights that can be scaled, and those that cannot.

    Attributes:
        by_site: Number of a site -> its task. A parameter has one task, at the first
            site that reads it.
        refused: Path of a parameter -> the reason why its weight cannot be scaled.
    """

    by_site: Mapping[int, Task]
    refused: Mapping[str, str]


def tasks_of(
    traced: Traced, only: Pattern | None, target: float, branch: float | None
) -> Tasks:
    """Finds the tasks of a function; the arguments are those of `calibrate`."""
    matches = None if only is None else compile_pattern(only)
    ends = branch_ends(traced.level)
    share = branch or 1 / max(1, count_residuals(traced.level))

    def is_meant(site: Site, leaf: int) -> bool:
        if matches is None:
            return site.kind in PRODUCTS
        array = traced.arrays[leaf]
        abstract = jax.ShapeDtypeStruct(array.shape, array.dtype)
        is_scaled = site.kind in (*PRODUCTS, "lookup")
        return is_scaled and matches(traced.paths[leaf], abstract)

    chosen: dict[int, Task] = {}
    refused: dict[str, str] = {}
    for site, source in sources_of(traced.level):
        if isinstance(source, str):
            meant = [i for i in sorted(site.leaves) if is_meant(site, i)]
            refused.update((traced.paths[i], source) for i in meant[:1])
        elif source.leaf not in chosen and is_meant(site, source.leaf):
            own = target * share if site.index in ends else target
            chosen[source.leaf] = Task(site, source, own)
    return Tasks({task.site.index: task for task in chosen.values()}, refused)


def branch_ends(level: Level) -> set[int]:
    """The numbers of the sites that end a residual branch."""
    residuals = (place for place in level.walk() if isinstance(place, Residual))
    return set(_ends(residuals))


def _ends(residuals: Iterator[Residual]) -> Iterator[int]:
    for place in residuals:
        if place.ends:
            yield from place.ends
        elif len(place.near) == 1:  # elementwise operations, as dropout, follow it
            yield from place.near


def count_residuals(level: Level) -> int:
    """Number of residual branches, counted in every layer of a scan.

    Layers that share their weights count, too, but not the steps of a recurrence over
    time.
    """
    total = 0
    for place in level.places:
        if isinstance(place, Inner):
            is_deep = place.is_layered or not place.reads
            rounds = place.length if place.length and is_deep else 1
            total += rounds * count_residuals(place.level)
        elif isinstance(place, Residual):
            total += max(1, len(place.ends))
    return total
