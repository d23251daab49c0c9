"""The exact theory of few steps, against dense covariances, samples and synthetic spectra.

The dense side knows nothing of frequencies: covariances of pixels, wavelet transforms by
PyWavelets, conditional laws by solving, every step of the sampler a matrix.
"""

import csv

import numpy as np
import pytest
import pywt
from conftest import TINY
from PIL import Image

from experiments import gaussian_fields as fields
from wmgm_jax.evaluation.measures.power_spectrum import power_spectrum

SIZE = 8


def fourier(size):
    """The unitary transform of images `[size^2]`."""
    one = np.fft.fft(np.eye(size), norm="ortho")
    return np.kron(one, one)


def dense_covariance(power):
    """Of pixels `[L^2, L^2]`."""
    transform = fourier(len(power))
    return (transform.conj().T @ np.diag(power.ravel()) @ transform).real


def power_of(covariance):
    """The diagonal in the Fourier basis, `[L, L]`."""
    transform = fourier(int(np.sqrt(len(covariance))))
    size = int(np.sqrt(len(covariance)))
    return np.diag(transform @ covariance @ transform.conj().T).real.reshape(size, size)


def dense_bands(size, wavelet):
    """PyWavelets' transform as a matrix: LL, then the details in the order of `fields`."""
    units = np.eye(size**2).reshape(-1, size, size)
    low, (high_rows, high_columns, high_both) = pywt.dwt2(
        units, wavelet, mode="periodization", axes=(1, 2)
    )
    bands = (low, high_columns, high_rows, high_both)
    return np.concatenate([band.reshape(size**2, -1).T for band in bands])


def dense_scales(power, wavelet):
    """(gamma, bands / gamma, B, S) of every scale, and the covariance of x_J."""
    covariance, scales = dense_covariance(power), []
    while len(covariance) > 1:
        bands = dense_bands(int(np.sqrt(len(covariance))), wavelet)
        joint, quarter = bands @ covariance @ bands.T, len(covariance) // 4
        gamma = np.sqrt(np.mean(np.diag(joint)[quarter:]))
        joint /= gamma**2
        covariance, cross = joint[:quarter, :quarter], joint[quarter:, :quarter]
        regression = cross @ np.linalg.inv(covariance)
        conditional = joint[quarter:, quarter:] - regression @ cross.T
        scales.append((gamma, bands / gamma, regression, conditional))
    return scales, covariance


def dense_steps(covariance, T, num_steps):
    """Every step of the sampler: x <- A x + C m + sqrt(2 dt) z, as (A, C)."""
    dt, identity = T / num_steps, np.eye(len(covariance))
    for t in np.arange(num_steps, 0, -1) * dt:
        alpha = np.exp(-t)
        score = np.linalg.inv(alpha**2 * covariance + (1 - alpha**2) * identity)
        yield (1 + dt) * identity - 2 * dt * score, 2 * dt * alpha * score


def dense_wsgm(power, wavelet, T, num_steps):
    """The covariance `[L^2, L^2]` of what WSGM generates."""
    scales, coarsest = dense_scales(power, wavelet)
    generated = np.eye(1)
    for step, _ in dense_steps(coarsest, T, num_steps):
        generated = step @ generated @ step.T + 2 * T / num_steps * np.eye(1)
    for gamma, bands, regression, conditional in reversed(scales):
        quarter = len(generated)
        # All of the state at once, (x_j, xbar_j), x_j standing still.
        joint = np.eye(4 * quarter)
        joint[:quarter, :quarter] = generated
        noise = np.diag(np.repeat([0.0, 2 * T / num_steps], [quarter, 3 * quarter]))
        for step, pull in dense_steps(conditional, T, num_steps):
            whole = np.eye(4 * quarter)
            whole[quarter:, quarter:], whole[quarter:, :quarter] = step, pull @ regression
            joint = whole @ joint @ whole.T + noise
        synthesis = gamma**2 * bands.T
        generated = synthesis @ joint @ synthesis.T
    return generated


