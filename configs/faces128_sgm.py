"""SGM on the images of faces128.py, which it differs from only where the system does."""

from ml_collections import ConfigDict

from configs import faces128
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    return sibling(faces128.get_config(), "sgm")
