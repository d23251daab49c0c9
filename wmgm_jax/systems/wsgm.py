"""WSGM: a diffusion of the coarsest Haar band, and one of the details of every scale, given the
band below (Guth et al. 2022; equation numbers with a W are theirs).

    x_L^S  <- reverse diffusion                                      (Eq. W16)
    for k = S..1:   x_H^k <- reverse diffusion given x_L^k           (Eq. W17)
                    x_L^(k-1) = A^T (x_L^k, x_H^k)                   (Eq. W18)
    image = x_L^0

It trains S + 1 stages independently: `score`, of the coarsest band, and `details_k`, of scale k.
Every reverse process takes the same number of steps. Bands reach the networks with unit scale
(Eq. W14). The low band is joined to the noised details as further channels.
"""

import jax
from ml_collections import ConfigDict

from wmgm_jax import wavelets
from wmgm_jax.systems import scores
from wmgm_jax.systems.cascade import Cascade, GenerateDetails
from wmgm_jax.systems.interface import Batch, NetworkCall, Sampling, Stage
from wmgm_jax.systems.registry import register
from wmgm_jax.systems.statistics import denormalise_details, normalise_details, normalise_low


@register("wsgm")
class WSGM(Cascade):
    """See `System`.

    Attributes:
        details: by scale, the model of the score of x_H^k given x_L^k.
    """

    def __init__(self, config: ConfigDict, dtype: str):
        super().__init__(config, dtype)
        (height, width), channels = config.data.image_size, config.data.channels
        self.details = {
            k: scores.build(
                config,
                dtype,
                "details",
                (height // 2**k, width // 2**k, 3 * channels),
                condition_channels=channels,
            )
            for k in self.scales
        }

    def make_generate_details(self, sampling: Sampling) -> GenerateDetails:
        """One reverse process per scale."""
        reverse = {k: score.make_draw(sampling) for k, score in self.details.items()}

        def generate_details(params, keys, low, k):
            condition = normalise_low(low, params["statistics"], k)
            x = reverse[k](params[_name(k)], keys, condition)
            return denormalise_details(x, params["statistics"], k)

        return generate_details

    def detail_stages(self) -> dict[str, Stage]:
        """One stage per scale, the coarsest first."""
        return {_name(k): self.detail_stage(k) for k in reversed(self.scales)}

    def detail_stage(self, k: int) -> Stage:
        """The training of the score of x_H^k given x_L^k by score matching."""
        generate_details = self.make_generate_details(Sampling.of(self.config))

        def target(batch: Batch) -> tuple[jax.Array, jax.Array]:
            low, details = wavelets.pyramid(batch.images, k)[-1]
            x0 = normalise_details(details, batch.statistics, k)
            return x0, normalise_low(low, batch.statistics, k)

        def generated_and_target(params, keys, images):
            """x_L^(k-1) with details drawn for its true low band, and as it is, in the range of
            images."""
            low = wavelets.low(images, k)
            drawn = wavelets.idwt2(low, generate_details(params, keys, low, k))
            return drawn / 2 ** (k - 1), wavelets.low(images, k - 1) / 2 ** (k - 1)

        return self.details[k].stage(
            _name(k), "details", self.config, target, generated_and_target, is_paired=True
        )

    def detail_calls(self, sampling: Sampling) -> list[NetworkCall]:
        """N calls of a network per scale."""
        return [
            self.details[k].network_call(f"details, scale {k}", sampling)
            for k in reversed(self.scales)
        ]


def _name(k: int) -> str:
    """The stage, the objective and the parameters of scale k."""
    return f"details_{k}"
