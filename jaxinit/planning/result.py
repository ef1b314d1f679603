"""The result of a plan: its structure, and the sharding of each of its arrays."""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from .._checks import printable, short
from .._compat import concrete_mesh
from .._paths import join, parts_of
from .arguments import is_array

_REASON = 1000  # most characters of an error of JAX
_NUMBERS = (bool, int, float, complex)


@dataclasses.dataclass(frozen=True)
class FromTree:
    """Shardings as a function of the whole abstract result."""

    function: Callable[[Any], Any]


@dataclasses.dataclass(frozen=True)
class Result:
    """The structure of what a function returns.

    Attributes:
        tree: Its structure.
        paths: The path of each array.
        fixed: The leaves that are neither arrays nor numbers, by position.
    """

    tree: Any
    paths: Sequence[str]
    fixed: Mapping[int, Any]

    def join(self, arrays: Sequence[Any], *, fixed: bool = True) -> Any:
        """The result with these arrays; without the rest if not ``fixed``."""
        rest = iter(arrays)
        leaves = [
            (self.fixed[i] if fixed else None) if i in self.fixed else next(rest)
            for i in range(self.tree.num_leaves)
        ]
        return jax.tree.unflatten(self.tree, leaves)

    def shardings(
        self, wanted: Any, avals: Sequence[jax.ShapeDtypeStruct]
    ) -> list[Sharding | None]:
        """One sharding, or None, for each array.

        Args:
            wanted: A sharding, a pytree prefix of shardings, a function of path
                and abstract array, or `FromTree`.
            avals: The abstract arrays.

        Raises:
            ValueError: If the tree does not match, or a sharding does not fit
                its leaf.
            TypeError: If something in it is not a sharding.
        """
        if isinstance(wanted, FromTree):
            wanted = wanted.function(self.join(avals))
        if wanted is None:
            return [None] * len(avals)
        if callable(wanted) and not isinstance(wanted, Sharding):
            found = [wanted(*pair) for pair in zip(self.paths, avals, strict=True)]
        else:
            found = self._broadcast(wanted, len(avals))
        fitted = zip(self.paths, found, avals, strict=True)
        return [_fitting(path, sharding, aval) for path, sharding, aval in fitted]

    def _broadcast(self, wanted: Any, count: int) -> list[Any]:
        """The sharding of each array, from a prefix of the result."""
        numbers = self.join(list(range(count)), fixed=False)
        found: dict[int, Any] = {}

        def assign(sharding: Any, below: Any) -> None:
            found.update(dict.fromkeys(jax.tree.leaves(below), sharding))

        try:
            jax.tree.map(assign, wanted, numbers, is_leaf=_is_sharding)
        except ValueError as e:
            reason = printable(" ".join(str(e).split()), _REASON)
            raise ValueError(
                f"plan(out_shardings=...) must be a prefix of the result; {reason}"
            ) from None
        return [found.get(i) for i in range(count)]


def split(out: Any) -> tuple[Result, list[Any]]:
    """The structure of a result, and its arrays, Python numbers included.

    Numbers are results, as they are of jit. Those in Equinox's modules are not: they
    are arguments of layers, such as Dropout.p, on which a trace branches.
    """
    leaves, tree = jax.tree.flatten(out)
    pairs = zip(leaves, _are_in_modules(out), strict=True)
    fixed = {
        i: x
        for i, (x, in_module) in enumerate(pairs)
        if not is_array(x) and (in_module or not isinstance(x, _NUMBERS))
    }
    paths = [join(p) for i, p in enumerate(parts_of(out)) if i not in fixed]
    return Result(tree, paths, fixed), [
        x for i, x in enumerate(leaves) if i not in fixed
    ]


def _are_in_modules(out: Any) -> list[bool]:
    """Returns, for each leaf, True if it is in a module of Equinox."""
    module: Any = getattr(sys.modules.get("equinox"), "Module", ())
    nodes = jax.tree.leaves(out, is_leaf=lambda x: isinstance(x, module))
    return [isinstance(node, module) for node in nodes for _ in jax.tree.leaves(node)]


def placed(x: jax.Array, sharding: Sharding | None, aval: Any) -> jax.Array:
    """Moves a result to the sharding asked for, or else to the mesh, as jit does.

    Args:
        x: The result.
        sharding: The sharding asked for, or None.
        aval: The result as it was traced, whose type names axes of the mesh.
    """
    if sharding is None:
        mesh = concrete_mesh()
        if mesh is None or x.committed:
            return x
        sharding = NamedSharding(mesh, aval.sharding.spec)
    return x if x.sharding == sharding else jax.device_put(x, sharding)


def _is_sharding(x: Any) -> bool:
    return x is None or isinstance(x, (Sharding, PartitionSpec))


def _fitting(path: str, sharding: Any, aval: Any) -> Sharding | None:
    where = f"plan(out_shardings=...) at {printable(path)}"
    if not _is_sharding(sharding):
        raise TypeError(
            f"{where} must be a Sharding, a PartitionSpec or None; got "
            f"{short(sharding)}."
        )
    if isinstance(sharding, PartitionSpec):
        mesh = concrete_mesh()
        if mesh is None:
            raise ValueError(
                f"{where} is a PartitionSpec, which needs a mesh: call under "
                "jax.set_mesh(mesh), or pass a NamedSharding."
            )
        sharding = NamedSharding(mesh, sharding)
    if sharding is not None:
        check_fits(where, sharding, aval.shape)
    return sharding


def check_fits(where: str, sharding: Sharding, shape: tuple[int, ...]) -> None:
    """Raises a ValueError if a sharding cannot divide an array of a shape."""
    try:
        _check_rank(sharding, shape)
        sharding.shard_shape(shape)
    except (ValueError, IndexError) as e:
        raise ValueError(
            f"{printable(where)}: {sharding} does not fit shape {shape}. {e}"
        ) from None


def _check_rank(sharding: Sharding, shape: tuple[int, ...]) -> None:
    """Raises if a spec names more dimensions than there are."""
    if isinstance(sharding, NamedSharding) and len(sharding.spec) > len(shape):
        raise ValueError(
            f"Its spec is for {len(sharding.spec)} dimensions and the leaf has "
            f"{len(shape)}: shorten the spec, or give this leaf its own."
        )
