"""Measures against references, and what they must notice."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import skimage.data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from wmgm_jax.core.codec import IMAGES
from wmgm_jax.evaluation.measures.sliced_wasserstein import (
    laplacian_pyramid,
    sliced_distance,
    sliced_wasserstein,
)
from wmgm_jax.evaluation.reconstruction import fidelity, psnr, rebuild


@pytest.fixture(scope="module")
def crops():
    image = skimage.data.immunohistochemistry()
    random = np.random.default_rng(0)
    corners = random.integers(0, 512 - 32, (64, 2))
    return np.stack([image[top : top + 32, left : left + 32] for top, left in corners])


def test_psnr_is_scikit_images(crops):
    a, b = crops[:4] / 255.0, crops[4:8] / 255.0
    expected = [peak_signal_noise_ratio(x, y, data_range=1.0) for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(psnr(jnp.array(a), jnp.array(b)), expected, rtol=1e-5)


def test_fidelity_is_scikit_images_mean_over_batches_of_any_size(crops):
    """Rebuilding that darkens every image by 25 grey levels, in batches of 5, 5 and 2."""
    true = crops[:12]
    dark = rebuild(
        lambda brighter, keys, images: images + brighter,
        -50 / 255,
        true,
        IMAGES,
        jax.random.key(0),
        5,
    )
    np.testing.assert_array_equal(dark, np.maximum(true.astype(int) - 25, 0))
    result = fidelity(dark, true, IMAGES, batch_size=5)
    pairs = list(zip(true, dark, strict=True))
    expected = np.mean([peak_signal_noise_ratio(x, y) for x, y in pairs])
    assert result["psnr"] == pytest.approx(expected, rel=1e-5)
    similarity = np.mean(
        [
            structural_similarity(
                x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                data_range=255, channel_axis=-1,
            )
            for x, y in pairs
        ]
    )  # fmt: skip
    assert result["ssim"] == pytest.approx(similarity, abs=1e-5)
    assert fidelity(true, true, IMAGES)["psnr"] == pytest.approx(100)


def test_sliced_distance_is_scipys_in_one_dimension():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(500, 1)), 2 + random.normal(size=(500, 1))
    expected = scipy.stats.wasserstein_distance(x[:, 0], y[:, 0])
    assert sliced_distance(x, y, random) == pytest.approx(expected, rel=1e-5)


def test_sliced_distance_of_a_shift():
    """A shift by v moves every projection by |<v, direction>|: its mean in D dimensions."""
    random = np.random.default_rng(0)
    x = random.normal(size=(100, 9)).astype(np.float32)
    shift = np.zeros(9, np.float32)
    shift[4] = 3.0
    direction = scipy.special.gamma(4.5) / (np.sqrt(np.pi) * scipy.special.gamma(5))
    assert sliced_distance(x, x + shift, random) == pytest.approx(3 * direction, rel=0.1)


def test_the_pyramid_adds_up(crops):
    """What is taken away on the way down is there on the way up: constant images, all scales."""
    levels = laplacian_pyramid(np.full((1, 64, 64, 1), 100, np.uint8))
    assert [level.shape[1] for level in levels] == [64, 32, 16]
    for level in levels[:-1]:
        np.testing.assert_allclose(level, 0, atol=1e-3)
    np.testing.assert_allclose(levels[-1], 100, atol=1e-3)
    fine, coarse = laplacian_pyramid(crops[:1])
    assert np.abs(fine.mean()) < 0.05 * coarse.mean()


def test_sliced_wasserstein_notices(crops):
    """Noise and blur at the fine level, colour and contrast at the coarse one, each by more than
    twice the distance between two halves of the set."""
    a, b = crops[:32], crops[32:]
    shifted = np.clip(a + np.array([20, 0, -20]), 0, 255).astype(np.uint8)
    flat = (128 + (a.astype(float) - 128) * 0.6).astype(np.uint8)
    noisy = np.clip(a + np.random.default_rng(0).normal(0, 25, a.shape), 0, 255).astype(np.uint8)
    blurred = ((a + np.roll(a, 1, 1).astype(int) + np.roll(a, 1, 2)) // 3).astype(np.uint8)
    baseline = sliced_wasserstein(b, a)
    for worse, level in ((noisy, "32"), (blurred, "32"), (shifted, "16"), (flat, "16")):
        assert sliced_wasserstein(worse, a)[level] > 2 * baseline[level]
    assert set(sliced_wasserstein(a, b)) == {"32", "16", "mean"}


@pytest.mark.parametrize("constant", [0.0, 0.1, 7.5])
def test_a_channel_that_never_varies_has_the_scale_of_the_others(constant):
    random = np.random.default_rng(0)
    ours, theirs = random.standard_normal((2, 30, 16, 16, 2)).astype(np.float32)
    ours[..., 1] = theirs[..., 1] = constant
    baseline = sliced_wasserstein(ours, theirs)["mean"]
    ours[..., 1] += 1e-3 * random.standard_normal(ours.shape[:-1])
    assert sliced_wasserstein(ours, theirs)["mean"] == pytest.approx(baseline, rel=0.05)
    ours[..., 1] += 1
    assert sliced_wasserstein(ours, theirs)["mean"] > baseline + 0.1


def test_sets_of_any_size_and_images_of_one(crops):
    assert sliced_wasserstein(crops[:20], crops[20:])["mean"] < 0.5
    with pytest.raises(ValueError, match="unequal"):
        sliced_wasserstein(crops[:, :16], crops)
