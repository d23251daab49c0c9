"""The generator of denoising diffusion GANs, plain or with wavelets inside.

The plain one is the U-Net of NCSN++ (Song et al. 2021, https://arxiv.org/abs/2011.13456) as Xiao et
al. 2022 (https://arxiv.org/abs/2112.07804) use it: residual blocks whose group norms are scaled and
shifted by a mapped latent z, and the input, made coarser and coarser, added to the features of
every level. Maps are made coarser by the mean of 2x2 and finer by repetition, not by the FIR
filters of NCSN++. That is what keeping only the low Haar band does, and the three parts that Phung
et al. 2023 (https://arxiv.org/abs/2211.16152) embed into it keep the details, too:

    wavelet residual        all four bands of the input join the features, not the low one alone
    frequency resampling    details leave a map where it is made coarser, and return where the map
                            of that size is made finer
    frequency bottleneck    the middle works on the low band, the details pass around it
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax import wavelets
from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import SelfAttention, group_norm, sinusoidal_embedding


def split(x: jax.Array) -> tuple[jax.Array, wavelets.Details]:
    """The mean of every 2x2 and the Haar details, `[B, H/2, W/2, C]` each of `[B, H, W, C]`."""
    low, details = wavelets.dwt2(x)
    return low / 2, details


def join(mean: jax.Array, details: wavelets.Details) -> jax.Array:
    """The inverse of `split`."""
    return wavelets.idwt2(2 * mean, details)


class AdaptiveGroupNorm(nn.Module):
    """Group normalisation that the style of an image scales and shifts."""

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, style: jax.Array) -> jax.Array:
        """x `[B, H, W, C]`, style `[B, s]` -> `[B, H, W, C]`."""
        channels = x.shape[-1]
        scale_shift = nn.Dense(2 * channels, dtype=self.dtype)(style)
        scale, shift = jnp.split(scale_shift[:, None, None, :], 2, axis=-1)
        h = group_norm(channels, use_scale=False, use_bias=False, dtype=self.dtype)(x)
        return h * (1 + scale) + shift


class SecondHalf(nn.Module):
    """What ends every block: the embedding of time, a normalised convolution, the shortcut."""

    dtype: Any

    @nn.compact
    def __call__(
        self, h: jax.Array, shortcut: jax.Array, embedding: jax.Array, style: jax.Array
    ) -> jax.Array:
        channels = h.shape[-1]
        h += nn.Dense(channels, dtype=self.dtype)(nn.silu(embedding))[:, None, None, :]
        h = nn.silu(AdaptiveGroupNorm(self.dtype)(h, style))
        h = Conv(channels, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype)(h)
        return (shortcut + h) / 2**0.5


class ResidualBlock(nn.Module):
    """`(x [B, H, W, C], embedding [B, e], style [B, s])` -> `[B, H', W', channels]`.

    Attributes:
        channels: of the result.
        dtype: of the computation.
        resample: whether the map comes out coarser or finer by two.
    """

    channels: int
    dtype: Any
    resample: Literal["none", "down", "up"] = "none"

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, style: jax.Array) -> jax.Array:
        h = nn.silu(AdaptiveGroupNorm(self.dtype)(x, style))
        if self.resample == "down":
            h, x = split(h)[0], split(x)[0]
        elif self.resample == "up":
            h, x = (y.repeat(2, axis=1).repeat(2, axis=2) for y in (h, x))
        h = Conv(self.channels, (3, 3), dtype=self.dtype)(h)
        if x.shape[-1] != self.channels or self.resample != "none":
            x = Conv(self.channels, (1, 1), dtype=self.dtype)(x)
        return SecondHalf(self.dtype)(h, x, embedding, style)


class FrequencyDown(nn.Module):
    """A residual block that halves H and W, and hands out the details that it drops."""

    channels: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, embedding: jax.Array, style: jax.Array
    ) -> tuple[jax.Array, wavelets.Details]:
        """As `ResidualBlock`; the details are `[B, H/2, W/2, channels]` each."""
        h = nn.silu(AdaptiveGroupNorm(self.dtype)(x, style))
        h, details = split(Conv(self.channels, (3, 3), dtype=self.dtype)(h))
        x = Conv(self.channels, (1, 1), dtype=self.dtype)(split(x)[0])
        return SecondHalf(self.dtype)(h, x, embedding, style), details


class FrequencyUp(nn.Module):
    """A residual block that doubles H and W with the details that a `FrequencyDown` handed out."""

    channels: int
    dtype: Any

    @nn.compact
    def __call__(
        self, x: jax.Array, embedding: jax.Array, style: jax.Array, details: wavelets.Details
    ) -> jax.Array:
        """As `ResidualBlock`; details `[B, H, W, c]` each, one convolution a band."""
        h = nn.silu(AdaptiveGroupNorm(self.dtype)(x, style))
        h = Conv(self.channels, (3, 3), dtype=self.dtype)(h)
        x = Conv(self.channels, (1, 1), dtype=self.dtype)(x)
        details = tuple(
            Conv(self.channels, (3, 3), dtype=self.dtype, name=name)(band)
            for name, band in zip(("LH", "HL", "HH"), details, strict=True)
        )
        return SecondHalf(self.dtype)(join(h, details), join(x, details), embedding, style)


class MappingNetwork(nn.Module):
    """The latent z of an image to its style: each z to unit mean square, then dense layers."""

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
        out_channels: channels of the result, which has no bounds.
        channels: channels at the finest level, even.
        multipliers: channels of each level, as multiples of `channels`.
        num_blocks: residual blocks a level on the way down; one more on the way up.
        attention_levels: levels (0 is the finest) with attention after every block on the way down
            and once on the way up; the middle always has one. It has one head.
        style_size: of the mapped latent.
        mapping_layers: dense layers that map the latent, besides the first.
        wavelet_residual, frequency_resampling, frequency_bottleneck: the three parts, see above.
        rematerialise: recompute the residual blocks in the backward pass, to save memory.
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
            y: y_t, `[B, H, W, C]`; H and W are divisible by 2 as often as there are coarser levels,
                and once more with the frequency bottleneck.
            z: `[B, n]`, standard normal.
            t: `[B]`, the index of the step, from 1.

        Returns:
            float32 `[B, H, W, out_channels]`.
        """
        num_levels = len(self.multipliers)
        blocks_built = 0

        style = MappingNetwork(self.style_size, self.mapping_layers, self.dtype)(z)
        embedding = sinusoidal_embedding(t, self.channels).astype(self.dtype)
        embedding = nn.Dense(4 * self.channels, dtype=self.dtype)(embedding)
        embedding = nn.Dense(4 * self.channels, dtype=self.dtype)(nn.silu(embedding))

        def block(h, channels, kind=ResidualBlock, *details, **options):
            nonlocal blocks_built
            # Else the parameters would be named after the class, which rematerialising changes.
            name = f"{kind.__name__}_{blocks_built}"
            blocks_built += 1
            kind = nn.remat(kind) if self.rematerialise else kind
            return kind(channels, self.dtype, name=name, **options)(h, embedding, style, *details)

        def attention(h):
            return SelfAttention(num_heads=1, dtype=self.dtype)(h)

        def down(h):
            if self.frequency_resampling:
                return block(h, h.shape[-1], FrequencyDown)
            return block(h, h.shape[-1], resample="down"), None

        def up(h, details):
            if self.frequency_resampling:
                return block(h, h.shape[-1], FrequencyUp, details)
            return block(h, h.shape[-1], resample="up")

        def coarser_input(pyramid, channels):
            mean, details = split(pyramid)
            if self.wavelet_residual:
                mean = jnp.concatenate([mean, *(band / 2 for band in details)], axis=-1)
            return Conv(channels, (3, 3), dtype=self.dtype)(mean)

        def middle(h):
            if not self.frequency_bottleneck:
                return block(h, h.shape[-1])
            mean, details = split(h)
            return join(block(mean, h.shape[-1]), details)

        pyramid = y.astype(self.dtype)
        h = Conv(self.channels, (3, 3), dtype=self.dtype)(pyramid)
        skips, carried = [h], []
        for i, multiplier in enumerate(self.multipliers):
            for _ in range(self.num_blocks):
                h = block(h, multiplier * self.channels)
                h = attention(h) if i in self.attention_levels else h
                skips.append(h)
            if i < num_levels - 1:
                h, details = down(h)
                carried.append(details)
                h = pyramid = (coarser_input(pyramid, h.shape[-1]) + h) / 2**0.5
                skips.append(h)

        h = middle(attention(middle(h)))

        for i, multiplier in reversed(list(enumerate(self.multipliers))):
            for _ in range(self.num_blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = block(h, multiplier * self.channels)
            h = attention(h) if i in self.attention_levels else h
            if i > 0:
                h = up(h, carried.pop())

        h = nn.silu(group_norm(h.shape[-1], dtype=self.dtype)(h))
        return Conv(self.out_channels, (3, 3), kernel_init=nn.initializers.zeros)(
            h.astype(jnp.float32)
        )
