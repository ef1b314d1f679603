"""Rules: initializers by patterns of paths, as data."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from .. import _files
from .._checks import check_bool, clip, short
from .._plain import elements, is_mapping, is_sequence, is_sorted, items
from ..initializers import registry
from .assignment import Assignment
from .patterns import Pattern, compile_pattern, pattern_config, pattern_from_config
from .table import render

_FIELDS = ("rules", "default", "strict")
_SHOWN = 100  # most rules in a repr
_MOST = 300  # most characters of a pattern in a repr


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Rules:
    """Initializers for the leaves of a tree, by path; the first match wins.

    The path of a leaf is the names that lead to it, joined with "/":
    "params/block_0/mlp/kernel". A pattern is

    - a glob of the whole path: ``*``, ``?`` and ``[a-z]`` match within a level, and
      ``**`` matches any number of levels, or none;
    - ``re.compile(...)``, which is searched for in the path;
    - a predicate ``(path, ShapeDtypeStruct) -> bool``.

    The key of a leaf is `jaxinit.leaf_key` of the base key and its path.

    Args:
        rules: A dict from patterns to initializers, or a sequence of such pairs; both
            may be nodes of OmegaConf or of ml_collections. An initializer is any
            argument of `jaxinit.get`; None keeps the leaf of the model. In a
            ``ConfigDict``, which sorts its keys, no two rules may match one leaf.
        default: Initializer of all parameters that no rule matches; None keeps the
            leaves of the model.
        strict: Whether it is an error or only a warning if a rule makes no leaf: it
            matches none, or earlier rules take them all.

    Raises:
        TypeError, ValueError: If a pattern or an initializer is invalid.

    Example:
        >>> rules = Rules({"bias": "zeros", "kernel": None}, default="he_normal")
        >>> leaf = jax.ShapeDtypeStruct((8, 4), jnp.float32)
        >>> rules.explain({"bias": leaf, "kernel": leaf})
        leaf    array          drawn as  rule      initializer      fan_in  fan_out  std
        bias    float32[8, 4]            1 bias    Zeros()                           0
        kernel  float32[8, 4]            2 kernel  the model's own  8       4
    """

    rules: tuple[tuple[Pattern, Any], ...]
    default: Any
    strict: bool
    is_sorted = False  # True if a dict may have lost the user's order of the rules

    def __init__(
        self,
        rules: Mapping[Pattern, Any] | Iterable[tuple[Pattern, Any]],
        default: Any = None,
        *,
        strict: bool = True,
    ):
        """Compiles the patterns and builds the initializers."""
        is_array = isinstance(rules, np.ndarray | jax.Array)
        if is_array or isinstance(rules, str) or not isinstance(rules, Iterable):
            raise TypeError(
                "Rules(rules=...) must be a dict from pattern to initializer, or a "
                f"sequence of such pairs; got {short(rules)}."
            )
        pairs: Iterable[Any] = rules
        if is_mapping(rules):
            pairs = items(rules)
            object.__setattr__(self, "is_sorted", is_sorted(rules))
        elif is_sequence(rules):
            pairs = elements(rules)
        made = tuple(_rule(i, pair) for i, pair in enumerate(pairs, 1))
        object.__setattr__(self, "rules", made)
        object.__setattr__(self, "default", registry.get(default))
        object.__setattr__(self, "strict", check_bool("Rules", "strict", strict))

    def assign(self, tree: Any, layers: Any = None) -> Assignment:
        """Returns the rule of each array of a tree; nothing is drawn or raised.

        Args:
            tree: Pytree of arrays, or of ``jax.ShapeDtypeStruct``.
            layers: The same tree with its layers, if ``tree`` has lost them, as the
                state of a model has.
        """
        return Assignment(self, tree, layers)

    def explain(self, tree: Any) -> None:
        """Prints the rule of each leaf of a tree, and the mistakes of the rules.

        Leaves whose paths differ only in numbers share a row. The columns are: path;
        stored shape; calls of the initializer, if known; rule; initializer; fans of one
        call; standard deviation under the rule and in the model, measured on up to
        2**22 entries. A "!" marks two deviations that differ by more than a factor of
        1.5.

        Args:
            tree: As for `assign`. The shapes of `jaxinit.eval_shape` know how the
                model draws each leaf.
        """
        print(render(self.assign(tree)))

    def get_config(self) -> dict[str, Any]:
        """Returns the rules as JSON-serializable plain data.

        Raises:
            TypeError: If a pattern is a predicate, or the class of an initializer is
                not registered.
        """
        rules = [
            {**pattern_config(pattern), "initializer": _config(initializer)}
            for pattern, initializer in self.rules
        ]
        default = _config(self.default)
        return {"rules": rules, "default": default, "strict": self.strict}

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], *, allow_regex: bool = True
    ) -> Self:
        """Builds the rules of a config, without any import or evaluation.

        The config is the dict of `get_config`, or a shorter form: a dict from globs to
        names or configs of initializers, as ``{"rules": {"**/bias": "zeros"}}``, or a
        list of such pairs, as ``{"rules": [["**/bias", "zeros"]]}``. Nodes of OmegaConf
        or ml_collections may replace dicts and lists.

        Args:
            config: Plain data.
            allow_regex: Whether a rule may be a regular expression. Matching one can
                take hours: pass False for a config from a source that you do not
                trust. `load` passes False.

        Raises:
            TypeError, ValueError: If the config is invalid.
        """
        fields = dict(items(config)) if is_mapping(config) else {}
        if "rules" not in fields:
            cure = " Pass its to_dict()." if hasattr(config, "to_dict") else ""
            raise TypeError(
                "The config of Rules must be a dict with 'rules'; got "
                f"{short(config)}.{cure}"
            )
        unknown = [name for name in fields if name not in _FIELDS]
        if unknown:
            raise ValueError(
                f"The config of Rules has no field {', '.join(map(short, unknown[:5]))}"
                f"; its fields are {list(_FIELDS)}."
            )
        strict = fields.get("strict", True)
        if not isinstance(strict, bool):
            raise TypeError(f"'strict' must be true or false; got {short(strict)}.")
        pairs = _pairs(fields["rules"], allow_regex)
        try:
            default = _initializer(fields.get("default"))
        except (TypeError, ValueError) as e:
            raise _located(e, "'default'") from None
        made = cls(pairs, default, strict=strict)
        if is_mapping(fields["rules"]):
            object.__setattr__(made, "is_sorted", is_sorted(fields["rules"]))
        return made

    def save(self, path: str | Path) -> None:
        """Writes the config to a .json, .yaml or .yml file, whole or not at all."""
        _files.write(path, self.get_config())

    @classmethod
    def load(cls, path: str | Path, *, allow_regex: bool = False) -> Self:
        """Builds the rules in a .json, .yaml or .yml file.

        Args:
            path: The file.
            allow_regex: Whether a rule may be a regular expression. Matching one can
                take hours: pass True only for files that you trust.

        Raises:
            TypeError, ValueError: If the file has no valid rules, repeats a key, or has
                a regular expression and ``allow_regex`` is False.
        """
        config = _files.read(path)
        with _files.in_file(path):
            return cls.from_config(config, allow_regex=allow_regex)

    def __repr__(self) -> str:
        """Returns the call that builds the rules, without the middle of many rules."""
        shown = [
            f"({_pattern_repr(pattern)}, {initializer!r})"
            for pattern, initializer in (*self.rules[:_SHOWN], *self.rules[-1:])
        ]
        hidden = len(self.rules) - len(shown)
        if hidden < 0:
            shown.pop()
        elif hidden:
            shown.insert(-1, f"... {hidden} more ...")
        rules = ", ".join(shown)
        default = "" if self.default is None else f", default={self.default!r}"
        strict = "" if self.strict else ", strict=False"
        return f"Rules([{rules}]{default}{strict})"


def as_rules(rules: Any) -> Rules:
    """Returns ``rules`` if they are `Rules`, else builds `Rules` of them."""
    return rules if isinstance(rules, Rules) else Rules(rules)


def _rule(number: int, pair: Any) -> tuple[Pattern, Any]:
    pair = elements(pair, f"rule {number}") if is_sequence(pair) else pair
    if not isinstance(pair, list) or len(pair) != 2:
        raise TypeError(
            f"Rules(rules=...): rule {number} must be a pair (pattern, initializer); "
            f"got {short(pair)}."
        )
    pattern, initializer = pair
    try:
        compile_pattern(pattern)
        return pattern, registry.get(initializer)
    except (TypeError, ValueError) as e:
        raise _located(e, f"Rules(rules=...): rule {number}") from None


def _pairs(rules: Any, allow_regex: bool) -> list[tuple[Pattern, Any]]:
    if is_mapping(rules):
        made = [{"glob": g, "initializer": x} for g, x in items(rules, "rules")]
    elif is_sequence(rules):
        made = elements(rules, "rules")
    else:
        raise TypeError(f"'rules' must be a dict or a list; got {short(rules)}.")
    pairs: list[tuple[Pattern, Any]] = []
    for number, rule in enumerate(made, 1):
        try:
            pairs.append(_pair(rule, allow_regex))
        except (TypeError, ValueError) as e:
            raise _located(e, f"rule {number}") from None
    return pairs


def _pair(rule: Any, allow_regex: bool) -> tuple[Pattern, Any]:
    if is_sequence(rule) and len(rule) == 2:
        glob, initializer = elements(rule)
        rule = {"glob": glob, "initializer": initializer}
    rule = dict(items(rule)) if is_mapping(rule) else rule
    if not isinstance(rule, dict) or "initializer" not in rule:
        raise TypeError(
            "A rule in a config must be a dict with 'glob' or 'regex', and "
            f"'initializer'; got {short(rule)}."
        )
    unknown = set(rule) - {"glob", "regex", "flags", "initializer"}
    if unknown:
        raise ValueError(
            f"A rule in a config has no {short(sorted(map(str, unknown)))}."
        )
    if "regex" in rule and "glob" not in rule and not allow_regex:
        raise ValueError(
            f"{short(rule['regex'])} is a regular expression; matching one can take "
            "hours. If you trust the file, load it with allow_regex=True "
            "(--allow-regex on the command line). Else write a glob."
        )
    return pattern_from_config(rule), _initializer(rule["initializer"])


def _pattern_repr(pattern: Pattern) -> str:
    return clip(repr(pattern), _MOST)


def _located(e: Exception, where: str) -> Exception:
    """Returns the error with its place in front of the message."""
    kind = TypeError if isinstance(e, TypeError) else ValueError
    return kind(f"{where}: {e}")


def _config(initializer: Any) -> Any:
    return None if initializer is None else registry.serialize(initializer)


def _initializer(config: Any) -> Any:
    """Builds an initializer from a name or a config; None stays None."""
    return None if config is None else registry.deserialize(config)
