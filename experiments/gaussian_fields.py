"""Stationary Gaussian fields, and exactly what Euler-Maruyama with exact scores makes of them.

A stationary field on a periodic grid is independent from frequency to frequency, and its variances
there are its power spectrum P. The four bands of an orthonormal wavelet transform are stationary
on the grid of half the size: a coarse frequency of them depends on the four fine ones that alias to
it, and on nothing else. Whatever SGM and WSGM (https://arxiv.org/abs/2208.05003) do to such a field
is therefore linear algebra on 4x4 matrices, one a frequency.

All arrays are float64 or complex128. Frequencies stand in the order of `np.fft.fft2`; P is the
mean of |X|^2 under the unitary transform, 1 everywhere for unit white noise.
"""

from typing import NamedTuple

import numpy as np
import pywt
from scipy.optimize import least_squares
from scipy.special import exprel


def spectrum(size: int, eta: float, xi: float | None = None) -> np.ndarray:
    """P(w) = c / (xi^eta + |w|^eta) with mean 1, that is Tr(Sigma) = d (WSGM Eq. 13).

    Args:
        size: L, pixels a side.
        eta: positive.
        xi: radians per pixel, positive; 2 pi / L, a correlation length of L, where it is None.

    Returns:
        `[L, L]`.
    """
    frequencies = 2 * np.pi * np.fft.fftfreq(size)
    radius = np.hypot(frequencies[:, None], frequencies)
    power = 1 / ((2 * np.pi / size if xi is None else xi) ** eta + radius**eta)
    return power / power.mean()


def condition_number(eigenvalues: np.ndarray) -> float:
    return float(eigenvalues.max() / eigenvalues.min())


