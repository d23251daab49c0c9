"""Means, variances and covariances of data too large for memory."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sized
from typing import Any, Self, TypeVar

import numpy as np

Batch = TypeVar("Batch", bound=Sized)


def mean_over_batches(
    function: Callable[[Batch], Mapping[str, Any]], batches: Iterable[Batch]
) -> dict[str, np.ndarray]:
    """The means of some functions over a stream of batches, summed in float64.

    Args:
        function: a batch -> arrays by name, means over the batch.
        batches: `[B, ...]`, at least one, of any and varying B.

    Returns:
        float64 arrays by name.
    """
    totals, count = {}, 0
    for batch in batches:
        for name, value in function(batch).items():
            totals[name] = totals.get(name, 0.0) + len(batch) * np.asarray(value, np.float64)
        count += len(batch)
    return {name: total / count for name, total in totals.items()}


@dataclasses.dataclass(frozen=True)
class Moments:
    """First and second moments of a set of vectors, in float64.

    The moments of disjoint sets add up to those of their union. So a set of any size needs the
    memory of one block.

    Attributes:
        count: vectors in the set.
        mean: `[D]`.
        scatter: `[D, D]`, the sum of (x - mean) (x - mean)^T over the set, or its diagonal `[D]`.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, is_diagonal: bool = False) -> Self:
        """The moments of `values`, `[N, D]` of any real type.

        Args:
            values: the vectors.
            is_diagonal: compute only the diagonal of the scatter.

        Raises:
            ValueError: there is no vector, or the array is not `[N, D]`.
        """
        if values.ndim != 2 or not len(values):
            raise ValueError(f"vectors of shape {values.shape}: [N, D] with N > 0 expected")
        values = values.astype(np.float64)
        mean = values.mean(axis=0)
        values -= mean
        scatter = np.sum(values**2, axis=0) if is_diagonal else values.T @ values
        return cls(len(values), mean, scatter)

    def merge(self, other: Self) -> Self:
        """The moments of the union with a disjoint set; `a + b` is the same.

        Chan et al. 1979, http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf.
        A running sum of x x^T would lose the scatter to the mean.

        Raises:
            ValueError: the vectors differ in dimension.
        """
        self.check_dimension(other)
        count = self.count + other.count
        shift, weight = other.mean - self.mean, self.count * other.count / count
        is_diagonal = self.scatter.ndim == 1
        between = shift**2 * weight if is_diagonal else np.outer(shift, shift * weight)
        return type(self)(
            count,
            self.mean + shift * (other.count / count),
            self.scatter + other.scatter + between,
        )

    __add__ = merge

    @property
    def covariance(self) -> np.ndarray:
        """`[D, D]`, with the denominator count - 1, as in `numpy.cov` and in published FIDs.

        Raises:
            ValueError: the set has a single vector.
        """
        if self.count < 2:
            raise ValueError("a covariance needs at least two vectors: there is one")
        return self.scatter / (self.count - 1)

    def check_dimension(self, other: Self) -> None:
        """
        Raises:
            ValueError: the vectors of the other set differ in dimension.
        """
        if self.mean.shape != other.mean.shape:
            dimensions = f"{len(self.mean)} and {len(other.mean)}"
            raise ValueError(f"vectors of unequal dimensions: {dimensions}")
