"""The paper's losses of the details (Eq. 21-22): `msal.loss = "paper"`."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wmgm_jax.core.random import fold_in
from wmgm_jax.losses import msal as losses
from wmgm_jax.networks import Discriminator
from wmgm_jax.networks.apply import apply_fn
from wmgm_jax.systems.detail_generator import DetailGenerator, scale_name
from wmgm_jax.systems.interface import Batch, LazyRegularizer, Objective, Params
from wmgm_jax.systems.loss_domains import LOSS_DOMAINS
from wmgm_jax.systems.statistics import denormalise_details

# What a key is for, so that no two draws share one.
_Z, _DROPOUT, _MIXING = range(3)


class PaperLosses:
    """See `DetailLosses`. D is Lipschitz by a sigmoid or by a gradient penalty.

    The paper does not say which loss standard and operator learning minimise. Here it is Eq. 21
    without its adversarial term. The approaches then differ only in the network, and in whether
    there is a discriminator.

    Attributes:
        domain: where details are compared.
    """

    def __init__(self, settings: ConfigDict, generator: DetailGenerator, dtype: str):
        """
        Args:
            settings: `msal.paper`.
            generator: G.
            dtype: in which D computes.
        """
        self.settings, self.generator = settings, generator
        self.domain = LOSS_DOMAINS[settings.loss_domain]
        self.lipschitz = losses.LIPSCHITZ[settings.lipschitz](settings.penalty_weight)
        self.discriminator = None
        if generator.is_adversarial:
            self.discriminator = Discriminator(dtype=jnp.dtype(dtype), **settings.discriminator)

    def objectives(self) -> dict[str, Objective]:
        settings = self.settings
        objectives = {"generator": Objective(self.generator_loss, settings.generator_optimizer)}
        if self.discriminator:
            objectives["discriminator"] = Objective(
                self.discriminator_loss,
                settings.discriminator_optimizer,
                every=settings.discriminator_every,
                ema=False,
            )
        return objectives

    def regularizers(self) -> dict[str, LazyRegularizer]:
        return {}

    def generator_loss(self, params, batch_stats, batch: Batch):
        """Eq. 21: the sum over scales."""
        settings = self.settings
        total, metrics, updated = 0.0, {}, {}
        for k, (low, details) in self.generator.pyramid(batch):
            fake, updated[scale_name(k)] = self.fake(params, batch_stats, batch, low, k)
            loss, terms = losses.generator_loss(
                fake,
                self.domain.view(low, details, batch.statistics, k),
                self.critic(params, batch.keys, k) if self.discriminator else None,
                mse_weight=settings.mse_weight,
                ssim_weight=settings.ssim_weight,
                adversarial_weight=settings.adversarial_weight,
                data_range=self.domain.data_range(batch.statistics, k),
            )
            total += loss
            metrics |= {f"{name}/{scale_name(k)}": value for name, value in terms.items()}
        return total, ({"generator_loss": total, **metrics}, updated)

    def discriminator_loss(self, params, batch_stats, batch: Batch):
        """Eq. 22: the sum over scales, with what keeps D Lipschitz."""
        total, penalties = 0.0, {}
        for k, (low, details) in self.generator.pyramid(batch):
            fake, _ = self.fake(params, batch_stats, batch, low, k)
            real = self.domain.view(low, details, batch.statistics, k)
            critic = self.critic(params, batch.keys, k)
            total += losses.discriminator_loss(fake, real, critic)
            mixing_keys = fold_in(batch.keys, _MIXING, k)
            for name, value in self.lipschitz.penalties(fake, real, mixing_keys, critic).items():
                penalties[name] = penalties.get(name, 0.0) + value
        metrics = {"discriminator_loss": total, **penalties}
        return total + self.lipschitz.weight * sum(penalties.values()), (metrics, batch_stats)

    def fake(self, params, batch_stats, batch: Batch, low: jax.Array, k: int):
        """Generated details in the loss's domain, and the updated batch-norm averages."""
        keys = fold_in(batch.keys, _Z, k)
        output, updated = self.generator.draw(params, batch_stats, keys, low, batch.statistics, k)
        details = denormalise_details(output, batch.statistics, k)
        return self.domain.view(low, details, batch.statistics, k), updated

    def critic(self, params, keys: jax.Array, k: int) -> losses.Critic:
        """D at scale k."""
        dropout_keys = fold_in(keys, _DROPOUT, k)
        variables = {"params": self.generator.at_scale(params["discriminator"], k)}
        assert self.discriminator is not None  # Its objective asks for it.
        apply = apply_fn(self.discriminator)
        return self.lipschitz.critic(lambda x: apply(variables, x, dropout_keys))

    def init_discriminator(self, key: jax.Array) -> Params:
        assert self.discriminator is not None
        shape = self.domain.shape(*self.generator.band_shape(1))
        return self.discriminator.init(key, jnp.zeros((1, *shape)))["params"]
