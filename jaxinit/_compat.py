"""The only file with semi-public JAX imports and version branches."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
from jax.core import Tracer
from jax.extend.random import define_prng_impl as define_prng_impl
from jax.extend.random import threefry_prng_impl as threefry_prng_impl
from jax.sharding import AxisType, NamedSharding, PartitionSpec, Sharding

OutSharding: TypeAlias = Sharding | PartitionSpec | None
Shape: TypeAlias = Sequence[int]


def read_config(name: str) -> Any:
    """A JAX setting as the current thread and context managers see it."""
    return getattr(jax.config, name)


def is_traced(x: object) -> bool:
    """Whether ``x`` is an abstract value inside a transformation."""
    return isinstance(x, Tracer)


def explicit_axes(out_sharding: OutSharding) -> tuple[str, ...]:
    """Names of the Explicit mesh axes that ``out_sharding`` lives on."""
    if isinstance(out_sharding, NamedSharding):
        mesh = out_sharding.mesh
    elif isinstance(out_sharding, PartitionSpec):
        mesh = jax.sharding.get_abstract_mesh()
    else:
        return ()
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    return tuple(name for name, kind in kinds if kind == AxisType.Explicit)


def with_out_sharding(
    f: Callable[..., jax.Array], out_sharding: OutSharding
) -> Callable[..., jax.Array]:
    """``f`` whose result is laid out as ``out_sharding``.

    On Explicit mesh axes the body runs under ``auto_axes``, so that every
    intermediate value is partitioned like the result rather than replicated.
    """
    if out_sharding is None:
        return f
    axes = explicit_axes(out_sharding)
    if axes:
        placed: Any = jax.sharding.auto_axes(f, axes=axes, out_sharding=out_sharding)
        return placed
    return lambda *args: jax.lax.with_sharding_constraint(f(*args), out_sharding)


def mesh_of_explicit(out_sharding: OutSharding) -> jax.sharding.Mesh | None:
    """The mesh to enter before a result can be typed with ``out_sharding``.

    None when no mesh has to be entered: one is set already, or the axes of
    ``out_sharding`` are not Explicit.
    """
    if not isinstance(out_sharding, NamedSharding) or not explicit_axes(out_sharding):
        return None
    if not jax.sharding.get_abstract_mesh().empty:
        return None
    mesh = out_sharding.mesh
    return mesh if isinstance(mesh, jax.sharding.Mesh) else None
