"""The diffusion of the coarsest band x_L^S, with which every score-based system begins."""

import jax
from ml_collections import ConfigDict

from wmgm_jax import wavelets
from wmgm_jax.systems import scores
from wmgm_jax.systems.interface import Batch, Draw, NetworkCall, Sampling, Stage
from wmgm_jax.systems.statistics import denormalise_low, normalise_low


class CoarsestBand:
    """The stage `score`: the score of the normalised x_L^S. It holds no arrays.

    Attributes:
        score: the model of that score.
    """

    def __init__(self, config: ConfigDict, dtype: str, levels: int):
        """
        Args:
            config: validated.
            dtype: in which the network computes.
            levels: S; 0 for the image itself.
        """
        height, width = config.data.image_size
        self._config, self._levels = config, levels
        self.score = scores.build(
            config, dtype, "score", (height // 2**levels, width // 2**levels, config.data.channels)
        )

    def make_draw(self, sampling: Sampling) -> Draw:
        """Makes the reverse process (Eq. 20): (parameters of the model, keys `[B]`) -> x_L^S,
        `[B, H / 2^S, W / 2^S, C]`."""
        reverse = self.score.make_draw(sampling)

        def draw(params, keys):
            x = reverse(params["score"], keys)
            return denormalise_low(x, params["statistics"], self._levels)

        return draw

    def stage(self) -> Stage:
        """Its training by score matching (Eq. 14, 19)."""
        levels = self._levels
        draw = self.make_draw(Sampling.of(self._config))

        def target(batch: Batch) -> tuple[jax.Array, None]:
            low = wavelets.low(batch.images, levels)
            return normalise_low(low, batch.statistics, levels), None

        def generated_and_target(params, keys, images):
            """Drawn and true coarsest bands, in the range of images."""
            return draw(params, keys) / 2**levels, wavelets.low(images, levels) / 2**levels

        return self.score.stage("score", "score", self._config, target, generated_and_target)

    def network_call(self, sampling: Sampling) -> NetworkCall:
        """The work behind one draw."""
        return self.score.network_call("score", sampling)
