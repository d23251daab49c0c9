"""The non-saturating adversarial loss and its R1 penalty, for critics that return logits.

Goodfellow et al. 2014 (https://arxiv.org/abs/1406.2661); Mescheder et al. 2018
(https://arxiv.org/abs/1801.04406).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

# x `[B, ...]` -> logits `[B]`.
Critic = Callable[[jax.Array], jax.Array]


def generator_loss(fake: jax.Array) -> jax.Array:
    """-log sigmoid(D(fake)); logits `[B]` -> the mean over the batch."""
    return jnp.mean(jax.nn.softplus(-fake))


def discriminator_loss(fake: jax.Array, real: jax.Array) -> jax.Array:
    """-log sigmoid(D(real)) - log(1 - sigmoid(D(fake))); logits `[B]` -> the mean over the batch.

    The slides of WaveDiff print log sigmoid(D(fake)) for the second term, which has no lower bound;
    their release trains with this one.
    """
    return jnp.mean(jax.nn.softplus(-real)) + jnp.mean(jax.nn.softplus(fake))


def r1(real: jax.Array, critic: Critic) -> jax.Array:
    """Half the squared norm of the gradient of D at real data, the mean over the batch.

    The gradient is that of the sum of D over the batch. If D judges each example alone, its part
    for an example is the gradient of D at it. If D judges groups, it has the derivatives of D at
    the others of the group too, as in the release of WaveDiff.

    Args:
        real: `[B, ...]`.
        critic: D.

    Returns:
        Scalar; gamma times it is the penalty R1.
    """
    gradient = jax.grad(lambda x: jnp.sum(critic(x)))(real)
    return jnp.mean(jnp.sum(gradient**2, axis=tuple(range(1, real.ndim)))) / 2
