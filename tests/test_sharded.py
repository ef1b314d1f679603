"""Plans on meshes: same values, no communication, no memory beyond the shards."""

import concurrent.futures
import functools
import json
import os
import pathlib
import re
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import jaxinit
from cases import COLLECTIVES
from plans import KEY, MODELS, assert_same

HERE = pathlib.Path(__file__).parent


def fsdp(mesh):
    """Shards the largest axis that all devices divide; small leaves are replicated."""

    def sharding(path, leaf):
        axes = [d for d, n in enumerate(leaf.shape) if n % mesh.size == 0]
        if not axes:
            return NamedSharding(mesh, P())
        best = max(axes, key=lambda d: leaf.shape[d])
        return NamedSharding(mesh, P(*[None] * best, mesh.axis_names))

    return sharding


def tensor_parallel(mesh):
    """Shards the last two axes over "data" and "model", if they are divisible."""
    data, model = (mesh.shape[name] for name in mesh.axis_names)

    def sharding(path, leaf):
        spec = [None] * len(leaf.shape)
        if spec and leaf.shape[-1] % model == 0:
            spec[-1] = "model"
        if len(spec) > 1 and leaf.shape[-2] % data == 0:
            spec[-2] = "data"
        return NamedSharding(mesh, P(*spec))

    return sharding


@functools.cache
def by_jit(name):
    model, x = MODELS[name]
    return jax.jit(model.init)(KEY, x)


@pytest.mark.parametrize(
    ("name", "layout", "kind"),
    [
        ("gpt2", fsdp, AxisType.Explicit),
        ("gpt2", tensor_parallel, AxisType.Auto),
        ("llama_scan", fsdp, AxisType.Auto),
        ("llama_scan", tensor_parallel, AxisType.Explicit),
    ],
)
def test_sharded_equals_unsharded(name, layout, kind):
    model, x = MODELS[name]
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)
    planned = jaxinit.plan(model.init, KEY, x, out_shardings=layout(mesh))
    made = planned(KEY, x)
    expected = by_jit(name)
    for (path, a), (_, b), leaf in zip(
        jax.tree_util.tree_leaves_with_path(made),
        jax.tree_util.tree_leaves_with_path(expected),
        planned.leaves,
        strict=True,
    ):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b), str(path))
        assert a.sharding.is_equivalent_to(leaf.sharding, a.ndim)
        held = {s.data.shape for s in a.addressable_shards}
        assert held == {leaf.sharding.shard_shape(a.shape)}
    for text in planned.texts():
        assert not [op for op in COLLECTIVES if op in text]
    memory = planned.memory()
    assert memory["result"] < sum(leaf.bytes for leaf in planned.leaves)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_under_a_mesh_results_have_the_shardings_of_jit(kind):
    """This holds for all makers, and if a later call is under another mesh."""
    mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind,) * 2)

    def init(key):
        a, b, c = jax.random.split(key, 3)
        x = jax.random.uniform(b, (16, 24)) + jnp.arange(24.0)
        made = [jax.random.normal(a, (64, 128)), x, jnp.zeros(3), jnp.arange(3), a]
        if kind == AxisType.Explicit:
            spec = P("data", "model")
            made.append(jaxinit.HeNormal()(c, (8, 16), out_sharding=spec))
            made.append(jax.random.normal(c, (8, 16), out_sharding=spec))
            made.append(jnp.zeros((8, 8), out_sharding=P("data")))
        return made

    with jax.set_mesh(mesh):
        planned = jaxinit.plan(init, KEY)
        made, expected = planned(KEY), jax.jit(init)(KEY)
    assert_same(made, expected)
    for x, y in zip(made, expected, strict=True):
        assert x.committed and x.sharding.is_equivalent_to(y.sharding, x.ndim)
    if kind == AxisType.Auto:
        for device in jax.devices()[:3:2]:
            with jax.default_device(device):
                assert {x.device for x in planned(KEY)} == {device}


