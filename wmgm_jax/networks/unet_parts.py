"""What the U-Nets share: the ways through their levels, and embeddings of the time.

These functions make Flax layers. Call them inside the `__call__` of a network: the layers belong to
that network, and their names are as if they were made there.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.layers import LECUN_NORMAL, max_pool, sinusoidal_embedding


def time_embedding(t: jax.Array, channels: int, dtype: Any) -> jax.Array:
    """Two dense layers on top of sinusoids, `[B] -> [B, 4 channels]`; `channels` is even."""
    embedding = sinusoidal_embedding(t, channels).astype(dtype)
    embedding = nn.Dense(4 * channels, dtype=dtype)(embedding)
    return nn.Dense(4 * channels, dtype=dtype)(nn.silu(embedding))


def scale_and_shift(
    condition: jax.Array,
    channels: int,
    dtype: Any,
    kernel_init: nn.initializers.Initializer = LECUN_NORMAL,
) -> tuple[jax.Array, jax.Array]:
    """The scale and the shift of features, by a dense layer: h becomes h (1 + scale) + shift.

    Feature-wise linear modulation (Perez et al. 2018), https://arxiv.org/abs/1709.07871.

    Args:
        condition: `[B, n]`.
        channels: C, of the features.
        dtype: of the computation.
        kernel_init: draws the first kernel of the dense layer.

    Returns:
        Two of `[B, 1, 1, C]`.
    """
    both = nn.Dense(2 * channels, kernel_init=kernel_init, dtype=dtype)(condition)
    scale, shift = jnp.split(both[:, None, None, :], 2, axis=-1)
    return scale, shift


def upsample_nearest(x: jax.Array) -> jax.Array:
    """Every pixel four times, `[B, H, W, C] -> [B, 2H, 2W, C]`."""
    return x.repeat(2, axis=1).repeat(2, axis=2)


def upsample_bilinear(x: jax.Array) -> jax.Array:
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


def pooling_encoder(
    x: jax.Array, channels: int, depth: int, block: Callable[[jax.Array, int], jax.Array]
) -> tuple[jax.Array, list[jax.Array]]:
    """The encoder of Ronneberger et al. 2015: blocks with 2x2 max-pooling between them.

    Args:
        x: `[B, H, W, C]`.
        channels: channels of the first block; they double at each further one.
        depth: number of blocks.
        block: `(h, channels) -> [B, H, W, channels]`.

    Returns:
        The output of the last block, and those of the blocks before it, finest first.
    """
    h = block(x, channels)
    skips = []
    for level in range(1, depth):
        skips.append(h)
        h = block(max_pool(h), channels * 2**level)
    return h, skips


def residual_encoder_decoder(
    h: jax.Array,
    num_levels: int,
    num_blocks: int,
    *,
    encoder_block: Callable[[jax.Array, int], jax.Array],
    down: Callable[[jax.Array], jax.Array],
    middle: Callable[[jax.Array], jax.Array],
    decoder_block: Callable[[jax.Array, int, bool], jax.Array],
    up: Callable[[jax.Array, tuple[int, int]], jax.Array],
) -> jax.Array:
    """The way through the U-Nets of diffusion models (Ho et al. 2020).

    Every map of the way down, also those between levels, joins one block on the way up.
    https://arxiv.org/abs/2006.11239.

    Args:
        h: features at the finest level, `[B, H, W, C]`.
        num_levels: number of levels.
        num_blocks: blocks per level on the way down; there is one more on the way up.
        encoder_block: `(h, level)` to features of the same size; level 0 is the finest.
        down: h to features of half the size.
        middle: h at the coarsest level to features of the same size.
        decoder_block: `(h, level, is_last)` to features of the same size; `is_last` says that no
            other block of this level follows.
        up: `(h, (H, W))` to features of size (H, W), twice that of h, or less one pixel.

    Returns:
        Features at the finest level.
    """
    skips = [h]
    for level in range(num_levels):
        for _ in range(num_blocks):
            h = encoder_block(h, level)
            skips.append(h)
        if level < num_levels - 1:
            h = down(h)
            skips.append(h)

    h = middle(h)

    for level in reversed(range(num_levels)):
        for i in range(num_blocks + 1):
            h = jnp.concatenate([h, skips.pop()], axis=-1)
            h = decoder_block(h, level, i == num_blocks)
        if level > 0:
            height, width = skips[-1].shape[1:3]
            h = up(h, (height, width))
    return h
