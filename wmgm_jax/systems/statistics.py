"""The Haar bands of an image at every scale, and the scales that normalise them."""

import functools
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from wmgm_jax import wavelets
from wmgm_jax.core.moments import mean_over_batches
from wmgm_jax.systems.interface import Statistics
from wmgm_jax.wavelets import pyramid

# A band that never varies must not be divided by zero.
SMALLEST_STD = 1e-4


def compute_statistics(batches: Iterable[jax.Array | np.ndarray], levels: int) -> Statistics:
    """Mean and standard deviation of x_L^k and standard deviation of each detail band (the
    gamma_k of WSGM Eq. 14), per scale and channel, of images in unit range.

    Args:
        batches: float32 `[B, H, W, C]` in unit range, at least one.
        levels: the number of scales S, from 0.

    Returns:
        float32 `low_mean` and `low_std` `[S + 1, C]`, of the image x_L^0 first, and `detail_std`
        `[S, 3, C]`, of scale 1 first; the latter only where there is a scale.
    """

    @jax.jit
    def moments(images):
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

    mean = mean_over_batches(moments, batches)
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
