"""The discriminator of denoising diffusion GANs: is y_{t-1} a real step from y_t?

Xiao et al. 2022, https://arxiv.org/abs/2112.07804. Their network ends with a further channel, the
standard deviation over groups of images. This one has no such channel. The output for one image
would depend on the others of its batch, and a run on its number of devices. Moreover, the R1
penalty is the gradient of one image's output with respect to that image.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import sinusoidal_embedding
from wmgm_jax.wavelets import dwt2


def _activation(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, 0.2)


class TimeBlock(nn.Module):
    """A residual block with an embedding of the time.

    Attributes:
        channels: of the result.
        stride: 2 halves H and W by means of 2x2 pixels; 1 keeps them.
        dtype: of the computation.
    """

    channels: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
        """x `[B, H, W, C]`, embedding `[B, e]` -> `[B, H / stride, W / stride, channels]`."""
        h = Conv(self.channels, (3, 3), dtype=self.dtype)(_activation(x))
        h += nn.Dense(self.channels, dtype=self.dtype)(embedding)[:, None, None, :]
        h = _activation(h)
        if self.stride == 2:
            h, x = (dwt2(y)[0] / 2 for y in (h, x))  # means of 2x2 pixels
        h = Conv(self.channels, (3, 3), kernel_init=nn.initializers.zeros, dtype=self.dtype)(h)
        x = Conv(self.channels, (1, 1), use_bias=False, dtype=self.dtype)(x)
        return (x + h) / 2**0.5


class TimeDiscriminator(nn.Module):
    """The network `(y_{t-1}, y_t, t) -> [B]`: one logit per image.

    Attributes:
        channels: channels of the first layer. Every block that halves H and W doubles them, up to
            four times this number.
        num_blocks: number of residual blocks.
        first_stride: stride of the first block, 1 for small images or 2. All others have 2.
        embedding_size: size of the time embedding, even.
        dtype: of the computation; the parameters and the result are float32.
    """

    channels: int = 128
    num_blocks: int = 4
    first_stride: int = 1
    embedding_size: int = 256
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, y_before: jax.Array, y: jax.Array, t: jax.Array) -> jax.Array:
        """
        Args:
            y_before: y_{t-1}, `[B, H, W, C]`.
            y: y_t, `[B, H, W, C]`.
            t: `[B]`, the index of the step, from 1.

        Returns:
            float32 `[B]`.
        """
        embedding = sinusoidal_embedding(t, self.embedding_size).astype(self.dtype)
        for _ in range(2):
            embedding = _activation(nn.Dense(self.embedding_size, dtype=self.dtype)(embedding))

        h = jnp.concatenate([y_before, y], axis=-1).astype(self.dtype)
        h = Conv(self.channels, (1, 1), dtype=self.dtype)(h)
        halvings = 0
        for i in range(self.num_blocks):
            stride = self.first_stride if i == 0 else 2
            halvings += stride == 2
            h = TimeBlock(self.channels * min(2**halvings, 4), stride, self.dtype)(h, embedding)
        h = _activation(Conv(h.shape[-1], (3, 3), dtype=self.dtype)(h))
        return nn.Dense(1)(jnp.sum(h.astype(jnp.float32), axis=(1, 2)))[:, 0]
