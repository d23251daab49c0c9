"""What a run's `config.json` means: which settings may change, and how old files are read.

The file holds every setting of the run, and under `version` the version of their meaning.
"""

import copy
from fnmatch import fnmatch
from typing import Any

from ml_collections import ConfigDict

from wmgm_jax.config.defaults import base, leaves
from wmgm_jax.config.registry import settings_of
from wmgm_jax.core.errors import UserError
from wmgm_jax.diffusion.samplers import SAMPLERS

# Raised by one when a setting changes its meaning, or a system its networks.
VERSION = 2

# What runs did before a setting was added, by its key, where that is not what its default does.
BEFORE: dict[str, Any] = {
    "score.loss": "paper",
    "details.loss": "paper",
    "msal.loss": "paper",
    "msal.relativistic.spread_weight": 0.0,
}

# Settings of `msal` that are those of `msal.paper` since version 2.
_OF_PAPER = (
    "loss_domain",
    "mse_weight",
    "ssim_weight",
    "adversarial_weight",
    "lipschitz",
    "penalty_weight",
    "discriminator_every",
    "generator_optimizer",
    "discriminator_optimizer",
    "discriminator",
)

# Settings that may differ when a run goes on. They change what it reports, how long it lasts or
# where it reads, not what it computes at a given step.
_FREE = (
    "stages",
    "data.cache_dir",
    "data.missing_hint",
    "train.log_every",
    "train.preview_every",
    "train.preview_images",
    "train.checkpoint_every",
    "train.keep",
    "sampling",
    "evaluation",
)

# Settings of a stage's section that change how its networks are trained, but not what they are.
# A setting that is not listed counts as one of the networks.
_OF_TRAINING = (
    "num_steps",
    "batch_size",
    "accumulate",
    "ema_decay",
    "*_every",
    "*_weight",
    "loss",
    "*.patch",
    "*.loss_domain",
    "*.lipschitz",
    "*optimizer.*",
    "*.dropout",
)


def different(config: ConfigDict, other: ConfigDict) -> list[str]:
    """Keys whose difference means that two configs do not train the same model."""
    ours, theirs = dict(leaves(config)), dict(leaves(other))

    def is_free(key: str) -> bool:
        section, *setting = key.split(".")
        if section in settings_of(config.system).sections() and setting == ["num_steps"]:
            # The learning rate of a cosine follows the length of the run.
            own = (value for name, value in ours.items() if name.startswith(section + "."))
            return "cosine" not in own
        return any(key == free or key.startswith(free + ".") for free in _FREE)

    keys = sorted(ours.keys() | theirs.keys())
    return [key for key in keys if ours.get(key) != theirs.get(key) and not is_free(key)]


def different_networks(config: ConfigDict, other: ConfigDict, section: str) -> list[str]:
    """Keys whose difference means that two configs have other networks in a section.

    The size of the images is not one of them. Whatever else changes the shapes of parameters, such
    as the channels of images, is to be seen in these.
    """

    def of_networks(settings: ConfigDict) -> dict[str, Any]:
        # A section for each loss holds the discriminator of that loss.
        unused = {"paper", "relativistic"} - {settings.get("loss")}
        return {
            f"{section}.{key}": value
            for key, value in leaves(settings)
            if key.split(".")[0] not in unused
            and not any(fnmatch(key, name) for name in _OF_TRAINING)
        }

    ours, theirs = (of_networks(each.get(section, ConfigDict())) for each in (config, other))
    return [key for key in sorted(ours | theirs) if ours.get(key) != theirs.get(key)]


def to_json(config: ConfigDict) -> dict[str, Any]:
    """A config as `config.json` holds it."""
    return {"version": VERSION, **config.to_dict()}


def from_json(tree: dict[str, Any]) -> ConfigDict:
    """The config of a `config.json` of this or an older version.

    A setting that the file lacks, for it is younger than the run, gets the value that keeps what
    the run did.

    Raises:
        UserError: the file is of a newer version, of a system that does not exist, or of one whose
            networks have changed since.
    """
    tree = copy.deepcopy(tree)
    version = tree.pop("version", 0)
    if not isinstance(version, int) or version > VERSION:
        raise UserError(
            f"it is of version {version!r}, and this program knows versions up to {VERSION}: "
            "install a newer wmgm_jax"
        )
    if version < 2:
        _group_the_losses_of_the_details(tree)
    config = ConfigDict(tree)
    given = dict(leaves(config))
    system = config.get("system", "wmgm")
    if version < settings_of(system).oldest_version:
        raise UserError(
            f"its run was trained when the networks of {settings_of(system).label} were others, "
            "and their parameters mean nothing to those of today: train again in another --workdir"
        )
    for key, default in leaves(base(system)):
        if key not in given:
            _set(config, key, BEFORE.get(key, default))
    if version < 1:
        _name_the_sampler_of_before(config)
    return config


def _group_the_losses_of_the_details(tree: dict[str, Any]) -> None:
    """Before version 2 there was one loss of the details, with its settings in `msal` itself."""
    msal = tree.get("msal")
    if isinstance(msal, dict):
        moved = {name: msal.pop(name) for name in _OF_PAPER if name in msal}
        msal["paper"] = msal.get("paper", {}) | moved


def _set(config: ConfigDict, key: str, value: Any) -> None:
    *sections, name = key.split(".")
    for section in sections:
        if section not in config:
            config[section] = ConfigDict()
        config = config[section]
        if not isinstance(config, ConfigDict):
            raise UserError(f"{section!r} must be a section of settings, not {config!r}")
    config[name] = value


def _name_the_sampler_of_before(config: ConfigDict) -> None:
    """Before version 1, multistep was dpmpp_2m for the numbers of steps that it cannot take."""
    settings, takes = config.sampling, SAMPLERS["multistep"].num_steps or ()
    if settings.num_steps in takes:
        return
    if settings.sampler == "multistep":
        settings.sampler = "dpmpp_2m"
    if settings.spacing == "multistep":
        settings.spacing = "optimal"
