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

    if MODE == "manifests":
        return manifests(mesh)
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


def manifests(mesh):
    """Checks rules and digests over both processes, and a changed array in one."""
    rules = jaxinit.Rules({"*/w": "he_normal"}, default="ones")
    rows = NamedSharding(mesh, P("data"))

    def leaf(*shape, sharding=None, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)

    def tree(sharding):
        wide = leaf(256, 128, sharding=sharding, dtype=jnp.bfloat16)
        return {"a": {"w": leaf(256, 128, sharding=sharding), "b": leaf(8)}, "c": wide}

    key = jax.random.key(0)
    made = jaxinit.init_tree(key, tree(rows), rules)
    assert len(made["a"]["w"].addressable_shards) == 2
    local = jaxinit.init_tree(key, tree(None), rules)
    shared = jaxinit.manifest(made, rules, key)
    assert shared.leaves == jaxinit.manifest(local, rules, key).leaves
    assert shared.verify_across_hosts() == [] and shared.verify(local) == []
    old = made["a"]["w"]
    again = jaxinit.reinit(key, made, {"a/w": "zeros"})
    assert again["c"] is made["c"] and again["a"]["w"].sharding == old.sharding
    assert [d.path for d in shared.verify(again)] == ["a/w"]
    if PROCESS == 1:
        local["a"]["w"] = local["a"]["w"].at[3, 5].multiply(2.0)
        local["d"] = jnp.ones(3)
    print(*jaxinit.manifest(local).verify_across_hosts(), sep="; ")


main()
