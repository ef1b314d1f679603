"""The demo's models, in Flax Linen: a GPT, a ResNet and an MLP.

Every initializer is a field named by the role of what it fills, and defaults to
what Flax itself uses there: ``GPT()`` is the model with Flax's defaults.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Init = Callable[..., jax.Array]
Layer = Callable[..., Any]

_kernel = nn.initializers.lecun_normal()
_embedding = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)
_zeros = nn.initializers.zeros_init()
_ones = nn.initializers.ones_init()

# Bottleneck blocks of ResNet-50, stage by stage.
STAGES = (3, 4, 6, 3)


class MLP(nn.Module):
    """Dense layers with ReLU, and a linear head."""

    layers: int = 3
    width: int = 1024
    classes: int = 10
    param_dtype: Any = jnp.float32
    kernel: Init = _kernel
    head: Init = _kernel
    bias: Init = _zeros

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of ``x``, (batch, features)."""
        dense = functools.partial(
            nn.Dense, bias_init=self.bias, param_dtype=self.param_dtype
        )
        for i in range(self.layers):
            x = nn.relu(
                dense(self.width, kernel_init=self.kernel, name=f"dense_{i}")(x)
            )
        return dense(self.classes, kernel_init=self.head, name="head")(x)


class Attention(nn.Module):
    """Causal attention with heads of 64."""

    dense: Layer
    residual: Init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Attends within ``x``, (batch, time, width)."""
        width = x.shape[-1]
        heads = 1 if width % 64 else width // 64
        qkv = self.dense(3 * width, name="qkv")(x)
        q, k, v = jnp.split(qkv.reshape(*x.shape[:-1], 3 * heads, -1), 3, -2)
        y = jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(x.shape)
        return self.dense(width, kernel_init=self.residual, name="out")(y)


class Block(nn.Module):
    """Attention and a two-layer MLP, each added to the residual stream."""

    dense: Layer
    norm: Layer
    residual: Init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """One block on ``x``, (batch, time, width)."""
        width = x.shape[-1]
        y = self.norm(name="norm_1")(x)
        x = x + Attention(self.dense, self.residual, name="attn")(y)
        y = nn.gelu(self.dense(4 * width, name="up")(self.norm(name="norm_2")(x)))
        return x + self.dense(width, kernel_init=self.residual, name="down")(y)


class GPT(nn.Module):
    """GPT-2: pre-norm blocks, learned positions, head tied to the embedding."""

    layers: int = 12
    width: int = 768
    vocab: int = 50257
    context: int = 1024
    param_dtype: Any = jnp.float32
    embedding: Init = _embedding
    position: Init = _embedding
    kernel: Init = _kernel
    residual: Init = _kernel
    bias: Init = _zeros
    scale: Init = _ones

    @nn.compact
    def __call__(self, tokens: jax.Array) -> jax.Array:
        """Logits of the next token for ``tokens``, (batch, time)."""
        common = {"param_dtype": self.param_dtype}
        embed = functools.partial(nn.Embed, features=self.width, **common)
        common["bias_init"] = self.bias
        dense = functools.partial(nn.Dense, kernel_init=self.kernel, **common)
        norm = functools.partial(nn.LayerNorm, scale_init=self.scale, **common)
        token = embed(self.vocab, embedding_init=self.embedding, name="token")
        position = embed(self.context, embedding_init=self.position, name="position")
        x = token(tokens) + position(jnp.arange(tokens.shape[-1]))
        for i in range(self.layers):
            x = Block(dense, norm, self.residual, name=f"block_{i}")(x)
        return token.attend(norm(name="norm")(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a skip connection."""

    width: int
    stride: int
    project: bool
    conv: Layer
    norm: Layer
    residual_scale: Init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """One block on ``x``, (batch, height, width, channels)."""
        strides = (self.stride, self.stride)
        y = self.conv(self.width, (1, 1), name="conv_1")(x)
        y = nn.relu(self.norm(name="norm_1")(y))
        y = self.conv(self.width, (3, 3), strides=strides, name="conv_2")(y)
        y = nn.relu(self.norm(name="norm_2")(y))
        y = self.conv(4 * self.width, (1, 1), name="conv_3")(y)
        y = self.norm(scale_init=self.residual_scale, name="norm_3")(y)
        if self.project:
            x = self.conv(4 * self.width, (1, 1), strides=strides, name="skip")(x)
            x = self.norm(name="skip_norm")(x)
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet-50 (version 1.5, NHWC), or its first ``layers`` blocks."""

    layers: int = sum(STAGES)
    width: int = 64
    classes: int = 1000
    param_dtype: Any = jnp.float32
    kernel: Init = _kernel
    head: Init = _kernel
    bias: Init = _zeros
    scale: Init = _ones
    residual_scale: Init = _ones

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Logits of ``x``, (batch, height, width, channels)."""
        common = {"param_dtype": self.param_dtype}
        conv = functools.partial(
            nn.Conv, use_bias=False, kernel_init=self.kernel, **common
        )
        common["bias_init"] = self.bias
        norm = functools.partial(nn.BatchNorm, True, scale_init=self.scale, **common)
        x = conv(self.width, (7, 7), strides=(2, 2), name="stem")(x)
        x = nn.relu(norm(name="stem_norm")(x))
        x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
        places = [(s, b) for s, blocks in enumerate(STAGES) for b in range(blocks)]
        for i, (stage, block) in enumerate(places[: self.layers]):
            x = Bottleneck(
                width=self.width * 2**stage,
                stride=2 if stage and not block else 1,
                project=not block,
                conv=conv,
                norm=norm,
                residual_scale=self.residual_scale,
                name=f"block_{i}",
            )(x)
        x = x.mean((1, 2))
        return nn.Dense(self.classes, kernel_init=self.head, name="head", **common)(x)
