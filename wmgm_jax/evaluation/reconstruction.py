"""How near images come when only their coarsest band is kept (Table 2 of the paper)."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wmgm_jax.core.devices import dividing, over_devices, shardings
from wmgm_jax.core.pictures import to_uint8
from wmgm_jax.core.units import to_unit_range
from wmgm_jax.losses.ssim import ssim

# That of equal images is infinite, which no mean survives and no JSON holds.
HIGHEST_PSNR = 100.0


def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio of images in [0, 1], in decibels, at most `HIGHEST_PSNR`.

    Args:
        x, y: `[B, H, W, C]`.

    Returns:
        `[B]`.
    """
    error = jnp.mean((x - y) ** 2, axis=(1, 2, 3))
    return -10 * jnp.log10(jnp.maximum(error, 10 ** (-HIGHEST_PSNR / 10)))


def fidelity(rebuilt: np.ndarray, true: np.ndarray, batch_size: int = 64) -> dict[str, float]:
    """Mean PSNR and SSIM of rebuilt images.

    Args:
        rebuilt, true: `[N, H, W, C]`, uint8, or fields in unit range, whose data range (of PSNR's
            peak and SSIM's constants) is taken for 2, four standard deviations, as that of images
            in [-1, 1].
        batch_size: images at a time.

    Returns:
        `psnr` in decibels and `ssim`, averaged over the images.
    """

    @jax.jit
    def compare(x, y):
        x, y = ((to_unit_range(images) + 1) / 2 for images in (x, y))
        return psnr(x, y), ssim(x, y, data_range=1.0)

    values = [
        compare(rebuilt[i : i + batch_size], true[i : i + batch_size])
        for i in range(0, len(true), batch_size)
    ]
    psnrs, ssims = (np.concatenate(value) for value in zip(*jax.device_get(values), strict=True))
    return {"psnr": float(psnrs.mean()), "ssim": float(ssims.mean())}


def rebuild(
    reconstruct: Callable[[Any, jax.Array, jax.Array], jax.Array],
    params: Any,
    images: np.ndarray,
    key: jax.Array,
    batch_size: int,
) -> np.ndarray:
    """Images rebuilt from their true coarsest band.

    Args:
        reconstruct: (params, keys `[B]`, images) -> rebuilt images, both `[B, H, W, C]` in [-1, 1].
        params: of the model.
        images: `[N, H, W, C]`, uint8, or fields in unit range.
        key: for the noise of the details.
        batch_size: images at a time.

    Returns:
        `[N, H, W, C]`, of the kind of `images`.
    """
    devices = dividing(math.gcd(batch_size, len(images)))
    program = over_devices(lambda params, batch: reconstruct(params, *batch), devices)
    whole, split = shardings(devices)
    params = jax.device_put(params, whole)
    keys = jax.random.split(key, len(images))
    batches = []
    for i in range(0, len(images), batch_size):
        batch = keys[i : i + batch_size], to_unit_range(images[i : i + batch_size])
        batches.append(program(params, jax.device_put(batch, split)))
    rebuilt = np.concatenate(jax.device_get(batches))
    return to_uint8((rebuilt + 1) / 2) if images.dtype == np.uint8 else rebuilt