def test_donated_arguments_that_are_results_under_a_mesh_stay():
    x, mesh = jnp.arange(8.0), jax.make_mesh((8,), ("data",))
    planned = jaxinit.plan(lambda x: (x, x + 1), x, donate=0)
    with jax.set_mesh(mesh):
        made = planned(x)
    np.testing.assert_array_equal(made, [np.arange(8), np.arange(1, 9)])


def test_threads_of_other_devices_share_a_plan():
    def init(key):
        return jax.random.normal(key, (64, 64)), jnp.arange(3.0) + jax.random.normal(
            key
        )

    planned, devices = jaxinit.plan(init, KEY), jax.devices()[1:4]

    def run(device):
        with jax.default_device(device):
            return [planned(KEY) for _ in range(3)]

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for device, made in zip(devices, pool.map(run, devices), strict=True):
            assert {x.device for x in jax.tree.leaves(made)} == {device}
            assert_same(made[-1], jax.jit(init)(KEY))


def test_no_device_holds_more_than_its_shards():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows = NamedSharding(mesh, P("data"))

    def init(key):
        keys = jax.random.split(key, 3)
        return [jaxinit.HeNormal()(k, (512, 256)) for k in keys], jnp.ones((512, 8))

    planned = jaxinit.plan(init, KEY, out_shardings=rows).compile()
    assert planned.memory()["result"] == (3 * 512 * 256 + 512 * 8) * 4 // 8
    assert planned.memory()["temporary"] < 512 * 256 * 4 // 8 // 4
    for text in planned.texts():  # which are of one device
        assert "512,256" not in text and "512,8]" not in text
    assert_same(planned(KEY), jax.jit(init)(KEY))


def processes(mode: str) -> list[subprocess.CompletedProcess]:
    """Runs processes_worker.py as a job of two processes of two devices."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    running = [
        subprocess.Popen(
            [sys.executable, HERE / "processes_worker.py", str(port), str(i), mode],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(2)
    ]
    done = []
    for process in running:
        out, err = process.communicate(timeout=240)
        code = process.returncode
        done.append(subprocess.CompletedProcess(process.args, code, out, err))
    return done


def test_two_processes_make_the_same_values():
    for done in processes("same"):
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.split()[-1] == "equal"


def test_two_processes_agree_on_manifests():
    said = set()
    for done in processes("manifests"):
        assert done.returncode == 0, done.stderr[-2000:]
        said.add(done.stdout.splitlines()[-1])
    (text,) = said
    changed, extra = text.split("; ")
    assert changed.startswith("a/w: values ") and extra == "d: extra"


# What process 1 does otherwise, and of what process 0 is told, by which call.
DIFFERENCES = {
    "read arguments": "the arguments * argument 1/read is 0.0 * and 5.0 in process 1*",
    "keys": "the keys of processes 0 and 1 differ: argument 0 is key<fry>[] *",
    "fixed arguments": "the plans * w is float32[8, 4] * and float32[16, 4] *",
    "stddev": "the plans * the program of w *",
    "law": "the plans * the program of w *",
    "constant": "the plans * the program of c * the program of t *",
    "rules": "the plans * the program of c *",
    "shardings": "the plans * c is float32[64] on P('data',) * on P() *",
    "threefry": "the settings * jax_threefry_partitionable is True * and False *",
    "x64": "the settings * jax_enable_x64 is False * and True *",
    "prng": "the settings * jax_default_prng_impl is threefry2x32 * and rbg *",
    "no jit": "the settings * jax_disable_jit is False * and True *",
    "version": "the versions * jax is * and 9.9 *",
    "other calls": "process 0 calls plan(...)(...), process 1 calls plan(...)*",
}
FAILURES = {
    "bad law": "KeyError: 'nothing'",
    "bad rule": "ValueError: Rules: rule 1 (nothing) matches no leaf*",
    "no rule": "TypeError: Rules(rules=...) must be a dict*",
    "bad sharding": "ValueError: plan(out_shardings=...) at c: *",
    "bad call": "TypeError: plan(...): the arguments have another structure *",
    "bad tree": "ValueError: Rules(rules=...): rule 1: 'nothing' names no *",
    "bad checkpoint": "ValueError: fill_missing: another shape was loaded *",
    "bad manifest": "ValueError: Rules: rule 1 (nothing) matches no leaf*",
}
AGREED = {
    "same": None,
    "dead arguments": None,
    "again the same": None,
    "same tree": 32.0,
    "same checkpoint": 32.0,
    "same manifest": [],
    "manifest key": ["key *'data': [0, 1]* instead of *'data': [0, 0]*"],
    "manifest rules": [
        "rules *Zeros* instead of *Ones*",
        "w: initializer *Zeros* instead of *Ones*",
    ],
    "manifest settings": ["jax_threefry_partitionable False instead of True"],
}


def test_processes_that_differ_all_fail():
    """In seconds, whatever one of them does otherwise; the next calls work."""
    first, second = [], []
    for done, said in zip(processes("odd"), (first, second), strict=True):
        assert done.returncode == 0, done.stderr[-2000:]
        said.append(json.loads(done.stdout.splitlines()[-1]))
    (first,), (second,) = first, second
    assert first.keys() == second.keys() == {*DIFFERENCES, *FAILURES, *AGREED}
    for name, pattern in DIFFERENCES.items():
        assert is_like(first[name], f"RuntimeError: plan(...)*: {pattern}"), name
        assert is_like(second[name], f"RuntimeError: plan(...)*: {pattern}"), name
    for name, pattern in FAILURES.items():
        told = f"RuntimeError: *: process 1 failed, so that no *: {pattern}"
        assert is_like(first[name], told), (name, first[name])
        assert is_like(second[name], pattern), (name, second[name])
    value = first["same"]
    assert isinstance(value, float)
    for name, expected in AGREED.items():
        assert first[name] == second[name], name
        if name.startswith("manifest "):
            pairs = zip(first[name], expected, strict=True)
            assert all(is_like(*pair) for pair in pairs), first[name]
        else:
            assert first[name] == (value if expected is None else expected), name


def is_like(text, pattern):
    """fnmatch with "*" alone."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL)


