"""Rules: path patterns to initializers, as data."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from .. import _files
from .._checks import check_bool, clip, short
from ..initializers import registry
from .assignment import Assignment
from .patterns import Pattern, compile_pattern, pattern_config, pattern_from_config
from .table import render

_FIELDS = ("rules", "default", "strict")
_SHOWN = 100  # rules in a repr
_MOST = 300  # characters of a pattern in a repr


@dataclasses.dataclass(frozen=True, init=False, repr=False)
class Rules:
    """Which initializer makes which leaf of a tree; the first match wins.

    A leaf's path is the names that lead to it, joined with "/":
    "params/block_0/mlp/kernel". A pattern is

    - a glob of the whole path: ``*``, ``?`` and ``[a-z]`` within a level, ``**``
      for any number of levels, none included;
    - ``re.compile(...)``, searched for in the path;
    - a predicate ``(path, ShapeDtypeStruct) -> bool``.

    The key of a leaf is `jaxinit.leaf_key` of the base key and its path.

    Args:
        rules: A dict from pattern to initializer, or pairs of them. Initializer:
            whatever `jaxinit.get` takes; None keeps the model's own.
        default: Initializer of every leaf that no rule matches; None keeps the
            model's own.
        strict: Whether a rule that makes no leaf, because it matches none or
            earlier ones take them all, is an error. False: a warning.

    Raises:
        TypeError, ValueError: If a pattern or an initializer is none.

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

    def __init__(
        self,
        rules: Mapping[Pattern, Any] | Iterable[tuple[Pattern, Any]],
        default: Any = None,
        *,
        strict: bool = True,
    ):
        """Compiles the patterns and builds the initializers."""
        if isinstance(rules, str) or not isinstance(rules, Iterable):
            raise TypeError(
                "Rules(rules=...) must be a dict from pattern to initializer, or pairs "
                f"of them; got {short(rules)}."
            )
        pairs = rules.items() if isinstance(rules, Mapping) else rules
        made = tuple(_rule(i, pair) for i, pair in enumerate(pairs, 1))
        object.__setattr__(self, "rules", made)
        object.__setattr__(self, "default", registry.get(default))
        object.__setattr__(self, "strict", check_bool("Rules", "strict", strict))

    def assign(self, tree: Any, layers: Any = None) -> Assignment:
        """Which rule makes which array of a tree; nothing is raised or drawn.

        Args:
            tree: Pytree of arrays, or of ``jax.ShapeDtypeStruct``.
            layers: The same tree with its layers, where ``tree`` holds none, as the
                state of a model.
        """
        return Assignment(self, tree, layers)

    def explain(self, tree: Any) -> None:
        """Prints what makes each leaf of a tree, and what is wrong.

        One row stands for all leaves whose paths differ by numbers alone. Columns:
        path; stored shape; the calls of the initializer, where they are known; rule;
        initializer; the fans of one call; the standard deviation that the rule gives,
        and the model's own, measured on up to 2**22 entries and marked where they
        differ by more than a factor of 1.5.

        Args:
            tree: As for `assign`. The shapes of `jaxinit.eval_shape` know how the
                model draws each leaf.
        """
        print(render(self.assign(tree)))

    def get_config(self) -> dict[str, Any]:
        """The rules as JSON-serializable plain data.

        Raises:
            TypeError: If a pattern is a predicate, or an initializer is of no
                registered class.
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
        """The rules of a config, as `get_config` gives, or shorter.

        ``{"rules": {"**/bias": "zeros"}}`` will do: a dict from glob to a name or
        the config of an initializer. Nothing is imported or evaluated.

        Args:
            config: Plain data.
            allow_regex: Whether a rule may be a regular expression. Some take hours
                on one path: pass False for a config from a source that you do not
                trust. `load` does.

        Raises:
            TypeError, ValueError: If it is no such config.
        """
        if not isinstance(config, Mapping) or "rules" not in config:
            cure = " Pass its to_dict()." if hasattr(config, "to_dict") else ""
            raise TypeError(
                "The config of Rules must be a dict with 'rules'; got "
                f"{short(config)}.{cure}"
            )
        unknown = [name for name in config if name not in _FIELDS]
        if unknown:
            raise ValueError(
                f"The config of Rules has no field {', '.join(map(short, unknown[:5]))}"
                f"; its fields are {list(_FIELDS)}."
            )
        strict = config.get("strict", True)
        if not isinstance(strict, bool):
            raise TypeError(f"'strict' must be true or false; got {short(strict)}.")
        pairs = _pairs(config["rules"], allow_regex)
        try:
            default = _initializer(config.get("default"))
        except (TypeError, ValueError) as e:
            raise _located(e, "'default'") from None
        return cls(pairs, default, strict=strict)

    def save(self, path: str | Path) -> None:
        """Writes the config to a .json, .yaml or .yml file, whole or not at all."""
        _files.write(path, self.get_config())

    @classmethod
    def load(cls, path: str | Path, *, allow_regex: bool = False) -> Self:
        """The rules of a .json, .yaml or .yml file.

        Args:
            path: The file.
            allow_regex: Whether a rule may be a regular expression. Some take hours
                on one path: pass True for files that you trust.

        Raises:
            TypeError, ValueError: If it holds no rules, or names one twice, or has a
                regular expression that ``allow_regex`` does not allow.
        """
        config = _files.read(path)
        with _files.in_file(path):
            return cls.from_config(config, allow_regex=allow_regex)

    def __repr__(self) -> str:
        """The call that builds it, the middle of many rules left out."""
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
    """Rules from themselves, or from what they are built of."""
    return rules if isinstance(rules, Rules) else Rules(rules)


def _rule(number: int, pair: Any) -> tuple[Pattern, Any]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
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
    if not isinstance(rules, Mapping | list | tuple):
        raise TypeError(f"'rules' must be a dict or a list; got {short(rules)}.")
    if isinstance(rules, Mapping):
        rules = [{"glob": glob, "initializer": rules[glob]} for glob in rules]
    pairs: list[tuple[Pattern, Any]] = []
    for number, rule in enumerate(rules, 1):
        try:
            pairs.append(_pair(rule, allow_regex))
        except (TypeError, ValueError) as e:
            raise _located(e, f"rule {number}") from None
    return pairs


def _pair(rule: Any, allow_regex: bool) -> tuple[Pattern, Any]:
    if not isinstance(rule, Mapping) or "initializer" not in rule:
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
            f"{short(rule['regex'])} is a regular expression, which can take hours on "
            "one path. If you trust the file, load it with allow_regex=True "
            "(--allow-regex on the command line); else write a glob."
        )
    return pattern_from_config(rule), _initializer(rule["initializer"])


def _pattern_repr(pattern: Pattern) -> str:
    return clip(repr(pattern), _MOST)


def _located(e: Exception, where: str) -> Exception:
    """The same error, with its place in front."""
    kind = TypeError if isinstance(e, TypeError) else ValueError
    return kind(f"{where}: {e}")


def _config(initializer: Any) -> Any:
    return None if initializer is None else registry.serialize(initializer)


def _initializer(config: Any) -> Any:
    """From plain data alone: a name, a config or None."""
    return None if config is None else registry.deserialize(config)
