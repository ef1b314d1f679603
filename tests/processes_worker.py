"""One process of a job of two: python processes_worker.py PORT PROCESS MODE."""

# ruff: noqa: E402 - the job is joined before anything touches a device
import contextlib
import json
import sys
import time

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

    if MODE != "same":
        return {"manifests": manifests, "odd": odd_processes}[MODE](mesh)
    key = jax.random.key(7)
    planned = jaxinit.plan(model.init, key, x, out_shardings=sharding)
    made = planned(key, x)
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


def odd_processes(mesh):
    """Says in JSON what this process gets when process 1 does something else."""
    rows = NamedSharding(mesh, P("data"))
    struct = {"w": jax.ShapeDtypeStruct((8, 4), jnp.float32, sharding=rows)}
    key, is_odd = jax.random.key(0), PROCESS == 1
    said = {}

    def draw(key, x, is_wide=False, stddev=1.0, law="normal", constant=1.0):
        laws = {"normal": jaxinit.RandomNormal, "uniform": jaxinit.RandomUniform}
        init = laws[law](stddev=stddev) if law == "normal" else laws[law]()
        return {
            "w": init(key, (16 if is_wide else 8, 4)) + x["read"],
            "c": jnp.full(64, constant),
            "t": jnp.asarray(np.full(64, constant, np.float32)).cumsum(),
            "step": 0,
        }

    def split(spec):
        return lambda path, x: NamedSharding(mesh, P(*(spec if x.ndim else ())))

    def make(odd_key=key, read=0.0, dead=0.0, rules=None, spec=("data",), **options):
        """The plan of `draw`, with these options in process 1 and none in process 0."""
        x = {"read": jnp.float32(read if is_odd else 0), "dead": np.zeros(3)}
        x["dead"] += dead if is_odd else 0
        made = jaxinit.init(
            draw,
            odd_key if is_odd else key,
            x,
            rules=rules if is_odd else {"c": jaxinit.Constant(1.0)} if rules else None,
            out_shardings=split(spec if is_odd else ("data",)),
            **(options if is_odd else {}),
        )
        return float(jnp.abs(made["w"]).sum())

    @contextlib.contextmanager
    def setting(name, value):
        before = getattr(jax.config, name)
        jax.config.update(name, value if is_odd else before)
        try:
            yield
        finally:
            jax.config.update(name, before)

    def under(name, value, run=make):
        with setting(name, value):
            return run()

    def other_version():
        before = jaxinit._processes.version
        jaxinit._processes.version = lambda name: "9.9" if is_odd else before(name)
        try:
            return make()
        finally:
            jaxinit._processes.version = before

    def called_wrongly():
        x = {"read": jnp.float32(0), "dead": np.zeros(3)}
        planned = jaxinit.plan(draw, key, x, out_shardings=split(("data",)))
        return planned(key, {"read": 1} if is_odd else x) and None

    def other_calls():
        x = {"read": jnp.float32(0), "dead": np.zeros(3)}
        planned = jaxinit.plan(draw, key, x, out_shardings=split(("data",)))
        if is_odd:
            return jaxinit.init_tree(key, struct, {"**": "ones"}) and None
        return planned(key, x) and None

    def tree(rules):
        return float(jaxinit.init_tree(key, struct, {"w": rules})["w"].sum())

    def filled(shape):
        loaded = {"w": np.ones(shape if is_odd else (8, 4), np.float32)}
        return float(jaxinit.fill_missing(key, loaded, struct, {}).get("w").sum())

    def record(rules):
        made = jaxinit.init_tree(key, struct, {"w": "ones"})
        record = jaxinit.manifest(made, {rules if is_odd else "w": "ones"}, key)
        return list(map(str, record.verify_across_hosts()))

    def local(rules=None, key=None):
        record = jaxinit.manifest({"w": jnp.ones(3)}, rules, key)
        return list(map(str, record.verify_across_hosts()))

    cases = {
        "same": make,
        "dead arguments": lambda: make(dead=5.0),
        "read arguments": lambda: make(read=5.0),
        "keys": lambda: make(jax.random.key(1)),
        "fixed arguments": lambda: make(is_wide=True),
        "stddev": lambda: make(stddev=2.0),
        "law": lambda: make(law="uniform"),
        "constant": lambda: make(constant=2.0),
        "rules": lambda: make(rules={"c": jaxinit.Constant(2.0)}),
        "shardings": lambda: make(spec=()),
        "threefry": lambda: under("jax_threefry_partitionable", False),
        "x64": lambda: under("jax_enable_x64", True),
        "prng": lambda: under("jax_default_prng_impl", "rbg"),
        "no jit": lambda: under("jax_disable_jit", True),
        "version": other_version,
        "bad law": lambda: make(law="nothing"),
        "bad rule": lambda: make(rules={"nothing": "zeros"}),
        "no rule": lambda: make(rules=5),
        "bad sharding": lambda: make(spec=(None, None, "data")),
        "bad call": called_wrongly,
        "other calls": other_calls,
        "bad tree": lambda: tree("nothing" if is_odd else "ones"),
        "bad checkpoint": lambda: filled((8, 5)),
        "bad manifest": lambda: record("nothing"),
        "manifest key": lambda: local(key=jax.random.key(int(is_odd))),
        "manifest rules": lambda: local({"w": "zeros" if is_odd else "ones"}),
        "manifest settings": lambda: under("jax_threefry_partitionable", False, local),
        "again the same": make,
        "same tree": lambda: tree("ones"),
        "same checkpoint": lambda: filled((8, 4)),
        "same manifest": lambda: record("w"),
    }
    for name, case in cases.items():
        start = time.monotonic()
        try:
            said[name] = case()
        except Exception as e:
            said[name] = f"{type(e).__name__}: {e}"
        assert time.monotonic() - start < 20, name
    print(json.dumps(said))


main()
