"""Measures of images that need no network: against SciPy, PyWavelets and closed forms."""

import sys

import numpy as np
import pytest
import pywt
import scipy.stats
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st

from wmgm_jax.evaluation.measures.gaussian_divergence import (
    gaussian_divergence,
    gaussian_divergences,
)
from wmgm_jax.evaluation.measures.marginals import (
    EDGES,
    histograms,
    kurtosis,
    marginals,
    named_bands,
)
from wmgm_jax.evaluation.measures.power_spectrum import power_spectrum, spectrum_error
from wmgm_jax.evaluation.measures.sparsity import sparsity

BANDS = ("LH", "HL", "HH")


@pytest.fixture(scope="module")
def crops():
    """float32 `[160, 32, 24, 3]` in [-1, 1], more than power_spectrum takes at a time."""
    image = skimage.data.immunohistochemistry() / np.float32(127.5) - 1
    random = np.random.default_rng(0)
    corners = random.integers(0, 512 - 32, (160, 2))
    return np.stack([image[top : top + 32, left : left + 24] for top, left in corners])


def pywavelets(images, levels):
    """{(scale, band): coefficients} in float64, by PyWavelets."""
    low, *details = pywt.wavedec2(images.astype(np.float64), "haar", level=levels, axes=(1, 2))
    bands = {(levels, "LL"): low}
    for scale, triple in zip(range(levels, 0, -1), details, strict=True):
        bands |= {(scale, name): band for name, band in zip(BANDS, triple, strict=True)}
    return bands


def frequencies_of(height, width):
    return np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))


# --- power spectrum ---


def test_white_noise_is_flat_at_its_variance():
    noise = np.random.default_rng(0).normal(0.3, 0.2, (300, 32, 32, 3))
    frequencies, power = power_spectrum(noise)
    np.testing.assert_allclose(frequencies, np.arange(1, 17) / 32)
    # The first ring has 8 frequencies, 4 of them independent, 900 times: 2.5% to two deviations.
    np.testing.assert_allclose(power, 0.04, rtol=0.06)
    assert power.mean() == pytest.approx(0.04, rel=0.01)


@pytest.mark.parametrize(("cycles", "ring"), [((0, 5), 5), ((3, 0), 3), ((3, 4), 5), ((2, 3), 4)])
def test_a_cosine_lands_in_its_ring_with_its_power(cycles, ring):
    rows, columns = np.mgrid[:32, :32]
    wave = 0.6 * np.cos(2 * np.pi * (cycles[0] * rows + cycles[1] * columns) / 32 + 0.7)
    frequencies, power = power_spectrum(0.2 + wave[None, ..., None])
    members = np.sum(np.rint(32 * frequencies_of(32, 32)) == ring)
    expected = np.where(frequencies == ring / 32, (0.6**2 / 2) * 32 * 32 / members, 0)
    np.testing.assert_allclose(power, expected, atol=1e-12)


def test_frequencies_are_cycles_per_pixel_in_images_that_are_not_square():
    """A quarter cycle a pixel is ring 4 of 16 pixels, whichever way it runs."""
    quarter = np.cos(2 * np.pi * np.arange(64) / 4)
    across = np.broadcast_to(quarter, (1, 16, 64))[..., None]
    along = np.broadcast_to(quarter[:16, None], (1, 16, 64))[..., None]
    for image in (across, along):
        frequencies, power = power_spectrum(image)
        assert len(power) == 8
        assert frequencies[np.argmax(power)] == 0.25
        assert power[3] == pytest.approx(power.sum(), rel=1e-12)


def test_parseval(crops):
    """Of images without frequencies that no ring holds, the rings add up to the variance."""
    frequencies = frequencies_of(32, 24)
    ring = np.rint(24 * frequencies)
    held = (ring >= 1) & (ring <= 12)
    spectrum = np.fft.fft2(crops.astype(np.float64), axes=(1, 2)) * held[None, ..., None]
    images = np.fft.ifft2(spectrum, axes=(1, 2)).real
    _, power = power_spectrum(images)
    members = np.array([np.sum(ring == r) for r in range(1, 13)])
    assert np.sum(members * power) / (32 * 24) == pytest.approx(np.mean(images**2), rel=1e-10)
    np.testing.assert_allclose(power, power_spectrum(crops)[1], rtol=1e-10)


