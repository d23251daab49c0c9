"""The phi^4 fields and the linear scores against closed forms, and the experiment on them."""

import csv

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import pywt
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from experiments import linear_scores, phi4, phi4_fields
from experiments.phi4_fields import CRITICAL_BETA, Energy
from wmgm_jax import wavelets
from wmgm_jax.diffusion.process import OUProcess

PROCESS = OUProcess(schedule="constant", T=5.0)


def fields_of(energy, size, num=512, seed=0):
    """Fields of as many chains, equilibrated, and so independent."""
    key, start_key = jax.random.split(jax.random.key(seed))
    phi = jax.random.normal(start_key, (num, size, size))
    phi, _ = phi4_fields.run_chains(energy, phi, key, 40)
    return np.asarray(phi, np.float64)


def assert_means(samples, expected):
    """The means of independent samples `[N, ...]`, within 4.5 of their standard errors."""
    standard_error = np.std(samples, axis=0) / np.sqrt(len(samples))
    np.testing.assert_array_less(np.abs(np.mean(samples, axis=0) - expected), 4.5 * standard_error)


def test_clusters_are_connected_components():
    right, down = np.random.default_rng(0).random((2, 3, 12, 12)) < 0.5
    labels = np.asarray(phi4_fields.cluster_labels(right, down)).reshape(3, -1)
    sites = np.arange(144).reshape(12, 12)
    for i in range(3):
        start = np.concatenate([sites[right[i]], sites[down[i]]])
        end = np.concatenate([np.roll(sites, -1, 1)[right[i]], np.roll(sites, -1, 0)[down[i]]])
        graph = coo_array((np.ones(len(start)), (start, end)), shape=(144, 144))
        count, components = connected_components(graph, directed=False)
        smallest = np.array([np.flatnonzero(components == c).min() for c in range(count)])
        np.testing.assert_array_equal(labels[i], smallest[components])


def test_free_field_has_its_spectrum():
    beta, mass, size = 0.5, 1.0, 8
    fields = fields_of(Energy(beta, quadratic=2 * beta + mass**2 / 2, quartic=0.0), size)
    power = np.abs(np.fft.fft2(fields, norm="ortho")) ** 2
    cosines = np.cos(2 * np.pi * np.fft.fftfreq(size))
    assert_means(power, 1 / (beta * (4 - 2 * cosines[:, None] - 2 * cosines) + mass**2))


def test_two_by_two_against_quadrature():
    # Periodic, the four sites are a ring in which every bond counts twice.
    phi = fields_of(Energy(CRITICAL_BETA), 2, num=4096)
    x = np.linspace(-3.5, 3.5, 281)
    transfer = np.exp(2 * CRITICAL_BETA * np.outer(x, x) - (x**4 - x**2))
    one, two, four = (np.linalg.matrix_power(transfer, n) for n in (1, 2, 4))
    z = np.trace(four)
    assert_means(phi[:, 0, 0] ** 2, np.diag(four) @ x**2 / z)
    assert_means(phi[:, 0, 0] ** 4, np.diag(four) @ x**4 / z)
    assert_means(phi[:, 0, 0] * phi[:, 0, 1], x @ (one * (two @ one).T) @ x / z)
    assert_means(phi[:, 0, 0] * phi[:, 1, 1], x @ (two * two.T) @ x / z)


def test_criticality():
    def moments(size, beta):
        return phi4_fields.magnetic_moments(fields_of(Energy(beta), size))

    disordered, ordered = (
        [moments(size, beta)["Binder cumulant"] for size in (4, 8)] for beta in (0.5, 0.8)
    )
    assert disordered[1] < disordered[0] - 0.03
    assert ordered[1] > ordered[0] + 0.005
    # Of the Ising class on a square torus: 0.6107 at the critical point, and eta = 1/4.
    small, large = (moments(size, CRITICAL_BETA) for size in (8, 16))
    assert abs(large["Binder cumulant"] - 0.6107) < 0.03
    assert abs(np.log2(large["susceptibility"] / small["susceptibility"]) - 7 / 4) < 0.15
    assert abs(large["mean (standard errors)"]) < 4.5


