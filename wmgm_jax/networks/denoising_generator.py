"""The generator of denoising diffusion GANs, with or without wavelets inside.

Without wavelets it is the U-Net of NCSN++ (Song et al. 2021, https://arxiv.org/abs/2011.13456) as
Xiao et al. 2022 (https://arxiv.org/abs/2112.07804) use it. A latent z is mapped to a style, which
scales and shifts the group norms of the residual blocks. A pyramid of the input joins the features
of every level. FIR filters make features and input coarser and finer (`resampling.py`).

These filters drop the details. Phung et al. 2023 (https://arxiv.org/abs/2211.16152) replace them
with Haar transforms, in three parts:

    wavelet residual        all four Haar bands of the input join the features of every level
    frequency resampling    downsampling keeps the low band, and passes the details on to the
                            upsampling of the same level
    frequency bottleneck    the middle works on the low band; the details bypass it

The order of the layers and all constants are those of the authors' release,
https://github.com/VinAIResearch/WaveDiff. docs/differences.md lists what differs.
"""

import itertools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax import wavelets
from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.denoising_blocks import (
    EPSILON,
    KERNEL_INIT,
    FrequencyDown,
    FrequencyUp,
    MappingNetwork,
    ResidualBlock,
    join,
    split,
)
from wmgm_jax.networks.layers import SelfAttention, group_norm, numbered, timestep_embedding
from wmgm_jax.networks.resampling import fir_blur

# h and, of some blocks, details.
Block = Callable[..., Any]


class DenoisingGenerator(nn.Module):
    """The network `(y_t, z, t) -> y_0`.

    Attributes:
        out_channels: channels of the result.
        channels: channels at the finest level, even and at least 4.
        multipliers: channels of each level, as multiples of `channels`.
        num_blocks: residual blocks per level on the way down; there is one more on the way up.
        attention_levels: levels (0 is the finest) with attention, of one head: after every block
            on the way down, and after the last one on the way up. The middle always has attention.
        style_size: size of the style.
        mapping_layers: dense layers of the mapping network after the first.
        wavelet_residual: all bands of the input join the features, not only the low one.
        frequency_resampling: details bypass the coarser levels.
        frequency_bottleneck: details bypass the middle.
        rematerialise: saves memory: the backward pass computes the residual blocks again.
        dtype: of the computation; the parameters and the result are float32.
    """

    out_channels: int
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    num_blocks: int = 2
    attention_levels: tuple[int, ...] = (1,)
    style_size: int = 256
    mapping_layers: int = 4
    wavelet_residual: bool = True
    frequency_resampling: bool = True
    frequency_bottleneck: bool = True
    rematerialise: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, y: jax.Array, z: jax.Array, t: jax.Array) -> jax.Array:
        """
        Args:
            y: y_t, `[B, H, W, C]`. H and W are divisible by 2^(L-1) with L levels, and by 2^L with
                the frequency bottleneck.
            z: `[B, n]`, standard normal.
            t: `[B]`, the index of the step, from 1.

        Returns:
            float32 `[B, H, W, out_channels]`.
        """
        style = MappingNetwork(self.style_size, self.mapping_layers, self.dtype)(z)
        embedding = self.embed(t)
        numbers = itertools.count()

        def block(channels: int, kind: type[nn.Module] = ResidualBlock, **options: Any) -> Block:
            layer = numbered(kind, next(numbers), self.rematerialise)
            made = layer(channels, self.dtype, **options)
            return lambda h, *details: made(h, embedding, style, *details)

        def down(h):
            if self.frequency_resampling:
                return block(h.shape[-1], FrequencyDown)(h)
            return block(h.shape[-1], resample="down")(h), None

        def up(h, details):
            if self.frequency_resampling:
                return block(h.shape[-1], FrequencyUp)(h, details)
            return block(h.shape[-1], resample="up")(h)

        coarser = y.astype(self.dtype)
        h = self.conv3x3(self.channels)(coarser)
        skips, dropped = [h], []
        widths = [multiplier * self.channels for multiplier in self.multipliers]
        for level, channels in enumerate(widths):
            for _ in range(self.num_blocks):
                h = block(channels)(h)
                if level in self.attention_levels:
                    h = self.attention(h)
                skips.append(h)
            if level < len(widths) - 1:
                h, details = down(h)
                h = coarser = (self.coarser_input(coarser, channels) + h) / 2**0.5
                skips.append(h)
                dropped.append(details)

        h = self.middle(block(widths[-1]), block(widths[-1]), h)
        for level, channels in reversed(list(enumerate(widths))):
            for _ in range(self.num_blocks + 1):
                h = block(channels)(jnp.concatenate([h, skips.pop()], axis=-1))
            if level in self.attention_levels:
                h = self.attention(h)
            if level > 0:
                h = up(h, dropped.pop())

        h = nn.silu(group_norm(h.shape[-1], EPSILON, dtype=self.dtype)(h)).astype(jnp.float32)
        return Conv(self.out_channels, (3, 3), kernel_init=nn.initializers.zeros)(h)

    def middle(self, first: Block, last: Block, h: jax.Array) -> jax.Array:
        """The coarsest level, between the ways down and up, of h's shape."""
        if not self.frequency_bottleneck:
            return last(self.attention(first(h)))
        h = self.attention(on_low_band(first, h))
        # The release runs the second block twice.
        return on_low_band(last, last(h))

    def embed(self, t: jax.Array) -> jax.Array:
        """The embedding of the time, `[B] -> [B, 4 channels]`."""
        first, second = (
            nn.Dense(4 * self.channels, kernel_init=KERNEL_INIT, dtype=self.dtype) for _ in range(2)
        )
        # The release counts the steps from 0.
        embedding = timestep_embedding(t - 1, self.channels).astype(self.dtype)
        return second(nn.silu(first(embedding)))

    def attention(self, h: jax.Array) -> jax.Array:
        """(h + attention of h) / sqrt 2, of h's shape."""
        # A scale of 0.1 for each of the three square kernels that this kernel holds.
        init = nn.initializers.variance_scaling(0.2, "fan_avg", "uniform")
        return SelfAttention(1, self.dtype, EPSILON, init)(h) / 2**0.5

    def coarser_input(self, pyramid: jax.Array, channels: int) -> jax.Array:
        """The input at the next coarser level, `[B, H, W, C] -> [B, H/2, W/2, channels]`."""
        if not self.wavelet_residual:
            return self.conv3x3(channels, strides=(2, 2), padding="VALID")(fir_blur(pyramid))
        low, details = wavelets.dwt2(pyramid)
        return self.conv3x3(channels)(jnp.concatenate([low, *details], axis=-1) / 2)

    def conv3x3(self, channels: int, **options: Any) -> Conv:
        """A new convolution."""
        return Conv(channels, (3, 3), kernel_init=KERNEL_INIT, dtype=self.dtype, **options)


def on_low_band(block: Block, h: jax.Array) -> jax.Array:
    """A block applied to means of 2x2 pixels. The Haar details bypass it."""
    mean, details = split(h)
    return join(block(mean), details)
