"""The checks that a config must pass before anything is built from it."""

import math
from typing import Any

from ml_collections import ConfigDict

from wmgm_jax.config.defaults import SECTIONS, base, leaves
from wmgm_jax.core.errors import UserError
from wmgm_jax.diffusion.process import SPACINGS
from wmgm_jax.diffusion.samplers import SAMPLERS

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
    "sampling.dtype": ("", "float32", "bfloat16"),
    "sampling.sampler": tuple(SAMPLERS),
    "evaluation.best_measure": ("sliced_wasserstein", "spectrum_error"),
    "sampling.spacing": ("", *SPACINGS),
    "wavediff.levels": (0, 1, 2),
    "wavediff.normalisation": ("range", "unit"),
    "wavediff.discriminator.first_stride": (1, 2),
}
# A chain has one way back.
_CHOICES_OF = {"wavediff": {"sampling.sampler": ("posterior",), "sampling.spacing": ("uniform",)}}

# What training does every so many steps, it does between two calls of a device.
_BETWEEN_CALLS = (
    "train.log_every",
    "train.preview_every",
    "train.checkpoint_every",
    "evaluation.every",
)

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
    "steps_per_call",
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
    expected, given = dict(leaves(base(config.system))), dict(leaves(config))
    for key in sorted(given.keys() - expected.keys()):
        raise UserError(
            f"config.{key} is not a setting of system {config.system!r}: see wmgm_jax/config/ "
            "for those that are"
        )
    for key in sorted(expected.keys() - given.keys()):
        raise UserError(f"config.{key} is missing: build the config from wmgm_jax.config.base()")


def _check_types(config: ConfigDict) -> None:
    given = dict(leaves(config))
    for key, default in leaves(base(config.system)):
        value = given[key]
        if default is None:  # a number, or None
            holds = value is None or isinstance(value, int | float)
        elif isinstance(default, tuple):
            holds = isinstance(value, tuple) and all(type(item) is int for item in value)
        elif isinstance(default, float):
            holds = isinstance(value, int | float) and not isinstance(value, bool)
            _expect(not holds or math.isfinite(value), key, "finite", value)
        else:
            holds = type(value) is type(default)
        expected = "a number or None" if default is None else type(default).__name__
        expected += " of whole numbers" if isinstance(default, tuple) else ""
        _expect(holds, key, f"of type {expected}", value)


def _check_ranges(config: ConfigDict) -> None:
    """What each setting may be by itself."""
    given, all_choices = dict(leaves(config)), _CHOICES | _CHOICES_OF.get(config.system, {})
    for key, value in given.items():
        for ending, choices in all_choices.items():
            if key.endswith(ending):
                named = ", ".join(str(choice) or repr(choice) for choice in choices)
                _expect(value in choices, key, f"one of {named}", value)
        if key.endswith(_AT_LEAST_ONE):
            _expect(value >= 1, key, "at least 1", value)
        if key.endswith("learning_rate"):
            _expect(value > 0, key, "above 0", value)
        if key.endswith(_NOT_NEGATIVE):
            _expect(value >= 0, key, "at least 0", value)
        if key.endswith(("ema_decay", "dropout", ".b1", ".b2")):
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
    for name in SECTIONS[config.system]():
        section = config[name]
        _expect(
            section.batch_size % section.accumulate == 0,
            f"{name}.accumulate",
            f"a divisor of the batch size {section.batch_size}",
            section.accumulate,
        )
    per_call, given = config.train.steps_per_call, dict(leaves(config))
    ends = (f"{name}.num_steps" for name in SECTIONS[config.system]())
    for key in (*_BETWEEN_CALLS, *ends):
        expected = f"a multiple of train.steps_per_call = {per_call}"
        _expect(given[key] % per_call == 0, key, expected, given[key])


def _check_networks(config: ConfigDict) -> None:
    for name in SECTIONS[config.system]():
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


def _expect(holds: bool, key: str, expected: str, value: Any) -> None:
    if not holds:
        raise UserError(f"--config.{key} must be {expected}, not {value!r}")
