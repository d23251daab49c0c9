"""WaveDiff on the images of colon_ihc.py, sized for two CPU cores and some twelve minutes.

Every coefficient is at unit scale, and the discriminator learns as fast as the generator. The
reconstruction weight is a compromise: docs/experiments.md has others.
"""

from ml_collections import ConfigDict

from configs import colon_ihc
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    config = sibling(colon_ihc.get_config(), "wavediff")
    config.wavediff.num_steps = 1600
    config.wavediff.batch_size = 16
    config.wavediff.ema_decay = 0.995
    config.wavediff.normalisation = "unit"
    config.wavediff.reconstruction_weight = 2.0
    config.wavediff.latent_size = 32
    config.wavediff.r1_weight = 0.02
    config.wavediff.r1_every = 15
    config.wavediff.generator_optimizer.learning_rate = 5e-4
    config.wavediff.discriminator_optimizer.learning_rate = 5e-4
    config.wavediff.generator.channels = 16
    config.wavediff.generator.multipliers = (1, 2, 4)
    config.wavediff.generator.num_blocks = 1
    config.wavediff.generator.attention_levels = (2,)
    config.wavediff.generator.style_size = 64
    config.wavediff.generator.mapping_layers = 2
    config.wavediff.discriminator.channels = 16
    config.wavediff.discriminator.num_blocks = 4
    config.wavediff.discriminator.first_stride = 1
    config.wavediff.discriminator.embedding_size = 64
    return config
