"""The share of detail coefficients that are nearly 0 (Eq. 62 and Figure 6 of the paper)."""

from collections.abc import Sequence

import numpy as np

from wmgm_jax.wavelets import pyramid

# Sums of 8-bit values that cancel leave a rounding error, which must not count as a detail. The
# smallest true detail at scale k is 2^-k / 255.
_ROUNDING_ERROR = 1e-5


def sparsity(images: np.ndarray, levels: int, thresholds: Sequence[float]) -> np.ndarray:
    """The share of detail coefficients with |x_H| <= t, at each scale.

    Eq. 62 as printed has no absolute value and divides by L^2. This function uses magnitudes and
    divides by the number of coefficients. The paper does not give the range of its images but calls
    it non-negative (appendix I.1). So thresholds are in units of the whole range: they apply to the
    orthonormal coefficients of images in [0, 1].

    Args:
        images: floating-point `[N, H, W, C]` in [-1, 1], H and W divisible by `2**levels`.
        levels: the number of scales S.
        thresholds: `[T]`, non-negative, in units of the range from black to white.

    Returns:
        float64 `[S, T]` in [0, 1], the finest scale first.
    """
    limits = np.asarray(thresholds, np.float64) + _ROUNDING_ERROR
    shares = []
    for _, details in pyramid(images, levels):
        magnitudes = np.sort(np.abs(np.concatenate([np.ravel(band) for band in details])) / 2)
        shares.append(np.searchsorted(magnitudes, limits, side="right") / magnitudes.size)
    return np.array(shares)
