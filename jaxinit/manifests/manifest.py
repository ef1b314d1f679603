"""Manifests: records of the leaves of a tree, with the rules and the key."""

import dataclasses
import json
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from .. import _files
from .._checks import check_key, error, printable, short
from .._compat import is_traced, may_transfer
from .._paths import parts_of, unique_paths
from ..initializers import registry
from ..planning.arguments import is_array
from ..rules import leaf_keys
from ..rules.rules import Rules, as_rules
from . import digest

VERSION = 1
_LONGEST = 40  # most characters of the name of a dtype or a key implementation
_VERSIONS = {"manifest": VERSION, "digest": digest.VERSION, "path": leaf_keys.VERSION}


@dataclasses.dataclass(frozen=True)
class Leaf:
    """The record of one array.

    Attributes:
        shape: Shape of the array.
        dtype: Name of the dtype.
        digest: Digest of the values, 16 hexadecimal digits.
        initializer: Config of the initializer of a rule; None if the model drew it.
    """

    shape: tuple[int, ...]
    dtype: str
    digest: str
    initializer: dict[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Difference:
    """A difference between a leaf and its record in a manifest.

    Attributes:
        path: Path of the leaf.
        what: "missing", "extra", "shape", "dtype" or "values".
        expected: Leaf, shape, dtype or digest in the manifest; None for an extra leaf.
        found: The same in the tree; None for a missing leaf.
    """

    path: str
    what: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        """Returns the difference in one line."""
        line = f"{printable(self.path)}: {self.what}"
        if self.what in ("missing", "extra"):
            return line
        found, expected = (printable(str(x)) for x in (self.found, self.expected))
        return f"{line} {found} instead of {expected}"


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A record of the arrays of a tree, of their rules and of their base key.

    It is built by `jaxinit.manifest`, or by `load` from a file.

    Attributes:
        leaves: Record of each array, by path.
        rules: The rules that drew the arrays, or None.
        key_config: Implementation and words of the base key, and whether it is
            typed; or None.
        made_by: Versions of jaxinit and JAX, and the device.
    """

    leaves: dict[str, Leaf]
    rules: Rules | None
    key_config: dict[str, Any] | None
    made_by: dict[str, Any]

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
        return _differences(self.leaves, _leaves(params, self.leaves))

    def verify_across_hosts(self) -> list[Difference]:
        """Compares the manifests of all processes of a job.

        Every process calls it on its own manifest. All get the same list, which has a
        difference for each leaf in which some process differs from process 0.
        """
        everyone = [
            {path: _leaf_from(leaf) for path, leaf in leaves.items()}
            for leaves in _gather(_leaves_config(self.leaves))
        ]
        found: dict[str, Difference] = {}
        for leaves in everyone[1:]:
            for difference in _differences(everyone[0], leaves):
                found.setdefault(difference.path, difference)
        return list(found.values())

    def get_config(self) -> dict[str, Any]:
        """Returns the manifest as JSON-serializable plain data."""
        return {
            "versions": _VERSIONS,
            "made_by": self.made_by,
            "key": self.key_config,
            "rules": None if self.rules is None else self.rules.get_config(),
            "leaves": _leaves_config(self.leaves),
        }

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, allow_regex: bool = True
    ) -> Self:
        """Builds the manifest whose `get_config` is ``config``.

        Args:
            config: Plain data.
            allow_regex: Whether the rules may have regular expressions; see
                `Rules.from_config`.

        Raises:
            ValueError: If the config is invalid, or of another version.
        """
        try:
            if not isinstance(config, Mapping):
                raise TypeError(f"it must be a dict; got {short(config)}.")
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
                leaves={p: _leaf_at(p, leaf) for p, leaf in config["leaves"].items()},
                rules=rules,
                key_config=_key_config(config["key"]),
                made_by=dict(made_by),
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
    params: Any, rules: Rules | Any = None, key: jax.Array | None = None
) -> Manifest:
    """Records the arrays of a tree, their rules and their base key.

    The digests of the arrays do not depend on shardings, devices or processes, and show
    any change of a single element; `jaxinit.manifests.digest` defines them. In a job of
    several processes that share arrays, every process must call this function.

    Args:
        params: Pytree of arrays.
        rules: The rules that drew the arrays.
        key: The base key.

    Returns:
        A `Manifest`, to save and to verify other trees with.

    Raises:
        TypeError: If the rules cannot be written as a config.
        ValueError: If the rules do not fit the tree.

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
    leaves = _leaves(params)
    if rules is not None:
        rules = as_rules(rules)
        rules.get_config()  # refuses predicates, before any digest
        assignment = rules.assign(params)
        assignment.check(())  # nothing is drawn
        for row in assignment.rows:
            if row.initializer is not None:
                config = registry.serialize(row.initializer)
                leaf = leaves[row.path]
                leaves[row.path] = dataclasses.replace(leaf, initializer=config)
    key_config = None
    if key is not None:
        key = check_key("manifest", key)
        typed = bool(jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key))
        key = key if typed else jax.random.wrap_key_data(key)
        with may_transfer():
            data = np.asarray(jax.random.key_data(key)).tolist()
        impl = str(jax.random.key_impl(key))
        key_config = {"implementation": impl, "data": data, "typed": typed}
    return Manifest(leaves, rules, key_config, _made_by())


