"""The demo's initializers, one for each role of a parameter, and their config file."""

import json
import math
from pathlib import Path
from typing import Any

import jaxinit

from .. import _files
from .._checks import short
from .usage import usage_errors

Recipe = dict[str, jaxinit.Initializer]  # by role
Roles = list[tuple[str, str, jaxinit.Initializer]]


def roles(model: str, layers: int) -> Roles:
    """Glob, role and default initializer of a model's parameters; first match wins."""
    zeros, ones, normal = jaxinit.Zeros(), jaxinit.Ones(), jaxinit.RandomNormal
    if model == "gpt2":
        residual = normal(stddev=0.02 / math.sqrt(2 * layers))  # adds up to 0.02
        return [
            ("**/token/embedding", "embedding", normal(stddev=0.02)),
            ("**/position/embedding", "position", normal(stddev=0.01)),
            ("**/out/kernel", "residual", residual),
            ("**/down/kernel", "residual", residual),
            ("**/kernel", "kernel", normal(stddev=0.02)),
            ("**/bias", "bias", zeros),
            ("**/scale", "scale", ones),
        ]
    if model == "resnet50":
        return [
            ("**/head/kernel", "head", normal(stddev=0.01)),
            ("**/kernel", "kernel", jaxinit.HeNormal()),
            ("**/bias", "bias", zeros),
            ("**/norm_3/scale", "residual_scale", zeros),  # a branch starts at zero
            ("**/scale", "scale", ones),
        ]
    return [
        ("**/head/kernel", "head", jaxinit.GlorotUniform()),
        ("**/kernel", "kernel", jaxinit.HeNormal()),
        ("**/bias", "bias", zeros),
    ]


def rules(roles: Roles, recipe: Recipe) -> jaxinit.Rules:
    """The initializers of a recipe as rules for the parameters of their roles."""
    return jaxinit.Rules([(glob, recipe[role]) for glob, role, _ in roles])


def write(path: Path, recipe: Recipe) -> None:
    """Writes the config of every initializer as JSON, whole or not at all."""
    configs = {role: jaxinit.serialize(init) for role, init in recipe.items()}
    with usage_errors(f"write {path}"):
        _files.write_whole(path, (json.dumps(configs, indent=2) + "\n").encode())


def read(path: Path, roles: set[str]) -> Recipe:
    """Reads the initializers of a config file, which must name exactly ``roles``."""
    recipe: Recipe = {}
    with usage_errors(f"read {path}"), _files.in_file(path):
        configs: Any = _files.loads(_files.read_text(path))
        if not isinstance(configs, dict) or set(configs) != roles:
            raise ValueError(
                "the file must hold an object with an initializer for each of "
                f"{', '.join(sorted(roles))}; it holds {short(configs)}"
            )
        for role, config in configs.items():
            with _files.in_file(repr(role)):
                recipe[role] = jaxinit.deserialize(config)
    return recipe