@pytest.mark.parametrize(("wavelet", "eta"), [("haar", 2.0), ("db2", 1.0), ("db4", 3.0)])
def test_spectral_matrices_are_those_of_the_dense_covariance(wavelet, eta):
    power = fields.spectrum(SIZE, eta)
    scales, coarsest = fields.cascade(power, wavelet, 1)
    expected, expected_coarsest = dense_scales(power, wavelet)
    assert coarsest.item() == pytest.approx(expected_coarsest.item(), rel=1e-12)
    covariance = dense_covariance(power)
    for scale, (gamma, bands, regression, conditional) in zip(scales, expected, strict=True):
        assert scale.gamma == pytest.approx(gamma, rel=1e-12)
        half = len(scale.low_spectrum)
        low = bands[: half**2] @ covariance @ bands[: half**2].T
        details = conditional + regression @ low @ regression.T
        for eigenvalues, matrix in (
            (scale.low_spectrum, low),
            (scale.unconditional, details),
            (scale.eigenvalues, conditional),
        ):
            found = np.sort(eigenvalues, axis=None)
            np.testing.assert_allclose(found, np.linalg.eigvalsh(matrix), rtol=1e-9)
        # B x_j and S themselves, rebuilt from the eigenvectors and carried to the pixels.
        transform = fourier(half)
        vectors = fields.band_transform(2 * half, wavelet)[..., 1:, :] @ scale.from_details
        matrix = np.einsum("ijak,ijk->ija", vectors, scale.regression).reshape(-1, 3)
        for band in range(3):
            dense = (transform.conj().T @ np.diag(matrix[:, band]) @ transform).real
            rows = slice(band * half**2, (band + 1) * half**2)
            np.testing.assert_allclose(dense, regression[rows], atol=1e-10)
        covariance = low


@pytest.mark.parametrize("wavelet", ["haar", "db4"])
def test_normalised_details_have_unit_power(wavelet):
    scales, _ = fields.cascade(fields.spectrum(32, 2.0), wavelet, 4)
    assert [len(scale.low_spectrum) for scale in scales] == [16, 8, 4]
    for scale in scales:
        assert scale.unconditional.mean() == pytest.approx(1, rel=1e-12)
        # Knowing the low band lessens the variance, and nowhere adds to it.
        conditional = np.sort(scale.eigenvalues, axis=-1)
        assert np.all(conditional <= scale.unconditional * (1 + 1e-9))
        assert conditional.mean() < 0.999


@pytest.mark.parametrize(("wavelet", "eta"), [("haar", 2.0), ("db2", 3.0), ("db4", 1.0)])
@pytest.mark.parametrize("num_steps", [4, 32])
def test_wsgm_is_the_dense_recursion(wavelet, eta, num_steps):
    T, power = 3.0, fields.spectrum(SIZE, eta)
    dense = dense_wsgm(power, wavelet, T, num_steps)
    generated, divergence = fields.wsgm(*fields.cascade(power, wavelet, 1), T, num_steps)
    np.testing.assert_allclose(generated, power_of(dense), rtol=1e-9)
    # The divergence of the whole covariance, of which the power spectrum is but the diagonal.
    ratio = np.linalg.solve(dense, dense_covariance(power))
    expected = (np.trace(ratio) - SIZE**2 - np.linalg.slogdet(ratio)[1]) / 2
    assert divergence == pytest.approx(expected, rel=1e-9)


def test_sgm_is_the_dense_recursion():
    T, num_steps, power = 3.0, 7, fields.spectrum(SIZE, 2.0)
    covariance, generated = dense_covariance(power), np.eye(SIZE**2)
    for step, _ in dense_steps(covariance, T, num_steps):
        generated = step @ generated @ step.T + 2 * T / num_steps * np.eye(SIZE**2)
    np.testing.assert_allclose(fields.sgm(power, T, num_steps)[0], power_of(generated), rtol=1e-10)


def test_samples_have_that_spectrum():
    """WSGM itself, step by step, with exact conditional scores and noise of its own."""
    T, num_steps, count = 4.0, 12, 20_000
    power = fields.spectrum(SIZE, 2.0)
    random = np.random.default_rng(0)
    scales, coarsest = dense_scales(power, "haar")

    def sample(covariance, mean):
        x = random.normal(size=mean.shape)
        for step, pull in dense_steps(covariance, T, num_steps):
            noise = random.normal(size=x.shape)
            x = x @ step + mean @ pull + np.sqrt(2 * T / num_steps) * noise
        return x

    x = sample(coarsest, np.zeros((count, 1)))
    for gamma, bands, regression, conditional in reversed(scales):
        details = sample(conditional, x @ regression.T)
        x = gamma**2 * np.concatenate([x, details], axis=1) @ bands
    samples = np.mean(np.abs(np.fft.fft2(x.reshape(-1, SIZE, SIZE), norm="ortho")) ** 2, axis=0)
    generated, _ = fields.wsgm(*fields.cascade(power, "haar", 1), T, num_steps)
    # A power is at worst that of one real number, with a relative standard error of sqrt(2 / n).
    errors = (samples / generated - 1) / np.sqrt(2 / count)
    assert np.max(np.abs(errors)) < 4.5
    # The error of 12 steps is far from what sampling explains.
    assert np.max(np.abs(samples / power - 1) / np.sqrt(2 / count)) > 20


