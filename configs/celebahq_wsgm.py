"""WSGM on the images of celebahq.py, which it differs from only where the system does."""

from ml_collections import ConfigDict

from configs import celebahq
from wmgm_jax.config import sibling


def get_config(images: str = "5k") -> ConfigDict:
    return sibling(celebahq.get_config(images), "wsgm")
