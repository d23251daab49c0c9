"""CelebA-HQ at 128x128 with the settings of the paper (section 4.1): its Table 1.

`--config=configs/celebahq.py:5k` (the default) is the paper's CelebA-HQ (5K), 4,750 images to
train on and 250 to validate with; `:30k` is the whole set. The images are those of Karras et al.
2018, https://github.com/tkarras/progressive_growing_of_gans, whose `dataset_tool.py` makes them.
Put them where `data.dir` says, in one folder; the images for validation are set apart by name:

    data/celebahq_5k/*.jpg       5,000 images
    data/celebahq_30k/*.jpg     30,000 images
"""

from ml_collections import ConfigDict

from wmgm_jax.config import base
from wmgm_jax.core.errors import UserError

_IMAGES = {"5k": 5_000, "30k": 30_000}


def get_config(images: str = "5k") -> ConfigDict:
    if images not in _IMAGES:
        raise UserError(f"--config=configs/celebahq.py:{images}: use :5k or :30k")
    config = base()
    config.data.dir = f"data/celebahq_{images}"
    config.data.missing_hint = (
        "get CelebA-HQ from https://github.com/tkarras/progressive_growing_of_gans and put "
        f"{_IMAGES[images]:,} of its images into data/celebahq_{images}"
    )
    config.data.validation_fraction = 0.05
    num_train = round(_IMAGES[images] * (1 - config.data.validation_fraction))
    config.msal.num_steps = 150 * num_train // config.msal.batch_size  # 150 epochs
    return config
