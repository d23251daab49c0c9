"""The U-Net of standard learning (Appendix H.2), after Ronneberger et al. 2015.

https://arxiv.org/abs/1505.04597. Sizes that do not halve evenly are rounded up on the way down
and cropped on the way up, so that any H and W pass.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import NormalisedConv, max_pool


class ConvBlock(nn.Module):
    """Two convolutions, of 2x2 and of 4x4 pixels, each with batch norm and ReLU.

    Both are padded by one pixel, so that H becomes H + 1 and then H again.
    """

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        for kernel_size in (2, 4):
            conv = NormalisedConv(self.channels, kernel_size, "batch", self.dtype, padding=1)
            x = nn.relu(conv(x, train))
        return x


class PlainUNet(nn.Module):
    """The network `x -> [B, H, W, out_channels]`.

    Attributes:
        out_channels: channels of the result.
        channels: channels at the finest level; they double at each further one.
        depth: number of encoder blocks.
        rematerialise: recompute the convolution blocks in the backward pass, to save memory.
        dtype: of the computation; the parameters and the result are float32.
    """

    out_channels: int
    channels: int = 64
    depth: int = 5
    rematerialise: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """
        Args:
            x: `[B, H, W, C]`.
            train: batch norm uses (and updates) the batch's statistics, not the running ones.

        Returns:
            float32 `[B, H, W, out_channels]`.
        """
        block_class = nn.remat(ConvBlock, static_argnums=(2,)) if self.rematerialise else ConvBlock
        # Else the parameters would be named after the class, which rematerialising changes.
        names = (f"ConvBlock_{i}" for i in itertools.count())

        def block(h, channels):
            return block_class(channels, self.dtype, name=next(names))(h, train)

        h = block(x.astype(self.dtype), self.channels)
        skips = []
        for level in range(1, self.depth):
            skips.append(h)
            h = block(max_pool(h), self.channels * 2**level)

        while skips:
            skip = skips.pop()
            height, width, channels = skip.shape[1:]
            h = nn.ConvTranspose(channels, (2, 2), strides=(2, 2), dtype=self.dtype)(h)
            h = block(jnp.concatenate([skip, h[:, :height, :width]], axis=-1), channels)

        return Conv(self.out_channels, (1, 1))(h.astype(jnp.float32))
