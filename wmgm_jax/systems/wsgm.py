"""WSGM: a diffusion of the coarsest Haar band, and one of the details of every scale, given the
band below (Guth et al. 2022; equation numbers with a W are theirs).

    x_L^S  <- reverse diffusion                                      (Eq. W16)
    for k = S..1:   x_H^k <- reverse diffusion given x_L^k           (Eq. W17)
                    x_L^(k-1) = A^T (x_L^k, x_H^k)                   (Eq. W18)
    image = x_L^0

S + 1 stages, trained independently: `score`, of the coarsest band, and `details_k`, of scale k.
Every reverse process takes the same number of steps. Bands reach the networks with unit scale
(Eq. W14); the low band is joined to the noised details as further channels.
"""

import jax
from ml_collections import ConfigDict

from wmgm_jax import wavelets
from wmgm_jax.core.random import fold_in_each
from wmgm_jax.systems import scores
from wmgm_jax.systems.coarsest import CoarsestBand
from wmgm_jax.systems.interface import Batch, Evaluation, Params, Sampling, Stage, System
from wmgm_jax.systems.statistics import (
    compute_statistics,
    denormalise_details,
    normalise_details,
    normalise_low,
)


def build(config: ConfigDict) -> System:
    """The system of a validated config with `system = "wsgm"`."""
    model = _WSGM(config)
    return System(
        stages={
            "score": model.coarsest.stage(),
            **{_details(k): model.details_stage(k) for k in reversed(model.scales)},
        },
        measure=lambda batches: compute_statistics(batches, model.levels),
        make_draw=model.make_draw,
        reconstruct=model.reconstruct,
        evaluations=model.evaluations,
    )


class _WSGM:
    """The functions of the system, bound to its sizes and networks; it holds no arrays."""

    def __init__(self, config: ConfigDict):
        self.config = config
        self.levels = config.wavelet.levels
        self.scales = range(1, self.levels + 1)
        self.coarsest = CoarsestBand(config, self.levels)
        (height, width), channels = config.data.image_size, config.data.channels
        self.details = {
            k: scores.build(
                config,
                "details",
                (height // 2**k, width // 2**k, 3 * channels),
                condition_channels=channels,
            )
            for k in self.scales
        }

    # --- sampling --------------------------------------------------------------------------------

    def make_draw(self, sampling: Sampling):
        draw_coarsest = self.coarsest.make_draw(sampling)
        add_details = self.make_add_details(sampling)

        def draw(params: Params, keys: jax.Array) -> jax.Array:
            low = draw_coarsest(params, fold_in_each(keys, 0))
            return add_details(params, fold_in_each(keys, 1), low)

        return draw

    def make_add_details(self, sampling: Sampling):
        """The climb from x_L^S to the image, one reverse process a scale."""
        reverse = {k: self.details[k].make_draw(sampling) for k in self.scales}

        def add_details(params: Params, keys: jax.Array, low: jax.Array) -> jax.Array:
            statistics = params["statistics"]
            for k in reversed(self.scales):
                condition = normalise_low(low, statistics, k)
                x = reverse[k](params[_details(k)], fold_in_each(keys, k), condition)
                low = wavelets.idwt2(low, denormalise_details(x, statistics, k))
            return low

        return add_details

    def reconstruct(self, params: Params, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Images with details drawn for their true coarsest bands."""
        add_details = self.make_add_details(Sampling.of(self.config))
        return add_details(params, keys, wavelets.low(images, self.levels))

    def evaluations(self, sampling: Sampling) -> list[Evaluation]:
        """N passes of a network a scale."""
        return [self.coarsest.evaluation(sampling)] + [
            self.details[k].evaluation(f"details, scale {k}", sampling)
            for k in reversed(self.scales)
        ]

    # --- training --------------------------------------------------------------------------------

    def details_stage(self, k: int) -> Stage:
        """The details x_H^k given x_L^k."""
        reverse = self.details[k].make_draw(Sampling.of(self.config))

        def target(batch: Batch) -> tuple[jax.Array, jax.Array]:
            low, details = wavelets.pyramid(batch.images, k)[-1]
            x0 = normalise_details(details, batch.statistics, k)
            return x0, normalise_low(low, batch.statistics, k)

        def compare(params, keys, images):
            """x_L^(k-1) with details drawn for its true low band, and as it is, in the range of
            images."""
            low, statistics = wavelets.low(images, k), params["statistics"]
            x = reverse(params[_details(k)], keys, normalise_low(low, statistics, k))
            drawn = wavelets.idwt2(low, denormalise_details(x, statistics, k))
            return drawn / 2 ** (k - 1), wavelets.low(images, k - 1) / 2 ** (k - 1)

        return self.details[k].stage(
            _details(k), self.config.details, target, compare, is_paired=True
        )


def _details(k: int) -> str:
    """The stage, the player and the parameters of scale k."""
    return f"details_{k}"
