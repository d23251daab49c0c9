"""Every setting that all systems have, with its default.

A config file holds a function `get_config()` that changes some of `base()`. The defaults are the
paper's, where it states them. The settings that a system alone has stand in a file of its own
beside this one, and `validation` checks them all.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from wmgm_jax.config.registry import settings_of
from wmgm_jax.config.sections import evaluation


def base(system: str = "wmgm") -> ConfigDict:
    """A system on a folder of 128x128 images, with the settings of the paper.

    Raises:
        UserError: there is no such system.
    """
    settings = settings_of(system)
    config = ConfigDict(
        {
            "system": system,
            "seed": 0,
            "stages": "all",  # which stages this run trains: "all", or names joined by commas
            "data": {
                "source": "folder",  # "embedded", "folder", "tfds:NAME", "array:PATH"
                "dir": "",
                "missing_hint": "",  # what to tell a user whose folder lacks the images
                "image_size": (128, 128),  # (H, W), divisible by 2^levels
                "channels": 3,  # 1 or 3; of arrays what they have
                "validation_fraction": 0.05,  # where no folder or split is named for it
                "augment": "flip",  # "none", "flip", "dihedral"
                "cache_dir": "",  # of decoded images; empty for the user's cache folder
                "statistics_images": 8192,  # at most this many for the statistics
            },
            "wavelet": {"levels": 2},  # S; SGM and WaveDiff use it only in evaluation
            "process": {
                "schedule": "constant",  # "constant", "linear", "cosine"
                "T": placeholder(float),  # None for the schedule's own
            },
            **settings.sections(),
            "train": {
                "dtype": "float32",  # of the computation: "float32", "bfloat16"
                "rematerialise": False,  # trade time for memory in the backward pass
                "steps_per_call": 1,  # in one program; divides all intervals and numbers of steps
                "log_every": 100,
                "preview_every": 2_000,
                "preview_images": 64,
                "checkpoint_every": 2_000,
                "keep": 3,  # checkpoints
            },
            "sampling": {
                # Or "euler_maruyama", the papers' (in 16 steps), "ancestral", "ddim", "heun",
                # "multistep" (of 4 steps alone).
                "sampler": "dpmpp_2m",
                "num_steps": 6,
                # "uniform", "quadratic", "logsnr", "optimal", "multistep"; empty for the sampler's
                # own: optimal of dpmpp_2m, multistep of multistep, else uniform
                "spacing": "",
                "batch_size": 64,  # over all devices
                "dtype": "",  # of the networks, "float32" or "bfloat16"; empty for train.dtype
            },
            "evaluation": evaluation(),
        }
    )
    config.update_from_flattened_dict(settings.own_defaults)
    return config


def sibling(config: ConfigDict, system: str) -> ConfigDict:
    """The config of another system that differs only where the system does.

    Images, process, training, sampling and evaluation stay, and so does how score networks are
    trained. The networks are those of `base(system)`, and so are the settings that a system has
    defaults of its own for (`registry.SystemSettings.own_defaults`).

    Args:
        config: of WMGM.
        system: the name of the other system.

    Raises:
        UserError: there is no such system.
    """
    other, shared = base(system), config.copy_and_resolve_references()
    settings = settings_of(system)
    for key in ("seed", "stages", "data", "wavelet", "process", "train", "sampling", "evaluation"):
        other[key] = shared[key]
    for section in settings.score_sections:
        other[section].update({k: v for k, v in shared.score.items() if k != "network"})
    other.update_from_flattened_dict(settings.own_defaults)
    return other


def arguments(section: ConfigDict) -> dict[str, Any]:
    """A section as arguments of a module: lists, which JSON has for tuples, become tuples."""
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in section.items()
    }


def leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its key, such as "data.image_size"."""
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, tuple(value) if isinstance(value, list | tuple) else value
