"""WaveDiff: a denoising diffusion GAN of Haar coefficients (Phung et al. 2023).

    y_0 = the coefficients of the image;  y_0, ..., y_T: see `chain`
    image <- y_T ~ N(0, I);  for t = T..1:  y_{t-1} ~ q(y_{t-1} | y_t, y_0 = G(y_t, z, t))

https://arxiv.org/abs/2211.16152. It trains one stage, `wavediff`, of two objectives. D judges
(y_{t-1}, y_t, t): real pairs are noised data, fake ones have a y_{t-1} drawn by way of G. G
minimises

    L^G = -log D(y'_{t-1}, y_t, t) + lambda |y'_0 - y_0|_1

and R1, of D at real y_{t-1}, is added to D's loss at every so many-th step. With no level split
off, `wavediff.levels = 0`, y_0 are the pixels. DDGAN (Xiao et al. 2022,
https://arxiv.org/abs/2112.07804) is that with lambda = 0.

The second level splits all bands of the first, so that all coefficients lie on one grid. With
`wavediff.normalisation = "range"` coefficients are divided by 2 a level, as in the authors'
release. They then lie in [-1, 1] as the image does, and a tanh keeps y'_0 there. But details are
faint, and the noise of every y_t with t > 0 drowns them. With "unit" each channel has mean 0 and
unit scale over the training set, as in the other systems. Those coefficients have no bounds, nor
have those of fields: there is no tanh.
"""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from wmgm_jax import wavelets
from wmgm_jax.config import arguments
from wmgm_jax.core.codec import codec_of
from wmgm_jax.core.errors import UserError
from wmgm_jax.core.moments import mean_over_batches
from wmgm_jax.core.random import fold_in, normal
from wmgm_jax.diffusion.chain import Chain
from wmgm_jax.diffusion.process import OUProcess
from wmgm_jax.losses import nonsaturating
from wmgm_jax.networks import DenoisingGenerator, TimeDiscriminator, inference
from wmgm_jax.networks.apply import apply_fn
from wmgm_jax.systems.interface import (
    Batch,
    Draw,
    LazyRegularizer,
    NetworkCall,
    Objective,
    Params,
    Sampling,
    Stage,
    Statistics,
)
from wmgm_jax.systems.registry import register
from wmgm_jax.systems.statistics import SMALLEST_STD

# What a key is for, so that no two draws share one. R1 is of the data that the discriminator sees.
_GENERATOR, _DISCRIMINATOR = range(2)
_TIME, _PAIR, _Z, _BEFORE = range(4)

# Of images that the discriminator judges together, as in the release.
_LARGEST_GROUP = 4


def to_coefficients(images: jax.Array, levels: int) -> jax.Array:
    """The Haar coefficients of all bands, each of which every level splits again.

    Args:
        images: `[B, H, W, C]`.
        levels: S, from 0.

    Returns:
        `[B, H / 2^S, W / 2^S, 4^S C]`.
    """
    y = images
    for _ in range(levels):
        low, details = wavelets.dwt2(y)
        y = jnp.concatenate([low, *details], axis=-1)
    return y


def to_images(y: jax.Array, levels: int) -> jax.Array:
    """The inverse of `to_coefficients`."""
    for _ in range(levels):
        low, lh, hl, hh = jnp.split(y, 4, axis=-1)
        y = wavelets.idwt2(low, (lh, hl, hh))
    return y


