"""Fréchet distance between two sets of feature vectors. With Inception features it is the FID.

Heusel et al. 2017, https://arxiv.org/abs/1706.08500; Eq. 79 of the paper.
"""

import numpy as np
import scipy

from wmgm_jax.core.moments import Moments


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Wasserstein-2 distance of the Gaussians with these moments, Eq. 79.

    |mu_a - mu_b|^2 + tr(A) + tr(B) - 2 tr((A^1/2 B A^1/2)^1/2). With A = F F^T and B = G G^T the
    last trace is the sum of the singular values of F^T G, for any such factors. This also holds for
    singular covariances (fewer vectors than dimensions). It needs no square root of a matrix
    product, which would turn a rounding error into its square root.

    Returns:
        The distance, in squared units of the features; 0 is perfect.

    Raises:
        ValueError: the vectors differ in dimension, a set has a single one, or some are not finite.
    """
    a.check_dimension(b)
    shift = a.mean - b.mean
    A, B = a.covariance, b.covariance
    overlap = scipy.linalg.svdvals(_factor(A).T @ _factor(B)).sum()
    distance = shift @ shift + np.trace(A) + np.trace(B) - 2 * overlap
    return max(0.0, float(distance))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F `[D, rank]` with F F^T = covariance, by pivoted Cholesky decomposition.

    The rank is where the remainder is below D times the rounding error of the largest variance.
    """
    factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(
        np.asarray_chkfinite(covariance), lower=True
    )
    return np.tril(factor)[np.argsort(pivots), :rank]
