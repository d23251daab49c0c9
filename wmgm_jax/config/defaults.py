"""Every setting with its default.

A config file holds a function `get_config()` that changes some of `base()`. The defaults are the
paper's, where it states them. What a config must hold is checked by `config.validation`.
"""

from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from wmgm_jax.core.errors import UserError


def base(system: str = "wmgm") -> ConfigDict:
    """A system on a folder of 128x128 images, with the settings of the paper.

    Raises:
        UserError: there is no such system.
    """
    if system not in SECTIONS:
        raise UserError(f"--config.system must be one of {', '.join(SECTIONS)}, not {system!r}")
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
                "statistics_images": 8192,  # at most so many measure the bands
            },
            "wavelet": {"levels": 2},  # S; of SGM and WaveDiff, the scales of their evaluation
            "process": {
                "schedule": "constant",  # "constant", "linear", "cosine"
                "T": placeholder(float),  # None for the schedule's own
            },
            **SECTIONS[system](),
            "train": {
                "dtype": "float32",  # of the computation: "float32", "bfloat16"
                "rematerialise": False,  # trade time for memory in the backward pass
                "steps_per_call": 1,  # of a device; divides all intervals and numbers of steps
                "log_every": 100,
                "preview_every": 2_000,
                "preview_images": 64,
                "checkpoint_every": 2_000,
                "keep": 3,  # checkpoints
            },
            "sampling": {
                # "euler_maruyama", the papers' (in 16 steps), "ancestral", "ddim", "heun",
                # "multistep" (in 4 steps)
                "sampler": "dpmpp_2m",
                "num_steps": 6,
                # "uniform", "quadratic", "logsnr", "optimal", "multistep"; empty for the sampler's
                # own: optimal of dpmpp_2m, multistep of multistep, else uniform
                "spacing": "",
                "batch_size": 64,  # over all devices
                "dtype": "",  # of the networks, "float32" or "bfloat16"; empty for train.dtype
            },
            "evaluation": {
                "num_images": 1024,  # to draw
                "reference_images": 50_000,  # at most so many validation images to compare with
                "training_images": 10_000,  # at most so many as a floor, and to look for copies in
                "inception_weights": "",  # a file; empty to download; "none" for no FID and its kin
                "grid_images": 64,
                "every": 5_000,  # steps from one measurement in training to the next
                "every_images": 256,
                "best_measure": "sliced_wasserstein",  # or "spectrum_error": which to keep in best/
            },
        }
    )
    config.update_from_flattened_dict(_ITS_OWN.get(system, {}))
    return config


def sibling(config: ConfigDict, system: str) -> ConfigDict:
    """The config of another system that differs only where the system does.

    Images, process, training, sampling and evaluation stay; so does how the score network is
    trained, which also holds for the networks of WSGM's details. The networks are those of
    `base(system)`, and so are WaveDiff's training, process and sampler.

    Args:
        config: of WMGM.
        system: "sgm", "wsgm" or "wavediff".
    """
    other, shared = base(system), config.copy_and_resolve_references()
    for key in ("seed", "stages", "data", "wavelet", "process", "train", "sampling", "evaluation"):
        other[key] = shared[key]
    for section in ("score", "details"):
        if section in other:
            other[section].update({k: v for k, v in shared.score.items() if k != "network"})
    other.update_from_flattened_dict(_ITS_OWN.get(system, {}))
    return other


def _wmgm() -> dict[str, Any]:
    return {"score": _score((1, 2, 2, 2), attention_levels=(1, 2)), "msal": _msal()}


def _sgm() -> dict[str, Any]:
    return {"score": _score((1, 2, 2, 4, 4), attention_levels=(3, 4))}


def _wsgm() -> dict[str, Any]:
    return {
        "score": _score((1, 2, 3, 4), attention_levels=(3,)),
        "details": _score((1, 2, 3, 4), attention_levels=(3,)),  # of every scale
    }


def _wavediff() -> dict[str, Any]:
    """The settings that WaveDiff was published with for CelebA-HQ at 256x256, with one level less,
    so that the coarsest map is 8x8 as there, and the four steps of its smaller images. For its
    cosine, which ends at a rate of 1e-5, there is ours."""

    def optimizer(learning_rate):
        decays = {"decay": "cosine", "b1": 0.5, "b2": 0.9}
        return _optimizer(learning_rate, weight_decay=0.0) | decays

    return {
        "wavediff": {
            "num_steps": 500 * 4750 // 32,  # 500 epochs of CelebA-HQ (5K)
            "batch_size": 32,
            "accumulate": 1,
            "ema_decay": 0.9999,
            "levels": 1,  # Haar levels of what is diffused: 0 (the pixels), 1 or 2
            "normalisation": "range",  # of the coefficients, to [-1, 1]; or "unit", to unit scale
            "denoising_steps": 4,  # T; `sampling.num_steps` is the same
            "reconstruction_weight": 1.0,  # lambda; of DDGAN 0
            "r1_weight": 2.0,  # gamma
            "r1_every": 10,
            "latent_size": 100,  # of z
            "generator_optimizer": optimizer(2e-4),
            "discriminator_optimizer": optimizer(1e-4),
            "generator": {
                "channels": 64,
                "multipliers": (1, 2, 2, 4),
                "num_blocks": 2,
                "attention_levels": (2,),  # 0 is the finest: at 16x16 of images of 128x128
                "style_size": 256,
                "mapping_layers": 3,
                "wavelet_residual": True,
                "frequency_resampling": True,
                "frequency_bottleneck": True,
            },
            "discriminator": {
                "channels": 128,  # twice the release's base
                "num_blocks": 4,
                "first_stride": 2,  # 2 for large images: the first block halves them, too; or 1
                "embedding_size": 256,
            },
        }
    }


