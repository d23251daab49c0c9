"""How the wavelet coefficients of every band are distributed, one by one.

Detail coefficients of natural images are sparse and heavy-tailed, the coarsest low band is nearly
Gaussian (section 3.2 of the paper): the excess kurtosis says which, the Wasserstein-1 distance how
near one set of images comes to another.
"""

from collections.abc import Iterator

import numpy as np
import scipy

from wmgm_jax.wavelets import pyramid

# Standard deviations from the reference's mean.
EDGES = np.linspace(-8, 8, 161)

# A larger marginal is represented by so many of its quantiles.
_QUANTILES = 2**18

# A band that never varies must not be divided by zero.
_SMALLEST_STD = 1e-4

_Trees = dict[str, dict[str, dict]]


def named_bands(images: np.ndarray, levels: int) -> dict[str, dict[str, np.ndarray]]:
    """The Haar bands of all scales by name.

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
    """How the marginal distributions of the bands differ.

    A marginal pools the coefficients of all positions and channels. Marginals of more than 2^18
    coefficients are represented by their 2^18 quantiles, which leaves the distance as it is but for
    the outermost 2^-18 of the tails.

    Args:
        images, reference: floating-point `[N, H, W, C]` in [-1, 1]; N may differ, and so may H
            and W, which are divisible by `2**levels`.
        levels: the number of scales S.

    Returns:
        By scale ("scale_1" is the finest) and band ("LH", "HL", "HH", and "LL" of the coarsest
        scale): "wasserstein", the Wasserstein-1 distance in units of the reference's standard
        deviation, 0 being perfect; "kurtosis" and "kurtosis_reference", the excess kurtosis, 0
        for a Gaussian and 3 for a Laplacian, not a number for a band that never varies.
    """
    tree: _Trees = {}
    for scale, band, ours, theirs in _pairs(images, reference, levels):
        distance = scipy.stats.wasserstein_distance(_quantiles(ours), _quantiles(theirs))
        tree.setdefault(scale, {})[band] = {
            "wasserstein": float(distance / max(theirs.std(), _SMALLEST_STD)),
            "kurtosis": float(scipy.stats.kurtosis(ours)),
            "kurtosis_reference": float(scipy.stats.kurtosis(theirs)),
        }
    return tree


def kurtosis(images: np.ndarray, levels: int) -> dict[str, dict[str, float]]:
    """The excess kurtosis of the marginals of one set, as `marginals` has it of two.

    Args:
        images, levels: as of `marginals`.

    Returns:
        By scale and band.
    """
    tree: dict[str, dict[str, float]] = {}
    for scale, band, coefficients in _coefficients(images, levels):
        tree.setdefault(scale, {})[band] = float(scipy.stats.kurtosis(coefficients))
    return tree


def histograms(images: np.ndarray, reference: np.ndarray, levels: int) -> _Trees:
    """The densities of the marginals, for plots.

    Args:
        images, reference, levels: as of `marginals`.

    Returns:
        By scale and band, as `marginals`: "edges" of the bins `[B + 1]`, in standard deviations of
        the reference from its mean; "density" and "density_reference" `[B]`, per standard
        deviation. What lies beyond the edges is missing from the densities, which then sum to
        less than one.
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
    """Scale, band, and its coefficients in either set."""
    both = (_coefficients(x, levels) for x in (images, reference))
    for (scale, band, ours), (_, _, theirs) in zip(*both, strict=True):
        yield scale, band, ours, theirs


def _coefficients(images: np.ndarray, levels: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """Scale, band, and its coefficients, float64 `[M]`, one band at a time."""
    for scale, bands in named_bands(images, levels).items():
        for band, coefficients in bands.items():
            if band != "LL" or scale == f"scale_{levels}":
                yield scale, band, np.asarray(coefficients, np.float64).ravel()


def _quantiles(values: np.ndarray) -> np.ndarray:
    """`values` `[M]`, or the quantiles (i + 1/2) / 2^18 of them where they are more."""
    if values.size <= _QUANTILES:
        return values
    ranks = (np.arange(_QUANTILES) + 0.5) * (values.size / _QUANTILES)
    return np.sort(values)[ranks.astype(int)]
