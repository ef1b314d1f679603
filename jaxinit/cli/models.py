"""The demo's models, in Flax Linen: a GPT, a ResNet and an MLP by Flax's defaults."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class MLP(nn.Module):
    """Dense layers with ReLU, and a linear head."""

    layers: int = 3
    width: int = 1024
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of ``x``, (batch, features)."""
        dense = functools.partial(nn.Dense, param_dtype=self.param_dtype)
        for i in range(self.layers):
            x = nn.relu(dense(self.width, name=f"dense_{i}")(x))
        return dense(10, name="head")(x)


class Attention(nn.Module):
    """Causal attention with heads of 64."""

    dense: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Attends within ``x``, (batch, time, width)."""
        width = x.shape[-1]
        heads = 1 if width % 64 else width // 64
        qkv = self.dense(3 * width, name="qkv")(x)
        q, k, v = jnp.split(qkv.reshape(*x.shape[:-1], 3 * heads, -1), 3, -2)
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape)
        return self.dense(width, name="out")(y)


class Block(nn.Module):
    """Attention and a two-layer MLP, each added to the residual stream."""

    dense: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """One block on ``x``, (batch, time, width)."""
        width = x.shape[-1]
        y = self.norm(name="norm_1")(x)
        x = x + Attention(self.dense, name="attn")(y)
        y = nn.gelu(self.dense(4 * width, name="up")(self.norm(name="norm_2")(x)))
        return x + self.dense(width, name="down")(y)


class GPT(nn.Module):
    """GPT-2: pre-norm blocks, learned positions, head tied to the embedding."""

    layers: int = 12
    width: int = 768
    vocab: int = 50257
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits of the next token for ``tokens``, (batch, time)."""
        common = {"param_dtype": self.param_dtype}
        embed = functools.partial(nn.Embed, features=self.width, **common)
        dense = functools.partial(nn.Dense, **common)
        norm = functools.partial(nn.LayerNorm, **common)
        token = embed(self.vocab, name="token")
        position = embed(1024, name="position")
        x = token(tokens) + position(jnp.arange(tokens.shape[-1]))
        for i in range(self.layers):
            x = Block(dense, norm, name=f"block_{i}")(x)
        return token.attend(norm(name="norm")(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a skip connection."""

    width: int
    stride: int
    conv: Any
    norm: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """One block on ``x``, (batch, height, width, channels)."""
        strided = functools.partial(self.conv, strides=(self.stride, self.stride))
        y = self.conv(self.width, (1, 1), name="conv_1")(x)
        y = nn.relu(self.norm(name="norm_1")(y))
        y = strided(self.width, (3, 3), name="conv_2")(y)
        y = nn.relu(self.norm(name="norm_2")(y))
        y = self.conv(4 * self.width, (1, 1), name="conv_3")(y)
        y = self.norm(name="norm_3")(y)
        if x.shape != y.shape:
            x = strided(4 * self.width, (1, 1), name="skip")(x)
            x = self.norm(name="skip_norm")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet-50 (version 1.5, NHWC), or its first ``layers`` blocks."""

    layers: int = 16
    width: int = 64
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of ``x``, (batch, height, width, channels)."""
        common = {"param_dtype": self.param_dtype}
        conv = functools.partial(nn.Conv, use_bias=False, **common)
        norm = functools.partial(nn.BatchNorm, True, **common)
        x = conv(self.width, (7, 7), strides=(2, 2), name="stem")(x)
        x = nn.relu(norm(name="stem_norm")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        starts = (3, 7, 13)  # of the later stages, which have 4, 6 and 3 blocks
        for i in range(self.layers):
            width = self.width * 2 ** sum(i >= start for start in starts)
            stride = 2 if i in starts else 1
            x = Bottleneck(width, stride, conv, norm, name=f"block_{i}")(x)
        x = x.mean((1, 2))
        return nn.Dense(1000, name="head", **common)(x)
