"""The U-Net of improved diffusion (Nichol & Dhariwal 2021), used as the score network.

https://arxiv.org/abs/2102.09672. The residual blocks are scaled and shifted by an embedding of the
noise level. Self-attention is at chosen levels and in the middle. Strided convolutions halve the
size on the way down, nearest-neighbour upsampling doubles it on the way up. Any H and W pass: odd
sizes are rounded up on the way down and cropped on the way up.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.core.random import fold_in
from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import Dropout, SelfAttention, group_norm, numbered
from wmgm_jax.networks.unet_parts import (
    residual_encoder_decoder,
    scale_and_shift,
    time_embedding,
    upsample_nearest,
)


class ResidualBlock(nn.Module):
    """Two normalised convolutions; the embedding scales and shifts the second normalisation.

    Attributes:
        channels: of the result.
        dropout: rate.
        dtype: of the computation.
    """

    channels: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, keys: jax.Array | None) -> jax.Array:
        """x `[B, H, W, C]`, embedding `[B, e]`, keys `[B]` or None -> `[B, H, W, channels]`."""
        h = nn.silu(group_norm(x.shape[-1], dtype=self.dtype)(x))
        h = Conv(self.channels, (3, 3), dtype=self.dtype)(h)

        scale, shift = scale_and_shift(nn.silu(embedding), self.channels, self.dtype)
        h = group_norm(self.channels, dtype=self.dtype)(h) * (1 + scale) + shift

        h = Dropout(self.dropout)(nn.silu(h), keys)
        h = Conv(self.channels, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype)(h)
        if x.shape[-1] != self.channels:
            x = Conv(self.channels, (1, 1), dtype=self.dtype)(x)
        return x + h


class UNet(nn.Module):
    """The network `(x, level) -> [B, H, W, out_channels]`.

    Attributes:
        out_channels: channels of the result.
        channels: channels at the finest level; a multiple of 4 times `num_heads`.
        multipliers: channels of each level, as multiples of `channels`.
        num_blocks: residual blocks per level on the way down; there is one more on the way up.
        attention_levels: levels (0 is the finest) with attention after every block. The middle
            always has attention.
        num_heads: attention heads.
        dropout: rate inside the residual blocks.
        rematerialise: saves memory: the backward pass computes the residual blocks again.
        dtype: of the computation; the parameters and the result are float32.
    """

    out_channels: int
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    num_blocks: int = 3
    attention_levels: tuple[int, ...] = (1, 2)
    num_heads: int = 4
    dropout: float = 0.0
    rematerialise: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, level: jax.Array, dropout_keys: jax.Array | None = None
    ) -> jax.Array:
        """
        Args:
            x: `[B, H, W, C]`.
            level: `[B]`, the noise level in [0, 1000].
            dropout_keys: `[B]` keys in training; None switches dropout off.

        Returns:
            float32 `[B, H, W, out_channels]`.
        """
        embedding = time_embedding(level, self.channels, self.dtype)
        numbers = itertools.count()

        def residual_block(h, multiplier):
            number = next(numbers)
            keys = fold_in(dropout_keys, number) if self.dropout else None
            layer = numbered(ResidualBlock, number, self.rematerialise)
            return layer(multiplier * self.channels, self.dropout, self.dtype)(h, embedding, keys)

        def attention(h):
            return SelfAttention(self.num_heads, self.dtype)(h)

        def block(h, i, is_last=False):
            h = residual_block(h, self.multipliers[i])
            return attention(h) if i in self.attention_levels else h

        def down(h):
            return Conv(h.shape[-1], (3, 3), strides=2, padding=1, dtype=self.dtype)(h)

        def middle(h):
            h = attention(residual_block(h, self.multipliers[-1]))
            return residual_block(h, self.multipliers[-1])

        def up(h, size):
            height, width = size
            h = upsample_nearest(h)[:, :height, :width]
            return Conv(h.shape[-1], (3, 3), dtype=self.dtype)(h)

        h = residual_encoder_decoder(
            Conv(self.channels, (3, 3), dtype=self.dtype)(x.astype(self.dtype)),
            len(self.multipliers),
            self.num_blocks,
            encoder_block=block,
            down=down,
            middle=middle,
            decoder_block=block,
            up=up,
        )
        h = nn.silu(group_norm(self.channels, dtype=self.dtype)(h))
        return Conv(self.out_channels, (3, 3), kernel_init=nn.initializers.zeros)(
            h.astype(jnp.float32)
        )
