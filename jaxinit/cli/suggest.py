"""``suggest``: finds rules that give a user's model a steady signal."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax

import jaxinit

from .. import _files
from .factories import read_model
from .usage import UsageError, usage_errors, user_errors


def suggest(factory: str, out: Path | None, seed: int) -> int:
    """Prints the rules and their second moments.

    The rules are written to the file ``out``, or printed as JSON without a file. A YAML
    file has the table of places as a comment.
    """
    if out is not None:
        with usage_errors(f"write {out}"):
            exists = out.exists()
        if exists:
            raise UsageError(f"{out} exists and may be edited; name another file")
    key = jax.random.key(seed)
    model = read_model(factory, key)
    with user_errors(factory, "suggest("):
        made = jaxinit.suggest(
            model.fn, model.params, *model.inputs, key=key, like=model.like
        )
    config, end = plain(made.rules), f"wrote {out}"
    if out is None:
        end = json.dumps(config, indent=2)
    else:
        with usage_errors(f"write {out}"):
            _files.write(out, config, comment=str(made))
    print(made, end, sep="\n\n")
    return 0


def plain(rules: jaxinit.Rules) -> dict[str, Any]:
    """The config of rules without arguments that have their defaults."""
    return {"rules": {glob: _short(x) for glob, x in rules.rules}}


def _short(initializer: Any) -> Any:
    """The config of an initializer without defaults; its name if nothing is left."""
    if initializer is None:
        return None
    cls = type(initializer)
    usual = {f.name: f.default for f in dataclasses.fields(cls)}
    config = {
        name: _short(initializer.initializer) if name == "initializer" else value
        for name, value in initializer.get_config().items()
        if getattr(initializer, name) != usual[name]
    }
    if not config:
        return cls.identifiers[0]
    return {"module": "jaxinit", "class_name": cls.__name__, "config": config}
