"""CIFAR-10 at 32x32, one wavelet level: diffusion at 16x16.

TensorFlow Datasets downloads the images (pip install tensorflow-datasets).
"""

from ml_collections import ConfigDict

from wmgm_jax.config import base


def get_config() -> ConfigDict:
    config = base()
    config.data.source = "tfds:cifar10"
    config.data.image_size = (32, 32)
    config.wavelet.levels = 1
    config.score.network.multipliers = (1, 2, 2)
    config.score.network.attention_levels = (0, 1)
    config.score.network.dropout = 0.1
    config.msal.generator.depth = 4
    config.msal.unet.depth = 4
    config.msal.fno.modes = (8, 8)
    config.msal.paper.discriminator.num_blocks = 4
    return config
