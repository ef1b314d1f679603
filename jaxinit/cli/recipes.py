"""The demo's initializers by role, and their config file."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jaxinit

from .. import _files
from .._checks import short
from .usage import UsageError, write_whole

Recipe = dict[str, jaxinit.Initializer]


def gpt2(layers: int) -> Recipe:
    """GPT-2's: 0.02, and less on the layers that add to the residual stream."""
    return {
        "embedding": jaxinit.RandomNormal(stddev=0.02),
        "position": jaxinit.RandomNormal(stddev=0.01),
        "kernel": jaxinit.RandomNormal(stddev=0.02),
        "residual": jaxinit.RandomNormal(stddev=0.02 / math.sqrt(2 * layers)),
        "bias": jaxinit.Zeros(),
        "scale": jaxinit.Ones(),
    }


def resnet50(layers: int) -> Recipe:
    """He et al.'s, with every residual branch starting at zero."""
    return {
        "kernel": jaxinit.HeNormal(),
        "head": jaxinit.RandomNormal(stddev=0.01),
        "bias": jaxinit.Zeros(),
        "scale": jaxinit.Ones(),
        "residual_scale": jaxinit.Zeros(),
    }


def mlp(layers: int) -> Recipe:
    """He before a ReLU, Glorot before the softmax."""
    return {
        "kernel": jaxinit.HeNormal(),
        "head": jaxinit.GlorotUniform(),
        "bias": jaxinit.Zeros(),
    }


RECIPES: dict[str, Callable[[int], Recipe]] = {
    "gpt2": gpt2,
    "resnet50": resnet50,
    "mlp": mlp,
}


def write(path: Path, recipe: Recipe) -> None:
    """Writes the config of every initializer as JSON, whole or not at all."""
    configs = {role: jaxinit.serialize(init) for role, init in recipe.items()}
    write_whole(path, (json.dumps(configs, indent=2) + "\n").encode())


def read(path: Path, roles: set[str]) -> Recipe:
    """The initializers of a config file.

    Args:
        path: File that `write` wrote, or one like it.
        roles: The roles that the model has; the file must name just these.

    Returns:
        Initializers by role.

    Raises:
        UsageError: If the file cannot be read or is no such config.
    """
    try:
        configs: Any = _files.loads(_files.read_text(path))
    except OSError as e:
        raise UsageError(f"cannot read {path}: {e.strerror}") from None
    except ValueError as e:
        raise UsageError(f"{path}: {e}") from None
    if not isinstance(configs, dict):
        raise UsageError(f"{path} must hold an object of initializers by role")
    if set(configs) != roles:
        raise UsageError(
            f"{path} must have an initializer for each of {', '.join(sorted(roles))}; "
            f"it has {short(list(configs))}"
        )
    recipe: Recipe = {}
    for role, config in configs.items():
        try:
            recipe[role] = jaxinit.deserialize(config)
        except (TypeError, ValueError) as e:
            raise UsageError(f"{path}, {role!r}: {e}") from None
    return recipe
