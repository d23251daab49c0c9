"""The losses of multi-scale adversarial learning (Eq. 21-22), for the bands of one scale."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5

Critic = Callable[[jax.Array], jax.Array]


def ssim(x: jax.Array, y: jax.Array, data_range: jax.Array | float) -> jax.Array:
    """Structural similarity (Wang et al. 2004), https://doi.org/10.1109/TIP.2003.819861.

    A Gaussian window of 11x11 pixels and sigma 1.5 (smaller where the image is), population
    moments, C1 = (0.01 L)^2, C2 = (0.03 L)^2, averaged over channels and over the windows that
    lie inside the image.

    Args:
        x, y: `[B, H, W, C]`.
        data_range: L, the largest value less the smallest one that images can take; a scalar,
            or `[C]`.

    Returns:
        `[B]`, at most 1, which is reached where x = y.
    """
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    moments = _gaussian_blur(jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1))
    mean_x, mean_y, square_x, square_y, product = jnp.split(moments, 5, axis=-1)
    variance_x, variance_y = square_x - mean_x**2, square_y - mean_y**2
    covariance = product - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return jnp.mean(luminance * structure, axis=(1, 2, 3))


def _gaussian_blur(x: jax.Array) -> jax.Array:
    """Gaussian average over the windows inside the image, `[B, H, W, C] -> [B, h, w, C]`."""
    size = min(SSIM_WINDOW, *x.shape[1:3])
    offsets = np.arange(size) - (size - 1) / 2
    weights = np.exp(-(offsets**2) / (2 * SSIM_SIGMA**2))
    weights /= weights.sum()
    for axis in (1, 2):
        # A banded matrix product: one operation to compile, differentiate and run, where a
        # convolution of one channel by itself is slow on every device.
        windows = np.eye(x.shape[axis])[size - 1 :]
        windows = sum(w * np.roll(windows, -i, axis=1) for i, w in enumerate(weights[::-1]))
        x = jnp.tensordot(x, np.float32(windows), ([axis], [1]), precision="highest")
        x = jnp.moveaxis(x, -1, axis)
    return x


def generator_loss(
    fake: jax.Array,
    real: jax.Array,
    critic: Critic | None,
    *,
    mse_weight: float,
    ssim_weight: float,
    adversarial_weight: float,
    data_range: jax.Array | float,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """One scale's term of Eq. 21: lambda MSE + nu (1 - SSIM) - alpha D(fake).

    Args:
        fake, real: `[B, H, W, C]`.
        critic: D, `[B, H, W, C] -> [B]`; None leaves its term out.
        mse_weight, ssim_weight, adversarial_weight: lambda, nu, alpha.
        data_range: see `ssim`.

    Returns:
        The scalar loss and its terms by name, unweighted.
    """
    mse = jnp.mean((fake - real) ** 2)
    similarity = jnp.mean(ssim(fake, real, data_range))
    loss = mse_weight * mse + ssim_weight * (1 - similarity)
    terms = {"mse": mse, "ssim": similarity}
    if critic is not None:
        terms["critic_fake"] = jnp.mean(critic(fake))
        loss -= adversarial_weight * terms["critic_fake"]
    return loss, terms


def discriminator_loss(fake: jax.Array, real: jax.Array, critic: Critic) -> jax.Array:
    """One scale's term of Eq. 22: D(fake) - D(real), averaged over the batch.

    Args:
        fake, real: `[B, H, W, C]`.
        critic: D, `[B, H, W, C] -> [B]`.
    """
    return jnp.mean(critic(fake)) - jnp.mean(critic(real))


def gradient_penalty(
    fake: jax.Array, real: jax.Array, mixing: jax.Array, critic: Critic
) -> jax.Array:
    """The penalty (|grad D(x)| - 1)^2 of WGAN-GP that keeps D 1-Lipschitz.

    Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028; x lies on the segment between a fake
    and a real image. D must treat the images of a batch independently.

    Args:
        fake, real: `[B, H, W, C]`.
        mixing: `[B]` in [0, 1], where on the segment x lies.
        critic: D, `[B, H, W, C] -> [B]`.

    Returns:
        Scalar, averaged over the batch.
    """
    mixing = mixing[:, None, None, None]
    x = mixing * real + (1 - mixing) * fake
    gradient = jax.grad(lambda x: jnp.sum(critic(x)))(x)
    norm = jnp.sqrt(jnp.sum(gradient**2, axis=(1, 2, 3)) + 1e-12)
    return jnp.mean((norm - 1) ** 2)
