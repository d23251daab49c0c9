"""Random damage to images, and what the network must say about it.

Every kind of damage leaves some images as they are. The network learns from the labels what an
undamaged image looks like: which way is up, which part belongs where, what belongs together, and
how sharp, noisy, light and rich in contrast an image is.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Which quarter of the image goes to each of the four places, row by row; the first is the identity.
QUARTERS = np.array(list(itertools.permutations(range(4))))
STRENGTHS = ("blur", "noise", "contrast", "brightness")

# The symmetries of the square that each kind of augmentation does not produce, as numbers for
# `turned`: the images are alike up to the symmetries that the augmentation does produce.
_TURNS = {"none": (0, 1, 2, 3, 4, 5, 6, 7), "flip": (0, 2, 4, 6), "dihedral": (0,)}
_AUGMENTED = {"none": (0,), "flip": (0, 1), "dihedral": (0, 1, 2, 3, 4, 5, 6, 7)}

_NOISE = 48.0  # grey levels
_BRIGHTNESS = 64.0  # grey levels
_CONTRAST = 2.5  # the largest factor
_PHOTOMETRIC = 0.3  # the share of images with each


def turns(shape: tuple[int, ...], augment: str) -> tuple[int, ...]:
    """The symmetries that are damage, the first being the identity.

    Args:
        shape: of an image, `(H, W, ...)`. Only square images are turned by 90 degrees.
        augment: how training images are augmented, see `data.batch_at`. Its symmetries are no
            damage.
    """
    return tuple(s for s in _TURNS[augment] if shape[0] == shape[1] or s in (0, 1, 4, 5))


def damage(
    key: jax.Array, images: jax.Array, augment: str
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Damages each image of a batch at random.

    Args:
        key: one key.
        images: uint8 `[B, H, W, C]`, B > 1. An image gets pasted parts of the image before it.
        augment: how training images are augmented; see `turns`.

    Returns:
        float32 `[B, H, W, C]`, whole numbers in [0, 255], and labels by name: `turn` `[B]`, the
        place in `turns`; `quarters` `[B]`, the row of `QUARTERS`; `mask` `[B, H, W]`, 1 where
        another image was pasted and 0 elsewhere; `strengths` `[B, 4]`, of `STRENGTHS`, the first
        two in [0, 1] and the others in [-1, 1].
    """
    keys = jax.random.split(key, len(images))
    images = images.astype(jnp.float32)
    return jax.vmap(lambda k, x, y: _damage_one(k, x, y, augment))(
        keys, images, jnp.roll(images, 1, axis=0)
    )


def _damage_one(key: jax.Array, image: jax.Array, other: jax.Array, augment: str) -> tuple:
    keys = iter(jax.random.split(key, 16))
    image, other = (_augmented(next(keys), x, augment) for x in (image, other))
    turn = _class(next(keys), len(turns(image.shape, augment)))
    image = turned(image, jnp.array(turns(image.shape, augment))[turn])
    order = _class(next(keys), len(QUARTERS))
    image = exchanged(image, jnp.asarray(QUARTERS)[order])
    mask = _pasted_part(next(keys), image.shape)
    image = jnp.where(mask[..., None], other, image)
    blur, noise, contrast, brightness = (
        jax.random.uniform(next(keys), minval=low) * (jax.random.uniform(next(keys)) < _PHOTOMETRIC)
        for low in (0.0, 0.0, -1.0, -1.0)
    )
    image = blurred(image, min(image.shape[:2]) / 16 * blur**2)
    mean = image.mean()
    image = mean + (image - mean) * _CONTRAST**contrast + _BRIGHTNESS * brightness
    image += _NOISE * noise**2 * jax.random.normal(next(keys), image.shape)
    labels = {
        "turn": turn,
        "quarters": order,
        "mask": mask.astype(jnp.float32),
        "strengths": jnp.stack([blur, noise, contrast, brightness]),
    }
    return jnp.rint(image.clip(0, 255)), labels


