"""The assignment of rules to the leaves of a tree, and its mistakes."""

import dataclasses
import difflib
import heapq
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import printable
from .._compat import explicit_sharding, with_out_sharding
from .._paths import Parts, parts_of, unique_paths
from ..initializers.functions import check_made
from ..planning.arguments import is_array
from .draws import Call, Draw
from .known import KnownDraw, known_draws
from .leaf_keys import fold_words, path_words
from .parameters import Guard, guards_of, passes
from .patterns import compile_pattern, describe
from .readings import ambiguity, reads_layout

_MOST = 10  # most leaves, or rules, that an error lists
KEY_RULE = "lambda key, shape, dtype: jax.random.split(key, shape)"
_COMPARED = 300  # most characters of a path that are compared to a pattern


@dataclasses.dataclass(frozen=True)
class Row:
    """An array of a tree, with its rule and its initializer.

    Attributes:
        parts: Path of the array.
        path: The path, joined by "/".
        index: Position of the array among all leaves of the tree.
        shape: Shape of the array.
        dtype: Dtype of the array.
        guard: None for a parameter. For another array, a set of names: only a pattern
            with one of these names matches the array.
        rule: Number of the first rule that matches, from 1; 0 for the default.
        initializer: The initializer; None keeps the array of the model.
        draw: The calls of the initializer that make the array.
        is_known: Whether ``draw`` is read from the model or from the class of a layer.
        sharding: The sharding that the type states on an Explicit mesh, or None.
    """

    parts: Parts
    path: str
    index: int
    shape: tuple[int, ...]
    dtype: Any
    guard: Guard
    rule: int
    initializer: Any
    draw: Draw
    is_known: bool
    sharding: Any


