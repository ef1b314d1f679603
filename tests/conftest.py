"""Eight simulated devices for the whole suite, and the fixtures of its tests.

`make test-accelerator` runs the modules that are marked `accelerator` on the devices
that JAX finds. A test that needs more devices than there are is skipped.
"""

# ruff: noqa: E402 - the devices are simulated before JAX starts

import math
import os
import tempfile

_FLAG = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

# Workers, tests and the processes that they start share one cache of programs.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="jaxinit-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import pytest


@pytest.fixture(autouse=True)
def enough_devices(monkeypatch):
    """Skips a test that makes a mesh of more devices than there are."""
    make_mesh = jax.make_mesh

    def make(axis_shapes, *args, **kwargs):
        needed = math.prod(axis_shapes)
        if "devices" not in kwargs and needed > jax.device_count():
            pytest.skip(f"it needs {needed} devices; there are {jax.device_count()}")
        return make_mesh(axis_shapes, *args, **kwargs)

    if jax.default_backend() != "cpu":
        monkeypatch.setattr(jax, "make_mesh", make)


@pytest.fixture(autouse=True, scope="module")
def drop_programs():
    """Drops the compiled programs of a test file, which take gigabytes."""
    yield
    jax.clear_caches()


@pytest.fixture
def compilations():
    """The names of the programs that XLA compiled since the test began."""
    jax.block_until_ready(jax.random.key(0))  # making keys compiles, once
    seen = []

    def listen(event, duration, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(kwargs.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.clear_event_listeners()