@pytest.mark.parametrize("wavelet", ["haar", "db4"])
def test_many_steps_generate_the_field(wavelet):
    power = fields.spectrum(16, 2.0)
    scales = fields.cascade(power, wavelet, 1)
    errors = [np.abs(fields.wsgm(*scales, 10.0, n)[0] / power - 1).max() for n in (500, 2000)]
    assert errors[1] < 0.02
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)  # of first order


def test_mean_factor_is_that_of_a_deterministic_run():
    """E[x_0] / m, from steps of x - alpha m instead, whose pull is towards zero."""
    T, num_steps, eigenvalue, mean = 3.0, 9, 0.3, 2.0
    dt, x = T / num_steps, 0.0
    for k in range(num_steps):
        alpha = np.exp(-T + k * dt)
        x += dt * (x - 2 * (x - alpha * mean) / (alpha**2 * eigenvalue + 1 - alpha**2))
    _, factor = fields.euler_maruyama(np.array(eigenvalue), T, num_steps)
    assert mean * factor == pytest.approx(x, rel=1e-12)


# 32 eigenvalues proportional to 1 / i, with mean 1.
HARMONIC = 32 / np.arange(1, 33) / np.sum(1 / np.arange(1, 33))


def test_expansion_at_known_numbers():
    T, num_steps = 8.0, 1600
    _, divergence = fields.sgm(HARMONIC, T, num_steps)
    assert divergence == pytest.approx(9.293e-4, rel=1e-3)
    assert fields.expansion(HARMONIC, T, T / num_steps) == pytest.approx(9.306e-4, rel=1e-3)
    _, printed = fields.printed_terms(HARMONIC, T, T / num_steps)
    assert printed == pytest.approx(1.93e-2, rel=5e-3)


@pytest.mark.parametrize("eigenvalues", [HARMONIC, fields.spectrum(16, 2.0)])
def test_divergence_tends_to_the_expansion(eigenvalues):
    T, steps = 8.0, (2000, 4000, 8000)
    excesses = [
        fields.sgm(eigenvalues, T, n)[1] / fields.expansion(eigenvalues, T, T / n) - 1
        for n in steps
    ]
    assert abs(excesses[-1]) < 5e-3
    # What is left is of the first order in the step.
    np.testing.assert_allclose(np.divide(excesses[:-1], excesses[1:]), 2, rtol=0.1)


def test_expansion_of_the_start():
    """Steps so short that what is left is the mismatch of x_T, exp(-4T) in the variance."""
    eigenvalues = np.array([0.2, 0.9, 1.9])
    values = []
    for T in (2.0, 3.0):
        # The limit dt -> 0 of the recursion: each mode's own linear equation, solved.
        alpha = np.exp(-T)
        marginal = alpha**2 * eigenvalues + 1 - alpha**2
        variance = eigenvalues + (1 - marginal) * (alpha * eigenvalues / marginal) ** 2
        exact = fields.divergence(eigenvalues, variance)
        values.append(exact / fields.expansion(eigenvalues, T, 0.0) - 1)
    assert abs(values[1]) < 0.02 < abs(values[0])
    near = fields.euler_maruyama(eigenvalues, 1.0, 20_000)[0] - eigenvalues
    alpha = np.exp(-1.0)
    marginal = alpha**2 * eigenvalues + 1 - alpha**2
    far = (1 - marginal) * (alpha * eigenvalues / marginal) ** 2
    np.testing.assert_allclose(near, far, atol=1e-4)


def test_expansion_where_start_and_steps_err_alike():
    """Of one eigenvalue both errors have the same sign, so that each doubles the other."""
    eigenvalues, T, num_steps = np.array([1.9]), 2.5, 5000
    _, divergence = fields.sgm(eigenvalues, T, num_steps)
    together = fields.expansion(eigenvalues, T, T / num_steps)
    apart = fields.expansion(eigenvalues, T, 0.0), fields.expansion(eigenvalues, 50, T / num_steps)
    assert together == pytest.approx(2 * sum(apart), rel=0.05)
    assert divergence == pytest.approx(together, rel=0.05)


def test_printed_terms():
    start, steps = fields.printed_terms(np.array([0.5, 1.5]), 0.3, 0.1)
    t = np.exp(-1.2) * 0.5  # (0.5 - 1) 0.5 + (1.5 - 1) 1.5
    assert start == pytest.approx(t - np.log(1 + t), rel=1e-12)
    first = 2 + 0.5 / 0.5 * np.log(0.5) / 2 + (1 - 2) / 3
    second = 2 / 3 - 1.5 / 0.5 * np.log(1.5) / 2 + (1 - 2 / 3) / 3
    t = 0.1 * abs(first + second)
    assert steps == pytest.approx(t - np.log(1 + t), rel=1e-12)
    # At eigenvalue 1 the quotient has its limit, log(1) / (1 - 1) -> 1.
    _, steps = fields.printed_terms(np.ones(1), 0.3, 0.1)
    assert steps == pytest.approx(0.05 - np.log(1.05), rel=1e-12)


