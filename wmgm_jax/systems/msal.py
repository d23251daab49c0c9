"""MSAL: multi-scale adversarial learning of the details, one network for all scales (Eq. 21-22).

    x_H^k = G(x_L^k, z^k),   z^k ~ N(0, I)

Bands reach the networks with unit scale. One shared generator sees every scale, but the statistics
of batch norm differ between scales, so there is one set of them per scale.

`msal.learning` chooses between adversarial learning and the two that the paper compares it with
(Table 2, Appendix H.2). They replace G by another network with the same inputs, and have no
discriminator. Standard learning uses a plain U-Net, operator learning a Fourier neural operator.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wmgm_jax import wavelets
from wmgm_jax.config import arguments
from wmgm_jax.core.random import fold_in, normal
from wmgm_jax.losses import msal as losses
from wmgm_jax.networks import FNO, AttentionUNet, Discriminator, PlainUNet, inference
from wmgm_jax.networks.apply import apply_fn
from wmgm_jax.systems.interface import (
    Batch,
    NetworkCall,
    Objective,
    Params,
    Stage,
    Statistics,
)
from wmgm_jax.systems.loss_domains import LOSS_DOMAINS
from wmgm_jax.systems.statistics import denormalise_details, normalise_low


class Learning(NamedTuple):
    """A way to learn the details.

    Attributes:
        network: the class of the generator.
        section: of `config.msal`, with the arguments of the network.
        is_adversarial: whether there is a discriminator.
    """

    network: Any
    section: str
    is_adversarial: bool


LEARNING = {
    "adversarial": Learning(AttentionUNet, "generator", is_adversarial=True),
    "standard": Learning(PlainUNet, "unet", is_adversarial=False),
    "operator": Learning(FNO, "fno", is_adversarial=False),
}

# What a key is for, so that no two draws share one.
_Z, _DROPOUT, _MIXING = range(3)


class MSAL:
    """The generator and the discriminator of the details, and their stage. It holds no arrays.

    Attributes:
        generator: G.
        discriminator: D; None where learning is not adversarial.
    """

    def __init__(self, config: ConfigDict, dtype: str):
        """
        Args:
            config: validated, with a section `msal`.
            dtype: in which the networks compute.
        """
        self.config, self.settings = config, config.msal
        self.scales = range(1, config.wavelet.levels + 1)
        self.domain = LOSS_DOMAINS[self.settings.loss_domain]
        self.lipschitz = losses.LIPSCHITZ[self.settings.lipschitz](self.settings.penalty_weight)
        learning = LEARNING[self.settings.learning]
        self.generator = learning.network(
            out_channels=3 * config.data.channels,
            rematerialise=config.train.rematerialise,
            dtype=jnp.dtype(dtype),
            **arguments(self.settings[learning.section]),
        )
        self.discriminator = None
        if learning.is_adversarial:
            self.discriminator = Discriminator(
                dtype=jnp.dtype(dtype), **self.settings.discriminator
            )

    # --- Algorithm 2: sampling -------------------------------------------------------------------

    def generate_details(
        self, params: Params, keys: jax.Array, low: jax.Array, k: int
    ) -> wavelets.Details:
        """x_H^k = G(x_L^k, z^k), one pass.

        Args:
            params: of the model.
            keys: `[B]`, for z^k.
            low: x_L^k, `[B, h, w, C]`.
            k: the scale.

        Returns:
            Three of `[B, h, w, C]`.
        """
        statistics = params["statistics"]
        generate = inference.prepared(self.generator, self.variables(params, k), images=len(keys))
        output = generate(self.inputs(keys, low, statistics, k), train=False)
        return denormalise_details(output, statistics, k)

    def variables(self, params: Params, k: int) -> dict[str, Params]:
        """The generator of scale k, from the entries `generator` and `batch_stats`."""
        return {
            "params": self.at_scale(params["generator"], k),
            "batch_stats": params["batch_stats"][_scale(k)],
        }

    def inputs(self, keys: jax.Array, low: jax.Array, statistics: Statistics, k: int) -> jax.Array:
        """What the generator sees: x_L^k `[B, h, w, C]`, normalised, and z^k; `[B, h, w, 2C]`."""
        z = normal(keys, low.shape)
        return jnp.concatenate([normalise_low(low, statistics, k), z], axis=-1)

    # --- Algorithm 1: training -------------------------------------------------------------------

    def generator_loss(self, params, batch_stats, batch: Batch):
        """Eq. 21: the sum over scales.

        The paper does not say which loss standard and operator learning minimise. Here it is
        Eq. 21 without its adversarial term. The approaches then differ only in the network, and in
        whether there is a discriminator.
        """
        settings = self.settings
        total, metrics, updated = 0.0, {}, {}
        for k, (low, details) in self.pyramid(batch):
            fake, updated[_scale(k)] = self.fake(params, batch_stats, batch, low, k)
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
            metrics |= {f"{name}/{_scale(k)}": value for name, value in terms.items()}
        return total, ({"generator_loss": total, **metrics}, updated)

    def discriminator_loss(self, params, batch_stats, batch: Batch):
        """Eq. 22: the sum over scales, with what keeps D Lipschitz."""
        total, penalties = 0.0, {}
        for k, (low, details) in self.pyramid(batch):
            fake, _ = self.fake(params, batch_stats, batch, low, k)
            real = self.domain.view(low, details, batch.statistics, k)
            critic = self.critic(params, batch.keys, k)
            total += losses.discriminator_loss(fake, real, critic)
            mixing_keys = fold_in(batch.keys, _MIXING, k)
            for name, value in self.lipschitz.penalties(fake, real, mixing_keys, critic).items():
                penalties[name] = penalties.get(name, 0.0) + value
        metrics = {"discriminator_loss": total, **penalties}
        return total + self.lipschitz.weight * sum(penalties.values()), (metrics, batch_stats)

    def pyramid(self, batch: Batch):
        """(k, (x_L^k, x_H^k)) of the images of a batch, from the finest scale on."""
        return enumerate(wavelets.pyramid(batch.images, self.scales[-1]), 1)

    def fake(self, params, batch_stats, batch: Batch, low: jax.Array, k: int):
        """Generated details in the loss's domain, and the updated batch-norm averages."""
        output, updated = self.generator.apply(
            self.variables({**params, "batch_stats": batch_stats}, k),
            self.inputs(fold_in(batch.keys, _Z, k), low, batch.statistics, k),
            train=True,
            mutable=["batch_stats"],
        )
        details = denormalise_details(output, batch.statistics, k)
        fake = self.domain.view(low, details, batch.statistics, k)
        return fake, updated.get("batch_stats", {})

    def critic(self, params, keys: jax.Array, k: int) -> losses.Critic:
        """D at scale k."""
        dropout_keys = fold_in(keys, _DROPOUT, k)
        variables = {"params": self.at_scale(params["discriminator"], k)}
        assert self.discriminator is not None  # Its objective asks for it.
        apply = apply_fn(self.discriminator)
        return self.lipschitz.critic(lambda x: apply(variables, x, dropout_keys))

    # --- the stage -------------------------------------------------------------------------------

    def stage(self, reconstruct: Callable[[Params, jax.Array, jax.Array], jax.Array]) -> Stage:
        """The training of the details.

        Args:
            reconstruct: see `System`; previews show its images beside the true ones.
        """
        settings = self.settings
        objectives = {"generator": Objective(self.generator_loss, settings.generator_optimizer)}
        if self.discriminator:
            objectives["discriminator"] = Objective(
                self.discriminator_loss,
                settings.discriminator_optimizer,
                every=settings.discriminator_every,
                ema=False,
            )
        return Stage(
            section="msal",
            settings=settings,
            init=self.init,
            objectives=objectives,
            export=lambda params, batch_stats: {
                "generator": params["generator"],
                "batch_stats": batch_stats,
            },
            generated_and_target=lambda params, keys, images: (
                reconstruct(params, keys, images),
                images,
            ),
            is_paired=True,
        )

    def init(self, key: jax.Array) -> tuple[dict[str, Params], Params]:
        """The first parameters by network, and the batch-norm averages by scale."""

        def generator(key):
            return self.generator.init(key, self.generator_input(1), train=False)

        def discriminator(key):
            assert self.discriminator is not None
            return self.discriminator.init(key, self.discriminator_input(1))

        def shared_or_per_scale(init_network, key):
            if self.settings.shared:
                return init_network(key)["params"]
            return {_scale(k): init_network(fold_in(key, k))["params"] for k in self.scales}

        generator_key, discriminator_key = jax.random.split(key)
        batch_stats = generator(generator_key).get("batch_stats", {})
        params = {"generator": shared_or_per_scale(generator, generator_key)}
        if self.discriminator:
            params["discriminator"] = shared_or_per_scale(discriminator, discriminator_key)
        return params, {_scale(k): batch_stats for k in self.scales}

    # --- sizes -----------------------------------------------------------------------------------

    def network_call(self, k: int) -> NetworkCall:
        """The work behind the details of scale k."""
        x = self.generator_input(k)
        init = functools.partial(self.generator.init, train=False)
        apply = functools.partial(self.generator.apply, train=False)
        variables = jax.eval_shape(init, jax.random.key(0), x)
        return NetworkCall(f"generator, scale {k}", 1, apply, (variables, x))

    def generator_input(self, k: int) -> jax.Array:
        """Zeros of the shape of one input of scale k, `[1, h, w, 2C]`."""
        height, width, channels = self.band_shape(k)
        return jnp.zeros((1, height, width, 2 * channels))

    def discriminator_input(self, k: int) -> jax.Array:
        """Zeros of the shape of one view of scale k in the loss's domain."""
        return jnp.zeros((1, *self.domain.shape(*self.band_shape(k))))

    def band_shape(self, k: int) -> tuple[int, int, int]:
        """`(h, w, C)` of x_L^k."""
        height, width = self.config.data.image_size
        return height // 2**k, width // 2**k, self.config.data.channels

    def at_scale(self, params: Params, k: int) -> Params:
        """A network's parameters for scale k: the shared ones, or that scale's own."""
        return params if self.settings.shared else params[_scale(k)]


def _scale(k: int) -> str:
    return f"scale_{k}"
