"""The discriminator of MSAL: strided residual blocks, a spatial mean and two dense layers."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import Dropout, Norm


class DownBlock(nn.Module):
    """A residual block that halves H and W.

    Attributes:
        channels: of the result.
        dtype: of the computation.
    """

    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C] -> [B, ceil(H/2), ceil(W/2), channels]`."""
        shortcut = Conv(self.channels, (1, 1), strides=2, dtype=self.dtype, use_bias=False)(x)
        shortcut = Norm("group", self.dtype)(shortcut, train=False)
        h = Conv(x.shape[-1], (3, 3), dtype=self.dtype)(x)
        h = nn.leaky_relu(Norm("group", self.dtype)(h, train=False), 0.1)
        h = Conv(self.channels, (3, 3), strides=2, padding=1, dtype=self.dtype)(h)
        h = Norm("group", self.dtype)(h, train=False)
        return nn.leaky_relu(h + shortcut, 0.1)


class Discriminator(nn.Module):
    """The network `x -> [B]`: one unbounded number per image. Any H and W pass.

    The normalisation is group norm. Batch norm would couple the images of a batch, and a penalty on
    the gradient with respect to one image would lose its meaning.

    Attributes:
        channels: channels of the first layer.
        num_blocks: residual blocks, each doubling the channels and halving H and W.
        dropout: rate before the last layer.
        dtype: of the computation; the parameters and the result are float32.
    """

    channels: int = 64
    num_blocks: int = 5
    dropout: float = 0.5
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, dropout_keys: jax.Array | None = None) -> jax.Array:
        """
        Args:
            x: `[B, H, W, C]`.
            dropout_keys: `[B]` keys in training; None switches dropout off.

        Returns:
            float32 `[B]`.
        """
        h = Conv(self.channels, (3, 3), dtype=self.dtype)(x.astype(self.dtype))
        h = nn.leaky_relu(Norm("group", self.dtype)(h, train=False), 0.1)
        for i in range(self.num_blocks):
            h = DownBlock(self.channels * 2 ** (i + 1), self.dtype)(h)
        h = jnp.mean(h.astype(jnp.float32), axis=(1, 2))
        h = nn.leaky_relu(nn.Dense(h.shape[-1] // 2)(h), 0.1)
        h = Dropout(self.dropout)(h, dropout_keys)
        return nn.Dense(1)(h)[:, 0]
