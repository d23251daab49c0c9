"""Kernel distance between two sets of feature vectors. With Inception features it is the KID.

Binkowski et al. 2018, https://arxiv.org/abs/1801.01401. Unlike the Fréchet distance, it is unbiased
for any number of images.
"""

import numpy as np


def kernel_distance(
    x: np.ndarray,
    y: np.ndarray,
    subset_size: int = 1000,
    num_subsets: int = 100,
    seed: int = 0,
) -> tuple[float, float]:
    """Squared maximum mean discrepancy for the kernel (x . y / D + 1)^3, unbiased, in float64.

    Args:
        x, y: `[N, D]` and `[M, D]`.
        subset_size: vectors of each set that are compared at a time, at most N and M.
        num_subsets: random pairs of subsets, drawn without replacement within a subset.
        seed: of the random subsets.

    Returns:
        The mean over the subsets: about 0, of either sign, for sets of one distribution. And the
        standard deviation over the subsets, as papers report it, not the standard error: subsets
        share vectors, so the deviation divided by the root of their number is not the error of the
        mean. It is 0 if the subsets are the whole sets.

    Raises:
        ValueError: a subset has fewer than two vectors, or there is no subset.
    """
    size = min(subset_size, len(x), len(y))
    if size < 2 or num_subsets < 1:
        raise ValueError(
            f"{num_subsets} subsets of {size} vectors: at least 1 of at least 2 are needed"
        )
    random = np.random.default_rng(seed)
    distances = [
        _squared_discrepancy(
            *(z[random.choice(len(z), size, replace=False)].astype(np.float64) for z in (x, y))
        )
        for _ in range(num_subsets)
    ]
    return float(np.mean(distances)), float(np.std(distances))


def _squared_discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """The U-statistic of two sets `[n, D]`; a vector is not compared with itself."""
    count = len(x)
    within = sum(kernel.sum() - np.trace(kernel) for kernel in (_kernel(x, x), _kernel(y, y)))
    return within / (count * (count - 1)) - 2 * _kernel(x, y).mean()


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The kernel of each pair of vectors, `[n, m]`."""
    return (x @ y.T / x.shape[1] + 1) ** 3
