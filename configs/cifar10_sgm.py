"""SGM on the images of cifar10.py, which it differs from only where the system does."""

from ml_collections import ConfigDict

from configs import cifar10
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    config = sibling(cifar10.get_config(), "sgm")
    config.score.network.multipliers = (1, 2, 2, 2)
    config.score.network.attention_levels = (1, 2)
    config.score.network.dropout = 0.1
    return config
