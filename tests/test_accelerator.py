"""A GPU or a TPU beside the CPU: the same values, and the memory of the device."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxinit
from cases import CASES
from models import GPT

pytestmark = [
    pytest.mark.accelerator,
    pytest.mark.skipif(jax.default_backend() == "cpu", reason="it needs a GPU or TPU"),
]

KEY = jax.random.key(3)


def on_cpu(make):
    """Returns ``make(key)``, computed on the CPU of this machine."""
    cpu = jax.local_devices(backend="cpu")[0]
    with jax.default_device(cpu):
        return jax.device_get(make(jax.device_put(KEY, cpu)))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_values_are_those_of_the_cpu(case):
    """Values differ by at most 4 ulp, or by 1e-6 after matrix products."""
    made = jax.device_get(case.init(KEY, case.shape))
    expected = on_cpu(lambda key: case.init(key, case.shape))
    if case.products:
        np.testing.assert_allclose(made, expected, rtol=0, atol=1e-6)
    else:
        np.testing.assert_array_max_ulp(made, expected, 4)


@pytest.mark.parametrize("shape", [(600, 520), (520, 600), (2, 64, 64)])
@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_orthogonal_matrices(shape, dtype):
    init = jaxinit.Orthogonal(batch_axis=0 if len(shape) > 2 else ())
    made = np.asarray(init(KEY, shape, dtype), np.complex128)
    rows, columns = shape[-2:]
    tall = made if rows >= columns else np.swapaxes(made, -1, -2)
    gram = np.swapaxes(tall, -1, -2).conj() @ tall
    np.testing.assert_allclose(gram - np.eye(min(rows, columns)), 0, atol=4e-6)
    expected = on_cpu(lambda key: init(key, shape, dtype))
    np.testing.assert_allclose(made, expected, rtol=0, atol=4e-6)


PEAK = """
import jax, jax.numpy as jnp, jaxinit
from models import GPT
model, tokens, key = GPT(2, 512, 2**15), jnp.zeros((1, 8), jnp.int32), jax.random.key(0)
planned = jaxinit.plan(model.init, key, tokens).compile()
params = jax.block_until_ready(planned(key, tokens))
size = sum(x.nbytes for x in jax.tree.leaves(params))
print(jax.devices()[0].memory_stats()["peak_bytes_in_use"] / size)
"""


def test_peak_memory_of_a_plan():
    """In a process of its own, because a device never resets its peak."""
    env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    tests = pathlib.Path(__file__).parent
    command = [sys.executable, "-c", PEAK]
    env["PYTHONPATH"] = os.pathsep.join([str(tests), str(tests.parent)])
    printed = subprocess.run(
        command, env=env, capture_output=True, text=True, check=True
    ).stdout
    assert 1 <= float(printed) < 1.2


def test_a_manifest_of_the_cpu_holds_for_copies():
    """The digests of a device are those of the CPU for the same values."""
    model, tokens = GPT(1, 64, 128), jnp.zeros((1, 8), jnp.int32)
    params = on_cpu(lambda key: model.init(key, tokens))
    written = jaxinit.manifest(params)
    copies = jax.device_put(params)
    assert {d.platform for x in jax.tree.leaves(copies) for d in x.devices()} != {"cpu"}
    assert not written.verify(copies)
    leaves, structure = jax.tree.flatten(copies)
    leaves[-1] += 1
    assert len(written.verify(structure.unflatten(leaves))) == 1
