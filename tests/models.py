"""Real architectures in Flax Linen, of any size."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp


class Block(nn.Module):
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(param_dtype=self.dtype)(x)
        attention = nn.MultiHeadDotProductAttention(
            4, param_dtype=self.dtype, name="attention"
        )
        x = x + attention(y, y)
        y = nn.LayerNorm(param_dtype=self.dtype)(x)
        y = nn.Dense(4 * self.width, param_dtype=self.dtype, name="up")(y)
        return x + nn.Dense(self.width, param_dtype=self.dtype, name="down")(nn.gelu(y))


class ScannedBlock(nn.Module):
    width: int
    dtype: Any

    @nn.compact
    def __call__(self, x, _):
        return Block(self.width, self.dtype)(x), None


def blocks(x, layers, width, dtype, scan):
    """The blocks of a model, one after the other or under one scan."""
    if scan:
        rngs = {"params": True}
        stack = nn.scan(
            ScannedBlock, variable_axes={"params": 0}, split_rngs=rngs, length=layers
        )
        return stack(width, dtype, name="blocks")(x, None)[0]
    for i in range(layers):
        x = Block(width, dtype, name=f"block_{i}")(x)
    return x


class GPT(nn.Module):
    """GPT-2: learned positions, pre-norm blocks, a head tied or of its own."""

    layers: int = 12
    width: int = 768
    vocab: int = 256
    dtype: Any = jnp.float32
    tied: bool = True
    scan: bool = False

    @nn.compact
    def __call__(self, tokens):
        normal = nn.initializers.normal(0.02)
        embed = nn.Embed(
            self.vocab, self.width, embedding_init=normal, param_dtype=self.dtype
        )
        positions = nn.Embed(64, self.width, param_dtype=self.dtype)
        x = embed(tokens) + positions(jnp.arange(tokens.shape[1]))
        x = blocks(x, self.layers, self.width, self.dtype, self.scan)
        x = nn.LayerNorm(param_dtype=self.dtype)(x)
        if self.tied:
            return embed.attend(x)
        return nn.Dense(self.vocab, use_bias=False, param_dtype=self.dtype)(x)


class LlamaBlock(nn.Module):
    width: int
    hidden: int
    heads: int
    groups: int

    @nn.compact
    def __call__(self, x, _):
        def dense(features, name):
            return nn.DenseGeneral(features, use_bias=False, name=name)

        y, head = nn.RMSNorm()(x), self.width // self.heads
        q = dense((self.heads, head), "q")(y)
        k = dense((self.groups, head), "k")(y)
        v = dense((self.groups, head), "v")(y)
        repeat = self.heads // self.groups
        y = nn.dot_product_attention(
            q, jnp.repeat(k, repeat, axis=-2), jnp.repeat(v, repeat, axis=-2)
        )
        out = nn.DenseGeneral(self.width, axis=(-2, -1), use_bias=False, name="o")
        x = x + out(y)
        y = nn.RMSNorm()(x)
        y = nn.silu(dense(self.hidden, "gate")(y)) * dense(self.hidden, "up")(y)
        return x + dense(self.width, "down")(y), None


class Llama(nn.Module):
    """Llama: grouped queries, gated MLP, layers under one scan."""

    layers: int = 32
    width: int = 64
    hidden: int = 96
    heads: int = 4
    groups: int = 2
    vocab: int = 256

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(self.vocab, self.width)(tokens)
        block = nn.scan(
            LlamaBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.layers,
        )
        x, _ = block(self.width, self.hidden, self.heads, self.groups)(x, None)
        return nn.Dense(self.vocab, use_bias=False)(nn.RMSNorm()(x))


class Bottleneck(nn.Module):
    width: int
    stride: int

    @nn.compact
    def __call__(self, x):
        def conv(width, size, stride=1):
            return nn.Conv(width, (size, size), stride, use_bias=False)

        def norm(x):
            return nn.BatchNorm(use_running_average=False)(x)

        y = nn.relu(norm(conv(self.width, 1)(x)))
        y = nn.relu(norm(conv(self.width, 3, self.stride)(y)))
        y = norm(conv(4 * self.width, 1)(y))
        if x.shape != y.shape:
            x = norm(conv(4 * self.width, 1, self.stride)(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """ResNet of bottleneck blocks; (3, 4, 6, 3) is ResNet-50."""

    stages: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (7, 7), 2, use_bias=False)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=False)(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding="SAME")
        for i, blocks in enumerate(self.stages):
            for j in range(blocks):
                x = Bottleneck(self.width * 2**i, 2 if i > 0 and j == 0 else 1)(x)
        return nn.Dense(1000)(x.mean((1, 2)))


class ViT(nn.Module):
    """ViT: patches, a class token, learned positions."""

    layers: int = 12
    width: int = 768
    patch: int = 16
    scan: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.width, (self.patch,) * 2, self.patch, padding="VALID")(x)
        x = x.reshape(x.shape[0], -1, self.width)
        token = self.param("class", nn.initializers.zeros, (1, 1, self.width))
        x = jnp.concatenate([jnp.tile(token, (x.shape[0], 1, 1)), x], axis=1)
        normal = nn.initializers.normal(0.02)
        x = x + self.param("position", normal, (1, *x.shape[1:]))
        x = blocks(x, self.layers, self.width, jnp.float32, self.scan)
        return nn.Dense(1000)(nn.LayerNorm()(x)[:, 0])


class UNet(nn.Module):
    """A U-Net with skips and transposed convolutions."""

    width: int = 64
    scales: tuple[int, ...] = (1, 2)

    @nn.compact
    def __call__(self, x):
        def twice(x, width):
            for _ in range(2):
                x = nn.silu(nn.GroupNorm(4)(nn.Conv(width, (3, 3))(x)))
            return x

        skips = []
        for scale in self.scales:
            x = twice(x, self.width * scale)
            skips.append(x)
            x = nn.Conv(self.width * scale, (3, 3), 2)(x)
        x = twice(x, self.width * 2 * self.scales[-1])
        for scale in reversed(self.scales):
            x = nn.ConvTranspose(self.width * scale, (2, 2), (2, 2))(x)
            x = twice(jnp.concatenate([x, skips.pop()], axis=-1), self.width * scale)
        return nn.Conv(3, (1, 1))(x)
