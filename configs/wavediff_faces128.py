"""WaveDiff on the images of faces128.py, with the sizes and training of CelebA-HQ at 256x256."""

from ml_collections import ConfigDict

from configs import faces128
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    return sibling(faces128.get_config(), "wavediff")
