"""How the power of images falls with spatial frequency.

The power spectrum of natural images follows a power law (Eq. 10 of the paper, Eq. 13 of WSGM,
https://arxiv.org/abs/2208.05003). Samples that are too smooth or too noisy deviate from it.
"""

import numpy as np
import scipy

_IMAGES_AT_A_TIME = 128

# The power that rounding to 8 bits adds to each frequency of images in [-1, 1]. uint8 files hold no
# information below it, and without a floor the error of a constant image would be infinite.
_ROUNDING_POWER = (1 / 127.5) ** 2 / 12


def power_spectrum(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean power of the frequencies in rings of integer radius, without a window function.

    The power of a frequency is |X|^2 / (H W), averaged over images and channels, where X is the
    unnormalised discrete Fourier transform. Its average over all H W frequencies is the mean square
    of the pixels (Parseval). The power of white noise is its variance at each frequency.

    Radii are in cycles per shorter side, so that a radius is the same number of cycles per pixel in
    each direction. The rings leave out the mean of each image (radius 0), other frequencies of
    images that are not square with a radius up to 1/2, and the corners beyond the Nyquist frequency
    of the shorter side.

    Args:
        images: floating-point `[N, H, W, C]` in [-1, 1].

    Returns:
        `frequencies` `[F]`, the centres of the rings in cycles per pixel, 1 / min(H, W) to 1/2;
        `power` `[F]`, F = min(H, W) // 2.
    """
    count, height, width, _ = images.shape
    side = min(height, width)
    radius = side * np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    power = np.zeros((height, width))
    for i in range(0, count, _IMAGES_AT_A_TIME):
        batch = np.asarray(images[i : i + _IMAGES_AT_A_TIME], np.float64)
        power += np.sum(np.abs(np.fft.fft2(batch, axes=(1, 2))) ** 2, axis=(0, 3))
    rings = np.arange(1, side // 2 + 1)
    mean_power = scipy.ndimage.mean(power / np.prod(images.shape), np.rint(radius), rings)
    return rings / side, np.asarray(mean_power)


def spectrum_error(images: np.ndarray, reference: np.ndarray) -> float:
    """The difference of two power spectra in decibels, root mean square over the rings.

    All rings have the same weight, however few frequencies they hold. 10 dB is ten times too much
    or too little power on each ring. Power below that of rounding to 8 bits counts as that of
    rounding.

    Args:
        images, reference: floating-point `[N, H, W, C]` in [-1, 1]; N may differ.

    Returns:
        0 for equal spectra.

    Raises:
        ValueError: the sets differ in height or width.
    """
    if images.shape[1:3] != reference.shape[1:3]:
        raise ValueError(f"images of unequal sizes: {images.shape} and {reference.shape}")
    ours, theirs = (np.maximum(power_spectrum(x)[1], _ROUNDING_POWER) for x in (images, reference))
    return float(np.sqrt(np.mean((10 * np.log10(ours / theirs)) ** 2)))
