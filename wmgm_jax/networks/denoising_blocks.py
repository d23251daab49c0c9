"""The blocks of the generator of denoising diffusion GANs.

Every block sees an embedding of the time and a style, which `MappingNetwork` makes of z. The style
scales and shifts the group norms. Each block ends with (shortcut + h) / sqrt 2.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax import wavelets
from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import group_norm
from wmgm_jax.networks.resampling import fir_downsample, fir_upsample
from wmgm_jax.networks.unet_parts import scale_and_shift

EPSILON = 1e-6  # of the group norms
# The release draws the kernels between z and the group norms otherwise than all others.
KERNEL_INIT = nn.initializers.glorot_uniform()
STYLE_INIT = nn.initializers.variance_scaling(1.0, "fan_out", "uniform")


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
        scale, shift = scale_and_shift(style, channels, self.dtype, STYLE_INIT)
        normalise = group_norm(channels, EPSILON, use_scale=False, use_bias=False, dtype=self.dtype)
        return normalise(x) * (1 + scale) + shift


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
        of_time = nn.Dense(channels, kernel_init=KERNEL_INIT, dtype=self.dtype)
        h += of_time(nn.silu(embedding))[:, None, None, :]
        h = nn.silu(AdaptiveGroupNorm(self.dtype)(h, style))
        h = Conv(channels, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype)(h)
        return (shortcut + h) / 2**0.5


class ResidualBlock(nn.Module):
    """A residual block of NCSN++.

    Attributes:
        channels: of the result.
        dtype: of the computation.
        resample: "down" halves H and W, "up" doubles them, both with FIR filters.
    """

    channels: int
    dtype: Any
    resample: Literal["none", "down", "up"] = "none"

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, style: jax.Array) -> jax.Array:
        """x `[B, H, W, C]`, embedding `[B, e]`, style `[B, s]` -> `[B, H', W', channels]`."""
        h = nn.silu(AdaptiveGroupNorm(self.dtype)(x, style))
        if self.resample == "down":
            h, x = fir_downsample(h), fir_downsample(x)
        elif self.resample == "up":
            h, x = fir_upsample(h), fir_upsample(x)
        h = Conv(self.channels, (3, 3), kernel_init=KERNEL_INIT, dtype=self.dtype)(h)
        if x.shape[-1] != self.channels or self.resample != "none":
            x = Conv(self.channels, (1, 1), kernel_init=KERNEL_INIT, dtype=self.dtype)(x)
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
        h = Conv(self.channels, (3, 3), kernel_init=KERNEL_INIT, dtype=self.dtype)(h)
        h, details = split(h)
        # A convolution of 1x1 and a mean may change places. The release convolves first.
        x = Conv(self.channels, (1, 1), kernel_init=KERNEL_INIT, dtype=self.dtype)(split(x)[0])
        return SecondHalf(self.dtype)(h, x, embedding, style), details


def _band_init(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """`KERNEL_INIT` of one convolution of three groups, of which every band has one."""
    return KERNEL_INIT(key, (*shape[:-1], 3 * shape[-1]), dtype)[..., : shape[-1]]


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
        h = Conv(self.channels, (3, 3), kernel_init=KERNEL_INIT, dtype=self.dtype)(h)
        x = Conv(self.channels, (1, 1), kernel_init=KERNEL_INIT, dtype=self.dtype)(x)

        def convolve(band, name):
            conv = Conv(self.channels, (3, 3), kernel_init=_band_init, dtype=self.dtype, name=name)
            # Of half the band, as in the release, which gives the bias twice the weight.
            return 2 * conv(band / 2)

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
            dense = nn.Dense(self.size, kernel_init=STYLE_INIT, dtype=self.dtype)
            style = nn.silu(dense(style))
        return style
