"""A whole system in seconds: 16x16 crops, two scales, the smallest networks.

`tests/tiny.py` is WMGM, `tests/tiny.py:sgm` another system. Tracing and compiling take most of the
time of a run, and grow with the number of layers.
"""

from ml_collections import ConfigDict

from wmgm_jax.config import base, sibling

# Networks that resample, attend, gate and pool.
EVERY_PART = {
    "score.network.multipliers": (1, 2),
    "score.network.attention_levels": (1,),
    "msal.generator.depth": 2,
    "msal.unet.depth": 2,
    "msal.relativistic.discriminator.num_levels": 2,
    "msal.paper.discriminator.num_blocks": 2,
}


def get_config(system: str = "wmgm") -> ConfigDict:
    config = _wmgm()
    if system == "wmgm":
        return config
    other = sibling(config, system)
    if system == "wavediff":
        _shrink(other.wavediff)
    for section in ("score", "details"):
        if section in other:
            other[section].network = _wmgm().score.network
    return other


def _shrink(settings: ConfigDict) -> None:
    settings.num_steps = 12
    settings.batch_size = 8
    settings.r1_every = 1
    settings.latent_size = 4
    settings.generator.channels = 8
    settings.generator.multipliers = (1,)
    settings.generator.num_blocks = 1
    settings.generator.attention_levels = ()
    settings.generator.style_size = 8
    settings.generator.mapping_layers = 1
    settings.discriminator.channels = 8
    settings.discriminator.num_blocks = 1
    settings.discriminator.embedding_size = 8


def _wmgm() -> ConfigDict:
    config = base()
    config.data.source = "embedded"
    config.data.image_size = (16, 16)
    config.data.augment = "dihedral"
    config.data.statistics_images = 64

    config.score.num_steps = 12
    config.score.batch_size = 8
    config.score.network.channels = 8
    config.score.network.multipliers = (1,)
    config.score.network.num_blocks = 1
    config.score.network.attention_levels = ()
    config.score.network.num_heads = 2
    config.score.network.dropout = 0.1
    config.score.optimizer.clip_norm = 1.0
    config.score.optimizer.warmup_steps = 5

    config.msal.num_steps = 12
    config.msal.batch_size = 8
    config.msal.relativistic.penalty_every = 1  # every step is the same program
    config.msal.relativistic.discriminator.channels = 4
    config.msal.relativistic.discriminator.num_levels = 1
    config.msal.paper.discriminator_every = 1
    config.msal.generator.channels = 4
    config.msal.generator.depth = 1
    config.msal.generator.norm = "batch"  # which has more to go wrong
    config.msal.unet.channels = 4
    config.msal.unet.depth = 1
    config.msal.fno.modes = (4, 4)
    config.msal.fno.channels = 6
    config.msal.fno.depth = 2
    config.msal.paper.discriminator.channels = 4
    config.msal.paper.discriminator.num_blocks = 1

    config.train.log_every = 2
    config.train.preview_every = 6
    config.train.preview_images = 8  # as many as are measured: one program
    config.train.checkpoint_every = 3

    config.sampling.num_steps = 4
    config.sampling.batch_size = 8
    config.evaluation.num_images = 8
    config.evaluation.grid_images = 4
    config.evaluation.reference_images = 16
    config.evaluation.training_images = 16
    config.evaluation.inception_weights = "none"
    config.evaluation.feature_network = "none"
    config.evaluation.every = 6
    config.evaluation.every_images = 8
    return config
