"""Tasks: the weights to scale, and the target of each."""

import collections
import dataclasses
import math
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
        with_bias: False if the target is that of the product without its bias.
    """

    site: Site
    source: Source
    target: float
    is_scaled: bool = True
    with_bias: bool = True


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
            share = branch or 1 / ends[site.index] if site.index in ends else 1.0
            chosen[source.leaf] = Task(site, source, target * share)
    return Tasks({task.site.index: task for task in chosen.values()}, refused)


def branch_ends(level: Level) -> dict[int, int]:
    """The sites that end a residual branch, and the number of branches of its stream.

    A skip inside a branch has a stream of its own.
    """
    counts = count_branches(level)
    found: dict[int, int] = {}
    for place in level.walk():
        if isinstance(place, Residual):
            # If elementwise operations, as dropout, follow the end, one site is near.
            near = tuple(place.near) if len(place.near) == 1 else ()
            for site in place.ends or near:
                found.setdefault(site, counts[place.inside])
    return found


def count_branches(level: Level) -> collections.Counter[int | None]:
    """Counts the branches of each stream, in every layer of a scan.

    Layers that share their weights count, too, but not the steps of a recurrence over
    time.

    Returns:
        Number of branches, by the residual addition in whose branch the stream lies;
        None stands for the main stream.
    """
    loops = {place.index: around for place, around in _residuals(level, ())}
    counts: collections.Counter[int | None] = collections.Counter()
    for place, around in _residuals(level, ()):
        outside = () if place.inside is None else loops.get(place.inside, ())
        rounds = [n for number, n in around if (number, n) not in outside]
        counts[place.inside] += math.prod(rounds) * max(1, len(place.ends))
    return counts


def _residuals(
    level: Level, around: tuple[tuple[int, int], ...]
) -> Iterator[tuple[Residual, tuple[tuple[int, int], ...]]]:
    """Yields each residual addition, and the loops around it with their rounds."""
    for place in level.places:
        if isinstance(place, Inner):
            is_deep = place.is_layered or not place.reads
            rounds = place.length if place.length and is_deep else 1
            yield from _residuals(place.level, (*around, (place.index, rounds)))
        elif isinstance(place, Residual):
            yield place, around