class Assignment:
    """The rules of a `Rules`, applied to the arrays of a tree.

    Attributes:
        tree: The tree.
        rows: A `Row` for each array, in order.
    """

    def __init__(self, rules: Any, tree: Any, layers: Any = None):
        """Matches every rule with every array; `check` raises for mistakes."""
        self.tree = tree
        self._rules = rules
        self._matchers = [compile_pattern(pattern) for pattern, _ in rules.rules]
        self._draws: dict[Any, Callable[..., jax.Array]] = {}
        self._reasons: dict[Any, str | None] = {}
        all_parts = parts_of(tree)
        leaves = jax.tree.leaves(tree)
        arrays = [i for i, leaf in enumerate(leaves) if is_array(leaf)]
        paths = unique_paths("Rules", [all_parts[i] for i in arrays])
        guards, known = (
            guards_of(tree),
            known_draws(tree, tree if layers is None else layers),
        )
        # For each rule: the number of its matches, and the earlier rules that took some
        # of them. For each rule and the default: the matches that are not parameters.
        self._matched = [0] * len(rules.rules)
        self._taken: list[set[int]] = [set() for _ in rules.rules]
        self._excluded: list[list[tuple[str, Guard]]] = [
            [] for _ in (*rules.rules, None)
        ]
        self.rows = [
            self._row(i, all_parts[i], path, leaves[i], guards[i], known[i])
            for i, path in zip(arrays, paths, strict=True)
        ]

    def _row(
        self,
        index: int,
        parts: Parts,
        path: str,
        leaf: Any,
        guard: Guard,
        known: KnownDraw | None,
    ) -> Row:
        aval = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        first = None
        for i, matches in enumerate(self._matchers):
            if not matches(path, aval):
                continue
            if not passes(self._rules.rules[i][0], guard):
                self._excluded[i].append((path, guard))
                continue
            self._matched[i] += 1
            if first is None:
                first = i
            else:
                self._taken[i].add(first)
        if first is not None:
            initializer = self._rules.rules[first][1]
        else:
            initializer = self._rules.default if guard is None else None
            if guard is not None and self._rules.default is not None:
                self._excluded[-1].append((path, guard))
        draw = Call(aval.shape) if known is None else known.draw_by(initializer)
        return Row(
            parts,
            path,
            index,
            aval.shape,
            aval.dtype,
            guard,
            0 if first is None else first + 1,
            initializer,
            draw,
            known is not None,
            explicit_sharding(leaf),
        )

    def idle(self) -> list[str]:
        """Returns a sentence for each rule that makes no leaf, with the reason."""
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
            elif self._excluded[i]:
                said.append(f"{name} matches no parameter: it {self._excludes(i)}")
            else:
                hint = self._hint(i) if len(said) < _MOST else ""
                said.append(f"{name} matches no leaf{hint}")
        return said

    def excluded(self) -> list[str]:
        """Returns a sentence for each used rule that also matches other arrays."""
        used = {row.rule for row in self.rows}
        return [
            f"{self._name(i + 1)} {self._excludes(i)}"
            for i in range(len(self._matched))
            if self._excluded[i] and i + 1 in used
        ] + ([f"{self._name(0)} {self._excludes(-1)}"] if self._excluded[-1] else [])

    def unfit(self, rows: Sequence[Row] | None = None) -> dict[str, str]:
        """Returns the reasons why initializers cannot make their leaves, by path.

        Initializers are traced and not run.
        """
        found: dict[str, str] = {}
        for row in self.rows if rows is None else rows:
            if row.initializer is None:
                continue
            kind = _kind(row)
            if kind not in self._reasons:
                self._reasons[kind] = self._reason(row)
            reason = self._reasons[kind]
            if reason is not None:
                found[row.path] = reason
        return found

    def check(self, rows: Sequence[Row] | None = None) -> None:
        """Raises for mistakes of the rules; warns for some if they are not strict.

        Args:
            rows: The rows of the initializers that will be called. None: all rows.

        Raises:
            ValueError: If a rule makes no leaf, or cannot make a leaf that it matches;
                or if two rules match one leaf and their order is lost.
        """
        self._check_order()
        idle = self.idle()
        if idle:
            more = [f"and {len(idle) - _MOST} more rules"] if idle[_MOST:] else []
            message = "Rules: " + "; ".join([*idle[:_MOST], *more]) + "."
            if self._rules.strict:
                raise ValueError(f"{message} Rules(..., strict=False) only warns.")
            warnings.warn(message, stacklevel=4)
        misfits = self.misfits(self.unfit(rows))
        if misfits:
            raise ValueError(f"Rules cannot make:{listed(misfits)}")

    def _check_order(self) -> None:
        """Raises an error if two rules of a sorted dict match one leaf."""
        if not self._rules.is_sorted:
            return
        for i, earlier in enumerate(self._taken):
            for j in earlier:
                raise ValueError(
                    f"Rules: {self._name(i + 1)} and {self._name(j + 1)} match one "
                    "leaf, and a ConfigDict sorts its keys, so the order of the rules "
                    "is lost. Write a list of pairs, or build the inner ConfigDict "
                    "with sort_keys=False."
                )

    def misfits(self, unfit: Mapping[str, str]) -> list[str]:
        """Returns a line for each reason of `unfit`, with the first of its leaves."""
        alike: dict[str, list[str]] = {}
        for row in self.rows:
            if row.path in unfit:
                rule = f"{row.initializer!r} of {self._name(row.rule)}"
                text = f"{_array(row)} by {rule}: {unfit[row.path]}"
                alike.setdefault(text, []).append(row.path)
        return [
            f"{printable(paths[0])}{_more(paths)} {text}"
            for text, paths in alike.items()
        ]

    def draw(self, row: Row, key: jax.Array) -> jax.Array:
        """Draws the leaf from the base key; traces once for each kind of leaf."""
        kind = _kind(row)
        if kind not in self._draws:
            self._draws[kind] = _drawing(row)
        return self._draws[kind](key, *map(np.uint32, path_words(row.parts)))

    def rule_of(self, row: Row) -> str:
        """Returns number and pattern of the rule of a row, for a table."""
        if row.rule:
            return f"{row.rule} {describe(self._rules.rules[row.rule - 1][0])}"
        return "-" if self._rules.default is None or row.guard else "default"

    def _reason(self, row: Row) -> str | None:
        is_certain = row.is_known and row.draw.is_certain
        if not is_certain and reads_layout(row.initializer):
            for shape in dict.fromkeys(row.draw.calls):
                reason = ambiguity(shape, row.is_known)
                if reason is not None:
                    return reason
        key = jax.eval_shape(lambda: jax.random.key(0))
        try:
            made = jax.eval_shape(lambda key: self.draw(row, key), key)
        except (
            Exception
        ) as e:  # An initializer may raise anything; the error names the leaf.
            reason = str(e) or type(e).__name__
            if jnp.issubdtype(row.dtype, jax.dtypes.prng_key):
                reason += f"\nPRNG keys are made by a function: {KEY_RULE}."
            return reason
        if not isinstance(made, jax.ShapeDtypeStruct):
            return f"it gave a {type(made).__name__}, not an array."
        if (made.shape, made.dtype) != (row.shape, row.dtype):
            return f"it gave {made.dtype}{list(made.shape)}."
        return None

    def _name(self, number: int) -> str:
        if not number:
            return "the default"
        return f"rule {number} ({describe(self._rules.rules[number - 1][0])})"

    def _excludes(self, i: int) -> str:
        """Tells how many arrays a rule excludes, and which pattern would match them."""
        path, guard = self._excluded[i][0]
        names = [name for name in path.split("/") if name in (guard or ())]
        cure = f"; a pattern that names {names[0]!r} reaches it" if names else ""
        count, path = len(self._excluded[i]), printable(path)
        if count == 1:
            return f"excludes {path}, which is not a parameter{cure}"
        return f"excludes {count} arrays that are not parameters, as {path}{cure}"

    def _hint(self, i: int) -> str:
        pattern = describe(self._rules.rules[i][0])
        close = difflib.get_close_matches(pattern, self._likely_paths(pattern), 2, 0)
        shown = " and ".join(map(printable, close))
        return f" (there is {shown})" if close else " of an empty tree"

    def _likely_paths(self, pattern: str) -> list[str]:
        """Returns the few paths that share most names with a pattern."""
        names = set(pattern.split("/"))
        paths = (row.path[:_COMPARED] for row in self.rows)
        return heapq.nlargest(_MOST, paths, lambda p: len(names & {*p.split("/")}))


