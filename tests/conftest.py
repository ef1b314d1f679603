"""Eight simulated devices for the whole suite, and what its tests share."""

# ruff: noqa: E402 - the devices are simulated before JAX starts

import os
import tempfile

_FLAG = "--xla_force_host_platform_device_count=8"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}".strip()
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["KERAS_BACKEND"] = "jax"  # read when Keras is imported

# What one worker or test compiled serves the others, and the processes they start.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _programs = tempfile.TemporaryDirectory(prefix="jaxinit-programs-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _programs.name
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def forgotten():
    """Compiled programs, gigabytes of them, go with the file that made them."""
    yield
    jax.clear_caches()


@pytest.fixture
def compilations():
    """Names of the programs that XLA compiled since the test began."""
    jax.block_until_ready(jax.random.key(0))  # making keys compiles, once
    seen = []

    def listen(event, duration, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(kwargs.get("fun_name"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.clear_event_listeners()
