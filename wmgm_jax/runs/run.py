"""A run: a config, the system and the images that it names, and the folder it writes to."""

import dataclasses
from pathlib import Path

import jax
from ml_collections import ConfigDict

from wmgm_jax import data, systems
from wmgm_jax.config import compatibility
from wmgm_jax.core import files
from wmgm_jax.core.codec import codec_of
from wmgm_jax.core.errors import UserError
from wmgm_jax.runs.config_file import read_config
from wmgm_jax.runs.initial import Initial, find_initial
from wmgm_jax.systems.interface import Stage, Statistics, System


@dataclasses.dataclass(frozen=True)
class Run:
    """What the stages of a run share.

    Attributes:
        config: the whole config.
        system: the system that it builds.
        train: source of the training images.
        valid: source of the validation images.
        workdir: the folder of the run.
        initial: the trained model from which it started; None for random parameters.
    """

    config: ConfigDict
    system: System
    train: data.Source
    valid: data.Source
    workdir: Path
    initial: Initial | None = None


def open_run(config: ConfigDict, workdir: Path, init_from: str | None = None) -> Run:
    """Prepares a run, new or to be continued, and writes its `config.json`.

    Whatever would stop the run is found before anything is written.

    Args:
        config: a validated config.
        workdir: the folder of the run.
        init_from: the folder of another run, or "pretrained:NAME", whose parameters a new run
            starts from. A run that has a checkpoint already ignores it.

    Raises:
        UserError: a stage that does not exist, images that are missing, a batch that does not fit
            the devices or the images, a folder that holds a run of another config, or a model to
            start from that is missing or has other networks.
    """
    run = Run(config, systems.build(config), *open_sources(config), workdir)
    selected = selected_stages(config, run.system)
    for name in selected:
        _check_batch(run.system.stages[name], run.train, config.data.augment)
    path = workdir / "config.json"
    if path.exists():
        check_same_model(workdir, config, read_config(workdir))
    initial = find_initial(config, run.system, selected, workdir, init_from)
    if jax.process_index() == 0:
        files.write_json(path, compatibility.to_json(config))
        if initial is not None:
            initial.record(workdir)
    return dataclasses.replace(run, initial=initial)


def open_sources(config: ConfigDict) -> tuple[data.Source, data.Source]:
    """The training and the validation images of a config.

    Raises:
        UserError: the images are missing or unreadable.
    """

    def source(split):
        return data.open_source(
            source=config.data.source,
            split=split,
            image_size=tuple(config.data.image_size),
            channels=config.data.channels,
            directory=config.data.dir,
            validation_fraction=config.data.validation_fraction,
            cache_dir=config.data.cache_dir,
            missing_hint=config.data.missing_hint,
        )

    return source("train"), source("valid")


def selected_stages(config: ConfigDict, system: System) -> list[str]:
    """The stages that `config.stages` names, in the system's order.

    Raises:
        UserError: a name that the system does not have.
    """
    if config.stages == "all":
        return list(system.stages)
    wanted = [name.strip() for name in config.stages.split(",")]
    for name in wanted:
        if name not in system.stages:
            raise UserError(
                f"--config.stages must be 'all' or some of {', '.join(system.stages)} joined by "
                f"commas, not {config.stages!r}"
            )
    return [name for name in system.stages if name in wanted]


def check_same_model(workdir: Path, config: ConfigDict, other: ConfigDict) -> None:
    """Compares a config with that of the run in `workdir`.

    Raises:
        UserError: the two do not train the same model.
    """
    keys = compatibility.different(config, other)
    if not keys:
        return
    named = ", ".join("config." + key for key in keys[:5])
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    reason = ""
    if any(key.endswith("num_steps") for key in keys):
        reason = " (the cosine decay of its learning rate follows the number of steps)"
    raise UserError(
        f"{workdir} holds a run with another {named}{more}{reason}: use its settings, or another "
        "--workdir"
    )


def check_same_units(workdir: Path, source: data.Source, statistics: Statistics) -> None:
    """Compares the statistics of fields with those that the model in `workdir` was trained with.

    Raises:
        UserError: the data has changed since.
    """
    difference = source.codec.difference(codec_of(statistics))
    if difference:
        raise UserError(
            f"{workdir} was trained on other data: {difference}; bring back the former, "
            "or use another --workdir"
        )


def _check_batch(stage: Stage, train: data.Source, augment: str) -> None:
    batch_size, accumulate = stage.settings.batch_size, stage.settings.accumulate
    parts = jax.device_count() * accumulate * stage.group_size
    if batch_size % parts:
        groups = f" times the {stage.group_size} images that D judges together"
        raise UserError(
            f"--config.{stage.section}.batch_size={batch_size} must be divisible by {parts}, the "
            f"{jax.device_count()} devices times the {accumulate} micro-batches"
            f"{groups if stage.group_size > 1 else ''}"
        )
    if batch_size > len(train):
        raise UserError(
            f"--config.{stage.section}.batch_size={batch_size} is more than the {len(train)} "
            "training images: lower it, or add images"
        )
    data.check_batch(train, batch_size, augment)
