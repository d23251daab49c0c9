"""WaveDiff on the images of cifar10.py, with the sizes that it was published with.

The generator is the plain one. https://github.com/VinAIResearch/WaveDiff
"""

from ml_collections import ConfigDict

from configs import cifar10
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    config = sibling(cifar10.get_config(), "wavediff")
    config.wavediff.batch_size = 256
    config.wavediff.num_steps = 1800 * 50_000 // config.wavediff.batch_size  # 1800 epochs
    config.wavediff.r1_weight = 0.02
    config.wavediff.r1_every = 15
    config.wavediff.generator_optimizer.learning_rate = 1.6e-4
    config.wavediff.discriminator_optimizer.learning_rate = 1.25e-4
    config.wavediff.generator.channels = 128
    config.wavediff.generator.multipliers = (1, 2, 2)
    config.wavediff.generator.attention_levels = ()
    config.wavediff.generator.mapping_layers = 4
    config.wavediff.generator.wavelet_residual = False
    config.wavediff.generator.frequency_resampling = False
    config.wavediff.generator.frequency_bottleneck = False
    config.wavediff.discriminator.first_stride = 1
    config.wavediff.discriminator.num_blocks = 3
    return config