@pytest.mark.parametrize("exponent", [1.0, 2.0])
@pytest.mark.parametrize("shape", [(64, 64), (64, 96)])
def test_the_slope_of_a_gaussian_field(exponent, shape):
    frequencies = frequencies_of(*shape)
    frequencies[0, 0] = 1
    white = np.random.default_rng(0).normal(size=(100, *shape, 1))
    spectrum = np.fft.fft2(white, axes=(1, 2)) * frequencies[..., None] ** (-exponent / 2)
    centres, power = power_spectrum(np.fft.ifft2(spectrum, axes=(1, 2)).real)
    slope = np.polyfit(np.log(centres[2:]), np.log(power[2:]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.02)


def test_spectrum_error_is_in_decibels(crops):
    # Twice the amplitude is four times the power, on every ring.
    assert spectrum_error(2 * crops, crops) == pytest.approx(10 * np.log10(4), rel=1e-3)
    assert spectrum_error(crops, 2 * crops) == pytest.approx(10 * np.log10(4), rel=1e-3)
    assert spectrum_error(crops + 0.5, crops) < 1e-5
    blurred = (crops + np.roll(crops, 1, 1) + np.roll(crops, 1, 2)) / 3
    noisy = crops + np.random.default_rng(0).normal(0, 0.1, crops.shape)
    baseline = spectrum_error(crops[:80], crops[80:])
    assert spectrum_error(blurred, crops) > 2 * baseline
    assert spectrum_error(noisy, crops) > 2 * baseline


def test_spectrum_error_of_constant_images_is_finite(crops):
    flat = np.zeros_like(crops)
    _, power = power_spectrum(crops)
    rounding = (2 / 255) ** 2 / 12
    expected = np.sqrt(np.mean((10 * np.log10(power / rounding)) ** 2))
    assert spectrum_error(flat, crops) == pytest.approx(expected, rel=1e-6)
    assert spectrum_error(flat, flat) == 0


def test_spectra_of_unequal_sizes_are_refused(crops):
    with pytest.raises(ValueError, match="unequal sizes"):
        spectrum_error(crops, crops[:, :16])


# --- marginals ---


def test_named_bands_are_those_of_pywavelets(crops):
    expected = pywavelets(crops[:4], 2)
    bands = named_bands(crops[:4], 2)
    assert list(bands) == ["scale_1", "scale_2"]
    for (scale, band), coefficients in expected.items():
        np.testing.assert_allclose(bands[f"scale_{scale}"][band], coefficients, atol=1e-5)


def test_marginals_are_those_of_scipy(crops):
    """Sets of unequal size."""
    images, reference = crops[:20], crops[20:50]
    tree = marginals(images, reference, 2)
    ours, theirs = pywavelets(images, 2), pywavelets(reference, 2)
    assert [(scale, list(bands)) for scale, bands in tree.items()] == [
        ("scale_1", ["LH", "HL", "HH"]),
        ("scale_2", ["LL", "LH", "HL", "HH"]),
    ]
    for (scale, band), x in ours.items():
        x, y = x.ravel(), theirs[scale, band].ravel()
        measured = tree[f"scale_{scale}"][band]
        distance = scipy.stats.wasserstein_distance(x, y) / y.std()
        assert measured["wasserstein"] == pytest.approx(distance, rel=1e-4)
        assert measured["kurtosis"] == pytest.approx(scipy.stats.kurtosis(x), rel=1e-4)
        assert kurtosis(images, 2)[f"scale_{scale}"][band] == measured["kurtosis"]
        assert measured["kurtosis_reference"] == pytest.approx(scipy.stats.kurtosis(y), rel=1e-4)


def test_what_marginals_notice(crops):
    """Brightness moves the low band alone, by 2^S a unit; contrast scales every detail."""
    std = {key: band.std() for key, band in pywavelets(crops, 2).items()}
    brighter = marginals(crops + 0.25, crops, 2)
    assert brighter["scale_2"]["LL"]["wasserstein"] == pytest.approx(1 / std[2, "LL"], rel=1e-4)
    assert brighter["scale_1"]["HL"]["wasserstein"] < 1e-5
    flatter = marginals(0.5 * crops, crops, 2)
    for (scale, band), x in pywavelets(crops, 2).items():
        if band != "LL":
            assert flatter[f"scale_{scale}"][band]["wasserstein"] == pytest.approx(
                0.5 * np.abs(x).mean() / x.std(), rel=0.01
            )


def test_the_kurtosis_of_laplacian_details():
    """In the lower right pixel of every block alone, x/2 is in each detail band: kurtosis 3."""
    images = np.zeros((50, 64, 64, 1))
    images[:, 1::2, 1::2] = np.random.default_rng(0).laplace(size=(50, 32, 32, 1))
    for band in marginals(images, images, 1)["scale_1"].values():
        assert band["kurtosis"] == pytest.approx(3, abs=0.25)
        assert band["wasserstein"] == 0


def test_quantiles_stand_for_large_marginals(monkeypatch):
    random = np.random.default_rng(0)
    images, reference = random.normal(size=(8, 64, 64, 1)), random.laplace(size=(13, 64, 64, 1))
    exact = marginals(images, reference, 1)
    # The package has a function of the module's name.
    module = sys.modules[marginals.__module__]
    monkeypatch.setattr(module, "_QUANTILES", 2048)
    near = marginals(images, reference, 1)
    for band, values in exact["scale_1"].items():
        distance = near["scale_1"][band]["wasserstein"]
        assert distance == pytest.approx(values["wasserstein"], rel=5e-3)
        assert distance != values["wasserstein"]
    monkeypatch.setattr(module, "_QUANTILES", 10)
    shuffled = random.permutation(1000.0 * np.arange(1000))
    np.testing.assert_array_equal(module.quantiles(shuffled), 1000 * np.arange(50, 1000, 100))


def test_a_reference_without_details_has_finite_distances(crops):
    tree = marginals(crops, np.zeros_like(crops), 1)
    assert np.isfinite(tree["scale_1"]["HH"]["wasserstein"])
    assert np.isnan(tree["scale_1"]["HH"]["kurtosis_reference"])


def test_histograms_are_densities_in_deviations_of_the_reference():
    random = np.random.default_rng(0)
    white = 0.3 * random.normal(size=(60, 64, 64, 1))
    reference = white + 0.5
    tree = histograms(2 * white + 0.5 + 0.3, reference, 1)["scale_1"]
    centres = (EDGES[1:] + EDGES[:-1]) / 2
    normal = scipy.stats.norm.pdf
    for band in ("LL", "HH"):
        # The low band of a constant is twice the constant.
        shift = 2 * 0.3 / 0.3 if band == "LL" else 0
        np.testing.assert_allclose(tree[band]["edges"], EDGES)
        np.testing.assert_allclose(tree[band]["density_reference"], normal(centres), atol=0.025)
        np.testing.assert_allclose(tree[band]["density"], normal(centres, shift, 2), atol=0.02)
    # What lies beyond the edges, here at two deviations, is missing and not spread over the rest.
    far = histograms(4 * white, reference, 1)["scale_1"]["HH"]
    missing = 1 - np.sum(far["density"]) * 0.1
    assert missing == pytest.approx(2 * scipy.stats.norm.sf(2), rel=0.05)


# --- sparsity ---


def test_sparsity_counts(crops):
    thresholds = [0.0, 0.003, 0.02, 0.1, 2.0]
    shares = sparsity(crops, 2, thresholds)
    # In integers, where nothing is rounded: the image in [0, 1] is `levels / 255`.
    details = pywavelets(np.round((crops + 1) * 127.5), 2)
    for scale in (1, 2):
        x = np.concatenate([details[scale, band].ravel() for band in BANDS])
        expected = [np.mean(np.abs(x) / 255 <= t + 1e-9) for t in thresholds]
        np.testing.assert_allclose(shares[scale - 1], expected, rtol=0, atol=1e-12)
    assert 0 < shares[0, 0] < shares[0, 3] < 1
    np.testing.assert_array_equal(shares[:, -1], 1)


def test_sparsity_of_one_edge():
    """A step from black to white within the blocks of one column in eight: half the height of the
    range, twice the orthonormal weight, in HL alone."""
    images = -np.ones((1, 16, 16, 1))
    images[:, :, 3:] = 1
    np.testing.assert_allclose(
        sparsity(images, 1, [0.0, 0.999, 1.0]), [[1 - 1 / 24, 1 - 1 / 24, 1]]
    )


# --- divergence from the Gaussian ---


def autoregressive(count, dimensions, correlation, seed=0):
    """Gaussian `[count, dimensions]` with correlation r^|i - j|, and its two divergences."""
    r, d = correlation, dimensions
    noise = np.random.default_rng(seed).normal(size=(count, d))
    x = noise.copy()
    for i in range(1, d):
        x[:, i] = r * x[:, i - 1] + np.sqrt(1 - r**2) * noise[:, i]
    log_determinant = (d - 1) * np.log(1 - r**2)
    trace_of_inverse = (2 + (d - 2) * (1 + r**2)) / (1 - r**2)
    return x, -log_determinant / 2 / d, (trace_of_inverse - d + log_determinant) / 2 / d


@pytest.mark.parametrize("correlation", [0.3, -0.9])
def test_divergence_approaches_the_closed_form(correlation):
    errors = []
    for count in (100, 1000, 100_000):
        x, to_gaussian, from_gaussian = autoregressive(count, 16, correlation)
        result = gaussian_divergence(x)
        errors.append(abs(result["to_gaussian"] / to_gaussian - 1))
    assert errors[0] > errors[1] > errors[2]
    assert result["to_gaussian"] == pytest.approx(to_gaussian, rel=0.01)
    assert result["from_gaussian"] == pytest.approx(from_gaussian, rel=0.02)
    assert result["coefficients"] == 16


@pytest.mark.parametrize("shape", [(50, 8, 8, 3), (200, 4, 4, 3)])
def test_divergence_by_the_book(shape):
    """Ledoit and Wolf's formulas, image by image, with explicit matrices; N < d and N > d."""
    random = np.random.default_rng(0)
    mixing = np.eye(np.prod(shape[1:])) + 0.2 * random.normal(size=[np.prod(shape[1:])] * 2)
    x = (random.laplace(size=(shape[0], len(mixing))) @ mixing) * 7 - 3
    result = gaussian_divergence(x.reshape(shape))

    x = (x - x.mean(0)) / x.std(0)
    n, d = x.shape
    sample, identity = np.corrcoef(x.T), np.eye(d)
    noise = sum(np.sum((np.outer(row, row) - sample) ** 2) for row in x) / n**2
    shrinkage = noise / np.sum((sample - identity) ** 2)
    assert 0 < shrinkage < 1
    matrix = shrinkage * identity + (1 - shrinkage) * sample
    log_determinant = np.linalg.slogdet(matrix)[1]
    trace_of_inverse = np.trace(np.linalg.inv(matrix))
    assert result["shrinkage"] == pytest.approx(shrinkage, rel=1e-9)
    assert result["to_gaussian"] == pytest.approx(-log_determinant / 2 / d, rel=1e-9)
    expected = (trace_of_inverse - d + log_determinant) / 2 / d
    assert result["from_gaussian"] == pytest.approx(expected, rel=1e-9)


def test_shrinkage_is_near_the_best_there_is():
    """The squared error of the shrunk correlation, against the best intensity in hindsight."""
    true = 0.8 ** np.abs(np.subtract.outer(np.arange(60), np.arange(60)))
    intensities = np.linspace(0, 1, 101)
    errors, chosen = np.zeros(101), 0.0
    for seed in range(20):
        x, _, _ = autoregressive(40, 60, 0.8, seed)
        sample = np.corrcoef(x.T)

        def error(intensity, sample=sample):
            return np.sum((intensity * np.eye(60) + (1 - intensity) * sample - true) ** 2)

        errors += [error(intensity) for intensity in intensities]
        chosen += error(gaussian_divergence(x)["shrinkage"])
    assert errors.min() <= chosen < 1.05 * errors.min()
    assert chosen < 0.8 * errors[0]


@pytest.mark.parametrize("shape", [(100, 16, 16, 3), (2000, 4, 4, 3)])
def test_independent_noise_is_gaussian(shape):
    result = gaussian_divergence(np.random.default_rng(0).normal(size=shape))
    assert 0 <= result["to_gaussian"] < 1e-3
    assert 0 <= result["from_gaussian"] < 1e-3


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(3, 12),
    shift=st.floats(-10, 10),
    scale=st.floats(0.1, 10),
)
def test_divergence_is_blind_to_mean_and_scale_of_every_pixel(seed, count, shift, scale):
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 4, 4, 1))
    x[:, 2:] += x[:, :2]
    moved = x * random.uniform(0.1, scale + 0.1, (4, 4, 1)) + shift * random.normal(size=(4, 4, 1))
    result, other = gaussian_divergence(x), gaussian_divergence(moved)
    assert result["to_gaussian"] >= 0
    assert other == pytest.approx(result, rel=1e-6, abs=1e-9)


