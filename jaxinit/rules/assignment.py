"""Which rule makes which leaf of a tree, and what is wrong with that."""

import dataclasses
import difflib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .._paths import Parts, parts_of, unique_paths
from ..planning.structure import is_array
from .leaf_keys import fold_words, path_words
from .patterns import compile_pattern, describe

_MOST = 10  # leaves that an error lists


@dataclasses.dataclass
class Row:
    """One array of a tree and what makes it.

    Attributes:
        parts: Its path.
        path: The same, "/"-joined.
        index: Its position among all leaves of the tree.
        shape: Its shape.
        dtype: Its dtype.
        rule: Number of the first rule that matches, from 1; 0 for the default.
        initializer: What makes it; None for the model's own.
    """

    parts: Parts
    path: str
    index: int
    shape: tuple[int, ...]
    dtype: Any
    rule: int
    initializer: Any


class Assignment:
    """The rules of a `Rules`, applied to the arrays of a tree.

    Attributes:
        rows: One for each array, in order.
    """

    def __init__(self, rules: Any, tree: Any):
        """Matches every rule with every array; nothing is raised for a bad match."""
        self._rules = rules
        self._matchers = [compile_pattern(pattern) for pattern, _ in rules.rules]
        self._draws: dict[Any, Callable[..., jax.Array]] = {}
        leaves = jax.tree.leaves(tree)
        all_parts = parts_of(tree)
        arrays = [i for i, leaf in enumerate(leaves) if is_array(leaf)]
        paths = unique_paths("Rules", [all_parts[i] for i in arrays])
        self._matched = [0] * len(rules.rules)
        self._taken: list[set[int]] = [set() for _ in rules.rules]
        self.rows = [
            self._row(all_parts[i], path, i, leaves[i])
            for i, path in zip(arrays, paths, strict=True)
        ]

    def _row(self, parts: Parts, path: str, index: int, leaf: Any) -> Row:
        aval = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        number, initializer = 0, self._rules.default
        first = None
        for i, matches in enumerate(self._matchers):
            if not matches(path, aval):
                continue
            self._matched[i] += 1
            if first is None:
                first, number = i, i + 1
                initializer = self._rules.rules[i][1]
            else:
                self._taken[i].add(first)
        return Row(parts, path, index, aval.shape, aval.dtype, number, initializer)

    def idle(self) -> list[str]:
        """What to say of each rule that makes no leaf: dead, or shadowed."""
        used = {row.rule for row in self.rows}
        said: list[str] = []
        for i, count in enumerate(self._matched):
            if i + 1 in used:
                continue
            name = self._name(i + 1)
            if count:
                earlier = ", ".join(self._name(j + 1) for j in sorted(self._taken[i]))
                leaves = f"{count} leaves" if count > 1 else "1 leaf"
                said.append(f"{name} matches {leaves}, all taken earlier by {earlier}")
            else:
                said.append(f"{name} matches no leaf{self._hint(i)}")
        return said

    def unfit(self, rows: Sequence[Row] | None = None) -> dict[str, str]:
        """Why an initializer cannot serve its leaf, by path; found by tracing alone."""
        reasons: dict[Any, str | None] = {}
        found: dict[str, str] = {}
        for row in self.rows if rows is None else rows:
            if row.initializer is None:
                continue
            kind = _kind(row)
            if kind not in reasons:
                reasons[kind] = self._reason(row)
            reason = reasons[kind]
            if reason is not None:
                found[row.path] = reason
        return found

    def check(self, rows: Sequence[Row] | None = None) -> None:
        """Raises, or warns where the rules are not strict, of what is wrong.

        Args:
            rows: Those whose initializers are going to be called; None for all.

        Raises:
            ValueError: If a rule makes nothing, or cannot make what it matches.
        """
        idle = self.idle()
        if idle:
            message = "Rules: " + "; ".join(idle) + "."
            if self._rules.strict:
                raise ValueError(f"{message} Rules(..., strict=False) only warns.")
            warnings.warn(message, stacklevel=4)
        unfit = self.unfit(rows)
        alike: dict[Any, list[str]] = {}
        for row in self.rows:
            if row.path in unfit:
                rule = f"{row.initializer!r} of {self._name(row.rule)}"
                text = f"{_array(row)} by {rule}: {unfit[row.path]}"
                alike.setdefault(text, []).append(row.path)
        if unfit:
            lines = [
                f"{paths[0]}{_more(paths)} {text}" for text, paths in alike.items()
            ]
            raise ValueError(f"Rules cannot make:{listed(lines)}")

    def draw(self, row: Row, key: jax.Array) -> jax.Array:
        """The leaf, from the base key; traced once for each kind of leaf."""
        kind = _kind(row)
        if kind not in self._draws:
            self._draws[kind] = _drawing(row)
        return self._draws[kind](key, *map(np.uint32, path_words(row.parts)))

    def _reason(self, row: Row) -> str | None:
        key = jax.eval_shape(lambda: jax.random.key(0))
        try:
            made = jax.eval_shape(lambda key: self.draw(row, key), key)
        except Exception as e:  # whatever an initializer raises, the leaf says more
            return str(e) or type(e).__name__
        if not isinstance(made, jax.ShapeDtypeStruct):
            return f"it gave a {type(made).__name__}, not an array."
        if (made.shape, made.dtype) != (row.shape, row.dtype):
            return f"it gave {made.dtype}{list(made.shape)}."
        return None

    def _name(self, number: int) -> str:
        if not number:
            return "the default"
        return f"rule {number} ({describe(self._rules.rules[number - 1][0])})"

    def _hint(self, i: int) -> str:
        pattern = describe(self._rules.rules[i][0])
        close = difflib.get_close_matches(pattern, [r.path for r in self.rows], 2, 0)
        return f" (there is {' and '.join(close)})" if close else " of an empty tree"

    def __str__(self) -> str:
        """A table of leaf, shape, rule and initializer, and what is wrong."""
        unfit = self.unfit()
        table = [("leaf", "array", "rule", "initializer")]
        for row in self.rows:
            made = "the model's own" if row.initializer is None else row.initializer
            rule = "default" if self._rules.default is not None else "-"
            if row.rule:
                rule = f"{row.rule} {describe(self._rules.rules[row.rule - 1][0])}"
            wrong = f"  ! {unfit[row.path]}" if row.path in unfit else ""
            table.append((row.path, _array(row), rule, f"{made}{wrong}"))
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = [
            "  ".join(x.ljust(w) for x, w in zip(cells, widths, strict=True)).rstrip()
            for cells in table
        ]
        return "\n".join([*lines, *(f"! {text}" for text in self.idle())])


def listed(lines: Sequence[str]) -> str:
    """The first of many lines, and how many more there are."""
    more = [f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    return "".join(f"\n  {line}" for line in [*lines[:_MOST], *more])


def _kind(row: Row) -> Any:
    return id(row.initializer), row.shape, row.dtype


def _drawing(row: Row) -> Callable[..., jax.Array]:
    initializer, shape, dtype = row.initializer, row.shape, row.dtype

    @jax.jit
    def draw(key: jax.Array, *words: Any) -> jax.Array:
        return initializer(fold_words(key, words), shape, dtype)

    return draw


def _array(row: Row) -> str:
    return f"{row.dtype}[{', '.join(map(str, row.shape))}]"


def _more(paths: Sequence[str]) -> str:
    return f" and {len(paths) - 1} more like it:" if len(paths) > 1 else ":"
