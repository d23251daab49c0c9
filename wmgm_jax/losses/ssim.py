"""Structural similarity, as a loss and as a measure."""

import jax
import jax.numpy as jnp
import numpy as np

SSIM_WINDOW = 11


SSIM_SIGMA = 1.5


def ssim(x: jax.Array, y: jax.Array, data_range: jax.Array | float) -> jax.Array:
    """Structural similarity (Wang et al. 2004), https://doi.org/10.1109/TIP.2003.819861.

    A Gaussian window of 11x11 pixels and sigma 1.5 (smaller where the image is), population
    moments, C1 = (0.01 L)^2, C2 = (0.03 L)^2, averaged over channels and over the windows that
    lie inside the image.

    Args:
        x, y: `[B, H, W, C]`.
        data_range: L, the largest value less the smallest one that images can take; a scalar,
            or `[C]`.

    Returns:
        `[B]`, at most 1, which is reached where x = y.
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    moments = _gaussian_blur(jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1))
    mean_x, mean_y, square_x, square_y, product = jnp.split(moments, 5, axis=-1)
    variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
    covariance = product - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


def _gaussian_blur(x: jax.Array) -> jax.Array:
    """Gaussian average over the windows inside the image, `[B, H, W, C] -> [B, h, w, C]`."""
    size = min(SSIM_WINDOW, *x.shape[1:3])
    offsets = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights /= weights.sum()
    for axis in (1, 2):
        # A banded matrix product: one operation to compile, differentiate and run, where a
        # convolution of one channel by itself is slow on every device.
        windows = np.eye(x.shape[axis])[size - 1 :]
        windows = sum(w * np.roll(windows, -i, axis=1) for i, w in enumerate(weights[::-1]))
        x = jnp.tensordot(x, np.float32(windows), ([axis], [1]), precision="highest")
        x = jnp.moveaxis(x, -1, axis)
    return x
