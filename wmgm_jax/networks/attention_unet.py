"""The generator of MSAL: a U-Net with attention gates on its skips (Oktay et al. 2018).

https://arxiv.org/abs/1804.03999. Any H and W pass: odd sizes are rounded up on the way down and
cropped on the way up.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import NormalisedConv, NormKind, numbered
from wmgm_jax.networks.unet_parts import pooling_encoder, upsample_bilinear


class ConvBlock(nn.Module):
    """conv - norm - LeakyReLU - conv - norm, plus a bias-free 1x1 shortcut, then LeakyReLU.

    Attributes:
        channels: of the result. The first convolution has the mean of the channels in and out.
        norm: see `layers.Norm`.
        dtype: of the computation.
    """

    channels: int
    norm: NormKind
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[B, H, W, C] -> [B, H, W, channels]`."""
        middle = (x.shape[-1] + self.channels) // 2
        h = NormalisedConv(middle, 3, self.norm, self.dtype)(x, train)
        h = nn.leaky_relu(h, 0.1)
        h = NormalisedConv(self.channels, 3, self.norm, self.dtype)(h, train)
        shortcut = Conv(self.channels, (1, 1), use_bias=False, dtype=self.dtype)(x)
        return nn.leaky_relu(h + shortcut, 0.1)


class AttentionGate(nn.Module):
    """Multiplies every pixel of a skip by a weight alpha in (0, 1).

        alpha = sigmoid(psi(ReLU(W_g g + W_x x)))    with g the decoder's features and x the skip

    W_g, W_x and psi are 1x1 convolutions with normalisation (Oktay et al. 2018, Eq. 1-2).

    Attributes:
        norm: see `layers.Norm`.
        dtype: of the computation.
    """

    norm: NormKind
    dtype: Any

    @nn.compact
    def __call__(self, decoder: jax.Array, skip: jax.Array, train: bool) -> jax.Array:
        """Decoder and skip `[B, H, W, C]` -> `[B, H, W, C]`."""

        def project(x, channels, name):
            return NormalisedConv(channels, 1, self.norm, self.dtype, name=name)(x, train)

        channels = skip.shape[-1] // 2
        h = nn.relu(project(decoder, channels, "W_g") + project(skip, channels, "W_x"))
        return skip * nn.sigmoid(project(h, 1, "psi"))


class AttentionUNet(nn.Module):
    """The network `x -> [B, H, W, out_channels]`.

    Attributes:
        out_channels: channels of the result.
        channels: channels at the finest level; they double at each further one.
        depth: number of encoder blocks.
        norm: see `layers.Norm`.
        rematerialise: saves memory: the backward pass computes the blocks again.
        dtype: of the computation; the parameters and the result are float32.
    """

    out_channels: int
    channels: int = 64
    depth: int = 5
    norm: NormKind = "batch"
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
            return layer(channels, self.norm, self.dtype)(h, train)

        h, skips = pooling_encoder(x.astype(self.dtype), self.channels, self.depth, block)
        for skip in reversed(skips):
            height, width, channels = skip.shape[1:]
            h = block(upsample_bilinear(h)[:, :height, :width], channels)
            gated = AttentionGate(self.norm, self.dtype)(h, skip, train)
            h = jnp.concatenate([gated, h], axis=-1)

        h = block(h, self.channels // 2)
        return Conv(self.out_channels, (1, 1))(h.astype(jnp.float32))