def test_spectrum_is_a_power_law_of_unit_power():
    power = fields.spectrum(64, 3.0)
    assert power.mean() == pytest.approx(1, rel=1e-12)
    # xi = 2 pi / L: P(0) / P(w) = 1 + k^3, k cycles an image.
    assert power[0, 0] / power[0, 5] == pytest.approx(1 + 5**3, rel=1e-12)
    assert power[0, 0] / power[-3, 4] == pytest.approx(1 + 5**3, rel=1e-12)
    assert fields.condition_number(power) == pytest.approx(1 + (np.sqrt(2) * 32) ** 3, rel=1e-12)


@pytest.mark.parametrize(("eta", "xi"), [(1.3, 0.4), (2.6, 0.0)])
def test_fit_recovers_the_law(eta, xi):
    frequencies = np.arange(1, 33) / 64
    law = 7 / (xi**eta + (2 * np.pi * frequencies) ** eta)
    for held in ({}, {"xi": xi}, {"eta": eta}):
        fitted_eta, fitted_xi, power = fields.fit_power_law(frequencies, law, **held)
        assert fitted_eta == pytest.approx(eta, abs=0.01)
        assert fitted_xi == pytest.approx(xi, abs=0.01)
        np.testing.assert_allclose(power, law, rtol=0.01)
    assert fields.fit_power_law(frequencies, law, eta=1.0, xi=0.2)[:2] == (1.0, 0.2)


def test_fit_recovers_the_law_from_samples():
    size, power = 32, fields.spectrum(32, 1.7)
    noise = np.random.default_rng(0).normal(size=(200, size, size))
    images = np.fft.ifft2(np.fft.fft2(noise) * np.sqrt(power)).real
    frequencies, radial = power_spectrum(images[..., None])
    eta, _, _ = fields.fit_power_law(frequencies, radial, xi=2 * np.pi / size)
    assert eta == pytest.approx(1.7, abs=0.05)


SMALL = (TINY, "--size=8", "--size=16", "--eta=2", "--num_images=16", "--epsilon=0.5")


def read(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_experiment(run, tmp_path):
    code, _, log = run(*SMALL, f"--out={tmp_path}", module="experiments.gaussian")
    assert code == 0, log
    for name in ("theorem1", "figure2", "conditions", "fit"):
        assert np.asarray(Image.open(tmp_path / f"{name}.png")).std() > 0

    steps = read(tmp_path / "steps.csv")
    assert [row["L"] for row in steps] == ["8", "16"]
    for row in steps:
        power = fields.spectrum(int(row["L"]), 2.0)
        assert float(row["condition number"]) == fields.condition_number(power)
        # N(epsilon) reaches epsilon; a step in fifty fewer do not.
        scales = fields.cascade(power, "db4", 1)
        for name, sample in (
            ("SGM", lambda n, power=power: fields.sgm(power, 10.0, n)),
            ("WSGM db4", lambda n, scales=scales: fields.wsgm(*scales, 10.0, n)),
        ):
            n = int(row[f"relative, {name}"])
            before, after = (np.max(np.abs(sample(k)[0] / power - 1)) for k in (n - 1 - n // 50, n))
            assert after <= 0.5 < before

    # Both laws of the details at every scale that a field has, and none at one that it lacks.
    of_8, *_, of_16 = read(tmp_path / "conditions.csv")
    assert [of_8[f"scale {k}"] != "" for k in range(1, 5)] == [True, True, True, False]
    assert of_16["scale 4"] != ""
    # Every scale brings the band that WMGM diffuses nearer to white.
    for row in read(tmp_path / "coarsest_band.csv"):
        left = [float(value) for name, value in row.items() if "S" in name and value]
        assert left == sorted(left, reverse=True)
        assert len(left) == int(np.log2(int(row["L"]))) - 1


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--size=24", "--size is a power of two, got 24"),
        ("--wavelet=bior2.2", "--wavelet is an orthogonal one, such as haar or db4, got 'bior2.2'"),
    ],
)
def test_bad_flags(flag, message, run, tmp_path):
    code, _, log = run(*SMALL, flag, f"--out={tmp_path / 'out'}", module="experiments.gaussian")
    assert code == 2
    assert log.splitlines()[-1] == f"wmgm_jax: {message}"
    assert not (tmp_path / "out").exists()
