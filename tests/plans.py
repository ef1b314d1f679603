"""Helpers for tests of plans: small models, and equality with jit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import jaxinit
from models import GPT, Llama, ResNet, UNet, ViT

KEY = jax.random.key(0)


def assert_same(got, expected, tolerance=0.0):
    """Asserts equal bits or a relative tolerance, and equal structure and dtypes."""
    a, structure = jax.tree_util.tree_flatten_with_path(got)
    b, other = jax.tree_util.tree_flatten_with_path(expected)
    assert structure == other
    for (path, x), (_, y) in zip(a, b, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype, path
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        if tolerance:
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(np.asarray(x), np.asarray(y), str(path))


def check(fn, *args, groups=None, tolerance=0.0, **kwargs):
    """Asserts that a plan has the values of jit, for its key and another key."""
    planned = jaxinit.plan(fn, *args, **kwargs)
    jitted = jax.jit(functools.partial(fn, **kwargs))
    assert_same(planned(*args, **kwargs), jitted(*args), tolerance)
    others = jax.tree.map(_other, args)
    assert_same(planned(*others, **kwargs), jitted(*others), tolerance)
    if groups is not None:
        assert len(planned.groups) == groups, str(planned)
    return planned


def _other(x):
    """Returns another key in place of a key, and any other argument unchanged."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        return jax.random.fold_in(x, 5)
    if x.dtype == np.uint32 and x.shape == (2,):
        return jax.random.fold_in(x, 5)
    return x


TOKENS = jnp.zeros((1, 8), jnp.int32)
IMAGES = jnp.zeros((1, 16, 16, 3))
MODELS = {
    "gpt2": (GPT(layers=2, width=32, vocab=104), TOKENS),
    "llama_scan": (Llama(layers=4, width=32, vocab=104), TOKENS),
    "gpt2_scan": (GPT(layers=3, width=32, vocab=104, scan=True), TOKENS),
    "vit_scan": (ViT(layers=3, width=32, scan=True), IMAGES),
    "resnet": (ResNet((2, 1), width=32), IMAGES),
    "vit": (ViT(layers=1, width=32), IMAGES),
    "unet": (UNet(width=32, scales=(1,)), IMAGES),
    "gpt2_bfloat16": (GPT(layers=1, width=32, dtype=jnp.bfloat16), TOKENS),
    "small": (GPT(layers=1, width=8, vocab=16), TOKENS),
}