def _leaves(tree: Any, like: Mapping[str, Leaf] | None = None) -> dict[str, Leaf]:
    """Returns the record of every array, by path.

    With ``like``, digests are computed only for leaves of the same shape and dtype.
    """
    pairs = zip(parts_of(tree), jax.tree.leaves(tree), strict=True)
    arrays = [(parts, leaf) for parts, leaf in pairs if is_array(leaf)]
    paths = unique_paths("manifest", [parts for parts, _ in arrays])
    bare = {
        path: Leaf(tuple(leaf.shape), leaf.dtype.name, "")
        for path, (_, leaf) in zip(paths, arrays, strict=True)
    }
    wanted = [
        (path, leaf)
        for path, (_, leaf) in zip(paths, arrays, strict=True)
        if like is None or (path in like and not _form(like[path], bare[path]))
    ]
    for path, leaf in wanted:
        if is_traced(leaf) or not isinstance(leaf, jax.Array | np.ndarray):
            rule = "an array with values, outside jit"
            raise error(TypeError, "manifest", f"params/{path}", rule, leaf)
    made = digest.digests([leaf for _, leaf in wanted])
    for (path, _), text in zip(wanted, made, strict=True):
        bare[path] = dataclasses.replace(bare[path], digest=text)
    return bare


def _form(expected: Leaf, found: Leaf) -> tuple[str, Any, Any] | None:
    """Returns the difference of two leaves in shape or dtype, or None."""
    for what in ("shape", "dtype"):
        a, b = getattr(expected, what), getattr(found, what)
        if a != b:
            return what, a, b
    return None


def _differences(
    expected: Mapping[str, Leaf], found: Mapping[str, Leaf]
) -> list[Difference]:
    differences: list[Difference] = []
    for path in [*expected, *(path for path in found if path not in expected)]:
        a, b = expected.get(path), found.get(path)
        if a is None or b is None:
            differences.append(Difference(path, "extra" if b else "missing", a, b))
            continue
        form = _form(a, b)
        if form is None and a.digest != b.digest:
            form = "values", a.digest, b.digest
        if form is not None:
            differences.append(Difference(path, *form))
    return differences


def _leaves_config(leaves: Mapping[str, Leaf]) -> dict[str, Any]:
    return {
        path: {**dataclasses.asdict(leaf), "shape": list(leaf.shape)}
        for path, leaf in leaves.items()
    }


def _leaf_at(path: Any, config: Mapping[str, Any]) -> Leaf:
    try:
        return _leaf_from(config)
    except (KeyError, TypeError, ValueError) as e:
        what = f"it lacks {e}" if isinstance(e, KeyError) else e
        raise ValueError(f"leaf {short(path)}: {what}") from None


def _leaf_from(config: Mapping[str, Any]) -> Leaf:
    shape, dtype, text = config["shape"], config["dtype"], config["digest"]
    dims = isinstance(shape, list) and all(
        type(d) is int and 0 <= d < 2**63 for d in shape
    )
    name = isinstance(dtype, str) and len(dtype) <= _LONGEST
    if not (dims and name and re.fullmatch("[0-9a-f]{16}", text)):
        raise ValueError(f"{short(config)} is not the record of a leaf.")
    return Leaf(tuple(shape), dtype, text, config["initializer"])


def _key_config(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if config is None:
        return None
    data, impl, typed = (config[k] for k in ("data", "implementation", "typed"))
    words = isinstance(data, list) and all(
        type(word) is int and 0 <= word < 2**32 for word in data
    )
    name = isinstance(impl, str) and len(impl) <= _LONGEST
    if not (words and name and isinstance(typed, bool)):
        raise ValueError(f"{short(config)} is not the config of a key.")
    return {"implementation": impl, "data": list(data), "typed": typed}


def _made_by() -> dict[str, Any]:
    device = jax.devices()[0]
    return {
        "jaxinit": version("jaxinit"),
        "jax": version("jax"),
        "jaxlib": version("jaxlib"),
        "platform": device.client.platform_version,
        "device": device.device_kind,
        "devices": jax.device_count(),
        "processes": jax.process_count(),
    }


def _gather(data: Any) -> list[Any]:
    """Returns the plain data of every process, in the order of processes."""
    if jax.process_count() == 1:
        return [data]
    from jax.experimental import multihost_utils

    mine = np.frombuffer(json.dumps(data).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([mine.size]))
    padded = np.full(int(np.max(sizes)), ord(" "), np.uint8)
    padded[: mine.size] = mine
    everyone = np.asarray(multihost_utils.process_allgather(padded))
    return [json.loads(row.tobytes()) for row in everyone]
