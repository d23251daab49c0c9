"""The bands and their statistics against PyWavelets in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
import pywt

from wmgm_jax import wavelets
from wmgm_jax.core.codec import IMAGES
from wmgm_jax.systems import statistics as bands


def batches_of(*sizes, shape=(16, 24, 3)):
    """uint8 batches, smooth enough that the scales and the channels differ."""
    generator = np.random.default_rng(0)
    _, width, channels = shape
    result = []
    for size in sizes:
        ramp = np.linspace(0, 120, width)[:, None] * generator.random((size, 1, 1, channels))
        tint = np.array([90.0, 40.0, 10.0])[:channels]
        noise = generator.normal(0, [5.0, 15.0, 30.0][:channels], (size, *shape))
        result.append(np.clip(np.round(tint + ramp + noise), 0, 255).astype(np.uint8))
    return result


def float64_pyramid(images, levels):
    low, result = images / 127.5 - 1.0, []
    for _ in range(levels):
        low, details = pywt.dwt2(low, "haar", axes=(-3, -2))
        result.append((low, details))
    return result


def test_unit_range():
    images = jnp.array([0, 255, 51], jnp.uint8)
    unit = IMAGES.to_unit_range(images)
    assert unit.dtype == jnp.float32
    np.testing.assert_allclose(unit, [-1.0, 1.0, -0.6], atol=1e-6)


@pytest.mark.parametrize("levels", [1, 3])
def test_pyramid_holds_every_scale(levels):
    (images,) = batches_of(4)
    actual = wavelets.pyramid(IMAGES.to_unit_range(images), levels)
    expected = float64_pyramid(images, levels)
    assert len(actual) == levels
    for (low, details), (expected_low, expected_details) in zip(actual, expected, strict=True):
        np.testing.assert_allclose(low, expected_low, atol=1e-5)
        for band, expected_band in zip(details, expected_details, strict=True):
            np.testing.assert_allclose(band, expected_band, atol=1e-5)


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_statistics_are_those_of_all_images(levels):
    # Of unequal batches, a mean of their means would be another.
    batches = batches_of(7, 2, 4)
    actual = bands.compute_statistics(map(IMAGES.to_unit_range, batches), levels)
    images = np.concatenate(batches)
    pyramid = float64_pyramid(images, levels)
    lows = [images / 127.5 - 1.0, *(low for low, _ in pyramid)]
    axes = (0, 1, 2)
    expected = {
        "low_mean": [low.mean(axes) for low in lows],
        "low_std": [low.std(axes) for low in lows],
    }
    if levels:
        # Detail bands are scaled, not centred.
        expected["detail_std"] = [
            [np.sqrt(np.mean(band**2, axes)) for band in details] for _, details in pyramid
        ]
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == np.float32
        np.testing.assert_allclose(actual[name], value, rtol=1e-4)
    assert actual["low_mean"].shape == actual["low_std"].shape == (levels + 1, 3)
    if levels:
        assert actual["detail_std"].shape == (levels, 3, 3)


def test_statistics_do_not_depend_on_the_batches():
    (images,) = batches_of(12)
    images = IMAGES.to_unit_range(images)
    whole = bands.compute_statistics([images], 2)
    for parts in (np.split(images, 4), np.split(images, [1, 3])):
        for name, value in bands.compute_statistics(parts, 2).items():
            np.testing.assert_allclose(value, whole[name], rtol=1e-4)


def test_normalised_bands_have_unit_scale():
    (images,) = batches_of(8)
    unit = IMAGES.to_unit_range(images)
    statistics = bands.compute_statistics([unit], 3)
    for k in range(4):
        low = wavelets.low(unit, k)
        normalised = bands.normalise_low(low, statistics, k)
        np.testing.assert_allclose(np.mean(normalised, (0, 1, 2)), 0.0, atol=1e-4)
        np.testing.assert_allclose(np.std(normalised, (0, 1, 2)), 1.0, rtol=1e-4)
        np.testing.assert_allclose(
            bands.denormalise_low(normalised, statistics, k), low, rtol=1e-5, atol=1e-5
        )
    for k, (_, details) in enumerate(wavelets.pyramid(unit, 3), 1):
        normalised = bands.normalise_details(details, statistics, k)
        np.testing.assert_allclose(np.mean(normalised**2, (0, 1, 2)), 1.0, rtol=1e-4)
        back = bands.denormalise_details(normalised, statistics, k)
        for band, expected in zip(back, details, strict=True):
            np.testing.assert_allclose(band, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_constant_images_have_statistics_to_divide_by(value):
    images = np.full((3, 16, 16, 1), value, np.uint8)
    statistics = bands.compute_statistics(2 * [IMAGES.to_unit_range(images)], 4)
    unit = value / 127.5 - 1.0
    np.testing.assert_allclose(
        statistics["low_mean"][:, 0], unit * 2.0 ** np.arange(5), rtol=1e-5, atol=2e-6
    )
    np.testing.assert_allclose(statistics["detail_std"], 1e-4)
    assert np.all((statistics["low_std"] >= 1e-4) & (statistics["low_std"] < 0.02))
