"""The discriminator of details: residual blocks without normalisation, a logit a patch.

Normalisation would hide from it how large the details are. Isola et al. 2017
(https://arxiv.org/abs/1611.07004) judge patches; Huang et al. 2024
(https://arxiv.org/abs/2501.05441) leave normalisation out.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.convolution import Conv


class ResidualBlock(nn.Module):
    """x + conv(LeakyReLU(conv(LeakyReLU(x)))), which begins as the identity.

    Attributes:
        dtype: of the computation.
    """

    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C] -> [B, H, W, C]`."""
        channels = x.shape[-1]
        h = Conv(channels, (3, 3), dtype=self.dtype)(nn.leaky_relu(x, 0.2))
        h = nn.leaky_relu(h, 0.2)
        zeros = nn.initializers.zeros
        return x + Conv(channels, (3, 3), kernel_init=zeros, dtype=self.dtype)(h)


class PatchDiscriminator(nn.Module):
    """The network `x -> [B, h, w]`, a logit for each patch. Any H and W pass.

    Attributes:
        channels: channels at the finest level; they double at each further one.
        num_levels: levels, each with `num_blocks` blocks and half the height and width of the one
            before.
        num_blocks: residual blocks a level.
        dtype: of the computation; the parameters and the result are float32.
    """

    channels: int = 64
    num_levels: int = 3
    num_blocks: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` -> float32 `[B, h, w]`, h = H / 2^(num_levels - 1) rounded up."""
        h = Conv(self.channels, (3, 3), dtype=self.dtype)(x.astype(self.dtype))
        for level in range(self.num_levels):
            if level > 0:
                h = _halved(Conv(self.channels * 2**level, (1, 1), dtype=self.dtype)(h))
            for _ in range(self.num_blocks):
                h = ResidualBlock(self.dtype)(h)
        return Conv(1, (1, 1))(nn.leaky_relu(h.astype(jnp.float32), 0.2))[..., 0]


def _halved(x: jax.Array) -> jax.Array:
    """2x2 means, `[B, H, W, C] -> [B, ceil(H/2), ceil(W/2), C]`."""
    x = jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode="edge")
    return (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
