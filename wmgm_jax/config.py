"""Every setting with its default, and the checks that a config must pass.

A config file holds a function `get_config()` that changes some of `base()`. The defaults are the
paper's, where it states them.
"""

from collections.abc import Callable, Iterator
from typing import Any

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from wmgm_jax.errors import UserError


def base(system: str = "wmgm") -> ConfigDict:
    """A system on a folder of 128x128 images, with the settings of the paper.

    Raises:
        UserError: there is no such system.
    """
    if system not in _SECTIONS:
        raise UserError(f"--config.system must be one of {', '.join(_SECTIONS)}, not {system!r}")
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
            **_SECTIONS[system](),
            "train": {
                "dtype": "float32",  # of the computation: "float32", "bfloat16"
                "rematerialise": False,  # trade time for memory in the backward pass
                "log_every": 100,
                "preview_every": 2_000,
                "preview_images": 64,
                "checkpoint_every": 2_000,
                "keep": 3,  # checkpoints
            },
            "sampling": {
                "sampler": "euler_maruyama",
                "num_steps": 16,
                "spacing": "uniform",  # "uniform", "quadratic", "logsnr"
                "batch_size": 64,  # over all devices
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
    """The settings that WaveDiff was published with for STL-10, the smallest images for which its
    generator has wavelets inside. For its cosine, which ends at a rate of 1e-5, there is ours."""

    def optimizer(learning_rate):
        decays = {"decay": "cosine", "b1": 0.5, "b2": 0.9}
        return _optimizer(learning_rate, weight_decay=0.0) | decays

    return {
        "wavediff": {
            "num_steps": 350_000,
            "batch_size": 256,
            "accumulate": 1,
            "ema_decay": 0.9999,
            "levels": 1,  # Haar levels of what is diffused: 0 (the pixels: DDGAN), 1 or 2
            "normalisation": "range",  # of the coefficients, to [-1, 1]; or "unit", to unit scale
            "denoising_steps": 4,  # T; `sampling.num_steps` is the same
            "reconstruction_weight": 1.0,  # lambda
            "r1_weight": 0.02,  # gamma
            "r1_every": 15,
            "latent_size": 100,  # of z
            "generator_optimizer": optimizer(1.6e-4),
            "discriminator_optimizer": optimizer(1.25e-4),
            "generator": {
                "channels": 128,
                "multipliers": (1, 2, 2, 2),
                "num_blocks": 2,
                "attention_levels": (2,),  # 0 is the finest: at 16x16 of images of 128x128
                "style_size": 256,
                "mapping_layers": 4,
                "wavelet_residual": True,
                "frequency_resampling": True,
                "frequency_bottleneck": True,
            },
            "discriminator": {
                "channels": 128,  # twice the release's base
                "num_blocks": 4,
                "first_stride": 1,  # 2 for large images: the first block halves them, too
                "embedding_size": 256,
            },
        }
    }


# What each system has besides what all have: its stages' settings.
_SECTIONS: dict[str, Callable[[], dict[str, Any]]] = {
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

_CHOICES = {
    "data.augment": ("none", "flip", "dihedral"),
    "process.schedule": ("constant", "linear", "cosine"),
    "prediction": ("noise", "velocity"),
    "optimizer.decay": ("constant", "cosine"),
    "msal.learning": ("adversarial", "standard", "operator"),
    "msal.loss_domain": ("image", "wavelet"),
    "msal.lipschitz": ("sigmoid", "gradient_penalty"),
    "msal.generator.norm": ("batch", "group"),
    "train.dtype": ("float32", "bfloat16"),
    "sampling.sampler": ("euler_maruyama",),
    "evaluation.best_measure": ("sliced_wasserstein", "spectrum_error"),
    "sampling.spacing": ("uniform", "quadratic", "logsnr"),
    "wavediff.levels": (0, 1, 2),
    "wavediff.normalisation": ("range", "unit"),
    "wavediff.discriminator.first_stride": (1, 2),
}
# A chain has one way back.
_CHOICES_OF = {"wavediff": {"sampling.sampler": ("posterior",), "sampling.spacing": ("uniform",)}}

# Keys that end so.
_AT_LEAST_ONE = (
    "wavelet.levels",
    "num_steps",
    "batch_size",
    "accumulate",
    "channels",
    "num_blocks",
    "num_heads",
    "depth",
    "denoising_steps",
    "mapping_layers",
    "latent_size",
    "style_size",
    "embedding_size",
    "_every",
    ".every",
    "_images",
    "keep",
)
_NOT_NEGATIVE = (
    "mse_weight",
    "ssim_weight",
    "adversarial_weight",
    "penalty_weight",
    "reconstruction_weight",
    "r1_weight",
    "warmup_steps",
    "weight_decay",
    "clip_norm",
    "seed",
)


def validate(config: ConfigDict) -> None:
    """Checks a config before anything is built from it.

    Args:
        config: as a config file and the command line made it.

    Raises:
        UserError: an unknown or missing key, or a value that cannot work.
    """
    _check_keys(config)
    _check_types(config)
    _check_ranges(config)
    _check_sizes(config)
    _check_networks(config)


def _check_keys(config: ConfigDict) -> None:
    expected, given = dict(_leaves(base(config.system))), dict(_leaves(config))
    for key in sorted(given.keys() - expected.keys()):
        raise UserError(
            f"config.{key} is not a setting of system {config.system!r}: see wmgm_jax/config.py "
            "for those that are"
        )
    for key in sorted(expected.keys() - given.keys()):
        raise UserError(f"config.{key} is missing: build the config from wmgm_jax.config.base()")


def _check_types(config: ConfigDict) -> None:
    given = dict(_leaves(config))
    for key, default in _leaves(base(config.system)):
        value = given[key]
        if default is None:  # a number, or None
            holds = value is None or isinstance(value, int | float)
        elif isinstance(default, float):
            holds = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            holds = type(value) is type(default)
        expected = "a number or None" if default is None else type(default).__name__
        _expect(holds, key, f"of type {expected}", value)


def _check_ranges(config: ConfigDict) -> None:
    """What each setting may be by itself."""
    given, all_choices = dict(_leaves(config)), _CHOICES | _CHOICES_OF.get(config.system, {})
    for key, value in given.items():
        for ending, choices in all_choices.items():
            if key.endswith(ending):
                _expect(value in choices, key, f"one of {', '.join(map(str, choices))}", value)
        if key.endswith(_AT_LEAST_ONE):
            _expect(value >= 1, key, "at least 1", value)
        if key.endswith("learning_rate"):
            _expect(value > 0, key, "above 0", value)
        if key.endswith(_NOT_NEGATIVE):
            _expect(value >= 0, key, "at least 0", value)
        if key.endswith(("ema_decay", "dropout")):
            _expect(0 <= value < 1, key, "in [0, 1)", value)
    source = config.data.source
    is_source = source in ("embedded", "folder") or source.startswith(("tfds:", "array:"))
    _expect(is_source, "data.source", "'embedded', 'folder', 'tfds:NAME' or 'array:PATH'", source)
    if not source.startswith("array:"):
        _expect(config.data.channels in (1, 3), "data.channels", "1 or 3", config.data.channels)
    share = config.data.validation_fraction
    _expect(0 < share < 1, "data.validation_fraction", "between 0 and 1", share)
    end, limit = config.process.T, 1 if config.process.schedule == "cosine" else float("inf")
    _expect(end is None or 0 < end < limit, "process.T", f"between 0 and {limit}", end)


def _check_sizes(config: ConfigDict) -> None:
    """What divides what, of images and batches."""
    size, levels = tuple(config.data.image_size), config.wavelet.levels
    _expect(
        len(size) == 2
        and all(isinstance(side, int) and side > 0 and side % 2**levels == 0 for side in size),
        "data.image_size",
        f"(H, W), each divisible by 2^levels = {2**levels}",
        size,
    )
    for name in _SECTIONS[config.system]():
        section = config[name]
        _expect(
            section.batch_size % section.accumulate == 0,
            f"{name}.accumulate",
            f"a divisor of the batch size {section.batch_size}",
            section.accumulate,
        )


def _check_networks(config: ConfigDict) -> None:
    for name in _SECTIONS[config.system]():
        if "network" in config[name]:
            _check_unet(f"{name}.network", config[name].network)
    if "msal" in config:
        for network in ("generator", "unet"):
            depth = config.msal[network].depth
            _expect(depth <= 10, f"msal.{network}.depth", "at most 10", depth)
        if config.msal.learning == "operator":
            _check_fno(config)
    if "wavediff" in config:
        _check_wavediff(config)


def _check_unet(key: str, network: ConfigDict) -> None:
    _check_levels(key, network)
    for multiplier in network.multipliers:
        _expect(
            multiplier * network.channels % network.num_heads == 0,
            f"{key}.num_heads",
            f"a divisor of the {multiplier * network.channels} channels of a level",
            network.num_heads,
        )


def _check_levels(key: str, network: ConfigDict) -> None:
    _expect(
        len(network.multipliers) > 0 and all(m >= 1 for m in network.multipliers),
        f"{key}.multipliers",
        "one number of at least 1 a level",
        tuple(network.multipliers),
    )
    _expect(
        all(level in range(len(network.multipliers)) for level in network.attention_levels),
        f"{key}.attention_levels",
        f"some of the levels 0 to {len(network.multipliers) - 1}",
        tuple(network.attention_levels),
    )


def _check_wavediff(config: ConfigDict) -> None:
    settings = config.wavediff
    generator, discriminator = settings.generator, settings.discriminator
    _check_levels("wavediff.generator", generator)
    # Both embed the time in pairs of a cosine and a sine.
    for key, count in (
        ("generator.channels", generator.channels),
        ("discriminator.embedding_size", discriminator.embedding_size),
    ):
        _expect(count % 2 == 0, f"wavediff.{key}", "even", count)
    steps = settings.denoising_steps
    _expect(
        config.sampling.num_steps == steps,
        "sampling.num_steps",
        f"{steps}, the chain's (wavediff.denoising_steps)",
        config.sampling.num_steps,
    )
    halvings = {
        "generator": len(generator.multipliers) - 1 + generator.frequency_bottleneck,
        "discriminator": discriminator.num_blocks - (discriminator.first_stride == 1),
    }
    size = tuple(config.data.image_size)
    for name, count in halvings.items():
        divisor = 2 ** (settings.levels + count)
        _expect(
            all(side % divisor == 0 for side in size),
            "data.image_size",
            f"(H, W), each divisible by {divisor}: {settings.levels} Haar levels, and {count} more "
            f"halvings in the {name} of config.wavediff",
            size,
        )


def _check_fno(config: ConfigDict) -> None:
    """What the Fourier neural operator can do with the bands of the details."""
    size, levels = tuple(config.data.image_size), config.wavelet.levels
    _expect(
        all(side % 2 ** (levels + 1) == 0 for side in size),
        "data.image_size",
        f"divisible by 2^(levels + 1) = {2 ** (levels + 1)} for msal.learning = 'operator', which "
        "takes bands of even sides",
        size,
    )
    modes, finest = tuple(config.msal.fno.modes), tuple(side // 2 for side in size)
    _expect(
        len(modes) == 2
        and all(
            isinstance(m, int) and 1 <= m < side for m, side in zip(modes, finest, strict=True)
        ),
        "msal.fno.modes",
        f"two numbers of at least 1, below the sides {finest} of the finest low band",
        modes,
    )


def different(config: ConfigDict, other: ConfigDict) -> list[str]:
    """Keys whose difference means that two configs do not train the same model."""
    ours, theirs = dict(_leaves(config)), dict(_leaves(other))

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


def _leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, tuple(value) if isinstance(value, list | tuple) else value


def _expect(holds: bool, key: str, expected: str, value: Any) -> None:
    if not holds:
        raise UserError(f"--config.{key} must be {expected}, not {value!r}")
