"""The relativistic losses and the energy score against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy

from wmgm_jax.losses import relativistic
from wmgm_jax.losses.energy_score import energy_score
from wmgm_jax.losses.spread import spread_error


def test_losses_are_cross_entropies_of_pairs():
    fake, real = np.random.default_rng(0).standard_normal((2, 5, 3, 2)).astype(np.float32)
    # The discriminator is a logistic regression that tells which of a pair is real.
    of_real = -scipy.special.log_expit((real - fake).astype(np.float64)).mean()
    of_fake = -scipy.special.log_expit((fake - real).astype(np.float64)).mean()
    np.testing.assert_allclose(relativistic.discriminator_loss(fake, real), of_real, rtol=1e-6)
    np.testing.assert_allclose(relativistic.generator_loss(fake, real), of_fake, rtol=1e-6)


def test_gradient_penalty_averages_the_norms_of_all_logits():
    """With the signs averaged out, of a critic whose Jacobian is known."""
    weights = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    x = np.random.default_rng(1).standard_normal((3, 6)).astype(np.float32)

    def critic(x):
        return (x**2 @ weights).reshape(-1, 2, 2)

    keys = jax.vmap(lambda i: jax.random.split(jax.random.key(i), 3))(jnp.arange(20_000))
    penalties = jax.vmap(lambda keys: relativistic.gradient_penalty(x, keys, critic))(keys)
    jacobian = 2 * x[:, :, None] * weights  # [B, in, logit]
    expected = (jacobian**2).sum(1).mean() / 2
    assert float(np.std(penalties)) > 0.1 * expected  # The signs do something.
    np.testing.assert_allclose(np.mean(penalties), expected, rtol=0.02)


def test_gradient_penalty_keeps_examples_apart():
    x, keys = jnp.ones((2, 4)), jax.random.split(jax.random.key(0), 2)

    def critic(x):
        return jnp.sum(x**3, axis=1, keepdims=True)

    # |3 x^2|^2 / 2 summed over 4 elements; a sum over the batch would double it.
    np.testing.assert_allclose(relativistic.gradient_penalty(x, keys, critic), 18.0, rtol=1e-6)


def test_energy_score_of_gaussians():
    """E |X - Y| of scalars is 2 sigma / sqrt(pi) for X - Y of variance 2 sigma^2."""
    first, second, true = jax.random.normal(jax.random.key(0), (3, 400_000, 1, 1, 1))

    def score(mean, spread):
        return float(energy_score(mean + spread * first, mean + spread * second, true, patch=1))

    def expected(mean, spread):
        s = np.sqrt(1 + spread**2)
        # The mean of a folded normal distribution.
        folded = s * np.sqrt(2 / np.pi) * np.exp(-(mean**2) / (2 * s**2))
        folded += mean * scipy.special.erf(mean / (s * np.sqrt(2)))
        return folded - spread / np.sqrt(np.pi)

    for mean, spread in [(0.0, 1.0), (0.0, 0.5), (0.5, 1.0), (0.0, 1.5), (0.0, 0.0)]:
        assert score(mean, spread) == pytest.approx(expected(mean, spread), abs=5e-3)
    # It is proper: both the mean and the spread of the truth are best.
    assert score(0.0, 1.0) < min(score(0.0, 0.7), score(0.0, 1.3), score(0.3, 1.0), score(0, 0.01))


@pytest.mark.parametrize("patch", [1, 2, 4, 100])
def test_energy_score_by_patches(patch):
    """Against sums written out; a side beyond the image is cut to it, a remainder left out."""
    first, second, true = np.random.default_rng(0).standard_normal((3, 2, 5, 6, 3))
    values = []
    height, width = min(patch, 5), min(patch, 6)
    for i in range(5 // height):
        for j in range(6 // width):
            here = np.s_[:, i * height : (i + 1) * height, j * width : (j + 1) * width]

            def rms(x, here=here):
                return np.sqrt((x[here] ** 2).mean((1, 2)))

            to_truth = rms(first - true) + rms(second - true)
            values.append((to_truth - rms(first - second)) / 2)
    given = energy_score(*(jnp.float32(x) for x in (first, second, true)), patch=patch)
    np.testing.assert_allclose(given, np.mean(values), rtol=1e-4)


def test_energy_score_has_gradients_where_draws_are_equal():
    x = jnp.zeros((1, 4, 4, 3))
    gradient = jax.grad(lambda g: energy_score(g, g, x, patch=2))(x)
    assert np.isfinite(gradient).all()


def test_spread_error_of_gaussians():
    """Of draws of variance V whose mean misses M by its bias and by the variance of the truth."""
    first, second, true = jax.random.normal(jax.random.key(0), (3, 2, 400, 500, 1))

    def error(bias, spread):
        return float(spread_error(bias + spread * first, bias + spread * second, true))

    for bias, spread in [(0.0, 1.0), (0.0, 0.5), (0.5, 1.0), (0.0, 1.5), (2.0, 0.0)]:
        # M + V / 2 is compared with 3 / 2 V.
        expected = ((spread**2 - (1 + bias**2)) / 1.5) ** 2
        assert error(bias, spread) == pytest.approx(expected, rel=0.03, abs=1e-4)


def test_spread_error_asks_for_more_than_the_energy_score_where_details_are_rare():
    """The truth is nine times as strong in a tenth of the images, which the draws cannot know."""
    first, second, true = jax.random.normal(jax.random.key(0), (3, 400, 16, 16, 1))
    strength = jnp.where(jnp.arange(400) % 10 == 0, 9.1, 0.1) ** 0.5  # a mean square of 1
    true = true * strength[:, None, None, None]

    def best(loss):
        spreads = np.linspace(0.1, 1.5, 29)
        return spreads[np.argmin([loss(s * first, s * second, true) for s in spreads])]

    assert best(lambda *draws: energy_score(*draws, patch=4)) < 0.5
    assert best(spread_error) == pytest.approx(1.0, abs=0.06)


def test_spread_error_pulls_at_the_spread_alone():
    """Its gradient is that of V, and nothing of the mean of the draws."""
    first, second, true = np.random.default_rng(0).standard_normal((3, 2, 3, 4, 2))
    arrays = [jnp.float32(x) for x in (first, second, true)]
    of_first, of_second = jax.grad(spread_error, argnums=(0, 1))(*arrays)
    variance = ((first - second) ** 2).mean((1, 2), keepdims=True) / 2
    missed = ((true - (first + second) / 2) ** 2).mean((1, 2), keepdims=True)
    # Means over 4 of image and channel, and over 12 pixels.
    expected = 2 * (variance - missed / 1.5) / 4 * (first - second) / 12
    np.testing.assert_allclose(of_first, expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(of_second, -expected, rtol=1e-4, atol=1e-7)
