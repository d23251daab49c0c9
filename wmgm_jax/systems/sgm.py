"""SGM: score-based diffusion of all pixels at once (Song et al. 2021), the papers' baseline.

    image  <- reverse diffusion (Eq. 13) at full resolution

It is the diffusion of the coarsest band with no scale split off, S = 0.
"""

from ml_collections import ConfigDict

from wmgm_jax.systems.coarsest import CoarsestBand
from wmgm_jax.systems.interface import System
from wmgm_jax.systems.statistics import compute_statistics


def build(config: ConfigDict) -> System:
    """The system of a validated config with `system = "sgm"`."""
    image = CoarsestBand(config, levels=0)
    return System(
        stages={"score": image.stage()},
        measure=lambda batches: compute_statistics(batches, levels=0),
        make_draw=image.make_draw,
        reconstruct=None,
        evaluations=lambda sampling: [image.evaluation(sampling)],
    )
