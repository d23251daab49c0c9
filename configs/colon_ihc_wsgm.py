"""WSGM on the images of colon_ihc.py, which it differs from only where the system does."""

from ml_collections import ConfigDict

from configs import colon_ihc
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    config = sibling(colon_ihc.get_config(), "wsgm")
    config.score.network = colon_ihc.get_config().score.network
    config.details.network.channels = 32
    config.details.network.multipliers = (1, 2, 2)
    config.details.network.num_blocks = 1
    config.details.network.attention_levels = (2,)
    return config
