"""What every sampler makes of Gaussian data N(0, diag(lambda)) with exact scores, in float64.

The score -x / (alpha^2 lambda + sigma^2) is linear, and with it every sampler: coordinate by
coordinate the result of a deterministic one is its start times a gain, and of a stochastic one the
variance follows a recursion. The schedule enters through the clock B of the grid alone, for
Euler-Maruyama here is that of the papers' process, g = 1.

Every function takes a grid `[N + 1]` of B, falling to exactly 0, and eigenvalues lambda `[...]`,
and returns the variance `[...]` of the result, from N(0, 1). They know nothing of
`wmgm_jax.diffusion.samplers`, which its tests hold against these.
"""

import itertools
from collections.abc import Callable

import numpy as np

from wmgm_jax.diffusion import grids


def euler_maruyama(grid: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    """Eq. 20 with g = 1; no noise on the last step."""
    variance = np.ones_like(eigenvalues)
    for t, r in itertools.pairwise(grid):
        alpha, sigma = levels(t)
        marginal = alpha**2 * eigenvalues + sigma**2
        variance = (1 + (t - r) * (1 - 2 / marginal)) ** 2 * variance
        variance += 2 * (t - r) * (r > 0)
    return variance


def ancestral(grid: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    """Draws from q(x_r | x_t, x_0), whose mean is a sum of x_t and x_0 by their precisions."""
    variance = np.ones_like(eigenvalues)
    for t, r in itertools.pairwise(grid):
        (alpha_t, sigma_t), (alpha_r, sigma_r) = levels(t), levels(r)
        kept, added = alpha_t / alpha_r, -np.expm1(2 * (r - t))
        of_x, of_data = kept * sigma_r**2 / sigma_t**2, alpha_r * added / sigma_t**2
        gain = of_x + of_data * data_gain(t, eigenvalues)
        variance = gain**2 * variance + added * sigma_r**2 / sigma_t**2
    return variance


def ddim(grid: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    """x_r is alpha_r times the data plus sigma_r times the noise that x_t stands for."""
    gain = np.ones_like(eigenvalues)
    for t, r in itertools.pairwise(grid):
        (alpha_t, sigma_t), (alpha_r, sigma_r) = levels(t), levels(r)
        data = data_gain(t, eigenvalues)
        gain *= alpha_r * data + sigma_r * (1 - alpha_t * data) / sigma_t
    return gain**2


def heun(grid: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    """The trapezoidal rule for y = x / alpha in rho = sigma / alpha, Euler's on the last step."""

    def slope(t):
        alpha, sigma = levels(t)
        return alpha * (1 - alpha * data_gain(t, eigenvalues)) / sigma

    gain = np.full_like(eigenvalues, 1 / levels(grid[0])[0])
    for t, r in itertools.pairwise(grid):
        (alpha_t, sigma_t), (alpha_r, sigma_r) = levels(t), levels(r)
        length = sigma_r / alpha_r - sigma_t / alpha_t
        predictor = 1 + length * slope(t)
        gain *= 1 + length * (slope(t) + slope(r) * predictor) / 2 if r > 0 else predictor
    return gain**2


def dpmpp_2m(grid: np.ndarray, eigenvalues: np.ndarray) -> np.ndarray:
    """In log(alpha / sigma): the data are extrapolated to the middle of the step by a line."""
    gain = np.ones_like(eigenvalues)
    data_before = step_before = None
    for t, r in itertools.pairwise(grid):
        (alpha_t, sigma_t), (alpha_r, sigma_r) = levels(t), levels(r)
        data = data_gain(t, eigenvalues) * gain
        if r == 0:
            return data**2
        step = np.log(alpha_r / sigma_r) - np.log(alpha_t / sigma_t)
        middle = data
        if step_before is not None:
            middle = data + (data - data_before) / step_before * step / 2
        gain = sigma_r / sigma_t * gain - alpha_r * np.expm1(-step) * middle
        data_before, step_before = data, step
    return gain**2


def multistep(
    grid: np.ndarray, eigenvalues: np.ndarray, weights: np.ndarray | None = None
) -> np.ndarray:
    """As DPM-Solver++, towards a sum of the data of all steps so far, whose factors sum to 1.

    Args:
        weights: `[N, N]`, c; None for those of `grids`.
    """
    if weights is None:
        weights = grids.multistep_weights(len(grid) - 1)
    gain, data = np.ones_like(eigenvalues), []
    for (t, r), c in zip(itertools.pairwise(grid), weights, strict=True):
        (alpha_t, sigma_t), (alpha_r, sigma_r) = levels(t), levels(r)
        data.append(data_gain(t, eigenvalues) * gain)
        goal = (1 + c.sum()) * data[-1]
        for factor, earlier in zip(c, data[:-1], strict=False):
            goal = goal - factor * earlier
        # In between, what is not data is noise that has shrunk with sigma.
        gain = alpha_r * goal + sigma_r * (gain - alpha_t * goal) / sigma_t
    return gain**2


SAMPLERS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    sampler.__name__: sampler
    for sampler in (euler_maruyama, ancestral, ddim, heun, dpmpp_2m, multistep)
}


def relative_error(variance: np.ndarray, eigenvalues: np.ndarray) -> float:
    """Squared Wasserstein-2 distance of N(0, diag(variance)) to the data, relative to their power:
    sum (sqrt v - sqrt lambda)^2 / sum lambda."""
    distance = np.sum((np.sqrt(variance) - np.sqrt(eigenvalues)) ** 2)
    return float(distance / np.sum(eigenvalues))


def levels(integral: float) -> tuple[float, float]:
    """(alpha, sigma) at B."""
    return np.exp(-integral), np.sqrt(-np.expm1(-2 * integral))


def data_gain(integral: float, eigenvalues: np.ndarray) -> np.ndarray:
    """E[x_0 | x_t] / x_t."""
    alpha, sigma = levels(integral)
    return alpha * eigenvalues / (alpha**2 * eigenvalues + sigma**2)
