"""The embedded default: 64x64 crops of stained colon tissue, sized for two CPU cores.

The subject of the paper's third data set. Everything comes with the package; nothing is read from
disk. Trains for one to two hours on two CPU cores.
"""

from ml_collections import ConfigDict

from wmgm_jax.config import base


def get_config() -> ConfigDict:
    config = base()
    config.data.source = "embedded"
    config.data.image_size = (64, 64)
    config.data.augment = "dihedral"
    config.data.statistics_images = 2048

    config.process.schedule = "linear"

    config.score.num_steps = 4000
    config.score.batch_size = 32
    config.score.ema_decay = 0.999
    config.score.optimizer.learning_rate = 1e-3
    config.score.optimizer.warmup_steps = 100
    config.score.optimizer.decay = "cosine"
    config.score.optimizer.clip_norm = 1.0
    config.score.network.channels = 48
    config.score.network.multipliers = (1, 2, 2)
    config.score.network.num_blocks = 1
    config.score.network.attention_levels = (1, 2)
    config.score.network.dropout = 0.1

    config.msal.num_steps = 3000
    config.msal.batch_size = 8
    for objective in ("generator_optimizer", "discriminator_optimizer"):
        config.msal.relativistic[objective].learning_rate = 1e-3
        config.msal.relativistic[objective].decay = "cosine"
    config.msal.relativistic.discriminator.channels = 24
    config.msal.paper.generator_optimizer.learning_rate = 1e-3
    config.msal.paper.generator_optimizer.decay = "cosine"
    config.msal.paper.discriminator_optimizer.learning_rate = 2e-4
    config.msal.paper.discriminator.channels = 16
    config.msal.paper.discriminator.num_blocks = 3
    config.msal.generator.channels = 16
    config.msal.generator.depth = 4
    config.msal.unet.channels = 16
    config.msal.unet.depth = 4
    config.msal.fno.modes = (8, 8)
    config.msal.fno.channels = 64

    # At 16x16, further steps are cheap. With 6, the Fréchet distance is 1.7 times as large.
    config.sampling.num_steps = 12

    config.train.log_every = 50
    config.train.preview_every = 500
    config.train.checkpoint_every = 500

    config.evaluation.num_images = 256
    config.evaluation.reference_images = 512
    config.evaluation.training_images = 1024
    config.evaluation.every = 500
    config.evaluation.every_images = 64
    return config
