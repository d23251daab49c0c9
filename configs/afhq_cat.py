"""AFHQ cats at 128x128 with the settings of the paper (section 4.1): its Table 1, third column.

The images are those of Choi et al. 2020, https://github.com/clovaai/stargan-v2, where
`bash download.sh afhq-dataset` fetches them. Put the cats where `data.dir` says:

    data/afhq_cat/train/*.jpg    5,153 images, afhq/train/cat there
    data/afhq_cat/valid/*.jpg      500 images, afhq/val/cat there
"""

from ml_collections import ConfigDict

from wmgm_jax.config import base


def get_config() -> ConfigDict:
    config = base()
    config.data.dir = "data/afhq_cat"
    config.data.missing_hint = (
        "get AFHQ from https://github.com/clovaai/stargan-v2 and put afhq/train/cat into "
        "data/afhq_cat/train and afhq/val/cat into data/afhq_cat/valid"
    )
    config.msal.num_steps = 150 * 5153 // config.msal.batch_size  # 150 epochs
    return config
