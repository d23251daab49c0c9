"""Denoising score matching, the loss of every diffusion model."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from wmgm_jax.diffusion.process import OUProcess, ScoreFunction, per_image, perturb

# Times closer to 0 than this share of T are not trained. Sigma vanishes there and the score
# diverges. No sampler calls the network below its last step.
_SHORTEST_TIME = 1e-4

# Mean and standard deviation of log(sigma / alpha) in training with the loss "edm".
_LOG_NOISE = (-0.5, 1.2)


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


class NoiseLevels(NamedTuple):
    """At which times a score is trained, and how much each time counts.

    Attributes:
        times: (process, keys `[B]`) -> t `[B]`, in (0, T].
        weight: (process, t `[B]`) -> what multiplies `score_matching_loss`, `[B]`.
    """

    times: Callable[[OUProcess, jax.Array], jax.Array]
    weight: Callable[[OUProcess, jax.Array], jax.Array]


def _uniform_times(process: OUProcess, keys: jax.Array) -> jax.Array:
    t = jax.vmap(jax.random.uniform)(keys)
    return process.T * (_SHORTEST_TIME + (1 - _SHORTEST_TIME) * t)


def _lognormal_times(process: OUProcess, keys: jax.Array) -> jax.Array:
    mean, deviation = _LOG_NOISE
    log_noise = mean + deviation * jax.vmap(jax.random.normal)(keys)
    # sigma^2 / alpha^2 = exp(2 B) - 1.
    t = process.time(jax.nn.softplus(2 * log_noise) / 2, jnp)
    return jnp.clip(t, _SHORTEST_TIME * process.T, process.T)


NOISE_LEVELS: dict[str, NoiseLevels] = {
    # Algorithm 1: t uniform, and the loss of predicting the noise.
    "paper": NoiseLevels(_uniform_times, lambda process, t: jnp.ones_like(t)),
    # sigma / alpha log-normal, and the loss of predicting the velocity, |eps error|^2 / alpha^2.
    # It is that of Karras et al. 2022 (https://arxiv.org/abs/2206.00364, Table 1) for data of unit
    # variance: the work goes where the data is neither plain to see nor lost.
    "edm": NoiseLevels(_lognormal_times, lambda process, t: process.alpha(t) ** -2),
}
