"""Inception-v3 as the Fréchet inception distance uses it: from images to 2048 features.

Szegedy et al. 2016, https://arxiv.org/abs/1512.00567, in the variant of December 2015 that Heusel
et al. 2017, https://arxiv.org/abs/1706.08500, use, and https://github.com/mseitzer/pytorch-fid too:
average pools do not count the padding, and the last block pools by the maximum. Layers have the
names of that package. The network is for inference alone: the batch norm of each convolution is
folded into its kernel and bias.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

SIDE = 299
FEATURES = 2048


def to_rgb(images: jax.Array) -> jax.Array:
    """Images `[B, H, W, C]`, C 1 or 3, with grey repeated to three channels, `[B, H, W, 3]`."""
    return jnp.broadcast_to(images, (*images.shape[:-1], 3))


def resize(images: jax.Array) -> jax.Array:
    """Images resized to 299x299 by bilinear interpolation, without antialiasing.

    Pixel values are at pixel centres, as with
    `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`.

    Args:
        images: `[B, H, W, C]`.

    Returns:
        `[B, 299, 299, C]`.
    """
    rows, columns = (jnp.asarray(_interpolation(n), images.dtype) for n in images.shape[1:3])
    return jnp.einsum("yh,bhwc,xw->byxc", rows, images, columns, precision="highest")


def _interpolation(length: int) -> np.ndarray:
    """The matrix `[299, length]` that interpolates one line of pixels."""
    centres = (np.arange(SIDE) + 0.5) * length / SIDE - 0.5
    centres = centres.clip(0, length - 1)  # constant beyond the outermost centres
    return np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(length)))


def average_pool(x: jax.Array) -> jax.Array:
    """Means over 3x3 neighbourhoods without the padding, `[B, H, W, C] -> [B, H, W, C]`."""
    return nn.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)


def _max_pool(x: jax.Array) -> jax.Array:
    return nn.max_pool(x, (3, 3), (2, 2))


def _conv(
    x: jax.Array,
    channels: int,
    kernel_size: tuple[int, int],
    name: str,
    strides: int = 1,
    padding: str = "SAME",
) -> jax.Array:
    """A convolution and ReLU, to be called where a module is compact."""
    h = nn.Conv(channels, kernel_size, strides, padding, precision="highest", name=name)(x)
    return nn.relu(h)


def _convs(x: jax.Array, name: str, *layers: tuple[int, tuple[int, int]]) -> jax.Array:
    """Convolutions `name_1`, `name_2`, ... of (channels, kernel size) one after another."""
    for i, (channels, kernel_size) in enumerate(layers, start=1):
        x = _conv(x, channels, kernel_size, f"{name}_{i}")
    return x


class InceptionA(nn.Module):
    """Branches of 1x1, 5x5 and twice 3x3, and a pool, side by side."""

    pool_channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        branches = [
            _conv(x, 64, (1, 1), "branch1x1"),
            _convs(x, "branch5x5", (48, (1, 1)), (64, (5, 5))),
            _convs(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
            _conv(average_pool(x), self.pool_channels, (1, 1), "branch_pool"),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionB(nn.Module):
    """Halves H and W: branches of 3x3 and twice 3x3, and a pool."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        double = _convs(x, "branch3x3dbl", (64, (1, 1)), (96, (3, 3)))
        branches = [
            _conv(x, 384, (3, 3), "branch3x3", 2, "VALID"),
            _conv(double, 96, (3, 3), "branch3x3dbl_3", 2, "VALID"),
            _max_pool(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionC(nn.Module):
    """Branches of 1x1, 7x7 and twice 7x7, these as 1x7 and 7x1, and a pool."""

    channels: int  # between the halves of a 7x7

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        c, row, column = self.channels, (1, 7), (7, 1)
        double = ((c, (1, 1)), (c, column), (c, row), (c, column), (192, row))
        branches = [
            _conv(x, 192, (1, 1), "branch1x1"),
            _convs(x, "branch7x7", (c, (1, 1)), (c, row), (192, column)),
            _convs(x, "branch7x7dbl", *double),
            _conv(average_pool(x), 192, (1, 1), "branch_pool"),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionD(nn.Module):
    """Halves H and W: branches of 3x3 and of 7x7 then 3x3, and a pool."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        single = _convs(x, "branch3x3", (192, (1, 1)))
        wide = _convs(x, "branch7x7x3", (192, (1, 1)), (192, (1, 7)), (192, (7, 1)))
        branches = [
            _conv(single, 320, (3, 3), "branch3x3_2", 2, "VALID"),
            _conv(wide, 192, (3, 3), "branch7x7x3_4", 2, "VALID"),
            _max_pool(x),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionE(nn.Module):
    """Branches of 1x1, 3x3 and twice 3x3 whose ends are a 1x3 beside a 3x1, and a pool.

    Attributes:
        max_pool: pools by the maximum rather than the mean.
    """

    max_pool: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        single = _convs(x, "branch3x3", (384, (1, 1)))
        double = _convs(x, "branch3x3dbl", (448, (1, 1)), (384, (3, 3)))
        pooled = nn.max_pool(x, (3, 3), padding="SAME") if self.max_pool else average_pool(x)
        branches = [
            _conv(x, 320, (1, 1), "branch1x1"),
            _conv(single, 384, (1, 3), "branch3x3_2a"),
            _conv(single, 384, (3, 1), "branch3x3_2b"),
            _conv(double, 384, (1, 3), "branch3x3dbl_3a"),
            _conv(double, 384, (3, 1), "branch3x3dbl_3b"),
            _conv(pooled, 192, (1, 1), "branch_pool"),
        ]
        return jnp.concatenate(branches, axis=-1)


class InceptionV3(nn.Module):
    """The network from images to the features before its head ("pool3")."""

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """
        Args:
            images: float32 `[B, H, W, 3]` in [-1, 1], of any size; they are resized to 299x299.

        Returns:
            float32 `[B, 2048]`, not negative.
        """
        h = _conv(resize(images), 32, (3, 3), "Conv2d_1a_3x3", 2, "VALID")
        h = _conv(h, 32, (3, 3), "Conv2d_2a_3x3", padding="VALID")
        h = _max_pool(_conv(h, 64, (3, 3), "Conv2d_2b_3x3"))
        h = _conv(h, 80, (1, 1), "Conv2d_3b_1x1")
        h = _max_pool(_conv(h, 192, (3, 3), "Conv2d_4a_3x3", padding="VALID"))
        for letter, pool_channels in zip("bcd", (32, 64, 64), strict=True):
            h = InceptionA(pool_channels, name=f"Mixed_5{letter}")(h)
        h = InceptionB(name="Mixed_6a")(h)
        for letter, channels in zip("bcde", (128, 160, 160, 192), strict=True):
            h = InceptionC(channels, name=f"Mixed_6{letter}")(h)
        h = InceptionD(name="Mixed_7a")(h)
        h = InceptionE(max_pool=False, name="Mixed_7b")(h)
        h = InceptionE(max_pool=True, name="Mixed_7c")(h)
        return jnp.mean(h, axis=(1, 2))