def test_autocorrelation_time_of_an_autoregression():
    rng, rho = np.random.default_rng(0), 0.8
    series = np.zeros((400, 512))
    series[0] = rng.standard_normal(512)
    for i in range(1, 400):
        series[i] = rho * series[i - 1] + np.sqrt(1 - rho**2) * rng.standard_normal(512)
    time = phi4_fields.autocorrelation_time(3 + series)
    assert abs(time / ((1 + rho) / (1 - rho) / 2) - 1) < 0.05
    with pytest.raises(ValueError, match="too few"):
        phi4_fields.autocorrelation_time(series[:20])


def test_chains_are_thinned_by_their_autocorrelation():
    chains = phi4_fields.sample_fields(Energy(CRITICAL_BETA), 8, 100, jax.random.key(0), 64)
    assert chains.fields.shape == (100, 8, 8)
    assert 1 < chains.autocorrelation_time < 15
    assert chains.thinning >= 2 * chains.autocorrelation_time
    assert 0.3 < chains.acceptance < 0.7
    assert len(np.unique(chains.fields[:, 0, 0])) == 100


def test_wavelet_matrix():
    x = np.random.default_rng(0).standard_normal((2, 16, 16)).astype(np.float32)
    for name in ("haar", "db4"):
        for size in (2, 4, 16):
            matrix = linear_scores.wavelet_matrix(size, name)
            np.testing.assert_allclose(matrix @ matrix.T, np.eye(size), atol=1e-10)
        low, details = linear_scores.split(matrix, x)
        np.testing.assert_allclose(linear_scores.join(matrix, low, details), x, atol=1e-5)
        # PyWavelets starts its filters half their length before.
        start = 1 - pywt.Wavelet(name).dec_len // 2
        theirs, their_details = pywt.dwt2(
            np.roll(x, (start, start), (1, 2)), name, mode="periodization"
        )
        for ours, band in zip(
            [low, *np.moveaxis(details, -1, 0)], [theirs, *their_details], strict=True
        ):
            np.testing.assert_allclose(ours, band, atol=1e-5)
    low, (lh, hl, hh) = wavelets.dwt2(x[..., None])
    haar = linear_scores.split(linear_scores.wavelet_matrix(16, "haar"), x)
    np.testing.assert_allclose(haar[0], low[..., 0], atol=1e-5)
    np.testing.assert_allclose(haar[1], jnp.concatenate([lh, hl, hh], axis=-1), atol=1e-5)


def test_divergence_of_the_potential():
    """The curvatures and the shares against automatic differentiation."""
    x = jax.random.normal(jax.random.key(1), (1, 8, 8))
    for name in ("haar", "db4"):
        matrix = jnp.asarray(linear_scores.wavelet_matrix(8, name), jnp.float32)
        low, details = linear_scores.split(matrix, x)
        band = linear_scores.Details(matrix, *map(jnp.float32, (0.8, 1.7, 1.2)))
        pixels = band.rebuild(details, low[..., None])
        for m, curvature in enumerate(linear_scores.potential_curvatures(pixels)):

            def force(flat, m=m, band=band, low=low):
                pixels = band.rebuild(flat.reshape(1, 4, 4, 3), low[..., None])
                return band.project(linear_scores.potential_slopes(pixels)[m]).ravel()

            trace = jnp.trace(jax.jacfwd(force)(details.ravel()))
            np.testing.assert_allclose(jnp.sum(curvature * band.shares(8)), trace, atol=2e-4)


def gaussian_fields(size, num):
    """Stationary Gaussian fields and their power `[size, size]`, of mean 1."""
    cosines = np.cos(2 * np.pi * np.fft.fftfreq(size))
    power = 1 / (4.3 - 2 * cosines[:, None] - 2 * cosines)
    power /= power.mean()
    noise = np.random.default_rng(0).standard_normal((num, size, size))
    fields = np.fft.ifft2(np.fft.fft2(noise) * np.sqrt(power)).real
    return jnp.asarray(fields, jnp.float32), power


def fitted(band, clean, known, t):
    """The score at one time, as a model of one time T = t."""
    process = OUProcess(schedule="constant", T=t)
    alpha, sigma = process.alpha(t), process.sigma(t)
    sums = linear_scores.moments(band, clean, known, alpha, sigma, jax.random.key(3), 2**14)
    kernel, slopes = linear_scores.solve(*map(np.asarray, sums), clean.shape[2])
    model = linear_scores.LinearScore(band, jnp.asarray(kernel)[None], jnp.asarray(slopes)[None])
    return model, process


