"""WSGM on the images of afhq_cat.py, which it differs from only where the system does."""

from ml_collections import ConfigDict

from configs import afhq_cat
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    return sibling(afhq_cat.get_config(), "wsgm")
