"""The pytrees on both sides of a plan: arguments, result, shardings."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from .._compat import concrete_mesh, read_config
from .._paths import join, parts_of

_SETTINGS = "jax_enable_x64", "jax_threefry_partitionable"  # that values depend on


@dataclasses.dataclass(frozen=True)
class FromTree:
    """Shardings as a function of the whole abstract result."""

    function: Callable[[Any], Any]


def is_array(x: Any) -> bool:
    """Whether a leaf is an array, or stands for one."""
    return isinstance(x, (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct))


class Arguments:
    """Structure, shapes, dtypes and fixed values of a call, and settings of JAX."""

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]):
        """Records what a later call has to match."""
        leaves, self.tree = jax.tree.flatten((args, kwargs))
        # (args, kwargs) is the outer pair: "0/params", "train".
        self.names = [join(parts[1:]) for parts in parts_of((args, kwargs))]
        self.static = {i: x for i, x in enumerate(leaves) if not is_array(x)}
        self.avals = [_abstract(x) for x in leaves if is_array(x)]
        self._settings = {name: read_config(name) for name in _SETTINGS}

    def unflatten(self, dynamic: Sequence[Any]) -> tuple[tuple[Any, ...], Any]:
        """The arguments with these arrays."""
        arrays = iter(dynamic)
        count = self.tree.num_leaves
        leaves = [
            self.static[i] if i in self.static else next(arrays) for i in range(count)
        ]
        return jax.tree.unflatten(self.tree, leaves)

    def flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The arrays of a call.

        Raises:
            TypeError: If its structure, a static value, a shape, a dtype or the
                implementation of a key differs from the planned one.
            RuntimeError: If a setting of JAX does.
        """
        for name, was in self._settings.items():
            if read_config(name) != was:
                raise RuntimeError(
                    f"plan(...): {name} was {was} when it was planned and is "
                    f"{read_config(name)} now. Plan again."
                )
        leaves, tree = jax.tree.flatten((args, kwargs))
        if tree != self.tree:
            raise TypeError(
                "plan(...): the arguments have another structure than when it was "
                f"planned: {tree} instead of {self.tree}. Plan again for these."
            )
        avals = iter(self.avals)
        dynamic: list[Any] = []
        for i, (name, x) in enumerate(zip(self.names, leaves, strict=True)):
            if i in self.static:
                known = self.static[i]
                planned, given = repr(known), repr(x)
                same = type(x) is type(known) and (
                    x == known or (x != x and known != known)  # NaN
                )
            else:
                aval = next(avals)
                planned = _name(aval)
                given = _name(_abstract(x)) if is_array(x) else repr(x)
                same = planned == given
                if isinstance(x, jax.ShapeDtypeStruct):
                    same, given = False, f"{given} without values"
                dynamic.append(x)
            if not same:
                raise TypeError(
                    f"plan(...): argument {name} was {planned} when it was planned "
                    f"and is {given} now. Plan again for these arguments."
                )
        return dynamic


class Result:
    """Structure of what the function returns; all that is not an array by value."""

    tree: Any
    paths: list[str]
    static: dict[int, Any]

    def split(self, out: Any) -> list[Any]:
        """Records the structure and gives the arrays."""
        leaves, self.tree = jax.tree.flatten(out)
        self.static = {i: x for i, x in enumerate(leaves) if not is_array(x)}
        named = zip(parts_of(out), leaves, strict=True)
        self.paths = [join(parts) for parts, x in named if is_array(x)]
        return [x for x in leaves if is_array(x)]

    def join(self, arrays: Sequence[Any], *, static: bool = True) -> Any:
        """The result with these arrays; without the rest if not ``static``."""
        rest = iter(arrays)
        leaves = [
            (self.static[i] if static else None) if i in self.static else next(rest)
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
            found = self._broadcast(wanted, avals)
        fitted = zip(self.paths, found, avals, strict=True)
        return [_fitting(path, sharding, aval) for path, sharding, aval in fitted]

    def _broadcast(self, wanted: Any, avals: Sequence[Any]) -> list[Any]:
        marks = self.join(list(range(len(avals))), static=False)
        found: list[Any] = [None] * len(avals)

        def assign(sharding: Any, below: Any) -> None:
            for i in jax.tree.leaves(below):
                found[i] = sharding

        try:
            jax.tree.map(assign, wanted, marks, is_leaf=_is_sharding)
        except ValueError as e:
            raise ValueError(
                f"plan(out_shardings=...) must be a prefix of the result; {e}"
            ) from None
        return found


def placed(x: jax.Array, sharding: Sharding | None, aval: Any) -> jax.Array:
    """A result on the sharding asked for; else under a mesh on that, as jit has it."""
    if sharding is None:
        mesh = concrete_mesh()
        if mesh is None or x.committed:
            return x
        sharding = NamedSharding(mesh, aval.sharding.spec)
    return x if x.sharding == sharding else jax.device_put(x, sharding)


def _is_sharding(x: Any) -> bool:
    return x is None or isinstance(x, (Sharding, PartitionSpec))


def _fitting(path: str, sharding: Any, aval: Any) -> Sharding | None:
    if not _is_sharding(sharding):
        raise TypeError(
            f"plan(out_shardings=...) at {path} must be a Sharding, a PartitionSpec or "
            f"None; got {sharding!r}."
        )
    if isinstance(sharding, PartitionSpec):
        mesh = concrete_mesh()
        if mesh is None:
            raise ValueError(
                f"plan(out_shardings=...) at {path} is a PartitionSpec, which needs a "
                "mesh: call under jax.set_mesh(mesh), or pass a NamedSharding."
            )
        sharding = NamedSharding(mesh, sharding)
    if sharding is not None:
        try:
            sharding.shard_shape(aval.shape)
        except (ValueError, IndexError) as e:
            raise ValueError(
                f"plan(out_shardings=...) at {path}: {sharding} does not fit shape "
                f"{aval.shape}. {e}"
            ) from None
    return sharding


def _abstract(x: Any) -> jax.ShapeDtypeStruct:
    if isinstance(x, jax.ShapeDtypeStruct):
        return x
    aval = jax.typeof(x)
    weak = bool(getattr(aval, "weak_type", False))
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=weak)


def _name(aval: jax.ShapeDtypeStruct) -> str:
    return f"{aval.dtype}{list(aval.shape)}"
