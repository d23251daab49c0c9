"""WaveDiff on the images of faces128.py.

Nothing is published for this size. Networks and training are those for CelebA-HQ at 256x256 with
one level less, of which the coarsest map is 8x8 as there; four steps are those for STL-10 at 64x64.
"""

from ml_collections import ConfigDict

from configs import faces128
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    config = sibling(faces128.get_config(), "wavediff")
    config.wavediff.batch_size = 32
    config.wavediff.num_steps = 500 * 4750 // config.wavediff.batch_size  # 500 epochs
    config.wavediff.r1_weight = 2.0
    config.wavediff.r1_every = 10
    config.wavediff.generator_optimizer.learning_rate = 2e-4
    config.wavediff.discriminator_optimizer.learning_rate = 1e-4
    config.wavediff.generator.channels = 64
    config.wavediff.generator.multipliers = (1, 2, 2, 4)
    config.wavediff.generator.mapping_layers = 3
    config.wavediff.discriminator.first_stride = 2
    return config