@register("wavediff")
class WaveDiff:
    """See `System`.

    Attributes:
        levels: S, the Haar levels of what is diffused.
        shape: `(h, w, c)` of the coefficients of one image.
        chain: the process y_0, ..., y_T.
        group_size: images that the discriminator judges together. It divides the batch size.
    """

    reconstruct = None

    def __init__(self, config: ConfigDict, dtype: str):
        self.config, self.settings = config, config.wavediff
        self.levels = self.settings.levels
        (height, width), channels = config.data.image_size, config.data.channels
        self.shape = (height // 2**self.levels, width // 2**self.levels, channels * 4**self.levels)
        process = OUProcess(config.process.schedule, config.process.T)
        self.chain = Chain(process, self.settings.denoising_steps)
        self.generator = DenoisingGenerator(
            out_channels=self.shape[-1],
            rematerialise=config.train.rematerialise,
            dtype=jnp.dtype(dtype),
            **arguments(self.settings.generator),
        )
        self.group_size = math.gcd(self.settings.batch_size, _LARGEST_GROUP)
        self.discriminator = TimeDiscriminator(
            group_size=self.group_size, dtype=jnp.dtype(dtype), **self.settings.discriminator
        )
        self.stages = {"wavediff": self.stage()}

    def compute_statistics(self, batches: Iterable[jax.Array | np.ndarray]) -> Statistics:
        """What is subtracted from each channel of the coefficients, and what divides it.

        Args:
            batches: float32 `[B, H, W, C]` in unit range.

        Returns:
            float32 `mean` and `std` `[4^S C]`.
        """
        channels = self.shape[-1]
        if self.settings.normalisation == "range":
            return {
                "mean": np.zeros(channels, np.float32),
                "std": np.full(channels, 2**self.levels, np.float32),
            }

        @jax.jit
        def moments_of(images):
            y = to_coefficients(images, self.levels)
            return {"mean": jnp.mean(y, (0, 1, 2)), "square": jnp.mean(y**2, (0, 1, 2))}

        moments = mean_over_batches(moments_of, batches)
        mean = moments["mean"]
        std = np.sqrt(np.maximum(moments["square"] - mean**2, SMALLEST_STD**2))
        return {"mean": mean.astype(np.float32), "std": std.astype(np.float32)}

    # --- sampling --------------------------------------------------------------------------------

    def make_draw(self, sampling: Sampling) -> Draw:
        """The way back along the chain.

        Raises:
            UserError: another way to sample than that of the chain.
        """
        chain_steps = self.chain.num_steps
        only = {"sampler": "posterior", "num_steps": chain_steps, "spacing": "uniform"}
        for name, value in only.items():
            if (given := getattr(sampling, name)) != value:
                raise UserError(
                    f"WaveDiff is sampled as it was trained: --config.sampling.{name} must be "
                    f"{value!r}, not {given!r}"
                )

        def draw(params: Params, keys: jax.Array) -> jax.Array:
            variables = {"params": params["generator"]}
            generator = inference.prepared(self.generator, variables, len(keys) * chain_steps)

            statistics = params["statistics"]

            def predict(y, t, keys):
                return self.bounded(generator(y, self.latent(keys), t), statistics)

            y0 = self.chain.sample(predict, keys, (len(keys), *self.shape))
            return to_images(y0 * statistics["std"] + statistics["mean"], self.levels)

        return draw

    def bounded(self, y0: jax.Array, statistics: Statistics) -> jax.Array:
        """y'_0 within the bounds of y_0, if it has any."""
        has_bounds = self.settings.normalisation == "range" and codec_of(statistics).is_image
        return jnp.tanh(y0) if has_bounds else y0

    def latent(self, keys: jax.Array) -> jax.Array:
        """z, `[B, latent_size]`."""
        return normal(keys, (len(keys), self.settings.latent_size))

    # --- training --------------------------------------------------------------------------------

    def generator_loss(self, params, batch_stats, batch: Batch):
        """L^G: the adversarial loss, and lambda times the reconstruction loss."""
        keys = fold_in(batch.keys, _GENERATOR)
        y0, _, y, t = self.noised(batch, keys)
        fake_y0, fake_before = self.fake(params, batch, y, t, keys)
        adversarial_loss = nonsaturating.generator_loss(self.judge(params, fake_before, y, t))
        reconstruction = jnp.mean(jnp.abs(fake_y0 - y0))
        total = adversarial_loss + self.settings.reconstruction_weight * reconstruction
        metrics = {
            "generator_loss": total,
            "adversarial": adversarial_loss,
            "reconstruction": reconstruction,
        }
        return total, (metrics, batch_stats)

    def discriminator_loss(self, params, batch_stats, batch: Batch):
        """L^D."""
        keys = fold_in(batch.keys, _DISCRIMINATOR)
        _, before, y, t = self.noised(batch, keys)
        _, fake_before = self.fake(params, batch, y, t, keys)
        fake, real = (self.judge(params, x, y, t) for x in (fake_before, before))
        loss = nonsaturating.discriminator_loss(fake, real)
        return loss, ({"discriminator_loss": loss}, batch_stats)

    def r1_loss(self, params, batch_stats, batch: Batch):
        """gamma / 2 |grad D|^2 by y_{t-1}, of the real pairs in the discriminator's loss."""
        keys = fold_in(batch.keys, _DISCRIMINATOR)
        _, before, y, t = self.noised(batch, keys)
        penalty = nonsaturating.r1(before, lambda x: self.judge(params, x, y, t))
        return self.settings.r1_weight * penalty, ({"r1": penalty}, batch_stats)

    def noised(self, batch: Batch, keys: jax.Array):
        """y_0, y_{t-1}, y_t and t, uniform in 1, ..., T, one an image."""
        y0 = to_coefficients(batch.images, self.levels)
        y0 = (y0 - batch.statistics["mean"]) / batch.statistics["std"]
        t = jax.vmap(lambda key: jax.random.randint(key, (), 1, self.chain.num_steps + 1))(
            fold_in(keys, _TIME)
        )
        return y0, *self.chain.draw_pair(y0, t, fold_in(keys, _PAIR)), t

    def fake(self, params, batch: Batch, y: jax.Array, t: jax.Array, keys: jax.Array):
        """y'_0 = G(y_t, z, t), and y'_{t-1} drawn with it."""
        variables, z = {"params": params["generator"]}, self.latent(fold_in(keys, _Z))
        y0 = self.bounded(apply_fn(self.generator)(variables, y, z, t), batch.statistics)
        return y0, self.chain.draw_before(y0, y, t, fold_in(keys, _BEFORE))

    def judge(self, params, before: jax.Array, y: jax.Array, t: jax.Array) -> jax.Array:
        """D(y_{t-1}, y_t, t), logits `[B]`."""
        variables = {"params": params["discriminator"]}
        return apply_fn(self.discriminator)(variables, before, y, t)

    # --- the stage -------------------------------------------------------------------------------

    def stage(self) -> Stage:
        settings = self.settings
        draw = self.make_draw(Sampling.of(self.config))

        def init(key):
            generator_key, discriminator_key = jax.random.split(key)
            y, z, t = self.inputs()
            return {
                "generator": self.generator.init(generator_key, y, z, t)["params"],
                "discriminator": self.discriminator.init(discriminator_key, y, y, t)["params"],
            }, {}

        return Stage(
            section="wavediff",
            settings=settings,
            init=init,
            objectives={
                "discriminator": Objective(
                    self.discriminator_loss, settings.discriminator_optimizer, ema=False
                ),
                "generator": Objective(self.generator_loss, settings.generator_optimizer),
            },
            regularizers={"r1": LazyRegularizer("discriminator", self.r1_loss, settings.r1_every)},
            export=lambda params, batch_stats: {"generator": params["generator"]},
            generated_and_target=lambda params, keys, images: (draw(params, keys), images),
            is_paired=False,
            group_size=self.group_size,
        )

    def network_calls(self, sampling: Sampling) -> list[NetworkCall]:
        """One call of the generator a step."""
        inputs = self.inputs()
        params = jax.eval_shape(self.generator.init, jax.random.key(0), *inputs)
        return [
            NetworkCall(
                "generator", sampling.num_steps, apply_fn(self.generator), (params, *inputs)
            )
        ]

    def inputs(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """y, z and t of one image."""
        z = jnp.zeros((1, self.settings.latent_size))
        return jnp.zeros((1, *self.shape)), z, jnp.ones(1, jnp.int32)
