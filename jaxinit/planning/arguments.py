"""The arguments of a plan: structure, shapes, dtypes and fixed values."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._checks import printable
from .._compat import read_config
from .._exact import exact
from .._paths import join, parts_of

_SETTINGS = "jax_enable_x64", "jax_threefry_partitionable"  # that values depend on


def is_array(x: Any) -> bool:
    """True if a leaf is an array or the shape of one."""
    return isinstance(x, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct))


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The arguments that a function was planned for, which a later call has to match.

    Attributes:
        tree: The structure of ``(args, kwargs)``.
        names: A name for each leaf, as users read it.
        fixed: The leaves that are not arrays, by position.
        avals: Shape and dtype of the arrays, in order.
        settings: Settings of JAX on which values depend.
    """

    tree: Any
    names: Sequence[str]
    fixed: Mapping[int, Any]
    avals: Sequence[jax.ShapeDtypeStruct]
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Arguments":
        """The arguments of a call, or arrays that stand for them."""
        leaves, tree = jax.tree.flatten((args, kwargs))
        return cls(
            tree=tree,
            # (args, kwargs) is the outer pair: "0/params", "train".
            names=[join(parts[1:]) for parts in parts_of((args, kwargs))],
            fixed={i: x for i, x in enumerate(leaves) if not is_array(x)},
            avals=[_abstract(x) for x in leaves if is_array(x)],
            settings={name: read_config(name) for name in _SETTINGS},
        )

    @property
    def array_names(self) -> list[str]:
        """The names of the arrays, in order."""
        return [name for i, name in enumerate(self.names) if i not in self.fixed]

    def unflatten(self, arrays: Sequence[Any]) -> tuple[tuple[Any, ...], Any]:
        """The arguments with these arrays."""
        rest = iter(arrays)
        count = self.tree.num_leaves
        leaves = [
            self.fixed[i] if i in self.fixed else next(rest) for i in range(count)
        ]
        return jax.tree.unflatten(self.tree, leaves)

    def flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The arrays of a call, or structs that stand for them.

        Raises:
            TypeError: If its structure, a fixed value, a shape, a dtype or the
                implementation of a key differs from the planned one.
            RuntimeError: If a setting of JAX does.
        """
        for name, was in self.settings.items():
            if read_config(name) != was:
                raise RuntimeError(
                    f"plan(...): {name} was {was} when it was planned and is "
                    f"{read_config(name)} now. Plan again."
                )
        leaves, tree = jax.tree.flatten((args, kwargs))
        if tree != self.tree:
            now, planned = printable(str(tree)), printable(str(self.tree))
            raise TypeError(
                "plan(...): the arguments have another structure than when it was "
                f"planned: {now} instead of {planned}. Plan again for these."
            )
        avals = iter(self.avals)
        for i, (name, x) in enumerate(zip(self.names, leaves, strict=True)):
            planned, given = (
                _compare_fixed(self.fixed[i], x)
                if i in self.fixed
                else _compare_array(next(avals), x)
            )
            if planned != given:
                raise TypeError(
                    f"plan(...): argument {printable(name)} was {planned} when it was "
                    f"planned and is {given} now. Plan again for these arguments."
                )
        return [x for i, x in enumerate(leaves) if i not in self.fixed]


def _compare_fixed(planned: Any, given: Any) -> tuple[str, str]:
    """The texts of a planned and a given value, equal where the values are."""
    same = exact(given) == exact(planned)
    if same or (given is planned):
        return "", ""
    texts = repr(planned), repr(given)
    return texts if texts[0] != texts[1] else (texts[0], f"another {texts[1]}")


def _compare_array(planned: jax.ShapeDtypeStruct, given: Any) -> tuple[str, str]:
    """The same for an array."""
    text = _name(_abstract(given)) if is_array(given) else repr(given)
    return _name(planned), text


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    if isinstance(x, jax.ShapeDtypeStruct):
        return x
    aval = jax.typeof(x)
    weak = bool(getattr(aval, "weak_type", False))
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=weak)


def _name(aval: jax.ShapeDtypeStruct) -> str:
    return f"{aval.dtype}{list(aval.shape)}"
