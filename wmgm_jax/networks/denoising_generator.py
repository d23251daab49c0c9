"""The generator of denoising diffusion GANs, with or without wavelets inside.

Without wavelets it is the U-Net of NCSN++ (Song et al. 2021, https://arxiv.org/abs/2011.13456) as
Xiao et al. 2022 (https://arxiv.org/abs/2112.07804) use it. A latent z is mapped to a style, which
scales and shifts the group norms of the residual blocks. A pyramid of the input joins the features
of every level. NCSN++ resamples features with FIR filters; here downsampling takes means of 2x2
pixels, and upsampling repeats pixels.

A mean of 2x2 pixels is half the low Haar band: it drops the details. Phung et al. 2023
(https://arxiv.org/abs/2211.16152) add three parts that keep them:

    wavelet residual        all four bands of the input join the features, not only the low one
    frequency resampling    downsampling passes the details on to the upsampling of the same level
    frequency bottleneck    the middle works on the low band; the details bypass it
"""

import itertools
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax import wavelets
from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import SelfAttention, group_norm, numbered
from wmgm_jax.networks.unet_parts import (
    residual_encoder_decoder,
    scale_and_shift,
    time_embedding,
    upsample_nearest,
)


def split(x: jax.Array) -> tuple[jax.Array, wavelets.Details]:
    """Means of 2x2 pixels and the Haar details, `[B, H, W, C]` -> four of `[B, H/2, W/2, C]`."""
    low, details = wavelets.dwt2(x)
    return low / 2, details


def join(mean: jax.Array, details: wavelets.Details) -> jax.Array:
    """The inverse of `split`."""
    return wavelets.idwt2(2 * mean, details)


