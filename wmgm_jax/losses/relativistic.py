"""The relativistic pairing loss and its zero-centred gradient penalties, for critics that return a
map of logits.

Jolicoeur-Martineau 2018 (https://arxiv.org/abs/1807.00734); Huang et al. 2024
(https://arxiv.org/abs/2501.05441), who prove local convergence with both penalties.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# x `[B, ...]` -> logits `[B, ...]`, those of each example of that example alone.
Critic = Callable[[jax.Array], jax.Array]


def generator_loss(fake: jax.Array, real: jax.Array) -> jax.Array:
    """-log sigmoid(D(fake) - D(real)), the mean over pairs: the fake is to look more real.

    Args:
        fake, real: logits of one shape.
    """
    return jnp.mean(jax.nn.softplus(real - fake))


def discriminator_loss(fake: jax.Array, real: jax.Array) -> jax.Array:
    """-log sigmoid(D(real) - D(fake)), the mean over pairs.

    Args:
        fake, real: logits of one shape.
    """
    return generator_loss(real, fake)


def gradient_penalty(x: jax.Array, keys: jax.Array, critic: Critic) -> jax.Array:
    """|grad D|^2 / 2 at x, averaged over examples and logits: R1 of real data, R2 of fakes.

    A gradient for each logit would cost a backward pass each. The logits are summed with random
    signs instead: the squared norm of the gradient of that sum has the sum of their squared norms
    as its expectation.

    Args:
        x: `[B, ...]`.
        keys: `[B]`, for the signs.
        critic: D.

    Returns:
        Scalar.
    """

    def signed_sum(x):
        logits = critic(x)
        signs = jax.vmap(lambda key: jax.random.rademacher(key, logits.shape[1:]))(keys)
        return jnp.sum(signs * logits), logits[0].size

    gradient, count = jax.grad(signed_sum, has_aux=True)(x)
    return jnp.sum(gradient**2) / (2 * len(x) * count)