def test_rules_keep_shardings_that_a_model_states_on_an_explicit_mesh():
    """Values are those of the rules, shardings are those of the model, as in jit."""

    def model(key):
        kernel = jax.random.normal(key, (8, 4), out_sharding=P("data"))
        heads = jax.vmap(lambda k: jax.random.normal(k, (4, 4)))(jax.random.split(key))
        return {"bias": jnp.zeros(8), "heads": heads, "kernel": kernel}

    key = jax.random.key(0)
    rules = {"bias": "ones", "heads": "orthogonal", "kernel": "he_normal"}
    expected = jaxinit.init(model_without_mesh, key, rules=rules)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        shapes = jaxinit.eval_shape(model, key)
        assert str(shapes["kernel"].sharding) == str(
            jax.eval_shape(model, key)["kernel"].sharding
        )
        loaded = {"kernel": np.asarray(expected["kernel"])}
        for made in (
            jaxinit.init(model, key, rules=rules),
            jaxinit.init_tree(key, shapes, rules),
            jaxinit.reinit(key, model(key), rules, like=shapes),
            jaxinit.fill_missing(key, loaded, shapes, rules),
        ):
            jax.tree.map(np.testing.assert_array_equal, made, expected)
            specs = {name: x.sharding.spec for name, x in made.items()}
            assert specs == {"bias": P(None), "heads": P(None, None, None),
                             "kernel": P("data", None)}  # fmt: skip
    with pytest.raises(ValueError, match="call under jax"):
        jaxinit.init_tree(key, shapes, rules)


def model_without_mesh(key):
    heads = jax.vmap(lambda k: jax.random.normal(k, (4, 4)))(jax.random.split(key))
    return {"bias": jnp.zeros(8), "heads": heads, "kernel": jnp.ones((8, 4))}
