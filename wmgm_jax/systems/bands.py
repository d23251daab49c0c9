"""The Haar bands of an image at every scale, and the scales that normalise them."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from wmgm_jax import wavelets
from wmgm_jax.systems.interface import Statistics

# A band that never varies must not be divided by zero.
_SMALLEST_STD = 1e-4

Bands = tuple[jax.Array, wavelets.Details]


def to_unit_range(images: jax.Array) -> jax.Array:
    """uint8 -> float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def pyramid(images: jax.Array, levels: int) -> list[Bands]:
    """`[(x_L^1, x_H^1), ..., (x_L^S, x_H^S)]`: the low band and the details of every scale."""
    bands, low = [], images
    for _ in range(levels):
        low, details = wavelets.dwt2(low)
        bands.append((low, details))
    return bands


def measure(batches: Iterable[np.ndarray], levels: int) -> Statistics:
    """Mean and standard deviation of x_L^k and standard deviation of each detail band (the
    gamma_k of WSGM Eq. 14), per scale and channel, of images in [-1, 1].

    Args:
        batches: uint8 `[B, H, W, C]`, at least one.
        levels: the number of scales S.

    Returns:
        float32 `low_mean` and `low_std` `[S, C]`, `detail_std` `[S, 3, C]`.
    """

    @jax.jit
    def moments(images):
        bands = pyramid(to_unit_range(images), levels)
        mean = functools.partial(jnp.mean, axis=(0, 1, 2))
        return {
            "low": jnp.stack([mean(low) for low, _ in bands]),
            "low_square": jnp.stack([mean(low**2) for low, _ in bands]),
            "detail_square": jnp.stack(
                [jnp.stack([mean(detail**2) for detail in details]) for _, details in bands]
            ),
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
        "low_std": np.maximum(np.sqrt(low_variance), _SMALLEST_STD),
        "detail_std": np.maximum(np.sqrt(mean["detail_square"]), _SMALLEST_STD),
    }
    return {name: value.astype(np.float32) for name, value in statistics.items()}
