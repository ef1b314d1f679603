"""The base of LeCun, Glorot and He: named cases of variance scaling."""

from dataclasses import dataclass
from typing import Any

import jax

from .._checks import BatchAxes, FanAxis
from .._fans import check_fan_axes
from .base import Initializer, unless_axes_are_named
from .variance_scaling import draw_by_fans

# Scale, mode and distribution that each preset passes to `variance_scaling`.
PRESETS = {
    "lecun_normal": (1.0, "fan_in", "truncated_normal"),
    "lecun_uniform": (1.0, "fan_in", "uniform"),
    "glorot_normal": (1.0, "fan_avg", "truncated_normal"),
    "glorot_uniform": (1.0, "fan_avg", "uniform"),
    "he_normal": (2.0, "fan_in", "truncated_normal"),
    "he_uniform": (2.0, "fan_in", "uniform"),
    "torch_kernel": (1 / 3, "fan_in", "uniform"),
}


def draw_preset(
    name: str,
    draw: tuple[Any, Any, Any, Any],
    in_axis: FanAxis,
    out_axis: FanAxis,
    batch_axis: BatchAxes,
) -> jax.Array:
    """Draws by `variance_scaling` with the arguments of the preset ``name``.

    ``draw`` holds the key, the shape, the dtype and the sharding.
    """
    scale, mode, distribution = PRESETS[name]
    return draw_by_fans(
        name,
        draw,
        scale=scale,
        mode=mode,
        distribution=distribution,
        in_axis=in_axis,
        out_axis=out_axis,
        batch_axis=batch_axis,
    )


@dataclass(frozen=True, repr=False)
class Preset(Initializer, abstract=True):
    """Base of the presets: the fields for the axes and the seed."""

    in_axis: FanAxis = -2
    out_axis: FanAxis = -1
    batch_axis: BatchAxes = ()
    seed: int | None = None

    check = staticmethod(check_fan_axes)
    reads_layout = unless_axes_are_named
