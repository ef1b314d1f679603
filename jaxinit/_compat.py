"""The only file with semi-public JAX imports and version branches."""

import contextlib
import inspect
import operator
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
from jax.core import Tracer
from jax.extend.core import Jaxpr, Literal
from jax.extend.core import jaxpr_as_fun as jaxpr_as_fun
from jax.extend.random import define_prng_impl as define_prng_impl
from jax.extend.random import threefry_prng_impl as threefry_prng_impl
from jax.interpreters import partial_eval
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec, Sharding

OutSharding: TypeAlias = Sharding | PartitionSpec | None
Shape: TypeAlias = Sequence[int]


def read_config(name: str) -> Any:
    """A JAX setting as the current thread and context managers see it."""
    return getattr(jax.config, name)


def host_device() -> Any:
    """A CPU device of this process, or None where JAX was told to use none."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None


def may_transfer() -> AbstractContextManager[Any]:
    """A context in which jaxinit moves its own keys and numbers to and from devices.

    A transfer guard protects the arrays of the caller. Of a program that the caller
    compiles, these numbers would be constants.
    """
    return jax.transfer_guard("allow") if is_guarded() else contextlib.nullcontext()


def is_guarded() -> bool:
    """True if a transfer guard forbids some transfers between host and devices."""
    ways = "host_to_device", "device_to_host", "device_to_device"
    guards = [read_config(f"jax_transfer_guard_{way}") for way in ways]
    return any(guard and guard.startswith("disallow") for guard in guards)


# `read_settings` leaves out the settings that the installed JAX does not have.
_SETTINGS = (
    "jax_accurate_erf_inv",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_disable_jit",
    "jax_enable_custom_prng",
    "jax_enable_x64",
    "jax_numpy_dtype_promotion",
    "jax_random_seed_offset",
    "jax_threefry_partitionable",
    "jax_use_hlo_logistic_lowering",
)


def read_settings() -> dict[str, Any]:
    """The settings of JAX on which the values of arrays depend, by name."""
    return {x: read_config(x) for x in _SETTINGS if hasattr(jax.config, x)}


def x64_for(dtype: Any) -> AbstractContextManager[Any]:
    """A context in which JAX keeps the elements of ``dtype``, 64-bit ones too."""
    dtype = jax.numpy.dtype(dtype)
    is_wide = dtype.itemsize > (8 if dtype.kind == "c" else 4)
    return jax.enable_x64(True) if is_wide else contextlib.nullcontext()


def is_traced(x: object) -> bool:
    """True if ``x`` is an abstract value inside a transformation."""
    return isinstance(x, Tracer)


def bypasses_plan(*arguments: Any) -> bool:
    """True inside a transformation, or where jit is disabled."""
    traced = any(map(is_traced, jax.tree.leaves(arguments)))
    return traced or read_config("jax_disable_jit") or is_staging()


def is_staging() -> bool:
    """True if operations on concrete arrays are recorded, as inside jit."""
    with may_transfer():
        return is_traced(jax.device_put(0.0))  # which compiles nothing


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


def explicit_sharding(x: Any) -> NamedSharding | None:
    """The sharding that the type of ``x`` states, on an abstract Explicit mesh."""
    sharding = getattr(x, "sharding", None)
    if not isinstance(sharding, NamedSharding):
        return None
    is_abstract = isinstance(sharding.mesh, AbstractMesh)
    return sharding if is_abstract and explicit_axes(sharding) else None


def replicated(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f`` whose results are on all devices, for arrays on Explicit mesh axes.

    The body runs under ``auto_axes``, so operations whose sharding is ambiguous work.
    """

    def call(*arrays: Any) -> Any:
        types = [explicit_sharding(jax.typeof(x)) for x in arrays]
        mesh = next((t.mesh for t in types if t is not None), None)
        if mesh is None:
            return f(*arrays)
        sharding = NamedSharding(mesh, PartitionSpec())
        axes = explicit_axes(sharding)
        return jax.sharding.auto_axes(f, axes=axes, out_sharding=sharding)(*arrays)

    return call


def with_out_sharding(
    f: Callable[..., jax.Array],
    out_sharding: OutSharding,
    parts: Collection[int] | None = None,
) -> Callable[..., jax.Array]:
    """``f`` whose result is laid out as ``out_sharding``.

    On Explicit mesh axes the body runs under ``auto_axes``, so that every
    intermediate value is partitioned like the result rather than replicated.

    Args:
        f: Function to run inside a trace.
        out_sharding: Sharding of its result.
        parts: Axes of the result along which devices share the work; along the
            others each computes the whole and keeps its shard. None: all axes.
    """
    if out_sharding is None:
        return f
    inner = out_sharding if parts is None else _only(out_sharding, parts)
    axes = explicit_axes(out_sharding)
    if axes:
        placed: Any = jax.sharding.auto_axes(f, axes=axes, out_sharding=inner)
        if parts is None:
            return placed
        return lambda *args: jax.sharding.reshard(placed(*args), out_sharding)
    constrain = jax.lax.with_sharding_constraint
    if parts is None:
        return lambda *args: constrain(f(*args), out_sharding)
    return lambda *args: constrain(constrain(f(*args), inner), out_sharding)


