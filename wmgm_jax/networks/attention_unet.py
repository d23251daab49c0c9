"""The MSAL generator: a U-Net whose skips pass attention gates (Oktay et al. 2018).

https://arxiv.org/abs/1804.03999. Sizes that do not halve evenly are rounded up on the way down
and cropped on the way up, so that any H and W pass.
"""

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import NormalisedConv, NormKind, max_pool


class ConvBlock(nn.Module):
    """conv - norm - LeakyReLU - conv - norm, plus a bias-free 1x1 shortcut, then LeakyReLU."""

    channels: int
    norm: NormKind
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        middle = (x.shape[-1] + self.channels) // 2
        h = NormalisedConv(middle, 3, self.norm, self.dtype)(x, train)
        h = nn.leaky_relu(h, 0.1)
        h = NormalisedConv(self.channels, 3, self.norm, self.dtype)(h, train)
        shortcut = Conv(self.channels, (1, 1), use_bias=False, dtype=self.dtype)(x)
        return nn.leaky_relu(h + shortcut, 0.1)


class AttentionGate(nn.Module):
    """The skip times psi in (0, 1), one number a pixel, computed from skip and decoder."""

    norm: NormKind
    dtype: Any

    @nn.compact
    def __call__(self, decoder: jax.Array, skip: jax.Array, train: bool) -> jax.Array:
        def project(x, channels, name):
            return NormalisedConv(channels, 1, self.norm, self.dtype, name=name)(x, train)

        channels = skip.shape[-1] // 2
        h = nn.relu(project(decoder, channels, "W_g") + project(skip, channels, "W_x"))
        return skip * nn.sigmoid(project(h, 1, "psi"))


def upsample(x: jax.Array) -> jax.Array:
    """Bilinear x2 with half-pixel centres, `[B, H, W, C] -> [B, 2H, 2W, C]`."""
    for axis in (1, 2):
        size = x.shape[axis]
        padding = [(1, 1) if i == axis else (0, 0) for i in range(4)]
        padded = jnp.pad(x, padding, mode="edge")
        before = jax.lax.slice_in_dim(padded, 0, size, axis=axis)
        after = jax.lax.slice_in_dim(padded, 2, size + 2, axis=axis)
        pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pair.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return x


class AttentionUNet(nn.Module):
    """The network `x -> [B, H, W, out_channels]`.

    Attributes:
        out_channels: channels of the result.
        channels: channels at the finest level; they double at each further one.
        depth: number of encoder blocks.
        norm: "batch" or "group".
        rematerialise: recompute the convolution blocks in the backward pass, to save memory.
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
            train: batch norm uses (and updates) the batch's statistics, not the running ones.

        Returns:
            float32 `[B, H, W, out_channels]`.
        """
        block_class = nn.remat(ConvBlock, static_argnums=(2,)) if self.rematerialise else ConvBlock
        # Else the parameters would be named after the class, which rematerialising changes.
        names = (f"ConvBlock_{i}" for i in itertools.count())

        def block(h, channels):
            return block_class(channels, self.norm, self.dtype, name=next(names))(h, train)

        h = block(x.astype(self.dtype), self.channels)
        skips = []
        for level in range(1, self.depth):
            skips.append(h)
            h = block(max_pool(h), self.channels * 2**level)

        while skips:
            skip = skips.pop()
            height, width, channels = skip.shape[1:]
            h = block(upsample(h)[:, :height, :width], channels)
            gated = AttentionGate(self.norm, self.dtype)(h, skip, train)
            h = jnp.concatenate([gated, h], axis=-1)

        h = block(h, self.channels // 2)
        return Conv(self.out_channels, (1, 1))(h.astype(jnp.float32))