# What each system has besides what all have: its stages' settings.
SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
    "wmgm": _wmgm,
    "sgm": _sgm,
    "wsgm": _wsgm,
    "wavediff": _wavediff,
}

# What differs of the settings that all have, in the siblings of a config, too.
_ITS_OWN: dict[str, dict[str, Any]] = {
    "wavediff": {
        "process.schedule": "linear",
        "process.T": None,
        "sampling.sampler": "posterior",
        "sampling.num_steps": 4,
        "sampling.spacing": "uniform",
    }
}


def _score(multipliers: tuple[int, ...], attention_levels: tuple[int, ...]) -> dict[str, Any]:
    """A score network, and its training."""
    return {
        "num_steps": 50_000,
        "batch_size": 64,  # over all devices
        "accumulate": 1,  # micro-batches a step
        "ema_decay": 0.9999,
        "prediction": "noise",  # "noise", "velocity"
        "optimizer": _optimizer(1e-4, weight_decay=0.0),
        "network": {
            "channels": 128,
            "multipliers": multipliers,
            "num_blocks": 3,
            "attention_levels": attention_levels,  # 0 is the finest
            "num_heads": 4,
            "dropout": 0.0,
        },
    }


def _msal() -> dict[str, Any]:
    """The networks of the details, and their training (Eq. 21-22)."""
    return {
        "num_steps": 6_000,
        "batch_size": 128,
        "accumulate": 1,
        "ema_decay": 0.999,
        "learning": "adversarial",  # "adversarial", "standard", "operator" (Appendix H.2)
        "shared": True,  # one generator for all scales, or one a scale
        "loss_domain": "image",  # "image", "wavelet"
        "mse_weight": 20.0,  # lambda
        "ssim_weight": 0.5,  # nu
        "adversarial_weight": 0.1,  # alpha
        "lipschitz": "sigmoid",  # "sigmoid", "gradient_penalty"
        "penalty_weight": 10.0,  # of the gradient penalty
        "discriminator_every": 4,  # generator steps a discriminator step
        "generator_optimizer": _optimizer(1e-4, weight_decay=0.01),
        "discriminator_optimizer": _optimizer(1e-5, weight_decay=0.01),
        # What generates the details by adversarial, by standard and by operator learning.
        "generator": {"channels": 64, "depth": 5, "norm": "batch"},  # or "group"
        "unet": {"channels": 64, "depth": 5},
        "fno": {"modes": (16, 16), "channels": 256, "depth": 4},
        # What adversarial learning alone has besides.
        "discriminator": {"channels": 64, "num_blocks": 5, "dropout": 0.5},
    }


def _optimizer(learning_rate: float, weight_decay: float) -> dict[str, Any]:
    return {
        "learning_rate": learning_rate,
        "warmup_steps": 0,
        "decay": "constant",  # after the warm-up: "constant", "cosine" to 0
        "weight_decay": weight_decay,  # AdamW; 0 is Adam
        "clip_norm": 0.0,  # of the whole gradient; 0 for no clipping
        "b1": 0.9,
        "b2": 0.999,
        "eps": 1e-8,
    }


# Settings that may differ when a workdir is continued: they change what a run reports, how long
# it lasts or where it reads, not what it computes at a given step.
_FREE = (
    "stages",
    "data.cache_dir",
    "data.missing_hint",
    "score.num_steps",
    "details.num_steps",
    "msal.num_steps",
    "wavediff.num_steps",
    "train.log_every",
    "train.preview_every",
    "train.preview_images",
    "train.checkpoint_every",
    "train.keep",
    "sampling",
    "evaluation",
)


def different(config: ConfigDict, other: ConfigDict) -> list[str]:
    """Keys whose difference means that two configs do not train the same model."""
    ours, theirs = dict(leaves(config)), dict(leaves(other))

    def is_free(key: str) -> bool:
        section = key.split(".")[0]
        if key.endswith("num_steps") and "cosine" in (
            value for name, value in ours.items() if name.startswith(section + ".")
        ):
            return False  # the learning rate follows the length of the run
        return any(key == free or key.startswith(free + ".") for free in _FREE)

    keys = sorted(ours.keys() | theirs.keys())
    return [key for key in keys if ours.get(key) != theirs.get(key) and not is_free(key)]


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