def _only(sharding: Any, parts: Collection[int]) -> Any:
    """The sharding with every axis but ``parts`` replicated."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, _only(sharding.spec, parts))
    if not isinstance(sharding, PartitionSpec):
        return sharding
    return PartitionSpec(*(a if i in parts else None for i, a in enumerate(sharding)))


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


def is_literal(atom: Any) -> bool:
    """True if an input of an equation is a literal constant."""
    return isinstance(atom, Literal)


def sub_jaxpr(jaxpr: Any) -> tuple[Any, Sequence[Any]]:
    """The open jaxpr and the constants of a jaxpr that may be closed."""
    consts = getattr(jaxpr, "consts", ())
    return getattr(jaxpr, "jaxpr", jaxpr), consts


def callees(params: dict[str, Any]) -> list[Any]:
    """The jaxprs among the parameters of an equation."""
    return [
        value
        for param in params.values()
        for value in (param if isinstance(param, (tuple, list)) else (param,))
        if hasattr(value, "eqns")
    ]


def drop_unused(eqn: Any, used: Sequence[bool]) -> tuple[list[bool], Any] | None:
    """Removes the unused outputs of an equation, by JAX's rule for its primitive.

    Returns:
        Which inputs it still needs, and the equation; None if there is no rule.
    """
    rule: Any = partial_eval.dce_rules.get(eqn.primitive)
    if rule is None:
        return None
    if len(inspect.signature(rule).parameters) == 2:
        return rule(list(used), eqn)
    return rule(list(used), [True] * len(eqn.invars), eqn)  # from JAX 0.11 or so


def own_arrays(closed: Any) -> Any:
    """A closed jaxpr with copies of the NumPy arrays in it, which others may change."""
    seen: dict[int, tuple[Any, Any]] = {}  # with what was copied, which keeps its id

    def copy(array: Any) -> Any:
        if isinstance(array, jax.Array) or not hasattr(array, "__array__"):
            return array
        if getattr(array, "weak_type", False):
            return array  # JAX made it, from a Python number
        return np.array(array)  # from JAX 0.12 its own class holds the caller's array

    def atom(a: Any) -> Any:
        of_array = is_literal(a) and isinstance(a.val, np.ndarray)
        return Literal(copy(a.val), a.aval) if of_array else a

    def once(x: Any, make: Callable[[Any], Any]) -> Any:
        if id(x) not in seen:
            seen[id(x)] = x, make(x)
        return seen[id(x)][1]

    def equation(eqn: Any) -> Any:
        invars = [once(a, atom) for a in eqn.invars]
        params = {name: param(value) for name, value in eqn.params.items()}
        same = all(map(operator.is_, invars, eqn.invars)) and all(
            params[name] is value for name, value in eqn.params.items()
        )
        return eqn if same else eqn.replace(invars=invars, params=params)

    def jaxpr(x: Any) -> Any:
        outvars = [once(a, atom) for a in x.outvars]
        return x.replace(eqns=list(map(equation, x.eqns)), outvars=outvars)

    def param(value: Any) -> Any:
        if hasattr(value, "consts"):
            return once(value, closed_jaxpr)
        if isinstance(value, Jaxpr):
            return once(value, jaxpr)
        if isinstance(value, tuple) and any(map(_is_jaxpr, value)):
            return tuple(map(param, value))
        return value

    def closed_jaxpr(x: Any) -> Any:
        consts = [once(const, copy) for const in x.consts]
        return x.replace(jaxpr=once(x.jaxpr, jaxpr), consts=consts)

    return closed_jaxpr(closed)


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns")


def scan_parts(
    params: dict[str, Any], inputs: Sequence[Any]
) -> tuple[list[Any], list[Any], list[Any]]:
    """Returns the constants, the carry and the scanned inputs of a scan."""
    if "num_carry" in params:
        first = params["num_consts"]
        second = first + params["num_carry"]
        return list(inputs[:first]), list(inputs[first:second]), list(inputs[second:])
    consts, carry, xs = params["ft_in"].update(inputs).unpack()
    return list(consts), list(carry), list(xs)


def bind(primitive: Any, inputs: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Applies a primitive to values."""
    outputs = primitive.bind(*inputs, **primitive.get_bind_params(params))
    return list(outputs) if primitive.multiple_results else [outputs]


def is_key(aval: Any) -> bool:
    """True if an abstract value is a typed PRNG key or an array of keys."""
    return jax.numpy.issubdtype(aval.dtype, jax.dtypes.prng_key)


def make_jaxpr(f: Callable[..., Any], avals: Sequence[Any]) -> Any:
    """The closed jaxpr of ``f`` on abstract arguments."""
    return jax.make_jaxpr(f)(*avals)


class Place(NamedTuple):
    """The place of results for which no sharding is asked.

    Attributes:
        device: The device of jax.default_device, or None.
        mesh: The mesh of jax.set_mesh, or None.
    """

    device: Any
    mesh: jax.sharding.Mesh | None


def default_place() -> Place:
    """Returns the place, in this thread, of results without a sharding."""
    return Place(read_config("jax_default_device"), concrete_mesh())


def concrete_mesh() -> jax.sharding.Mesh | None:
    """The mesh set by jax.set_mesh, or None; None inside a transformation."""
    try:
        mesh = jax.sharding.get_mesh()
    except ValueError:
        return None
    return None if mesh.empty else mesh