def euler_maruyama(
    eigenvalues: np.ndarray, T: float, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """The law to which WMGM Eq. 3 (WSGM Eq. 6) brings N(0, 1), with the scores of N(m, lambda).

    A step is x <- x + dt (x + 2 s(x, t)) + sqrt(2 dt) z, with noise on the last step, too, and
    s(x, t) = -(x - alpha m) / (alpha^2 lambda + sigma^2): linear in x and in m.

    Args:
        eigenvalues: lambda `[...]`, positive.
        T: where the process begins.
        num_steps: N, from 1; the steps are of equal length.

    Returns:
        `variance` `[...]` of x_0 and `mean_factor` `[...]`, E[x_0] / m. Without errors they would
        be lambda and 1.
    """
    dt = T / num_steps
    variance, mean_factor = np.ones_like(eigenvalues), np.zeros_like(eigenvalues)
    for k in range(num_steps):
        alpha = np.exp(k * dt - T)
        pull = 2 * dt / (alpha**2 * eigenvalues + 1 - alpha**2)
        factor = 1 + dt - pull
        variance = factor**2 * variance + 2 * dt
        mean_factor = factor * mean_factor + alpha * pull
    return variance, mean_factor


def f(t: np.ndarray) -> np.ndarray:
    """t - log(1 + t), of Theorem 1."""
    return t - np.log1p(t)


def divergence(eigenvalues: np.ndarray, variance: np.ndarray) -> float:
    """KL(N(0, diag(lambda)) || N(0, diag(v))), in nats."""
    return float(np.sum(f(eigenvalues / variance - 1))) / 2


def expansion(eigenvalues: np.ndarray, T: float, dt: float) -> float:
    """What `divergence` tends to as dt -> 0 and T -> infinity: sum_i e_i^2 / 4.

    e_i = dt psi_i / lambda_i - exp(-4T) (lambda_i - 1) lambda_i is the relative error of the
    variance of eigenvalue i, psi = 1 - lambda^2 log(lambda) / (2 (lambda - 1)) (WMGM Eq. 23-26).
    """
    psi = 1 - eigenvalues**2 / (2 * exprel(np.log(eigenvalues)))
    start = np.exp(-4 * T) * (eigenvalues - 1) * eigenvalues
    return float(np.sum((dt * psi / eigenvalues - start) ** 2)) / 4


def printed_terms(eigenvalues: np.ndarray, T: float, dt: float) -> tuple[float, float]:
    """Psi_T and Psi_dt of Theorem 1 as printed (WMGM Eq. 5-6, WSGM Eq. 7-8)."""
    start = np.sum((eigenvalues - 1) * eigenvalues)
    steps = np.sum(
        1 / eigenvalues
        - eigenvalues / (2 * exprel(np.log(eigenvalues)))
        + (1 - 1 / eigenvalues) / 3
    )
    return float(f(np.exp(-4 * T) * np.abs(start))), float(f(dt * np.abs(steps)))


class Scale(NamedTuple):
    """The normalised bands (x_j, xbar_j) of WSGM Eq. 14 at every frequency of their grid `[m, m]`.

    Given x_j, the details are N(B x_j, S) with a vector B and a 3x3 matrix S at every frequency;
    both stand here in the basis of the eigenvectors of S.
    """

    gamma: float  # the normalisation
    low_spectrum: np.ndarray  # `[m, m]`, the power of x_j
    unconditional: np.ndarray  # `[m, m, 3]`, eigenvalues of the details' spectral matrix
    eigenvalues: np.ndarray  # `[m, m, 3]`, of S
    regression: np.ndarray  # `[m, m, 3]`, B
    from_low: np.ndarray  # `[m, m, 4]`, x_j's part in the four fine frequencies, over gamma
    from_details: np.ndarray  # `[m, m, 4, 3]`, that of every eigenvector of S


def cascade(power: np.ndarray, wavelet: str, coarsest: int) -> tuple[list[Scale], np.ndarray]:
    """The factorisation of a field into conditional laws (WSGM Eq. 14-15).

    Args:
        power: `[L, L]`, L a power of two.
        wavelet: an orthogonal wavelet of PyWavelets, in its mode "periodization".
        coarsest: the size at which to stop, a power of two, at most L.

    Returns:
        The scales 1 (the finest) to J, and the power of x_J `[coarsest, coarsest]`.
    """
    scales = []
    while len(power) > coarsest:
        scales.append(_factorise(power, wavelet))
        power = scales[-1].low_spectrum
    return scales, power


def sgm(power: np.ndarray, T: float, num_steps: int) -> tuple[np.ndarray, float]:
    """The power spectrum `[L, L]` that SGM generates in N steps, and KL(p || p~_0) in nats."""
    eigenvalues, where = np.unique(power, return_inverse=True)
    variance, _ = euler_maruyama(eigenvalues, T, num_steps)
    generated = variance[where].reshape(power.shape)
    return generated, divergence(power, generated)


def wsgm(
    scales: list[Scale], coarsest: np.ndarray, T: float, num_steps: int
) -> tuple[np.ndarray, float]:
    """The power spectrum that WSGM generates with N steps at every scale, and KL(p || p~_0).

    What is generated is stationary under shifts by the coarsest pixel alone: its power spectrum is
    the diagonal of its covariance in the Fourier basis, that is the mean over all shifts. The
    divergence is that of the whole covariance, by the chain rule.

    Args:
        scales, coarsest: of `cascade`.
        T: where every diffusion begins.
        num_steps: N.

    Returns:
        `[L, L]`, and nats.
    """
    generated, _ = euler_maruyama(coarsest, T, num_steps)
    total = divergence(coarsest, generated)
    for scale in reversed(scales):
        variance, mean_factor = euler_maruyama(scale.eigenvalues, T, num_steps)
        # E[x_0] - m, whose square is averaged over the true x_j.
        bias = np.abs((mean_factor - 1) * scale.regression) ** 2 * scale.low_spectrum[..., None]
        total += divergence(scale.eigenvalues, variance) + float(np.sum(bias / variance)) / 2
        mean = mean_factor * scale.regression
        from_low = scale.from_low + np.einsum("ijpk,ijk->ijp", scale.from_details, mean)
        from_noise = np.einsum("ijpk,ijk->ijp", np.abs(scale.from_details) ** 2, variance)
        fine = generated[..., None] * np.abs(from_low) ** 2 + from_noise
        generated = scale.gamma**2 * _unfold(fine)
    return generated, total


def fit_power_law(
    frequencies: np.ndarray,
    power: np.ndarray,
    eta: float | None = None,
    xi: float | None = None,
) -> tuple[float, float, np.ndarray]:
    """Fits c / (xi^eta + |w|^eta) to a radial power spectrum by least squares in its logarithm.

    Args:
        frequencies: `[F]` in cycles per pixel, as of `wmgm_jax.evaluation.power_spectrum`.
        power: `[F]`, positive.
        eta, xi: held where given; xi, which may be 0, in radians per pixel.

    Returns:
        eta, xi and the fitted power `[F]`.
    """
    radius = 2 * np.pi * frequencies

    def complete(free):
        free = iter(free)
        return next(free) if eta is None else eta, next(free) if xi is None else xi

    def log_law(free):
        exponent, cutoff = complete(free)
        shape = -np.log(cutoff**exponent + radius**exponent)
        return shape + np.mean(np.log(power) - shape)

    start = ([2.0] if eta is None else []) + ([radius[0]] if xi is None else [])
    if start:
        bounds = (1e-6, np.inf)
        start = least_squares(lambda free: log_law(free) - np.log(power), start, bounds=bounds).x
    return *map(float, complete(start)), np.exp(log_law(start))


def _factorise(power: np.ndarray, wavelet: str) -> Scale:
    bands, fine = band_transform(len(power), wavelet), _fold(power)
    covariance = np.einsum("ijap,ijp,ijbp->ijab", bands, fine, bands.conj())
    precision = np.einsum("ijap,ijp,ijbp->ijab", bands, 1 / fine, bands.conj())
    powers = np.einsum("ijaa->ija", covariance).real
    gamma_squared = powers[..., 1:].mean()
    # S and B from the inverse of the covariance: the Schur complement would take differences of
    # numbers as large as the power of the low band.
    inverse_eigenvalues, vectors = np.linalg.eigh(precision[..., 1:, 1:])
    regression = -np.einsum("ijak,ija->ijk", vectors.conj(), precision[..., 1:, 0])
    return Scale(
        gamma=float(np.sqrt(gamma_squared)),
        low_spectrum=powers[..., 0] / gamma_squared,
        unconditional=np.linalg.eigvalsh(covariance[..., 1:, 1:]) / gamma_squared,
        eigenvalues=1 / inverse_eigenvalues / gamma_squared,
        regression=regression / inverse_eigenvalues,
        from_low=bands[..., 0, :].conj(),
        from_details=np.einsum("ijap,ijak->ijpk", bands[..., 1:, :].conj(), vectors),
    )


def band_transform(size: int, wavelet: str) -> np.ndarray:
    """Unitary matrices `[m, m, 4, 4]`, m = L / 2, from fine frequencies to bands (WMGM Eq. 40).

    The fine frequencies of (i, j) are (i, j), (i, j + m), (i + m, j) and (i + m, j + m). The bands
    are LL and the details that are high along the last axis, the first axis, and both.
    """
    filters = pywt.Wavelet(wavelet)
    taps = np.array([filters.rec_lo, filters.rec_hi])
    phases = np.outer(np.arange(taps.shape[1]), np.arange(size)) / size
    responses = (taps @ np.exp(2j * np.pi * phases)).reshape(2, 2, size // 2) / np.sqrt(2)
    matrix = np.einsum("api,bqj->ijabpq", responses, responses)
    return matrix.reshape(size // 2, size // 2, 4, 4)


def _fold(power: np.ndarray) -> np.ndarray:
    """`[L, L]` to `[m, m, 4]`: the fine frequencies that alias to a coarse one."""
    half = len(power) // 2
    return power.reshape(2, half, 2, half).transpose(1, 3, 0, 2).reshape(half, half, 4)


def _unfold(fine: np.ndarray) -> np.ndarray:
    """The inverse of `_fold`."""
    half = len(fine)
    return fine.reshape(half, half, 2, 2).transpose(2, 0, 3, 1).reshape(2 * half, 2 * half)
