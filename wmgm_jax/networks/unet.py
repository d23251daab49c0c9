"""The U-Net of improved diffusion (Nichol & Dhariwal 2021), the score network of every system.

https://arxiv.org/abs/2102.09672. Residual blocks with a scale-shift embedding of the noise level,
self-attention at chosen levels and in the middle, strided convolutions down, nearest-neighbour
upsampling up. Sizes that do not halve evenly are rounded up on the way down and cropped on the
way up, so that any H and W pass.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.core.random import fold_in
from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import Dropout, SelfAttention, group_norm, sinusoidal_embedding


class ResidualBlock(nn.Module):
    """Two normalised convolutions; the embedding scales and shifts between them."""

    channels: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, keys: jax.Array | None) -> jax.Array:
        h = nn.silu(group_norm(x.shape[-1], dtype=self.dtype)(x))
        h = Conv(self.channels, (3, 3), dtype=self.dtype)(h)

        scale_shift = nn.Dense(2 * self.channels, dtype=self.dtype)(nn.silu(embedding))
        scale, shift = jnp.split(scale_shift[:, None, None, :], 2, axis=-1)
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
        channels: channels at the finest level; a multiple of 4 times the heads.
        multipliers: channels of each level, as multiples of `channels`.
        num_blocks: residual blocks a level on the way down; one more on the way up.
        attention_levels: levels (0 is the finest) with attention after every block; the middle
            always has one.
        num_heads: attention heads.
        dropout: rate inside the residual blocks.
        rematerialise: recompute the residual blocks in the backward pass, to save memory.
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
        residual_block = nn.remat(ResidualBlock) if self.rematerialise else ResidualBlock
        num_levels = len(self.multipliers)
        blocks_built = 0

        embedding = sinusoidal_embedding(level, self.channels).astype(self.dtype)
        embedding = nn.Dense(4 * self.channels, dtype=self.dtype)(embedding)
        embedding = nn.Dense(4 * self.channels, dtype=self.dtype)(nn.silu(embedding))

        def block(h, multiplier, attend):
            nonlocal blocks_built
            keys = fold_in(dropout_keys, blocks_built) if self.dropout else None
            # Else the parameters would be named after the class, which rematerialising changes.
            name = f"ResidualBlock_{blocks_built}"
            blocks_built += 1
            h = residual_block(multiplier * self.channels, self.dropout, self.dtype, name=name)(
                h, embedding, keys
            )
            return SelfAttention(self.num_heads, self.dtype)(h) if attend else h

        h = Conv(self.channels, (3, 3), dtype=self.dtype)(x.astype(self.dtype))
        skips = [h]
        for i, multiplier in enumerate(self.multipliers):
            for _ in range(self.num_blocks):
                h = block(h, multiplier, i in self.attention_levels)
                skips.append(h)
            if i < num_levels - 1:
                h = Conv(h.shape[-1], (3, 3), strides=2, padding=1, dtype=self.dtype)(h)
                skips.append(h)

        h = block(h, self.multipliers[-1], attend=True)
        h = block(h, self.multipliers[-1], attend=False)

        for i, multiplier in reversed(list(enumerate(self.multipliers))):
            for _ in range(self.num_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(h, multiplier, i in self.attention_levels)
            if i > 0:
                height, width = skips[-1].shape[1:3]
                h = h.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
                h = Conv(h.shape[-1], (3, 3), dtype=self.dtype)(h)

        h = nn.silu(group_norm(self.channels, dtype=self.dtype)(h))
        h = Conv(self.out_channels, (3, 3), kernel_init=nn.initializers.zeros)(
            h.astype(jnp.float32)
        )
        return h
