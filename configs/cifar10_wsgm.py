"""WSGM on the images of cifar10.py, which it differs from only where the system does."""

from ml_collections import ConfigDict

from configs import cifar10
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    config = sibling(cifar10.get_config(), "wsgm")
    config.score.network = cifar10.get_config().score.network
    config.details.network = cifar10.get_config().score.network
    return config
