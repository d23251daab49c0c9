"""SGM: score-based diffusion of all pixels at once (Song et al. 2021), the papers' baseline.

    image  <- reverse diffusion (Eq. 13) at full resolution

It is the diffusion of the coarsest band with no scale split off, S = 0.
"""

from collections.abc import Iterable

import jax
import numpy as np
from ml_collections import ConfigDict

from wmgm_jax.systems.coarsest import CoarsestBand
from wmgm_jax.systems.interface import Draw, NetworkCall, Sampling, Statistics
from wmgm_jax.systems.registry import register
from wmgm_jax.systems.statistics import compute_statistics


@register("sgm")
class SGM:
    """See `System`."""

    reconstruct = None

    def __init__(self, config: ConfigDict, dtype: str):
        self.image = CoarsestBand(config, dtype, levels=0)
        self.stages = {"score": self.image.stage()}

    def compute_statistics(self, batches: Iterable[jax.Array | np.ndarray]) -> Statistics:
        """See `statistics.compute_statistics`; there is no detail band."""
        return compute_statistics(batches, levels=0)

    def make_draw(self, sampling: Sampling) -> Draw:
        """The reverse process of the image."""
        return self.image.make_draw(sampling)

    def network_calls(self, sampling: Sampling) -> list[NetworkCall]:
        """N calls of the score network."""
        return [self.image.network_call(sampling)]