class AdaptiveGroupNorm(nn.Module):
    """Group normalisation, scaled and shifted by the style of an image.

    Attributes:
        dtype: of the computation.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, style: jax.Array) -> jax.Array:
        """x `[B, H, W, C]`, style `[B, s]` -> `[B, H, W, C]`."""
        channels = x.shape[-1]
        scale, shift = scale_and_shift(style, channels, self.dtype)
        h = group_norm(channels, use_scale=False, use_bias=False, dtype=self.dtype)(x)
        return h * (1 + scale) + shift


class SecondHalf(nn.Module):
    """The end of every block: adds the time embedding, a normalised convolution, the shortcut.

    Attributes:
        dtype: of the computation.
    """

    dtype: Any

    @nn.compact
    def __call__(
        self, h: jax.Array, shortcut: jax.Array, embedding: jax.Array, style: jax.Array
    ) -> jax.Array:
        """h and shortcut `[B, H, W, C]`, embedding `[B, e]`, style `[B, s]` -> `[B, H, W, C]`."""
        channels = h.shape[-1]
        h += nn.Dense(channels, dtype=self.dtype)(nn.silu(embedding))[:, None, None, :]
        h = nn.silu(AdaptiveGroupNorm(self.dtype)(h, style))
        h = Conv(channels, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype)(h)
        return (shortcut + h) / 2**0.5


class ResidualBlock(nn.Module):
    """A residual block of NCSN++.

    Attributes:
        channels: of the result.
        dtype: of the computation.
        resample: "down" halves H and W, "up" doubles them.
    """

    channels: int
    dtype: Any
    resample: Literal["none", "down", "up"] = "none"

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, style: jax.Array) -> jax.Array:
        """x `[B, H, W, C]`, embedding `[B, e]`, style `[B, s]` -> `[B, H', W', channels]`."""
        h = nn.silu(AdaptiveGroupNorm(self.dtype)(x, style))
        if self.resample == "down":
            h, x = split(h)[0], split(x)[0]
        elif self.resample == "up":
            h, x = upsample_nearest(h), upsample_nearest(x)
        h = Conv(self.channels, (3, 3), dtype=self.dtype)(h)
        if x.shape[-1] != self.channels or self.resample != "none":
            x = Conv(self.channels, (1, 1), dtype=self.dtype)(x)
        return SecondHalf(self.dtype)(h, x, embedding, style)


class FrequencyDown(nn.Module):
    """A residual block that halves H and W and returns the details that it drops.

    Attributes:
        channels: of the result and of the details.
        dtype: of the computation.
    """

    channels: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, embedding: jax.Array, style: jax.Array
    ) -> tuple[jax.Array, wavelets.Details]:
        """
        Args:
            x: `[B, H, W, C]`.
            embedding: `[B, e]`.
            style: `[B, s]`.

        Returns:
            Features and three bands of details, `[B, H/2, W/2, channels]` each.
        """
        h = nn.silu(AdaptiveGroupNorm(self.dtype)(x, style))
        h, details = split(Conv(self.channels, (3, 3), dtype=self.dtype)(h))
        x = Conv(self.channels, (1, 1), dtype=self.dtype)(split(x)[0])
        return SecondHalf(self.dtype)(h, x, embedding, style), details


class FrequencyUp(nn.Module):
    """A residual block that doubles H and W with the details of a `FrequencyDown`.

    Attributes:
        channels: of the result.
        dtype: of the computation.
    """

    channels: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, embedding: jax.Array, style: jax.Array, details: wavelets.Details
    ) -> jax.Array:
        """
        Args:
            x: `[B, H, W, C]`.
            embedding: `[B, e]`.
            style: `[B, s]`.
            details: `[B, H, W, c]` each. Every band has a convolution of its own.

        Returns:
            `[B, 2H, 2W, channels]`.
        """
        h = nn.silu(AdaptiveGroupNorm(self.dtype)(x, style))
        h = Conv(self.channels, (3, 3), dtype=self.dtype)(h)
        x = Conv(self.channels, (1, 1), dtype=self.dtype)(x)

        def convolve(band, name):
            return Conv(self.channels, (3, 3), dtype=self.dtype, name=name)(band)

        lh, hl, hh = details
        details = convolve(lh, "LH"), convolve(hl, "HL"), convolve(hh, "HH")
        return SecondHalf(self.dtype)(join(h, details), join(x, details), embedding, style)


class MappingNetwork(nn.Module):
    """Maps a latent z to a style: normalises z to unit mean square, then applies dense layers.

    Attributes:
        size: of the style.
        num_layers: number of dense layers after the first.
        dtype: of the computation.
    """

    size: int
    num_layers: int
    dtype: Any

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        """`[B, n] -> [B, size]`."""
        style = z * jax.lax.rsqrt(jnp.mean(z**2, axis=-1, keepdims=True) + 1e-8)
        for _ in range(self.num_layers + 1):
            style = nn.silu(nn.Dense(self.size, dtype=self.dtype)(style))
        return style


class DenoisingGenerator(nn.Module):
    """The network `(y_t, z, t) -> y_0`.

    Attributes:
        out_channels: channels of the result, which is unbounded.
        channels: channels at the finest level, even.
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
        embedding = time_embedding(t, self.channels, self.dtype)
        numbers = itertools.count()

        def block(h, channels, kind: type[nn.Module] = ResidualBlock, *details, **options):
            layer = numbered(kind, next(numbers), self.rematerialise)
            return layer(channels, self.dtype, **options)(h, embedding, style, *details)

        def attention(h):
            return SelfAttention(num_heads=1, dtype=self.dtype)(h)

        def encoder_block(h, level):
            h = block(h, self.multipliers[level] * self.channels)
            return attention(h) if level in self.attention_levels else h

        def decoder_block(h, level, is_last):
            h = block(h, self.multipliers[level] * self.channels)
            return attention(h) if is_last and level in self.attention_levels else h

        pyramid = y.astype(self.dtype)
        details_of_levels = []

        def down(h):
            nonlocal pyramid
            if self.frequency_resampling:
                h, details = block(h, h.shape[-1], FrequencyDown)
                details_of_levels.append(details)
            else:
                h = block(h, h.shape[-1], resample="down")
            pyramid = (self.coarser_input(pyramid, h.shape[-1]) + h) / 2**0.5
            return pyramid

        def up(h, size):
            if self.frequency_resampling:
                return block(h, h.shape[-1], FrequencyUp, details_of_levels.pop())
            return block(h, h.shape[-1], resample="up")

        def bottleneck_block(h):
            if not self.frequency_bottleneck:
                return block(h, h.shape[-1])
            mean, details = split(h)
            return join(block(mean, h.shape[-1]), details)

        h = residual_encoder_decoder(
            Conv(self.channels, (3, 3), dtype=self.dtype)(pyramid),
            len(self.multipliers),
            self.num_blocks,
            encoder_block=encoder_block,
            down=down,
            middle=lambda h: bottleneck_block(attention(bottleneck_block(h))),
            decoder_block=decoder_block,
            up=up,
        )
        h = nn.silu(group_norm(h.shape[-1], dtype=self.dtype)(h))
        return Conv(self.out_channels, (3, 3), kernel_init=nn.initializers.zeros)(
            h.astype(jnp.float32)
        )

    def coarser_input(self, pyramid: jax.Array, channels: int) -> jax.Array:
        """The input at the next coarser level, `[B, H, W, C] -> [B, H/2, W/2, channels]`."""
        mean, details = split(pyramid)
        if self.wavelet_residual:
            mean = jnp.concatenate([mean, *(band / 2 for band in details)], axis=-1)
        return Conv(channels, (3, 3), dtype=self.dtype)(mean)
