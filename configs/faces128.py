"""Grey faces at 128x128 at the size of the paper's CelebA-HQ (5K): 4,750 and 250 images.

Any folder of grey photographs of faces will do. Put them where `data.dir` says:

    data/faces128/train/**/*.jpg
    data/faces128/valid/**/*.jpg
"""

from ml_collections import ConfigDict

from wmgm_jax.config import base


def get_config() -> ConfigDict:
    config = base()
    config.data.dir = "data/faces128"
    config.data.missing_hint = (
        "put images of faces into data/faces128/train and data/faces128/valid, or name their "
        "folder with --config.data.dir"
    )
    config.data.channels = 1
    config.msal.num_steps = 150 * 4750 // config.msal.batch_size  # 150 epochs
    return config
