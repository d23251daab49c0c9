"""The losses that the details are trained with by default: `msal.loss = "relativistic"`.

    L_G = sum over k of   softplus(D(x_H^k) - D(g)) + lambda ES(g, g'; x_H^k) + mu S(g, g'; x_H^k)
    L_D = sum over k of   softplus(D(g) - D(x_H^k)) + gamma / 2 (|grad D(x_H^k)|^2 + |grad D(g)|^2)

g and g' are two draws of G for one x_L^k. D sees the normalised details, with x_L^k beside them and
the details that a smooth interpolation of x_L^k would have. By these it can tell whether details
continue from one Haar cell to the next. Beside the range of x_L^k, such a step is too small to see.
Eq. 21 is ruled by its mean square, which is least for the mean of all details that x_L^k allows:
too smooth. The energy score ES is least for their distribution, so that it asks for spread, too.
The spread error S is least where the variance of the draws is what their mean misses. D sees the
structure that patches of a band by itself do not show.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wmgm_jax import wavelets
from wmgm_jax.core.random import fold_in
from wmgm_jax.losses import relativistic
from wmgm_jax.losses.energy_score import energy_score
from wmgm_jax.losses.spread import spread_error
from wmgm_jax.networks import PatchDiscriminator
from wmgm_jax.networks.apply import apply_fn
from wmgm_jax.networks.unet_parts import upsample_bilinear
from wmgm_jax.systems.detail_generator import DetailGenerator, scale_name
from wmgm_jax.systems.interface import Batch, LazyRegularizer, Objective, Params, Statistics
from wmgm_jax.systems.statistics import normalise_details, normalise_low

# What a key is for, so that no two draws share one.
_FIRST, _SECOND, _DISCRIMINATOR, _SIGNS = range(4)


class RelativisticLosses:
    """See `DetailLosses`."""

    def __init__(self, settings: ConfigDict, generator: DetailGenerator, dtype: str):
        """
        Args:
            settings: `msal.relativistic`.
            generator: G.
            dtype: in which D computes.
        """
        self.settings, self.generator = settings, generator
        self.discriminator = PatchDiscriminator(dtype=jnp.dtype(dtype), **settings.discriminator)

    def objectives(self) -> dict[str, Objective]:
        settings = self.settings
        return {
            "generator": Objective(self.generator_loss, settings.generator_optimizer),
            "discriminator": Objective(
                self.discriminator_loss, settings.discriminator_optimizer, ema=False
            ),
        }

    def regularizers(self) -> dict[str, LazyRegularizer]:
        every = self.settings.penalty_every
        return {"penalties": LazyRegularizer("discriminator", self.penalties, every)}

    def generator_loss(self, params, batch_stats, batch: Batch):
        """L_G."""
        settings, total, metrics, updated = self.settings, 0.0, {}, {}
        for k, (low, details) in self.generator.pyramid(batch):
            real = normalise_details(details, batch.statistics, k)
            keys = jnp.concatenate(
                [fold_in(batch.keys, _FIRST, k), fold_in(batch.keys, _SECOND, k)]
            )
            both = jnp.concatenate([low, low])
            draws, updated[scale_name(k)] = self.generator.draw(
                params, batch_stats, keys, both, batch.statistics, k
            )
            first, second = jnp.split(draws, 2)
            critic = self.critic(params, low, batch, k)
            terms = {
                "adversarial": relativistic.generator_loss(critic(first), critic(real)),
                "energy_score": energy_score(first, second, real, settings.patch),
                "spread_error": spread_error(first, second, real),
            }
            total += (
                terms["adversarial"]
                + settings.energy_weight * terms["energy_score"]
                + settings.spread_weight * terms["spread_error"]
            )
            terms["spread"] = jnp.mean((first - second) ** 2) / 2
            metrics |= {f"{name}/{scale_name(k)}": value for name, value in terms.items()}
        return total, ({"generator_loss": total, **metrics}, updated)

    def discriminator_loss(self, params, batch_stats, batch: Batch):
        """L_D without its penalties."""
        total = 0.0
        for k, low, real, fake in self.pairs(params, batch_stats, batch):
            critic = self.critic(params, low, batch, k)
            total += relativistic.discriminator_loss(critic(fake), critic(real))
        return total, ({"discriminator_loss": total}, batch_stats)

    def penalties(self, params, batch_stats, batch: Batch):
        """The penalties of L_D, R1 and R2, times the steps between two of them."""
        r1, r2 = jnp.zeros(()), jnp.zeros(())
        for k, low, real, fake in self.pairs(params, batch_stats, batch):
            critic = self.critic(params, low, batch, k)
            keys = fold_in(batch.keys, _SIGNS, k)
            r1 += relativistic.gradient_penalty(real, keys, critic)
            r2 += relativistic.gradient_penalty(fake, keys, critic)
        weight = self.settings.penalty_weight * self.settings.penalty_every
        return weight * (r1 + r2), ({"r1": r1, "r2": r2}, batch_stats)

    def pairs(self, params, batch_stats, batch: Batch):
        """(k, x_L^k, normalised x_H^k, one draw of it), as the discriminator's losses see them."""
        for k, (low, details) in self.generator.pyramid(batch):
            keys = fold_in(batch.keys, _DISCRIMINATOR, k)
            fake, _ = self.generator.draw(params, batch_stats, keys, low, batch.statistics, k)
            yield k, low, normalise_details(details, batch.statistics, k), fake

    def critic(self, params, low: jax.Array, batch: Batch, k: int) -> relativistic.Critic:
        """D at scale k, given x_L^k."""
        condition = self.condition(low, batch.statistics, k)
        variables = {"params": self.generator.at_scale(params["discriminator"], k)}
        apply = apply_fn(self.discriminator)
        return lambda x: apply(variables, jnp.concatenate([x, condition], axis=-1))

    def condition(self, low: jax.Array, statistics: Statistics, k: int) -> jax.Array:
        """What D sees of x_L^k `[B, h, w, C]`, normalised: itself, and the details of its bilinear
        interpolation; `[B, h, w, 4C]`."""
        _, smooth = wavelets.dwt2(upsample_bilinear(low / 2))
        parts = [normalise_low(low, statistics, k), normalise_details(smooth, statistics, k)]
        return jnp.concatenate(parts, axis=-1)

    def init_discriminator(self, key: jax.Array) -> Params:
        height, width, channels = self.generator.band_shape(1)
        return self.discriminator.init(key, jnp.zeros((1, height, width, 7 * channels)))["params"]
