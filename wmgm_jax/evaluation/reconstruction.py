"""How near images come when only their coarsest band is kept (Table 2 of the paper)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from wmgm_jax import msal
from wmgm_jax.systems.bands import to_unit_range


def psnr(x: jax.Array, y: jax.Array) -> jax.Array:
    """Peak signal-to-noise ratio of images in [0, 1], in decibels.

    Args:
        x, y: `[B, H, W, C]`.

    Returns:
        `[B]`; infinite where x = y.
    """
    return -10 * jnp.log10(jnp.mean((x - y) ** 2, axis=(1, 2, 3)))


def reconstruction(
    reconstruct: Callable[[jax.Array, jax.Array], jax.Array],
    images: np.ndarray,
    key: jax.Array,
    batch_size: int,
) -> dict[str, float]:
    """Mean PSNR and SSIM of images rebuilt from their true coarsest band.

    Args:
        reconstruct: (keys `[B]`, images) -> rebuilt images, both `[B, H, W, C]` in [-1, 1].
        images: uint8 `[N, H, W, C]`.
        key: for the noise of the details.
        batch_size: images at a time.

    Returns:
        `psnr` in decibels and `ssim`, computed in [0, 1], averaged over the images.
    """

    @jax.jit
    def compare(keys, images):
        true = to_unit_range(images)
        rebuilt = jnp.clip((reconstruct(keys, true) + 1) / 2, 0, 1)
        true = (true + 1) / 2
        return psnr(true, rebuilt), msal.ssim(true, rebuilt, data_range=1.0)

    keys = jax.random.split(key, len(images))
    values = [
        compare(keys[i : i + batch_size], images[i : i + batch_size])
        for i in range(0, len(images), batch_size)
    ]
    psnrs, ssims = (np.concatenate(value) for value in zip(*jax.device_get(values), strict=True))
    return {"psnr": float(psnrs.mean()), "ssim": float(ssims.mean())}