def listed(lines: Sequence[str]) -> str:
    """Returns the first lines as one text, with the number of the others."""
    more = [f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    return "".join(f"\n  {line}" for line in [*lines[:_MOST], *more])


def _array(row: Row) -> str:
    """Returns dtype and shape of a leaf, and its calls if they have other shapes."""
    shape = f"{row.dtype}[{', '.join(map(str, row.shape))}]"
    drawn = str(row.draw)
    return shape if drawn == str(row.shape) else f"{shape}, drawn as {drawn},"


def _kind(row: Row) -> Any:
    return id(row.initializer), row.draw, row.dtype, row.is_known, row.sharding


def _drawing(row: Row) -> Callable[..., jax.Array]:
    initializer, dtype = row.initializer, row.dtype

    def initialize(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        return check_made(initializer, initializer(key, shape, dtype))

    # Such an initializer, as Stacked, draws all layers of a stack in one call.
    stacks = getattr(initializer, "draws_stack", False) and not row.draw.is_one
    make = row.draw.draw_stack if stacks else row.draw.draw

    def draw(key: jax.Array, *words: Any) -> jax.Array:
        return make(initialize, fold_words(key, words))

    return jax.jit(with_out_sharding(draw, row.sharding))


def _more(paths: Sequence[str]) -> str:
    return f" and {len(paths) - 1} more like it:" if len(paths) > 1 else ":"
