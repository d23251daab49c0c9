"""The discriminator of denoising diffusion GANs: is y_{t-1} a real step from y_t?

Xiao et al. 2022, https://arxiv.org/abs/2112.07804. The layers and all constants are those of the
release of WaveDiff, https://github.com/VinAIResearch/WaveDiff.

Before its last convolution stands a further channel: how much the features of a group of images
differ from each other (Karras et al. 2018, https://arxiv.org/abs/1710.10196). A generator that
always draws the same image is then easy to tell. The images of a group are judged together: the
output for one of them depends on the others, and so does the gradient of which R1 is the square.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import timestep_embedding
from wmgm_jax.networks.resampling import fir_downsample

_KERNEL_INIT = nn.initializers.variance_scaling(1.0, "fan_out", "uniform")


def _activation(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, 0.2)


def group_deviation(h: jax.Array, group_size: int) -> jax.Array:
    """The standard deviation of features over a group of images, averaged over all features.

    Args:
        h: `[B, H, W, C]`.
        group_size: images that follow each other in the batch form a group. It divides B.

    Returns:
        `[B, H, W, 1]`, equal for all images of a group.
    """
    groups = h.astype(jnp.float32).reshape(-1, group_size, *h.shape[1:])
    deviation = jnp.sqrt(jnp.var(groups, axis=1) + 1e-8)
    deviation = jnp.mean(deviation, axis=(1, 2, 3)).repeat(group_size)
    return jnp.broadcast_to(deviation[:, None, None, None], (*h.shape[:-1], 1)).astype(h.dtype)


class TimeBlock(nn.Module):
    """A residual block with an embedding of the time.

    Attributes:
        channels: of the result.
        stride: 2 halves H and W with FIR filters; 1 keeps them.
        dtype: of the computation.
    """

    channels: int
    stride: int
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array) -> jax.Array:
        """x `[B, H, W, C]`, embedding `[B, e]` -> `[B, H / stride, W / stride, channels]`."""
        init, channels, dtype = _KERNEL_INIT, self.channels, self.dtype
        h = Conv(channels, (3, 3), kernel_init=init, dtype=dtype)(_activation(x))
        h += nn.Dense(channels, kernel_init=init, dtype=dtype)(embedding)[:, None, None, :]
        h = _activation(h)
        if self.stride == 2:
            h, x = fir_downsample(h), fir_downsample(x)
        h = Conv(channels, (3, 3), kernel_init=nn.initializers.zeros, dtype=dtype)(h)
        x = Conv(channels, (1, 1), use_bias=False, kernel_init=init, dtype=dtype)(x)
        return (x + h) / 2**0.5


class TimeDiscriminator(nn.Module):
    """The network `(y_{t-1}, y_t, t) -> [B]`: one logit per image.

    Attributes:
        channels: channels of the first layer. Every block that halves H and W doubles them, up to
            four times this number.
        num_blocks: number of residual blocks.
        first_stride: stride of the first block, 1 for small images or 2. All others have 2.
        embedding_size: size of the time embedding, even and at least 4.
        group_size: images that follow each other in the batch and are judged together. A batch with
            fewer is one group.
        dtype: of the computation; the parameters and the result are float32.
    """

    channels: int = 128
    num_blocks: int = 4
    first_stride: int = 1
    embedding_size: int = 256
    group_size: int = 4
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, y_before: jax.Array, y: jax.Array, t: jax.Array) -> jax.Array:
        """
        Args:
            y_before: y_{t-1}, `[B, H, W, C]`. `group_size` divides B, or B is less.
            y: y_t, `[B, H, W, C]`.
            t: `[B]`, the index of the step, from 1.

        Returns:
            float32 `[B]`.
        """
        init, dtype = _KERNEL_INIT, self.dtype
        # The release counts the steps from 0.
        embedding = timestep_embedding(t - 1, self.embedding_size).astype(dtype)
        for _ in range(2):
            dense = nn.Dense(self.embedding_size, kernel_init=init, dtype=dtype)
            embedding = _activation(dense(embedding))

        h = jnp.concatenate([y_before, y], axis=-1).astype(dtype)
        h = Conv(self.channels, (1, 1), kernel_init=init, dtype=dtype)(h)
        halvings = 0
        for i in range(self.num_blocks):
            stride = self.first_stride if i == 0 else 2
            halvings += stride == 2
            h = TimeBlock(self.channels * min(2**halvings, 4), stride, dtype)(h, embedding)
        channels = h.shape[-1]
        h = jnp.concatenate([h, group_deviation(h, min(len(h), self.group_size))], axis=-1)
        # The release's discriminator of small images begins with a judgement of 0.
        last_init = nn.initializers.zeros if self.first_stride == 1 else init
        h = _activation(Conv(channels, (3, 3), kernel_init=last_init, dtype=dtype)(h))
        h = jnp.sum(h.astype(jnp.float32), axis=(1, 2))
        return nn.Dense(1, kernel_init=init)(h)[:, 0]