def test_fit_recovers_the_gaussian_score():
    size, t = 4, 0.4
    fields, power = gaussian_fields(size, 2**14)
    clean = fields[..., None]
    model, process = fitted(linear_scores.Whole(jnp.ones(())), clean, clean[..., :0], t)
    score_fn = linear_scores.score(model, process, clean[:64, ..., :0])
    variance = np.exp(-2 * t) * power + 1 - np.exp(-2 * t)
    exact = -np.fft.ifft2(np.fft.fft2(fields[:64]) / variance).real
    found = score_fn(clean[:64], jnp.full(64, t))[..., 0]
    assert np.linalg.norm(found - exact) < 0.04 * np.linalg.norm(exact)


@pytest.mark.parametrize("name", ["haar", "db4"])
def test_fit_recovers_the_conditional_gaussian_score(name):
    size, t = 4, 0.4
    fields, power = gaussian_fields(size, 2**14)
    matrix = linear_scores.wavelet_matrix(size, name)
    low, details = linear_scores.split(jnp.asarray(matrix, jnp.float32), fields)
    scales = [float(jnp.std(x)) for x in (details, low, fields)]
    band = linear_scores.Details(jnp.asarray(matrix, jnp.float32), *map(jnp.float32, scales))
    clean, known = details / scales[0], low[..., None] / scales[1]
    model, process = fitted(band, clean, known, t)
    # The covariance of (details, low), from that of the pixels.
    basis = np.fft.fft2(np.eye(size**2).reshape(-1, size, size), norm="ortho").reshape(size**2, -1)
    covariance = (basis.conj() * power.ravel() @ basis.T).real
    eye = np.eye(size**2).reshape(-1, size, size)
    low_rows, detail_rows = linear_scores.split(matrix, eye)
    to_low = low_rows.reshape(size**2, -1).T / scales[1]
    to_details = detail_rows.reshape(size**2, -1).T / scales[0]
    gain = to_details @ covariance @ to_low.T @ np.linalg.inv(to_low @ covariance @ to_low.T)
    residual = to_details @ covariance @ to_details.T - gain @ to_low @ covariance @ to_details.T
    alpha, sigma = np.exp(-t), np.sqrt(1 - np.exp(-2 * t))
    precision = np.linalg.inv(alpha**2 * residual + sigma**2 * np.eye(len(residual)))
    mean = alpha * known[:64].reshape(64, -1) @ gain.T
    exact = -(clean[:64].reshape(64, -1) - mean) @ precision
    found = linear_scores.score(model, process, known[:64])(clean[:64], jnp.full(64, t))
    assert np.linalg.norm(found.reshape(64, -1) - exact) < 0.04 * np.linalg.norm(exact)


def test_fit_of_a_double_well():
    """One pixel, whose exact score is an integral: two Gaussians of deviation 0.3 at +-1."""
    t = 0.15
    rng = np.random.default_rng(0)
    x = rng.choice([-1.0, 1.0], 2**14) + 0.3 * rng.standard_normal(2**14)
    clean = jnp.asarray(x.reshape(-1, 1, 1, 1), jnp.float32)
    model, process = fitted(linear_scores.Whole(jnp.ones(())), clean, clean[..., :0], t)
    alpha, sigma = np.exp(-t), np.sqrt(1 - np.exp(-2 * t))
    variance = 0.09 * alpha**2 + sigma**2
    noisy = alpha * x[:4096] + sigma * rng.standard_normal(4096)
    exact = (alpha * np.tanh(alpha * noisy / variance) - noisy) / variance
    given = jnp.asarray(noisy.reshape(-1, 1, 1, 1), jnp.float32)
    found = linear_scores.score(model, process, given[..., :0])(given, jnp.full(4096, t))
    assert np.linalg.norm(found.ravel() - exact) < 0.15 * np.linalg.norm(exact)
    # Without the potential the best score is -x / var(x_t), which is far off.
    gaussian = -noisy / (alpha**2 * 1.09 + sigma**2)
    assert np.linalg.norm(gaussian - exact) > 0.5 * np.linalg.norm(exact)


