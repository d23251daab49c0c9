"""WMGM: diffusion on the coarsest Haar band, one adversarial pass a scale for the details.

    x_L^S  <- reverse diffusion (Eq. 20)
    for k = S..1:   x_H^k = G(x_L^k, z^k);   x_L^(k-1) = A^T (x_L^k, x_H^k)      (Algorithm 2)
    image = x_L^0

Two stages, trained independently: `score`, the network of the coarsest band, and `msal`, the
generator and the discriminator of the details. Bands reach the networks with unit scale; the
statistics that bring them there are part of the model. One shared generator sees every scale, but
batch-norm statistics differ between scales, so there is one set of those a scale.

`msal.learning` chooses between that adversarial learning and the two that the paper compares it
with (Table 2, Appendix H.2), which have a network of their own in the generator's place, with the
same inputs, and no discriminator: standard learning, a plain U-Net, and operator learning, a
Fourier neural operator.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wmgm_jax import wavelets
from wmgm_jax.config import arguments
from wmgm_jax.core.random import fold_in_each, normal
from wmgm_jax.losses import msal
from wmgm_jax.networks import FNO, AttentionUNet, Discriminator, PlainUNet, inference
from wmgm_jax.systems.coarsest import CoarsestBand
from wmgm_jax.systems.interface import (
    Batch,
    Evaluation,
    Params,
    Player,
    Sampling,
    Stage,
    Statistics,
    System,
)
from wmgm_jax.systems.statistics import (
    compute_statistics,
    denormalise_details,
    normalise_details,
    normalise_low,
)

# The network of the details and its section of the config, by `msal.learning`.
_GENERATORS = {
    "adversarial": (AttentionUNet, "generator"),
    "standard": (PlainUNet, "unet"),
    "operator": (FNO, "fno"),
}

# What a key is for, so that no two draws share one.
_Z, _DROPOUT, _MIXING = range(3)


def build(config: ConfigDict) -> System:
    """The system of a validated config with `system = "wmgm"`."""
    model = _WMGM(config)
    return System(
        stages={"score": model.coarsest.stage(), "msal": model.msal_stage()},
        measure=lambda batches: compute_statistics(batches, model.levels),
        make_draw=model.make_draw,
        reconstruct=model.reconstruct,
        evaluations=model.evaluations,
    )


class _WMGM:
    """The functions of the system, bound to its sizes and networks; it holds no arrays."""

    def __init__(self, config: ConfigDict):
        self.config = config
        self.levels = config.wavelet.levels
        self.scales = range(1, self.levels + 1)
        self.coarsest = CoarsestBand(config, self.levels)
        dtype = jnp.dtype(config.train.dtype)
        network, section = _GENERATORS[config.msal.learning]
        self.generator = network(
            out_channels=3 * config.data.channels,
            rematerialise=config.train.rematerialise,
            dtype=dtype,
            **arguments(config.msal[section]),
        )
        self.is_adversarial = config.msal.learning == "adversarial"
        self.discriminator = Discriminator(dtype=dtype, **config.msal.discriminator)

    # --- Algorithm 2: sampling -------------------------------------------------------------------

    def make_draw(self, sampling: Sampling):
        draw_coarsest = self.coarsest.make_draw(sampling)

        def draw(params: Params, keys: jax.Array) -> jax.Array:
            low = draw_coarsest(params, fold_in_each(keys, 0))
            return self.add_details(params, fold_in_each(keys, 1), low)

        return draw

    def add_details(self, params: Params, keys: jax.Array, low: jax.Array) -> jax.Array:
        """The climb from x_L^S to the image, one pass of the generator a scale."""
        statistics = params["statistics"]
        for k in reversed(self.scales):
            generate = inference.prepared(
                self.generator, self.variables(params, k), images=len(keys)
            )
            z_keys = fold_in_each(keys, k)
            output = generate(self.inputs(z_keys, low, statistics, k), train=False)
            low = wavelets.idwt2(low, denormalise_details(output, statistics, k))
        return low

    def reconstruct(self, params: Params, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Images with details generated for their true coarsest bands."""
        return self.add_details(params, keys, wavelets.low(images, self.levels))

    def variables(self, params: Params, k: int) -> dict[str, Params]:
        """The generator of scale k, of the entries `generator` and `batch_stats`."""
        return {
            "params": self.at_scale(params["generator"], k),
            "batch_stats": params["batch_stats"][_scale(k)],
        }

    def inputs(self, keys: jax.Array, low: jax.Array, statistics: Statistics, k: int) -> jax.Array:
        """x_L^k `[B, h, w, C]`, normalised, and z^k: what the generator sees, `[B, h, w, 2C]`."""
        z = normal(keys, low.shape)
        return jnp.concatenate([normalise_low(low, statistics, k), z], axis=-1)

    # --- Algorithm 1: training -------------------------------------------------------------------

    def generator_loss(self, params, batch_stats, batch: Batch):
        """Eq. 21: the sum over scales.

        The paper does not say which loss standard and operator learning minimise. Here it is
        Eq. 21 without its adversarial term, so that the approaches differ by what their names say
        alone: the network, and whether there is a discriminator.
        """
        settings = self.config.msal
        total, metrics, updated = 0.0, {}, {}
        for k, (low, details) in enumerate(wavelets.pyramid(batch.images, self.levels), 1):
            fake, updated[_scale(k)] = self.fake(params, batch_stats, batch, low, k)
            loss, terms = msal.generator_loss(
                fake,
                self.loss_domain(low, details, batch.statistics, k),
                self.critic(params, batch.keys, k) if self.is_adversarial else None,
                mse_weight=settings.mse_weight,
                ssim_weight=settings.ssim_weight,
                adversarial_weight=settings.adversarial_weight,
                data_range=self.data_range(batch.statistics, k),
            )
            total += loss
            metrics |= {f"{name}/{_scale(k)}": value for name, value in terms.items()}
        return total, ({"generator_loss": total, **metrics}, updated)

    def discriminator_loss(self, params, batch_stats, batch: Batch):
        """Eq. 22: the sum over scales, with what keeps D Lipschitz."""
        settings = self.config.msal
        total, penalty = 0.0, 0.0
        for k, (low, details) in enumerate(wavelets.pyramid(batch.images, self.levels), 1):
            fake, _ = self.fake(params, batch_stats, batch, low, k)
            real = self.loss_domain(low, details, batch.statistics, k)
            critic = self.critic(params, batch.keys, k)
            total += msal.discriminator_loss(fake, real, critic)
            if settings.lipschitz == "gradient_penalty":
                mixing = jax.vmap(jax.random.uniform)(_keys(batch.keys, _MIXING, k))
                penalty += msal.gradient_penalty(fake, real, mixing, critic)
        metrics = {"discriminator_loss": total}
        if settings.lipschitz == "gradient_penalty":
            metrics["gradient_penalty"] = penalty
        return total + settings.penalty_weight * penalty, (metrics, batch_stats)

    def fake(self, params, batch_stats, batch: Batch, low: jax.Array, k: int):
        """Generated details in the loss's domain, and the updated batch statistics."""
        output, updated = self.generator.apply(
            self.variables({**params, "batch_stats": batch_stats}, k),
            self.inputs(_keys(batch.keys, _Z, k), low, batch.statistics, k),
            train=True,
            mutable=["batch_stats"],
        )
        details = denormalise_details(output, batch.statistics, k)
        fake = self.loss_domain(low, details, batch.statistics, k)
        return fake, updated.get("batch_stats", {})

    def loss_domain(
        self, low: jax.Array, details: wavelets.Details, statistics: Statistics, k: int
    ) -> jax.Array:
        """Where Eq. 21-22 compare: the normalised bands `[B, h, w, 3C]`, as the paper writes, or
        x_L^(k-1) in the range of images `[B, 2h, 2w, C]`, as the authors' code computes."""
        if self.config.msal.loss_domain == "image":
            return wavelets.idwt2(low, details) / 2 ** (k - 1)
        return normalise_details(details, statistics, k)

    def data_range(self, statistics: Statistics, k: int) -> jax.Array | float:
        """Largest less smallest possible value in `loss_domain`; one a band in the wavelet's."""
        image_range = 2.0
        if self.config.msal.loss_domain == "image":
            return image_range
        return 2**k * image_range / statistics["detail_std"][k - 1].reshape(-1)

    def critic(self, params, keys: jax.Array, k: int) -> msal.Critic:
        """D at scale k."""
        dropout_keys = _keys(keys, _DROPOUT, k)
        discriminator = self.at_scale(params["discriminator"], k)

        def critic(x):
            judgement = self.discriminator.apply({"params": discriminator}, x, dropout_keys)
            if self.config.msal.lipschitz == "sigmoid":
                return nn.sigmoid(judgement)
            return judgement

        return critic

    # --- the stages ------------------------------------------------------------------------------

    def msal_stage(self) -> Stage:
        settings = self.config.msal

        def init(key):
            def generator(key):
                return self.generator.init(key, self.generator_input(1), train=False)

            def discriminator(key):
                height, width, channels = self.band_shape(1)
                shape = (
                    (1, 2 * height, 2 * width, channels)
                    if settings.loss_domain == "image"
                    else (1, height, width, 3 * channels)
                )
                return self.discriminator.init(key, jnp.zeros(shape))

            def shared_or_per_scale(init_network, key):
                if settings.shared:
                    return init_network(key)["params"]
                return {
                    _scale(k): init_network(jax.random.fold_in(key, k))["params"]
                    for k in self.scales
                }

            generator_key, discriminator_key = jax.random.split(key)
            batch_stats = generator(generator_key).get("batch_stats", {})
            params = {"generator": shared_or_per_scale(generator, generator_key)}
            if self.is_adversarial:
                params["discriminator"] = shared_or_per_scale(discriminator, discriminator_key)
            return params, {_scale(k): batch_stats for k in self.scales}

        def compare(params, keys, images):
            """Images rebuilt from their true coarsest bands, and the images."""
            return self.reconstruct(params, keys, images), images

        players = {"generator": Player(self.generator_loss, settings.generator_optimizer)}
        if self.is_adversarial:
            players["discriminator"] = Player(
                self.discriminator_loss,
                settings.discriminator_optimizer,
                every=settings.discriminator_every,
                average=False,
            )
        return Stage(
            settings=settings,
            init=init,
            players=players,
            export=lambda params, batch_stats: {
                "generator": params["generator"],
                "batch_stats": batch_stats,
            },
            compare=compare,
            is_paired=True,
        )

    # --- sizes -----------------------------------------------------------------------------------

    def evaluations(self, sampling: Sampling) -> list[Evaluation]:
        """N passes of the score net, one of the generator at every scale."""

        def shapes(init, *inputs):
            return jax.eval_shape(init, jax.random.key(0), *inputs), *inputs

        generate = functools.partial(self.generator.apply, train=False)
        return [self.coarsest.evaluation(sampling)] + [
            Evaluation(
                f"generator, scale {k}",
                1,
                generate,
                shapes(
                    functools.partial(self.generator.init, train=False), self.generator_input(k)
                ),
            )
            for k in reversed(self.scales)
        ]

    def generator_input(self, k: int) -> jax.Array:
        height, width, channels = self.band_shape(k)
        return jnp.zeros((1, height, width, 2 * channels))

    def band_shape(self, k: int) -> tuple[int, int, int]:
        """`(h, w, C)` of x_L^k."""
        height, width = self.config.data.image_size
        return height // 2**k, width // 2**k, self.config.data.channels

    def at_scale(self, params: Params, k: int) -> Params:
        """A network's parameters for scale k: the shared ones, or that scale's own."""
        return params if self.config.msal.shared else params[_scale(k)]


def _scale(k: int) -> str:
    return f"scale_{k}"


def _keys(keys: jax.Array, purpose: int, k: int) -> jax.Array:
    return fold_in_each(fold_in_each(keys, purpose), k)
