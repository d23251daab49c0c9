"""The network of the learned features: from images to 80 features.

Four residual stages, each at half the resolution of the stage before. The features are the spatial
means of a few linear combinations of the channels of each stage. Early stages see texture, late
stages see structure. The features are few, for the Fréchet distance of two sets of real images
grows with the square of their number.
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.convolution import Conv
from wmgm_jax.networks.layers import group_norm

CHANNELS = (32, 64, 128, 256)
# Features of each stage.
FEATURES = (8, 16, 24, 32)
# The side of the grid of the first stage, where the image is large enough.
_SIDE = 32


def block_side(height: int, width: int) -> int:
    """The side of the blocks of pixels that become one position of the first grid.

    It is the largest power of two that divides both sides and leaves at least 32 blocks along the
    shorter one: 1 for 32x32 and smaller, 2 for 64x64, 4 for 128x128.
    """
    side = 1
    while min(height, width) >= 2 * side * _SIDE and not (height | width) % (2 * side):
        side *= 2
    return side


class Backbone(nn.Module):
    """The stages without what they are trained with."""

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """
        Args:
            images: float32 `[B, H, W, C]` in [-1, 1].

        Returns:
            The features `[B, sum(FEATURES)]`, and the output of the last stage, `[B, h, w,
            CHANNELS[-1]]`.
        """
        side = block_side(*images.shape[1:3])
        x = Conv(CHANNELS[0], (3, 3))(_blocks_to_channels(images, side))
        means = []
        for i, (channels, features) in enumerate(zip(CHANNELS, FEATURES, strict=True)):
            x = Stage(channels, strides=1 if i == 0 else 2)(x)
            means.append(nn.Dense(features, name=f"features_{i}")(nn.relu(x)).mean(axis=(1, 2)))
        return jnp.concatenate(means, axis=-1), x


class Stage(nn.Module):
    """A residual block of two convolutions, the first with a stride.

    The path around the block has no normalisation, so that contrast passes. The block knows where
    in the image it is: it sees the coordinates as two more channels.
    """

    channels: int
    strides: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C] -> [B, ceil(H / strides), ceil(W / strides), channels]`."""
        h = jnp.concatenate([nn.relu(x), _coordinates(x)], axis=-1)
        h = Conv(self.channels, (3, 3), strides=self.strides, use_bias=False)(h)
        h = nn.relu(group_norm(self.channels)(h))
        h = group_norm(self.channels)(Conv(self.channels, (3, 3), use_bias=False)(h))
        if self.strides > 1:
            window = (self.strides, self.strides)
            x = nn.avg_pool(x, window, window, "SAME", count_include_pad=False)
        if x.shape[-1] != self.channels:
            x = Conv(self.channels, (1, 1))(x)
        return x + h


class Heads(nn.Module):
    """The backbone with everything that it predicts in training.

    Attributes:
        sizes: the number of outputs of each linear head, by name.
    """

    sizes: Mapping[str, int]

    @nn.compact
    def __call__(self, images: jax.Array) -> dict[str, jax.Array]:
        """
        Args:
            images: float32 `[B, H, W, C]` in [-1, 1].

        Returns:
            By name: `[B, n]` for each of `sizes`; `mask`, logits `[B, h, w]`; `embedding`, unit
            vectors `[B, 64]`.
        """
        features, last = Backbone(name="backbone")(images)
        x = nn.relu(nn.Dense(256, name="hidden")(features))
        outputs = {name: nn.Dense(size, name=name)(x) for name, size in self.sizes.items()}
        outputs["mask"] = nn.Dense(1, name="mask")(nn.relu(last))[..., 0]
        embedding = nn.Dense(64, name="embedding")(x)
        length = jnp.linalg.norm(embedding, axis=-1, keepdims=True)
        return outputs | {"embedding": embedding / (length + 1e-6)}


def _coordinates(x: jax.Array) -> jax.Array:
    """The row and the column of each position of `[B, H, W, C]`, in [-1, 1], `[B, H, W, 2]`."""
    rows, columns = (jnp.linspace(-1, 1, side) for side in x.shape[1:3])
    grid = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
    return jnp.broadcast_to(grid, (*x.shape[:3], 2))


def _blocks_to_channels(images: jax.Array, side: int) -> jax.Array:
    """`[B, H, W, C] -> [B, H / side, W / side, side side C]`."""
    batch, height, width, channels = images.shape
    blocks = images.reshape(batch, height // side, side, width // side, side, channels)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(*blocks.shape[:2], width // side, -1)
