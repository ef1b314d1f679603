"""Programs of initializers: each is compiled once per shape, dtype and sharding."""

import contextlib
import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._compat import (
    OutSharding,
    is_staging,
    is_traced,
    may_transfer,
    mesh_of_explicit,
    read_config,
    with_out_sharding,
)
from ._exact import Exact
from ._prng import fused, is_fused

Shape = tuple[int, ...]
_LARGE = 2**28  # number of elements from which memory is checked first
_NOTHING = Exact.of({})
PROGRAM_PREFIX = "jaxinit_"  # of the names of compiled programs


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Returns the dtype in which values of ``dtype`` are drawn and scaled.

    It is float32 for every narrower float, else ``dtype`` itself.
    """
    narrow = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    return np.dtype(np.float32) if narrow else dtype


def program(
    body: Callable[..., jax.Array],
    *,
    elementwise: bool = False,
    parts: str | None = None,
) -> Callable[..., jax.Array]:
    """Compiles ``body(key, shape, dtype, *operands)`` into one program.

    The result is called as ``run(key, shape, dtype, out_sharding, *operands,
    **static)``. Programs are cached by shape, dtype, sharding and static arguments.
    Operands are traced, so calls with other operands share an executable. ``body``
    receives the fused key (or None) and the dtype of the computation.

    Args:
        body: Function of a key, a shape, a dtype, operands and static keywords.
        elementwise: Whether element i depends only on the key and the flat index i. If
            nothing is sharded, such a body gets a flat shape, because XLA's CPU backend
            vectorizes one flat axis always.
        parts: Name of the static keyword that holds the axes along which devices share
            the work. None: all axes.
    """

    # One jit object per signature: a dictionary lookup costs less in each call than the
    # comparison of static arguments by jit.
    @functools.lru_cache(maxsize=4096)
    def compiled(
        shape: Shape,
        dtype: np.dtype[Any],
        out_sharding: OutSharding,
        flat: bool,
        statics: Exact,
    ) -> Callable[..., jax.Array]:
        static = statics.value

        def build(key: jax.Array | None, *operands: Any) -> jax.Array:
            key = None if key is None else fused(key)
            inner = (math.prod(shape),) if flat else shape
            x = body(key, inner, compute_dtype(dtype), *operands, **static)
            return x.astype(dtype).reshape(shape)

        def sharded(key: jax.Array | None, *operands: Any) -> jax.Array:
            # Inside the trace a PartitionSpec refers to the mesh of the call.
            axes = None if parts is None else static[parts]
            return with_out_sharding(build, out_sharding, axes)(key, *operands)

        sharded.__name__ = PROGRAM_PREFIX + body.__name__.strip("_")
        return jax.jit(sharded)

    @functools.wraps(body)
    def run(
        key: jax.Array | None,
        shape: Shape,
        dtype: np.dtype[Any],
        out_sharding: OutSharding,
        *operands: Any,
        **static: Any,
    ) -> jax.Array:
        traced = is_traced(key)
        flat = elementwise and out_sharding is None and not traced
        if key is not None and traced and is_fused(key):
            # Inside another program the operands are constants. Without the barrier XLA
            # would fold them and round differently.
            operands = jax.lax.optimization_barrier(operands)
        statics = Exact.of(static) if static else _NOTHING
        built = compiled(shape, dtype, out_sharding, flat, statics)
        mesh = None if traced else mesh_of_explicit(out_sharding)
        if not traced and out_sharding is None and math.prod(shape) >= _LARGE:
            _check_memory(shape, dtype)
        if not traced and out_sharding is None and jax.process_count() == 1:
            operands = tuple(map(_on_device, operands))
        try:
            with may_transfer(), _entered(mesh):
                return built(key, *operands)
        except jax.errors.JaxRuntimeError as e:
            if "RESOURCE_EXHAUSTED" not in str(e):
                raise
            raise _out_of_memory(shape, dtype) from None

    return run


def _on_device(number: Any) -> Any:
    """A Python number as an array of the default device, sent there once."""
    mesh = jax.sharding.get_abstract_mesh()
    if type(number) not in (int, float, complex) or not mesh.empty:
        return number
    device, wide = read_config("jax_default_device"), read_config("jax_enable_x64")
    return _sent(type(number), repr(number), device, wide)  # repr tells -0.0 from 0.0


@functools.lru_cache(maxsize=4096)
def _sent(kind: type, text: str, device: Any, wide: bool) -> jax.Array:
    # Compile-time evaluation keeps no tracer; a float may overflow to infinity.
    with may_transfer(), jax.ensure_compile_time_eval(), np.errstate(over="ignore"):
        return jax.device_put(kind(text))


def _entered(mesh: jax.sharding.Mesh | None) -> AbstractContextManager[Any]:
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def _check_memory(shape: Shape, dtype: np.dtype[Any]) -> None:
    """Raises before the draw if the CPU's memory cannot hold the array."""
    if is_staging() or jax.default_backend() != "cpu":
        return
    try:
        np.empty(shape, dtype)  # reserved, not touched
    except MemoryError:
        raise _out_of_memory(shape, dtype) from None


def _out_of_memory(shape: Shape, dtype: np.dtype[Any]) -> MemoryError:
    array = f"{dtype.name}[{', '.join(map(str, shape))}]"
    size = math.prod(shape) * dtype.itemsize
    return MemoryError(f"{array} of {size / 2**30:.3g} GiB does not fit in memory.")


elementwise_program = functools.partial(program, elementwise=True)
