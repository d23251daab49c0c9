"""The checks that a config must pass before anything is built from it.

Those of one system stand beside its defaults, in a file of its own.
"""

import math

from ml_collections import ConfigDict

from wmgm_jax.config.checks import expect
from wmgm_jax.config.defaults import base, leaves
from wmgm_jax.config.registry import settings_of
from wmgm_jax.core.errors import UserError
from wmgm_jax.diffusion.process import SPACINGS
from wmgm_jax.diffusion.samplers import SAMPLERS

_CHOICES = {
    "data.augment": ("none", "flip", "dihedral"),
    "process.schedule": ("constant", "linear", "cosine"),
    "prediction": ("noise", "velocity"),
    "score.loss": ("paper", "edm"),
    "details.loss": ("paper", "edm"),
    "optimizer.decay": ("constant", "cosine"),
    "train.dtype": ("float32", "bfloat16"),
    "sampling.dtype": ("", "float32", "bfloat16"),
    "sampling.sampler": tuple(SAMPLERS),
    "sampling.spacing": ("", *SPACINGS),
    "evaluation.best_measure": ("sliced_wasserstein", "spectrum_error"),
}

# What happens beside training happens between two calls of a device.
_BETWEEN_CALLS = (
    "train.log_every",
    "train.preview_every",
    "train.checkpoint_every",
    "evaluation.every",
)

# Ends of keys.
_AT_LEAST_ONE = (
    "wavelet.levels",
    "num_steps",
    "batch_size",
    "accumulate",
    "channels",
    "network.num_blocks",
    "num_heads",
    "train.log_every",
    "train.preview_every",
    "train.checkpoint_every",
    "evaluation.every",
    "_images",
    "keep",
    "steps_per_call",
    "feature_steps",
)
_NOT_NEGATIVE = ("warmup_steps", "weight_decay", "clip_norm", "seed")
_IN_UNIT_INTERVAL = ("ema_decay", "dropout", ".b1", ".b2")


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
    _check_sampling(config)
    settings_of(config.system).check(config)


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
            expect(not holds or math.isfinite(value), key, "finite", value)
        else:
            holds = type(value) is type(default)
        expected = "a number or None" if default is None else type(default).__name__
        expected += " of whole numbers" if isinstance(default, tuple) else ""
        expect(holds, key, f"of type {expected}", value)


def _check_ranges(config: ConfigDict) -> None:
    """What each setting may be by itself."""
    given, system = dict(leaves(config)), settings_of(config.system)
    all_choices = {**_CHOICES, **system.choices}
    for key, value in given.items():
        for ending, choices in all_choices.items():
            if key.endswith(ending):
                named = ", ".join(str(choice) or repr(choice) for choice in choices)
                expect(value in choices, key, f"one of {named}", value)
        if key.endswith(_AT_LEAST_ONE + system.at_least_one):
            expect(value >= 1, key, "at least 1", value)
        if key.endswith("learning_rate"):
            expect(value > 0, key, "above 0", value)
        if key.endswith(_NOT_NEGATIVE + system.not_negative):
            expect(value >= 0, key, "at least 0", value)
        if key.endswith(_IN_UNIT_INTERVAL):
            expect(0 <= value < 1, key, "in [0, 1)", value)
    source = config.data.source
    is_source = source in ("embedded", "folder") or source.startswith(("tfds:", "array:"))
    expect(is_source, "data.source", "'embedded', 'folder', 'tfds:NAME' or 'array:PATH'", source)
    if not source.startswith("array:"):
        expect(config.data.channels in (1, 3), "data.channels", "1 or 3", config.data.channels)
    share = config.data.validation_fraction
    expect(0 < share < 1, "data.validation_fraction", "between 0 and 1", share)
    end, limit = config.process.T, 1 if config.process.schedule == "cosine" else float("inf")
    expect(end is None or 0 < end < limit, "process.T", f"between 0 and {limit}", end)


def _check_sizes(config: ConfigDict) -> None:
    """What divides what, of images and batches."""
    size, levels = tuple(config.data.image_size), config.wavelet.levels
    expect(
        len(size) == 2
        and all(isinstance(side, int) and side > 0 and side % 2**levels == 0 for side in size),
        "data.image_size",
        f"(H, W), each divisible by 2^levels = {2**levels}",
        size,
    )
    for name in settings_of(config.system).sections():
        section = config[name]
        expect(
            section.batch_size % section.accumulate == 0,
            f"{name}.accumulate",
            f"a divisor of the batch size {section.batch_size}",
            section.accumulate,
        )
    per_call, given = config.train.steps_per_call, dict(leaves(config))
    ends = (f"{name}.num_steps" for name in settings_of(config.system).sections())
    for key in (*_BETWEEN_CALLS, *ends):
        expected = f"a multiple of train.steps_per_call = {per_call}"
        expect(given[key] % per_call == 0, key, expected, given[key])


def _check_sampling(config: ConfigDict) -> None:
    """Whether the sampler and its grid can take the steps."""
    settings = config.sampling
    # The searched grid of a sampler has the sampler's numbers of steps.
    for name, sampler in SAMPLERS.items():
        if sampler.num_steps is not None and name in (settings.sampler, settings.spacing):
            expect(
                settings.num_steps in sampler.num_steps,
                "sampling.num_steps",
                f"{' or '.join(map(str, sampler.num_steps))} for {name}",
                settings.num_steps,
            )
