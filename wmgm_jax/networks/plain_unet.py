"""The U-Net of standard learning in WMGM (Appendix H.2), after Ronneberger et al. 2015.

https://arxiv.org/abs/1505.04597. Any H and W pass: odd sizes are rounded up on the way down and
cropped on the way up.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import NormalisedConv, numbered
from wmgm_jax.networks.unet_parts import pooling_encoder


class ConvBlock(nn.Module):
    """Two convolutions, of 2x2 and of 4x4 pixels, each with batch norm and ReLU.

    Both have one pixel of zeros at every border: H becomes H + 1, then H again.

    Attributes:
        channels: of the result.
        dtype: of the computation.
    """

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[B, H, W, C] -> [B, H, W, channels]`."""
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
        rematerialise: saves memory: the backward pass computes the blocks again.
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
            train: batch norm uses the batch's statistics and updates the running ones; otherwise
                it uses the running statistics.

        Returns:
            float32 `[B, H, W, out_channels]`.
        """
        numbers = itertools.count()

        def block(h, channels):
            layer = numbered(ConvBlock, next(numbers), self.rematerialise, static_argnums=(2,))
            return layer(channels, self.dtype)(h, train)

        h, skips = pooling_encoder(x.astype(self.dtype), self.channels, self.depth, block)
        for skip in reversed(skips):
            height, width, channels = skip.shape[1:]
            h = nn.ConvTranspose(channels, (2, 2), strides=(2, 2), dtype=self.dtype)(h)
            h = block(jnp.concatenate([skip, h[:, :height, :width]], axis=-1), channels)
        return Conv(self.out_channels, (1, 1))(h.astype(jnp.float32))
