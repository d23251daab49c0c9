"""Fréchet distance between two sets of feature vectors: of Inception features, the FID.

Heusel et al. 2017, https://arxiv.org/abs/1706.08500; Eq. 79 of the paper.
"""

import dataclasses
from typing import Self

import numpy as np
import scipy


@dataclasses.dataclass(frozen=True)
class Moments:
    """First and second moments of a set of vectors, in float64.

    The moments of disjoint sets add up to those of their union, so that a set of any size needs
    the memory of one block, and the distance can be had without this block or that.

    Attributes:
        count: vectors in the set.
        mean: `[D]`.
        scatter: `[D, D]`, the sum of (x - mean) (x - mean)^T over the set.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """The moments of `features`, `[N, D]` of any real type.

        Raises:
            ValueError: there is no vector, or the array is not `[N, D]`.
        """
        if features.ndim != 2 or not len(features):
            raise ValueError(f"features of shape {features.shape}: [N, D] with N > 0 expected")
        features = features.astype(np.float64)
        mean = features.mean(axis=0)
        features -= mean
        return cls(len(features), mean, features.T @ features)

    def merge(self, other: Self) -> Self:
        """The moments of the union with a disjoint set; `a + b` is the same.

        Chan et al. 1979, http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf:
        a running sum of x x^T would lose the scatter to the mean.

        Raises:
            ValueError: the vectors differ in dimension.
        """
        _check_dimensions(self, other)
        count = self.count + other.count
        shift = other.mean - self.mean
        between = np.outer(shift, shift * (self.count * other.count / count))
        return type(self)(
            count,
            self.mean + shift * (other.count / count),
            self.scatter + other.scatter + between,
        )

    __add__ = merge

    @property
    def covariance(self) -> np.ndarray:
        """`[D, D]`, with the denominator count - 1, as `numpy.cov` and the published FIDs.

        Raises:
            ValueError: the set has a single vector.
        """
        if self.count < 2:
            raise ValueError("a covariance needs two vectors or more: there is one")
        return self.scatter / (self.count - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Wasserstein-2 distance of the Gaussians with these moments, Eq. 79.

    |mu_a - mu_b|^2 + tr(A) + tr(B) - 2 tr((A^1/2 B A^1/2)^1/2). With A = F F^T and B = G G^T the
    last trace is the sum of the singular values of F^T G, whatever the factors. That holds for
    singular covariances (fewer vectors than dimensions) too, and takes no square root of a matrix
    product, whose rounding errors would weigh with the root of their size.

    Returns:
        At least 0, which is perfect; in squared units of the features.

    Raises:
        ValueError: the vectors differ in dimension, a set has a single one, or not all are finite.
    """
    _check_dimensions(a, b)
    shift = a.mean - b.mean
    A, B = a.covariance, b.covariance
    overlap = scipy.linalg.svdvals(_factor(A).T @ _factor(B)).sum()
    distance = shift @ shift + np.trace(A) + np.trace(B) - 2 * overlap
    return max(0.0, float(distance))


def _factor(covariance: np.ndarray) -> np.ndarray:
    """F `[D, rank]` with F F^T = covariance: Cholesky's, pivoted, which finds the rank by itself.

    It stops where the rest is below D times the rounding error of the largest variance.
    """
    factor, pivots, rank, _ = scipy.linalg.lapack.dpstrf(
        np.asarray_chkfinite(covariance), lower=True
    )
    return np.tril(factor)[np.argsort(pivots), :rank]


def _check_dimensions(a: Moments, b: Moments) -> None:
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"vectors of unequal dimensions: {len(a.mean)} and {len(b.mean)}")
