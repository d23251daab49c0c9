"""Layers that several networks share."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.networks.convolution import Conv

BATCH_NORM_EPSILON = 1e-5

NormKind = Literal["batch", "group"]


def group_norm(channels: int, **kwargs: Any) -> nn.GroupNorm:
    """Group normalisation with at most 32 groups, of at least 4 channels where that divides."""
    largest = max(1, min(32, channels // 4))
    groups = next(n for n in range(largest, 0, -1) if channels % n == 0)
    return nn.GroupNorm(num_groups=groups, epsilon=1e-5, **kwargs)


class Norm(nn.Module):
    """Normalisation with a scale and a bias a channel, computed in float32.

    Attributes:
        kind: "batch" keeps running statistics in the collection `batch_stats`, and in training
            averages the batch's own over the devices of the axis `BATCH_AXIS`; "group" knows
            only the image at hand.
        dtype: of the result.
    """

    kind: NormKind
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """`[B, H, W, C] -> [B, H, W, C]`."""
        if self.kind == "group":
            return group_norm(x.shape[-1], dtype=self.dtype)(x)
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=BATCH_NORM_EPSILON,
            axis_name=BATCH_AXIS,
            dtype=self.dtype,
        )(x)


class NormalisedConv(nn.Module):
    """A convolution with a bias, then normalisation.

    Attributes:
        channels: of the result.
        kernel_size: of both axes.
        norm: "batch" or "group".
        dtype: of the computation.
        padding: pixels at every border; "SAME" for those that keep H and W.
    """

    channels: int
    kernel_size: int
    norm: NormKind
    dtype: Any
    padding: str | int = "SAME"

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        kernel_size = (self.kernel_size, self.kernel_size)
        h = Conv(
            self.channels, kernel_size, padding=self.padding, use_bias=False, dtype=self.dtype
        )(x)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        if self.norm == "batch":
            # Batch norm takes the bias out again, so that its gradient is nothing but rounding
            # errors, which Adam would blow up to a random walk.
            bias = jax.lax.stop_gradient(bias)
        return Norm(self.norm, self.dtype)(h + bias.astype(h.dtype), train)


class Dropout(nn.Module):
    """Dropout whose mask of an example depends on that example's key alone.

    `flax.linen.Dropout` draws one mask for the batch, which makes a run depend on how its batch
    is spread over devices.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, keys: jax.Array | None) -> jax.Array:
        """Args: x `[B, ...]`; keys `[B]` in training, None for the identity."""
        if keys is None or self.rate == 0.0:
            return x
        keep = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1 - self.rate), 0)


def max_pool(x: jax.Array) -> jax.Array:
    """2x2 maxima, `[B, H, W, C] -> [B, ceil(H/2), ceil(W/2), C]`."""
    # Not a windowed reduction, whose gradient is several times slower on a CPU.
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    x = jnp.maximum(x[:, 0::2], x[:, 1::2])
    return jnp.maximum(x[:, :, 0::2], x[:, :, 1::2])


def sinusoidal_embedding(level: jax.Array, size: int) -> jax.Array:
    """`[B] -> [B, size]`, cosines then sines of frequencies from 1 down to 1/10000 (size even)."""
    half = size // 2
    frequencies = jnp.exp(-jnp.log(10000.0) * jnp.arange(half) / half)
    angles = level.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


class SelfAttention(nn.Module):
    """Multi-head attention among all pixels, added to its input."""

    num_heads: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        batch, height, width, channels = x.shape
        h = group_norm(channels, dtype=self.dtype)(x).reshape(batch, height * width, channels)
        qkv = nn.Dense(3 * channels, dtype=self.dtype)(h)
        qkv = qkv.reshape(batch, height * width, 3, self.num_heads, channels // self.num_heads)
        h = jax.nn.dot_product_attention(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2])
        h = nn.Dense(channels, kernel_init=nn.initializers.zeros, dtype=self.dtype)(
            h.reshape(batch, height * width, channels)
        )
        return x + h.reshape(x.shape)