def test_draws_have_the_variance_of_the_recursion():
    size, steps, num = 4, 4, 8192
    _, power = gaussian_fields(size, 1)
    times = PROCESS.times(steps).astype(np.float64)
    variances = [np.exp(-2 * t) * power + 1 - np.exp(-2 * t) for t in times]
    kernels = np.stack([-1 / v[:, : size // 2 + 1, None, None] for v in variances[-2::-1]])
    slopes = jnp.zeros((steps, linear_scores.NUM_KNOTS - 1))
    scale = jnp.float32(2.0)
    model = linear_scores.LinearScore(linear_scores.Whole(scale), jnp.asarray(kernels), slopes)
    drawn = linear_scores.draw_sgm(model, num, PROCESS, steps, jax.random.key(0))
    expected = np.ones((size, size))
    for k in range(steps):
        dt = times[k] - times[k + 1]
        expected *= (1 + dt - 2 * dt / variances[k]) ** 2
        expected += 2 * dt * (k < steps - 1)
    assert_means(np.abs(np.fft.fft2(drawn, norm="ortho")) ** 2, 4 * expected)


def test_wsgm_of_white_noise():
    """From fit to field: every band has the score -x, and the variance of its recursion."""
    steps = 16
    fields = 2 * np.random.default_rng(0).standard_normal((4096, 4, 4)).astype(np.float32)
    models = linear_scores.fit_wsgm(fields, "db4", PROCESS, steps, jax.random.key(0))
    assert [model.kernels.shape[1] for model in models] == [1, 1, 2]
    drawn = linear_scores.draw_wsgm(models, 4096, PROCESS, steps, jax.random.key(1))
    dt, variance = PROCESS.T / steps, 1.0
    for k in range(steps):
        variance = (1 - dt) ** 2 * variance + 2 * dt * (k < steps - 1)
    power = phi4.power_spectrum(np.asarray(drawn))
    np.testing.assert_allclose(power, 4 * variance, rtol=0.18)


def test_error_of_fields():
    fields = np.random.default_rng(0).standard_normal((64, 8, 8)).astype(np.float32)
    assert phi4.error(fields, fields) == dict.fromkeys(
        ("error", "spectrum", "marginal", "log spectrum"), 0.0
    )
    assert phi4.error(2 * fields, fields)["spectrum"] == pytest.approx(3)
    assert phi4.error(2 * fields, fields)["log spectrum"] == pytest.approx(np.log(4))
    # Of disjoint marginals; every pixel counts, however far out.
    shares = [phi4.marginal(np.full((2, 2, 2), value), 1.0) for value in (-100.0, 1.0)]
    assert np.abs(shares[0] - shares[1]).sum() / 2 == pytest.approx(1)
    noise = np.random.default_rng(1).standard_normal(fields.shape)
    noisy = [phi4.error(fields + level * noise, fields) for level in (0.0, 0.3, 0.6, 1.2)]
    for name in ("error", "spectrum", "marginal", "log spectrum"):
        values = [measured[name] for measured in noisy]
        assert values == sorted(values)
        assert values[1] > 0
    white = phi4.power_spectrum(fields)
    assert white.mean() == pytest.approx(np.mean(fields.astype(np.float64) ** 2))


def test_the_experiment(run, tmp_path):
    flags = ("--size=4", "--num_fields=64", "--num_drawn=16")
    steps = ("--num_steps=2", "--num_steps=4")
    code, _, log = run(*flags, *steps, f"--out={tmp_path}", module="experiments.phi4")
    assert code == 0, log
    with (tmp_path / "errors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["L"], row["model"], row["steps"]) for row in rows] == [
        ("4", "true fields", "0"),
        *(("4", model, steps) for steps in ("2", "4") for model in ("SGM", "WSGM")),
    ]
    assert all(np.isfinite(float(row["error"])) for row in rows)
    assert (tmp_path / "chains.md").exists()
    for name in ("errors.png", "fields.png", "spectrum.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 0


def test_the_fields_as_a_file(run, tmp_path):
    flags = ("--size=4", "--num_fields=10", "--num_drawn=5", f"--out={tmp_path / 'results'}")
    code, _, log = run(*flags, f"--fields={tmp_path}", module="experiments.phi4")
    assert code == 0, log
    fields = np.load(tmp_path / "phi4_4.npy", allow_pickle=False)
    assert (fields.shape, fields.dtype) == ((10, 4, 4), np.float32)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--size=12"], "power of 2"),
        (["--num_steps=3", "--num_steps=8"], "divides the largest"),
        (["--num_fields=10", "--num_drawn=6"], "at most half"),
    ],
)
def test_mistakes_take_one_line(flags, told, run, tmp_path):
    code, _, log = run(*flags, f"--out={tmp_path}", module="experiments.phi4")
    assert (code, len(log.splitlines())) == (2, 1), log
    assert told in log
    assert not list(tmp_path.iterdir())
