"""How near images come to the true ones when they are rebuilt from their coarsest band.

Table 2 of the paper.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wmgm_jax.core.codec import Codec
from wmgm_jax.core.devices import dividing, over_devices
from wmgm_jax.evaluation import intervals
from wmgm_jax.evaluation.sets import Measures
from wmgm_jax.losses.ssim import ssim

# Of equal images it would be infinite, and so would be its mean; JSON has no infinity.
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


def fidelity(
    rebuilt: np.ndarray, true: np.ndarray, codec: Codec, batch_size: int = 64
) -> dict[str, float]:
    """Mean PSNR and SSIM of rebuilt images.

    Args:
        rebuilt, true: encoded `[N, H, W, C]`. The data range, for the peak of PSNR and the
            constants of SSIM, is 2 in unit range: from black to white of images, four standard
            deviations of fields.
        codec: of both.
        batch_size: images at a time.

    Returns:
        `psnr` in decibels and `ssim`, averaged over the images.
    """

    @jax.jit
    def compare(x, y):
        x, y = ((codec.to_unit_range(images) + 1) / 2 for images in (x, y))
        return psnr(x, y), ssim(x, y, data_range=1.0)

    values = [
        compare(rebuilt[i : i + batch_size], true[i : i + batch_size])
        for i in range(0, len(true), batch_size)
    ]
    psnrs, ssims = (np.concatenate(value) for value in zip(*jax.device_get(values), strict=True))
    return {"psnr": float(psnrs.mean()), "ssim": float(ssims.mean())}


def reconstruction_measures(rebuilt: np.ndarray, true: np.ndarray, codec: Codec) -> Measures:
    """PSNR and SSIM of images rebuilt from their true coarsest band, with intervals.

    Args:
        rebuilt, true, codec: as for `fidelity`.

    Returns:
        `reconstruction/psnr` and `reconstruction/ssim`.
    """
    values = intervals.measured(
        lambda indices: fidelity(rebuilt[indices], true[indices], codec), np.arange(len(true))
    )
    return {
        f"reconstruction/{name}": value | {"training": None, "images": [len(true)] * 2}
        for name, value in values.items()
    }


def rebuild(
    reconstruct: Callable[[Any, jax.Array, jax.Array], jax.Array],
    params: Any,
    images: np.ndarray,
    codec: Codec,
    key: jax.Array,
    batch_size: int,
) -> np.ndarray:
    """Rebuilds images from their true coarsest band.

    Args:
        reconstruct: (params, keys `[B]`, images) -> rebuilt images, both `[B, H, W, C]` in [-1, 1].
        params: of the model.
        images: encoded `[N, H, W, C]`.
        codec: of the images.
        key: for the noise of the details.
        batch_size: images at a time.

    Returns:
        Encoded `[N, H, W, C]`.
    """
    devices = dividing(math.gcd(batch_size, len(images)))
    program = over_devices(lambda params, batch: reconstruct(params, *batch), devices)
    keys = jax.random.split(key, len(images))
    rebuilt = program.in_batches(params, (keys, codec.to_unit_range(images)), batch_size)
    return codec.encode_unit_range(rebuilt)
