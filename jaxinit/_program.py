"""One compiled program per kind of tensor: the frame around every kernel."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._compat import OutSharding, is_traced, mesh_of_explicit, with_out_sharding
from ._prng import fused, is_fused

Shape = tuple[int, ...]
PROGRAM_PREFIX = "jaxinit_"  # of the names of compiled initializers


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype to draw and scale in before rounding to ``dtype`` once.

    float32 for every narrower float; the dtype itself for all others.
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

    The result, called as ``run(key, shape, dtype, out_sharding, *operands,
    **static)``, is cached by shape, dtype, sharding and static arguments;
    operands are traced, so calls that differ in them share an executable.
    ``body`` gets the fused key (or None) and the dtype to compute in.

    Args:
        body: Function of a key, a shape, a dtype, operands and static keywords.
        elementwise: Whether element i depends on the key and the flat index i
            alone. Such a body is run over one flat axis when nothing is
            sharded, which XLA's CPU backend vectorizes whatever the shape.
        parts: Name of the static keyword that holds the axes along which
            devices share the work. None: all axes.
    """

    # A jit object per signature: a dictionary lookup is cheaper on each call
    # than jit's own comparison of static arguments.
    @functools.lru_cache(maxsize=4096)
    def compiled(
        shape: Shape,
        dtype: np.dtype[Any],
        out_sharding: OutSharding,
        flat: bool,
        **static: Any,
    ) -> Callable[..., jax.Array]:
        def build(key: jax.Array | None, *operands: Any) -> jax.Array:
            key = None if key is None else fused(key)
            inner = (math.prod(shape),) if flat else shape
            x = body(key, inner, compute_dtype(dtype), *operands, **static)
            return x.astype(dtype).reshape(shape)

        def placed(key: jax.Array | None, *operands: Any) -> jax.Array:
            # Inside the trace, where a PartitionSpec means the mesh of the call.
            axes = None if parts is None else static[parts]
            return with_out_sharding(build, out_sharding, axes)(key, *operands)

        placed.__name__ = PROGRAM_PREFIX + body.__name__.strip("_")
        return jax.jit(placed)

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
            # Inside another program: not constants there either, which XLA would
            # fold into each other and round otherwise.
            operands = jax.lax.optimization_barrier(operands)
        built = compiled(shape, dtype, out_sharding, flat, **static)
        mesh = None if traced else mesh_of_explicit(out_sharding)
        if mesh is None:
            return built(key, *operands)
        with jax.set_mesh(mesh):
            return built(key, *operands)

    return run


elementwise_program = functools.partial(program, elementwise=True)
