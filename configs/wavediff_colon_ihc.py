"""WaveDiff on the images of colon_ihc.py, sized for two CPU cores and, by its FLOPs, ten minutes.

Two Haar levels, as there: a step at 16x16 takes a quarter of the work of one at 32x32.
"""

from ml_collections import ConfigDict

from configs import colon_ihc
from wmgm_jax.config import sibling


def get_config() -> ConfigDict:
    config = sibling(colon_ihc.get_config(), "wavediff")
    config.wavediff.num_steps = 1300
    config.wavediff.batch_size = 16
    config.wavediff.ema_decay = 0.995
    config.wavediff.levels = 2
    config.wavediff.latent_size = 32
    config.wavediff.generator_optimizer.learning_rate = 5e-4
    config.wavediff.discriminator_optimizer.learning_rate = 2.5e-4
    config.wavediff.generator.channels = 32
    config.wavediff.generator.multipliers = (1, 2)
    config.wavediff.generator.num_blocks = 1
    config.wavediff.generator.attention_levels = (1,)
    config.wavediff.generator.style_size = 64
    config.wavediff.generator.mapping_layers = 2
    config.wavediff.discriminator.channels = 32
    config.wavediff.discriminator.num_blocks = 3
    config.wavediff.discriminator.embedding_size = 64
    return config
