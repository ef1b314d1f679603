"""One process of a job of two: python processes_worker.py PORT PROCESS MODE."""

# ruff: noqa: E402 - the job is joined before anything touches a device
import sys

import jax

PORT, PROCESS, MODE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
jax.distributed.initialize(f"localhost:{PORT}", num_processes=2, process_id=PROCESS)

import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from models import GPT


def main():
    assert jax.device_count() == 4 and jax.local_device_count() == 2
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    model, x = GPT(layers=2, width=32, vocab=64), jnp.zeros((1, 8), jnp.int32)

    def sharding(path, leaf):
        split = leaf.shape and leaf.shape[0] % 4 == 0
        return NamedSharding(mesh, P("data") if split else P())

    seed = 7 + (PROCESS if MODE == "keys" else 0)
    if MODE == "plans":
        model = GPT(layers=2 + PROCESS, width=32, vocab=64)
    key = jax.random.key(seed)
    planned = jaxinit.plan(model.init, key, x, out_shardings=sharding)
    try:
        made = planned(key, x)
    except RuntimeError as e:
        print(e)
        return
    # The single-process values, on this process's own device.
    expected = jaxinit.plan(model.init, key, x)(key, x)
    for leaf, a, b in zip(
        planned.leaves, jax.tree.leaves(made), jax.tree.leaves(expected), strict=True
    ):
        assert a.sharding == leaf.sharding, leaf.path
        assert len(a.addressable_shards) == 2
        for shard in a.addressable_shards:
            assert np.array_equal(shard.data, np.asarray(b)[shard.index]), leaf.path
    print("equal")


main()
