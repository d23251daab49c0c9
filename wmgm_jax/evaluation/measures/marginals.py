"""The distribution of the wavelet coefficients of each band.

Detail coefficients of natural images are sparse and heavy-tailed, and the coarsest low band is
nearly Gaussian (section 3.2 of the paper). The excess kurtosis says how heavy the tails are. The
Wasserstein-1 distance says how near one set of images comes to another.
"""

from collections.abc import Iterator

import numpy as np
import scipy

from wmgm_jax.wavelets import pyramid

# In standard deviations from the mean of the reference.
EDGES = np.linspace(-8, 8, 161)

# A larger marginal is represented by this number of its quantiles.
_QUANTILES = 2**18

# A band that never varies must not be divided by zero.
_SMALLEST_STD = 1e-4

_Trees = dict[str, dict[str, dict]]


def named_bands(images: np.ndarray, levels: int) -> dict[str, dict[str, np.ndarray]]:
    """The Haar bands of all scales, by name.

    Args:
        images: floating-point `[N, H, W, C]`, H and W divisible by `2**levels`.
        levels: the number of scales S.

    Returns:
        `{"scale_1": {"LL": x_L^1, "LH": ..., "HL": ..., "HH": ...}, ..., "scale_S": ...}`, bands
        `[N, H / 2^k, W / 2^k, C]`.
    """
    return {
        f"scale_{k}": {"LL": low} | dict(zip(("LH", "HL", "HH"), details, strict=True))
        for k, (low, details) in enumerate(pyramid(images, levels), start=1)
    }


def marginals(images: np.ndarray, reference: np.ndarray, levels: int) -> _Trees:
    """How the marginal distributions of the bands differ between two sets of images.

    A marginal pools the coefficients of all positions and channels. Marginals of more than 2^18
    coefficients are represented by 2^18 quantiles. That changes the distance only by the outermost
    2^-18 of the tails.

    Args:
        images, reference: floating-point `[N, H, W, C]` in [-1, 1]; `2**levels` divides H and W.
            N, H and W may differ.
        levels: the number of scales S.

    Returns:
        By scale ("scale_1" is the finest) and band ("LH", "HL", "HH", and "LL" of the coarsest
        scale): "wasserstein", the Wasserstein-1 distance in standard deviations of the reference,
        where 0 is perfect; "kurtosis" and "kurtosis_reference", the excess kurtosis, which is 0 for
        a Gaussian, 3 for a Laplacian and NaN for a band that never varies.
    """
    tree: _Trees = {}
    for scale, band, ours, theirs in _pairs(images, reference, levels):
        distance = scipy.stats.wasserstein_distance(quantiles(ours), quantiles(theirs))
        tree.setdefault(scale, {})[band] = {
            "wasserstein": float(distance / max(theirs.std(), _SMALLEST_STD)),
            "kurtosis": float(scipy.stats.kurtosis(ours)),
            "kurtosis_reference": float(scipy.stats.kurtosis(theirs)),
        }
    return tree


def kurtosis(images: np.ndarray, levels: int) -> dict[str, dict[str, float]]:
    """The excess kurtosis of the marginals of one set of images.

    Args:
        images, levels: as for `marginals`.

    Returns:
        By scale and band.
    """
    tree: dict[str, dict[str, float]] = {}
    for scale, band, coefficients in _coefficients(images, levels):
        tree.setdefault(scale, {})[band] = float(scipy.stats.kurtosis(coefficients))
    return tree


def histograms(images: np.ndarray, reference: np.ndarray, levels: int) -> _Trees:
    """The densities of the marginals of two sets, for plots.

    Args:
        images, reference, levels: as for `marginals`.

    Returns:
        By scale and band, as for `marginals`: "edges" of the bins `[B + 1]`, in standard deviations
        from the mean of the reference; "density" and "density_reference" `[B]`, per standard
        deviation. Coefficients beyond the edges are not counted, so densities may integrate to less
        than 1.
    """
    tree: _Trees = {}
    for scale, band, ours, theirs in _pairs(images, reference, levels):
        mean, std = theirs.mean(), max(theirs.std(), _SMALLEST_STD)
        density, density_reference = (
            np.histogram((x - mean) / std, EDGES)[0] / (x.size * np.diff(EDGES))
            for x in (ours, theirs)
        )
        tree.setdefault(scale, {})[band] = {
            "edges": EDGES,
            "density": density,
            "density_reference": density_reference,
        }
    return tree


def _pairs(
    images: np.ndarray, reference: np.ndarray, levels: int
) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Scale, band, and its coefficients in each of the two sets."""
    both = (_coefficients(x, levels) for x in (images, reference))
    for (scale, band, ours), (_, _, theirs) in zip(*both, strict=True):
        yield scale, band, ours, theirs


def _coefficients(images: np.ndarray, levels: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """Scale, band, and its coefficients, float64 `[M]`, one band at a time."""
    for scale, bands in named_bands(images, levels).items():
        for band, coefficients in bands.items():
            if band != "LL" or scale == f"scale_{levels}":
                yield scale, band, np.asarray(coefficients, np.float64).ravel()


def quantiles(values: np.ndarray) -> np.ndarray:
    """`values` `[M]`, or their quantiles (i + 1/2) / 2^18 if M is larger than 2^18."""
    if values.size <= _QUANTILES:
        return values
    ranks = (np.arange(_QUANTILES) + 0.5) * (values.size / _QUANTILES)
    return np.sort(values)[ranks.astype(int)]
