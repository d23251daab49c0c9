"""The losses of multi-scale adversarial learning (Eq. 21-22), for the bands of one scale."""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import jax
import jax.numpy as jnp

from wmgm_jax.losses.ssim import ssim

Critic = Callable[[jax.Array], jax.Array]


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


class Lipschitz(Protocol):
    """What keeps D Lipschitz, as Eq. 22 supposes.

    Attributes:
        weight: of the penalties in the loss of D.
    """

    @property
    def weight(self) -> float: ...

    def critic(self, discriminator: Critic) -> Critic:
        """D, from the unbounded output of its network."""
        ...

    def penalties(
        self, fake: jax.Array, real: jax.Array, keys: jax.Array, critic: Critic
    ) -> dict[str, jax.Array]:
        """The penalties on D by name, scalars; `keys` are `[B]`."""
        ...


@dataclasses.dataclass(frozen=True)
class Sigmoid:
    """D ends in a sigmoid, which bounds it; the authors' way."""

    weight: float = 0.0

    def critic(self, discriminator: Critic) -> Critic:
        return lambda x: jax.nn.sigmoid(discriminator(x))

    def penalties(
        self, fake: jax.Array, real: jax.Array, keys: jax.Array, critic: Critic
    ) -> dict[str, jax.Array]:
        return {}


@dataclasses.dataclass(frozen=True)
class GradientPenalty:
    """D is penalised where its gradient has another norm than 1, see `gradient_penalty`."""

    weight: float

    def critic(self, discriminator: Critic) -> Critic:
        return discriminator

    def penalties(
        self, fake: jax.Array, real: jax.Array, keys: jax.Array, critic: Critic
    ) -> dict[str, jax.Array]:
        mixing = jax.vmap(jax.random.uniform)(keys)
        return {"gradient_penalty": gradient_penalty(fake, real, mixing, critic)}


LIPSCHITZ: dict[str, Callable[[float], Lipschitz]] = {
    "sigmoid": lambda penalty_weight: Sigmoid(),
    "gradient_penalty": GradientPenalty,
}
