"""The Haar bands of an image at every scale, and the scales that normalise them."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from wmgm_jax import wavelets
from wmgm_jax.systems.interface import Statistics

# A band that never varies must not be divided by zero.
SMALLEST_STD = 1e-4

Bands = tuple[jax.Array, wavelets.Details]


def to_unit_range(images: jax.Array) -> jax.Array:
    """uint8 -> float32 in [-1, 1]; fields, which are in unit range already, as they are."""
    if jnp.issubdtype(images.dtype, jnp.floating):
        return images
    return images.astype(jnp.float32) / 127.5 - 1.0


def pyramid(images: jax.Array, levels: int) -> list[Bands]:
    """`[(x_L^1, x_H^1), ..., (x_L^S, x_H^S)]`: the low band and the details of every scale."""
    bands, low = [], images
    for _ in range(levels):
        low, details = wavelets.dwt2(low)
        bands.append((low, details))
    return bands


def low(images: jax.Array, k: int) -> jax.Array:
    """x_L^k `[..., H / 2^k, W / 2^k, C]`; the image itself where k is 0."""
    return pyramid(images, k)[-1][0] if k else images


def measure(batches: Iterable[np.ndarray], levels: int) -> Statistics:
    """Mean and standard deviation of x_L^k and standard deviation of each detail band (the
    gamma_k of WSGM Eq. 14), per scale and channel, of images in [-1, 1].

    Args:
        batches: `[B, H, W, C]`, uint8 or fields in unit range, at least one.
        levels: the number of scales S, from 0.

    Returns:
        float32 `low_mean` and `low_std` `[S + 1, C]`, of the image x_L^0 first, and `detail_std`
        `[S, 3, C]`, of scale 1 first; the latter only where there is a scale.
    """

    @jax.jit
    def moments(images):
        images = to_unit_range(images)
        scales = pyramid(images, levels)
        lows = [images, *(low for low, _ in scales)]
        mean = functools.partial(jnp.mean, axis=(0, 1, 2))
        return {
            "low": jnp.stack([mean(low) for low in lows]),
            "low_square": jnp.stack([mean(low**2) for low in lows]),
            "detail_square": jnp.array(
                [[mean(detail**2) for detail in details] for _, details in scales]
            ).reshape(levels, 3, images.shape[-1]),
        }

    # Summed over batches in float64, for the images number many.
    totals, count = {}, 0
    for images in batches:
        for name, value in moments(images).items():
            totals[name] = totals.get(name, 0.0) + len(images) * np.asarray(value, np.float64)
        count += len(images)
    mean = {name: total / count for name, total in totals.items()}

    low_variance = np.maximum(mean["low_square"] - mean["low"] ** 2, 0.0)
    statistics = {
        "low_mean": mean["low"],
        "low_std": np.maximum(np.sqrt(low_variance), SMALLEST_STD),
    }
    if levels:  # Checkpoints hold no empty arrays.
        detail_std = np.sqrt(mean["detail_square"])
        statistics["detail_std"] = np.maximum(detail_std, SMALLEST_STD)
    return {name: value.astype(np.float32) for name, value in statistics.items()}


def normalise_low(low: jax.Array, statistics: Statistics, k: int) -> jax.Array:
    """x_L^k `[..., C]` with mean 0 and unit scale."""
    return (low - statistics["low_mean"][k]) / statistics["low_std"][k]


def denormalise_low(x: jax.Array, statistics: Statistics, k: int) -> jax.Array:
    """The inverse of `normalise_low`."""
    return x * statistics["low_std"][k] + statistics["low_mean"][k]


def normalise_details(details: wavelets.Details, statistics: Statistics, k: int) -> jax.Array:
    """x_H^k, three of `[..., C]`, with unit scale, as `[..., 3 C]`."""
    return jnp.concatenate(details, axis=-1) / statistics["detail_std"][k - 1].reshape(-1)


def denormalise_details(x: jax.Array, statistics: Statistics, k: int) -> wavelets.Details:
    """The inverse of `normalise_details`."""
    stds = statistics["detail_std"][k - 1]
    return tuple(band * std for band, std in zip(jnp.split(x, 3, axis=-1), stds, strict=True))