def turned(image: jax.Array, symmetry: jax.Array) -> jax.Array:
    """An image `[H, W, C]` under a symmetry of the rectangle, or of the square if H = W.

    Args:
        image: to turn.
        symmetry: symmetry // 2 quarter turns against the clock, then mirrored left to right if odd.
    """

    def turn(s: int) -> Any:
        if image.shape[0] != image.shape[1] and s // 2 % 2:
            return lambda x: x
        return lambda x: jnp.rot90(x, s // 2)[:, :: -1 if s % 2 else 1]

    return jax.lax.switch(symmetry, [turn(s) for s in range(8)], image)


def exchanged(image: jax.Array, order: jax.Array) -> jax.Array:
    """An image `[H, W, C]` whose quarters, row by row, are the quarters `order` `[4]` of it.

    Of a side of odd length the last row or column of pixels stays.
    """
    height, width = (side // 2 for side in image.shape[:2])
    even = image[: 2 * height, : 2 * width]
    quarters = even.reshape(2, height, 2, width, -1).swapaxes(1, 2).reshape(4, height, width, -1)
    even = quarters[order].reshape(2, 2, height, width, -1).swapaxes(1, 2).reshape(even.shape)
    return image.at[: 2 * height, : 2 * width].set(even)


def blurred(image: jax.Array, sigma: jax.Array) -> jax.Array:
    """A Gaussian blur of `[H, W, C]`, in pixels; weights beyond the border are left out."""

    def weights(length: int) -> jax.Array:
        distances = jnp.arange(length)[:, None] - jnp.arange(length)
        return jax.nn.softmax(-0.5 * (distances / jnp.maximum(sigma, 0.01)) ** 2, axis=1)

    rows, columns = (weights(side) for side in image.shape[:2])
    return jnp.einsum("yh,hwc,xw->yxc", rows, image, columns)


def _augmented(key: jax.Array, image: jax.Array, augment: str) -> jax.Array:
    """The image shifted by up to an eighth and continued by its mirror image, and augmented."""
    shift, symmetry = jax.random.split(key)
    offsets = jax.random.uniform(shift, (2,), minval=-1 / 8, maxval=1 / 8)
    for axis, offset in enumerate(offsets):
        side = image.shape[axis]
        places = jnp.arange(side) + jnp.rint(offset * side).astype(int)
        places = jnp.where(places < 0, -places, places)
        places = jnp.where(places >= side, 2 * side - 2 - places, places)
        image = jnp.take(image, places, axis=axis)
    return turned(image, jax.random.choice(symmetry, jnp.array(_AUGMENTED[augment])))


def _class(key: jax.Array, count: int) -> jax.Array:
    """One of `count` classes: the first half of the time, else any."""
    first, chosen = jax.random.split(key)
    return jnp.where(jax.random.bernoulli(first), 0, jax.random.randint(chosen, (), 0, count))


def _pasted_part(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Where another image is pasted, bool `[H, W]`: nowhere, in a half, or in a rectangle."""
    kind, which, corner, extent = jax.random.split(key, 4)
    y, x = ((jnp.arange(side) + 0.5) / side for side in shape[:2])
    size = jax.random.uniform(extent, (2,), minval=0.25, maxval=0.75)
    low = jax.random.uniform(corner, (2,)) * (1 - size)
    halves = jnp.array([[0, 0, 0.5, 1], [0.5, 0, 1, 1], [0, 0, 1, 0.5], [0, 0.5, 1, 1]])
    half = jax.random.choice(which, halves)
    u = jax.random.uniform(kind)
    box = jnp.where(u < 0.75, jnp.concatenate([low, low + size]), half)
    rows, columns = (y >= box[0]) & (y < box[2]), (x >= box[1]) & (x < box[3])
    return rows[:, None] & columns & (u >= 0.5)
