"""SGM on the images of colon_ihc.py, which it differs from only where the system does."""

from ml_collections import ConfigDict

from configs import colon_ihc
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    config = sibling(colon_ihc.get_config(), "sgm")
    config.score.network.channels = 32
    config.score.network.multipliers = (1, 1, 2, 2)
    config.score.network.num_blocks = 1
    config.score.network.attention_levels = (2, 3)
    return config
