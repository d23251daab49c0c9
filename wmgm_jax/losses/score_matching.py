"""Denoising score matching, the loss of every diffusion model."""

import jax
import jax.numpy as jnp

from wmgm_jax.diffusion.process import OUProcess, ScoreFunction, per_image, perturb


def score_matching_loss(
    score_fn: ScoreFunction,
    process: OUProcess,
    x0: jax.Array,
    t: jax.Array,
    noise: jax.Array,
) -> jax.Array:
    """Denoising score matching (Eq. 14, 19) with lambda(t) = sigma^2.

    The target score is -(X_t - alpha X_0) / sigma^2 = -eps / sigma, so that

        sigma^2 |s(X_t, t) + eps / sigma|^2 = |sigma s(X_t, t) + eps|^2,

    the loss of predicting the noise.

    Args:
        score_fn: `(x [B, ...], t [B]) -> score`, of x's shape.
        x0: data, `[B, ...]`.
        t: `[B]`, in (0, T].
        noise: standard normal, of x0's shape.

    Returns:
        `[B]`, the mean over the elements of each example.
    """
    score = score_fn(perturb(process, x0, t, noise), t)
    residual = per_image(process.sigma(t), x0) * score + noise
    return jnp.mean(residual**2, axis=tuple(range(1, x0.ndim)))
