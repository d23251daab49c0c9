"""The adversarial losses against scikit-image, float64 NumPy and critics with known gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import skimage.data
from numpy.lib.stride_tricks import sliding_window_view
from skimage.metrics import structural_similarity

from wmgm_jax.losses import msal
from wmgm_jax.losses.ssim import ssim

WEIGHTS = {"mse_weight": 20.0, "ssim_weight": 0.5, "adversarial_weight": 0.1}


def noisy_pair(kind, channels):
    """Two alike float64 `[2, 40, 32, channels]` in [0, 1]."""
    generator = np.random.default_rng(0)
    if kind == "random":
        x = generator.random((2, 40, 32, channels))
    else:
        crops = [skimage.data.astronaut()[y : y + 40, 200:232, :channels] for y in (60, 130)]
        x = np.stack(crops) / 255
    return x, np.clip(x + 0.1 * generator.standard_normal(x.shape), 0, 1)


def reference_ssim(x, y, data_range):
    """scikit-image's, of one image `[H, W, C]`."""
    return structural_similarity(
        x,
        y,
        data_range=data_range,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )


@pytest.mark.parametrize("kind", ["random", "natural"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("data_range, offset", [(1.0, 0.0), (2.0, -1.0), (255.0, 0.0)])
def test_ssim_equals_scikit_image(kind, channels, data_range, offset):
    x, y = (offset + data_range * image for image in noisy_pair(kind, channels))
    expected = [reference_ssim(a, b, data_range) for a, b in zip(x, y, strict=True)]
    actual = ssim(jnp.float32(x), jnp.float32(y), data_range)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_ssim_with_a_data_range_a_channel():
    scales = np.array([1.0, 2.0, 8.0])
    x, y = (scales * image for image in noisy_pair("natural", 3))
    apart = [
        ssim(jnp.float32(x[..., c : c + 1]), jnp.float32(y[..., c : c + 1]), scales[c])
        for c in range(3)
    ]
    together = ssim(jnp.float32(x), jnp.float32(y), jnp.float32(scales))
    np.testing.assert_allclose(together, np.mean(apart, axis=0), atol=1e-6)


@pytest.mark.parametrize("height, width", [(7, 9), (8, 30), (4, 4), (1, 5)])
def test_ssim_of_images_smaller_than_the_window(height, width):
    x, y = np.random.default_rng(1).random((2, height, width))
    size = min(height, width)
    line = np.exp(-((np.arange(size) - (size - 1) / 2) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / np.sum(np.outer(line, line))

    def blur(values):
        return np.sum(sliding_window_view(values, (size, size)) * window, axis=(-2, -1))

    mean_x, mean_y = blur(x), blur(y)
    luminance = (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
    variances = blur(x**2) - mean_x**2 + blur(y**2) - mean_y**2
    structure = (2 * (blur(x * y) - mean_x * mean_y) + 0.03**2) / (variances + 0.03**2)
    actual = ssim(*(jnp.float32(image[None, ..., None]) for image in (x, y)), 1.0)
    np.testing.assert_allclose(actual, [np.mean(luminance * structure)], atol=3e-5)


@pytest.mark.parametrize("kind", ["random", "natural"])
def test_ssim_is_one_of_equal_images_and_less_of_others(kind):
    x, y = (jnp.float32(image) for image in noisy_pair(kind, 3))
    np.testing.assert_allclose(ssim(x, x, 1.0), 1.0, atol=1e-6)
    np.testing.assert_allclose(ssim(x, y, 1.0), ssim(y, x, 1.0), atol=1e-6)
    assert np.all(ssim(x, y, 1.0) < 0.99)
    # An image and its negative.
    assert np.all(ssim(x, 1 - x, 1.0) < 0)


def test_ssim_gradient_against_finite_differences():
    x, y = noisy_pair("natural", 3)
    direction = np.random.default_rng(2).standard_normal(x.shape)
    with jax.enable_x64(True):
        similarity = jax.jit(lambda x: jnp.sum(ssim(x, jnp.asarray(y), 1.0)))
        _, slope = jax.jvp(similarity, (jnp.asarray(x),), (jnp.asarray(direction),))
        step = 1e-5
        ahead, behind = (similarity(x + sign * step * direction) for sign in (1, -1))
        np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-5)


def test_ssim_gradient_is_finite_on_constant_images():
    # Where the variances vanish; and the gradient at x = y, the maximum, is 0.
    gradient = jax.jit(jax.grad(lambda x, y: jnp.sum(ssim(x, y, 1.0))))
    flat, flatter = jnp.zeros((1, 16, 16, 3)), jnp.full((1, 16, 16, 3), 0.5)
    for x, y in ((flat, flat), (flat, flatter), (flatter, flat)):
        assert np.all(np.isfinite(gradient(x, y)))
    np.testing.assert_allclose(gradient(flatter, flatter), 0.0, atol=1e-6)


def linear_critic(weights, x):
    """D(x) = <w, x>, which stays linear whatever the images."""
    return jnp.sum(weights * x, axis=(1, 2, 3))


@pytest.fixture
def bands():
    """`fake, real` float32 `[3, 16, 14, 9]` and the weights of a linear critic."""
    generator = np.random.default_rng(3)
    fake, real = generator.standard_normal((2, 3, 16, 14, 9), np.float32)
    return fake, real, 0.05 * generator.standard_normal((16, 14, 9), np.float32)


def test_generator_loss(bands):
    fake, real, weights = bands
    data_range = np.linspace(2, 6, 9, dtype=np.float32)
    loss, terms = msal.generator_loss(
        fake, real, functools.partial(linear_critic, weights), data_range=data_range, **WEIGHTS
    )
    mse = np.mean((np.float64(fake) - real) ** 2)
    similarity = np.mean(
        [
            reference_ssim(a[..., c : c + 1], b[..., c : c + 1], data_range[c])
            for a, b in zip(np.float64(fake), np.float64(real), strict=True)
            for c in range(9)
        ]
    )
    realism = np.mean(np.sum(np.float64(fake) * weights, axis=(1, 2, 3)))
    expected = {"mse": mse, "ssim": similarity, "critic_fake": realism}
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(loss, 20 * mse + 0.5 * (1 - similarity) - 0.1 * realism, rtol=1e-5)


def test_generator_loss_without_a_critic(bands):
    fake, real, _ = bands
    silent, neutral = (
        msal.generator_loss(fake, real, critic, data_range=6.0, **WEIGHTS)
        for critic in (None, lambda x: jnp.zeros(len(x)))
    )
    assert silent[0] == neutral[0]
    assert silent[1] == {name: neutral[1][name] for name in ("mse", "ssim")}


def test_generator_gains_from_each_term(bands):
    fake, real, weights = bands
    critic = functools.partial(linear_critic, weights)

    def loss(fake, **nonzero):
        options = dict.fromkeys(WEIGHTS, 0.0) | nonzero
        return msal.generator_loss(fake, real, critic, data_range=6.0, **options)[0]

    nearer = 0.9 * fake + 0.1 * real
    assert loss(nearer, mse_weight=1.0) < loss(fake, mse_weight=1.0)
    assert loss(nearer, ssim_weight=1.0) < loss(fake, ssim_weight=1.0)
    assert loss(fake + weights, adversarial_weight=1.0) < loss(fake, adversarial_weight=1.0)
    # Perfect bands leave the critic's opinion alone.
    perfect, _ = msal.generator_loss(real, real, critic, data_range=6.0, **WEIGHTS)
    np.testing.assert_allclose(perfect, -0.1 * np.mean(critic(real)), atol=1e-5)


def test_discriminator_loss(bands):
    fake, real, weights = bands
    critic = functools.partial(linear_critic, weights)
    expected = np.mean(np.sum((np.float64(fake) - real) * weights, axis=(1, 2, 3)))
    np.testing.assert_allclose(msal.discriminator_loss(fake, real, critic), expected, rtol=1e-4)
    # It falls as D calls the real ones more real.
    assert msal.discriminator_loss(fake, real + weights, critic) < expected


def test_losses_average_over_the_batch(bands):
    fake, real, weights = bands
    critic = functools.partial(linear_critic, weights)
    mixing = jnp.array([0.2, 0.5, 0.9])

    def losses(where):
        generator, _ = msal.generator_loss(
            fake[where], real[where], critic, data_range=6.0, **WEIGHTS
        )
        # A quadratic critic: that of a linear one is the same for all images.
        penalty = msal.gradient_penalty(
            fake[where], real[where], mixing[where], lambda x: jnp.sum(x**2, axis=(1, 2, 3))
        )
        return np.array(
            [generator, msal.discriminator_loss(fake[where], real[where], critic), penalty]
        )

    alone = [losses(slice(i, i + 1)) for i in range(3)]
    np.testing.assert_allclose(losses(slice(None)), np.mean(alone, axis=0), rtol=1e-5)


@pytest.mark.parametrize("norm", [0.0, 0.3, 1.0, 4.0])
def test_penalty_of_a_linear_critic(bands, norm):
    fake, real, weights = bands
    weights = norm * weights / np.linalg.norm(weights)
    penalty = msal.gradient_penalty(
        fake, real, jnp.array([0.0, 0.3, 1.0]), functools.partial(linear_critic, weights)
    )
    np.testing.assert_allclose(penalty, (norm - 1) ** 2, rtol=1e-5, atol=1e-5)


def test_penalty_of_a_quadratic_critic(bands):
    # D(x) = a |x|^2 / 2 has the gradient a x.
    fake, real, _ = bands
    a, mixing = 0.03, np.array([0.0, 0.3, 1.0])
    penalty = msal.gradient_penalty(
        fake, real, jnp.float32(mixing), lambda x: a / 2 * jnp.sum(x**2, axis=(1, 2, 3))
    )
    # Nearer to the real image as `mixing` grows.
    x = mixing[:, None, None, None] * np.float64(real) + (1 - mixing[:, None, None, None]) * fake
    expected = np.mean((a * np.sqrt(np.sum(x**2, axis=(1, 2, 3))) - 1) ** 2)
    np.testing.assert_allclose(penalty, expected, rtol=1e-5)


def test_penalty_drives_the_slope_to_one(bands):
    fake, real, weights = bands

    def penalty(scale):
        critic = functools.partial(linear_critic, scale * weights / np.linalg.norm(weights))
        return msal.gradient_penalty(fake, real, jnp.full(3, 0.5), critic)

    # (scale - 1)^2; at 0 a plain square root would have no derivative.
    slopes = [jax.grad(penalty)(scale) for scale in (0.0, 0.5, 1.0, 2.0)]
    np.testing.assert_allclose(slopes[1:], [-1.0, 0.0, 2.0], atol=1e-5)
    assert np.isfinite(slopes[0])