def test_constant_pixels_are_left_out(crops):
    framed = np.pad(crops, ((0, 0), (4, 4), (4, 4), (0, 0)), constant_values=0.1)
    assert gaussian_divergence(framed) == pytest.approx(gaussian_divergence(crops))
    for bands in gaussian_divergences(framed, 2).values():
        for value in (bands,) if "coefficients" in bands else bands.values():
            assert np.isfinite(list(value.values())).all()


def test_what_has_no_divergence_is_refused(crops):
    with pytest.raises(ValueError, match="3 images"):
        gaussian_divergence(crops[:2])
    with pytest.raises(ValueError, match="no coefficient varies"):
        gaussian_divergence(np.repeat(crops[:1], 5, axis=0))


def test_divergences_by_band(crops):
    tree = gaussian_divergences(crops, 2)
    assert list(tree) == ["image", "scale_1", "scale_2"]
    assert tree["image"] == pytest.approx(gaussian_divergence(crops))
    diagonal = pywavelets(crops, 2)[2, "HH"]
    assert tree["scale_2"]["HH"] == pytest.approx(gaussian_divergence(diagonal), rel=1e-3)
    # Neighbours in the image are more alike than neighbours in its details.
    assert tree["scale_1"]["LL"]["to_gaussian"] > 3 * tree["scale_1"]["HH"]["to_gaussian"]
