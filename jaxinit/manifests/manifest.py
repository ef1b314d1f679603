"""Manifests: records of the leaves of a tree, with the rules and the key."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from .. import _files, _processes
from .._checks import check_key, short
from .._compat import may_transfer
from .._plain import is_mapping, plain
from ..initializers import registry
from ..rules import leaf_keys
from ..rules.rules import Rules, as_rules
from . import digest
from .leaves import (
    LONGEST,
    Difference,
    Leaf,
    differences_of,
    leaf_at,
    leaf_from,
    leaves_config,
    leaves_of,
    sharing,
)

VERSION = 1
_ACROSS = "Manifest.verify_across_hosts()"
_VERSIONS = {"manifest": VERSION, "digest": digest.VERSION, "path": leaf_keys.VERSION}


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A record of the arrays of a tree, of their rules and of their base key.

    It is built by `jaxinit.manifest`, or by `load` from a file.

    Attributes:
        leaves: Record of each array, by path.
        rules: The rules that drew the arrays, or None.
        key_config: Implementation and words of the base key, and whether it is
            typed; or None.
        made_by: Versions of jaxinit and JAX, settings of JAX, and the device.
        notes: Plain data of the user; `verify` ignores it.
    """

    leaves: dict[str, Leaf]
    rules: Rules | None
    key_config: dict[str, Any] | None
    made_by: dict[str, Any]
    notes: Any = None

    @property
    def key(self) -> jax.Array | None:
        """The base key, typed or raw as it was given."""
        if self.key_config is None:
            return None
        config = self.key_config
        with may_transfer():
            data = jax.numpy.asarray(config["data"], np.uint32)
            if not config["typed"]:
                return data
            return jax.random.wrap_key_data(data, impl=config["implementation"])

    def verify(self, params: Any) -> list[Difference]:
        """Compares a tree with the manifest.

        In a job of several processes that share arrays, every process must call it.

        Args:
            params: Pytree of arrays, in any containers and with any shardings.

        Returns:
            A difference for each leaf that differs; an empty list if all are the same.
        """
        with sharing("Manifest.verify(...)", params):
            found = leaves_of(params, self.leaves)
        return differences_of(self.leaves, found)

    def verify_across_hosts(self) -> list[Difference]:
        """Compares the manifests of all processes of a job.

        Every process calls it on its own manifest. All get the same list, which has a
        difference for each version, each setting, the key, the rules and each leaf in
        which some process differs from process 0. An array that processes share has
        one digest in all of them, whatever each has put into its shards.

        Raises:
            RuntimeError: If another process fails before it calls this method.
        """
        with _processes.errors_told(_ACROSS):
            first, *others = _processes.exchange(_ACROSS, self.get_config)
        found: dict[tuple[str, str], Difference] = {}
        for other in others:
            for difference in _between(first, other):
                found.setdefault((difference.path, difference.what), difference)
        return list(found.values())

    def get_config(self) -> dict[str, Any]:
        """Returns the manifest as JSON-serializable plain data."""
        return {
            "versions": _VERSIONS,
            "made_by": self.made_by,
            "notes": self.notes,
            "key": self.key_config,
            "rules": None if self.rules is None else self.rules.get_config(),
            "leaves": leaves_config(self.leaves),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, allow_regex: bool = True
    ) -> Self:
        """Builds the manifest whose `get_config` is ``config``.

        Args:
            config: Plain data, or a node of OmegaConf or ml_collections.
            allow_regex: Whether the rules may have regular expressions; see
                `Rules.from_config`.

        Raises:
            ValueError: If the config is invalid, or of another version.
        """
        try:
            if not is_mapping(config):
                raise TypeError(f"it must be a dict; got {short(config)}.")
            if not isinstance(config, dict):  # a node of OmegaConf or ml_collections
                config = plain(config)
            if config["versions"] != _VERSIONS:
                raise ValueError(
                    f"its versions are {short(config['versions'])}; this jaxinit "
                    f"reads {_VERSIONS}."
                )
            rules, made_by = config["rules"], config["made_by"]
            if rules is not None:
                rules = Rules.from_config(rules, allow_regex=allow_regex)
            if not isinstance(made_by, Mapping):
                raise TypeError(f"'made_by' must be a dict; got {short(made_by)}.")
            return cls(
                leaves={p: leaf_at(p, leaf) for p, leaf in config["leaves"].items()},
                rules=rules,
                key_config=_key_config(config["key"]),
                made_by=dict(made_by),
                notes=_plain_notes(config.get("notes")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            what = f"it lacks {e}" if isinstance(e, KeyError) else e
            raise ValueError(f"This is no manifest: {what}") from None

    def to_json(self) -> str:
        """Returns the config as JSON text."""
        return json.dumps(self.get_config(), indent=1)

    def save(self, path: str | Path) -> None:
        """Writes the config to a .json, .yaml or .yml file, whole or not at all."""
        _files.write(path, self.get_config())

    @classmethod
    def load(cls, path: str | Path, *, allow_regex: bool = False) -> Self:
        """Builds the manifest in a file that `save` wrote.

        Args:
            path: The file.
            allow_regex: Whether the rules may have regular expressions; see
                `Rules.load`.

        Raises:
            ValueError: If the file has no manifest of this version, or if its rules
                have a regular expression and ``allow_regex`` is False.
        """
        config = _files.read(path)
        with _files.in_file(path):
            return cls.from_config(config, allow_regex=allow_regex)


def manifest(
    params: Any,
    rules: Rules | Any = None,
    key: jax.Array | None = None,
    *,
    notes: Any = None,
) -> Manifest:
    """Records the arrays of a tree, their rules and their base key.

    The digests of the arrays do not depend on shardings, devices or processes, and show
    any change of a single element; `jaxinit.manifests.digest` defines them. In a job of
    several processes that share arrays, every process must call this function.

    Args:
        params: Pytree of arrays.
        rules: The rules that drew the arrays.
        key: The base key.
        notes: Your own data, such as a commit or a comment: text, numbers, True, False,
            None, lists, and dicts with str keys. `Manifest.verify` ignores the notes.

    Returns:
        A `Manifest`, to save and to verify other trees with.

    Raises:
        TypeError: If the rules cannot be written as a config, or the notes as JSON.
        ValueError: If the rules do not fit the tree, or the notes are too deep or too
            large.

    Example:
        >>> params = {"w": jnp.ones((2, 2)), "b": jnp.zeros(2)}
        >>> made = manifest(params)
        >>> made.verify(params)
        []
        >>> for difference in made.verify({"w": params["w"].at[0, 1].set(2.0)}):
        ...     print(difference)
        b: missing
        w: values b9c4cca855fc2b43 instead of e090a8c3e2457850
    """
    with sharing("manifest(...)", params):
        notes = _plain_notes(notes)
        initializers: dict[str, Any] = {}
        if rules is not None:
            rules = as_rules(rules)
            rules.get_config()  # refuses predicates, before any digest
            assignment = rules.assign(params)
            assignment.check(())  # nothing is drawn
            for row in assignment.rows:
                if row.initializer is not None:
                    initializers[row.path] = registry.serialize(row.initializer)
        key_config = None if key is None else _config_of(key)
        leaves = leaves_of(params)
    for path, config in initializers.items():
        leaves[path] = dataclasses.replace(leaves[path], initializer=config)
    return Manifest(leaves, rules, key_config, _made_by(), notes)


def _plain_notes(notes: Any) -> Any:
    """Returns a copy of the notes as JSON reads them: lists for tuples.

    Raises:
        TypeError, ValueError: If the notes are not plain data, or too deep or large.
    """
    try:
        return json.loads(json.dumps(plain(notes)))
    except (TypeError, ValueError) as e:
        kind = TypeError if isinstance(e, TypeError) else ValueError
        raise kind(f"manifest(notes=...) must be plain data, as in JSON: {e}") from None


def _config_of(key: Any) -> dict[str, Any]:
    key = check_key("manifest", key)
    typed = bool(jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key))
    key = key if typed else jax.random.wrap_key_data(key)
    with may_transfer():
        data = np.asarray(jax.random.key_data(key)).tolist()
    impl = str(jax.random.key_impl(key))
    return {"implementation": impl, "data": data, "typed": typed}


def _between(first: Mapping[str, Any], other: Mapping[str, Any]) -> list[Difference]:
    """Returns the differences between the manifest configs of two processes."""
    ours, others = _origin(first), _origin(other)
    found = [
        Difference("", what, ours.get(what), others.get(what))
        for what in dict.fromkeys([*ours, *others])
        if ours.get(what) != others.get(what)
    ]
    mine, theirs = (
        {path: leaf_from(leaf) for path, leaf in config["leaves"].items()}
        for config in (first, other)
    )
    for path in [path for path in mine if path in theirs]:
        a, b = mine[path].initializer, theirs[path].initializer
        if a != b:
            found.append(Difference(path, "initializer", a, b))
    return found + differences_of(mine, theirs)


def _origin(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries that are about the whole tree; settings one by one."""
    made_by = config["made_by"]
    settings = made_by.get("settings", {})
    said = {name: made_by[name] for name in made_by if name != "settings"}
    return {**said, **settings, "key": config["key"], "rules": config["rules"]}


def _key_config(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    data, impl, typed = (config[k] for k in ("data", "implementation", "typed"))
    words = isinstance(data, list) and all(
        type(word) is int and 0 <= word < 2**32 for word in data
    )
    name = isinstance(impl, str) and len(impl) <= LONGEST
    if not (words and name and isinstance(typed, bool)):
        raise ValueError(f"{short(config)} is not the config of a key.")
    return {"implementation": impl, "data": list(data), "typed": typed}


def _made_by() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        **_processes.versions(),
        "settings": _processes.settings(),
        "platform": device.client.platform_version,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }
