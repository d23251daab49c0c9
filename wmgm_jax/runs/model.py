"""A trained model, read from the folder of its run or from the package."""

import contextlib
import dataclasses
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, Literal

from ml_collections import ConfigDict

from wmgm_jax import systems
from wmgm_jax.core.codec import Codec, codec_of
from wmgm_jax.core.errors import UserError
from wmgm_jax.runs import model_file
from wmgm_jax.runs.checkpoints import Checkpoints
from wmgm_jax.runs.config_file import read_config


@dataclasses.dataclass(frozen=True, repr=False)
class Model:
    """A trained model.

    Attributes:
        config: what it was trained with.
        params: moving averages of the parameters, batch-norm statistics, and the statistics of the
            training set.
        step: training steps taken, by stage.
    """

    config: ConfigDict
    params: dict[str, Any]
    step: dict[str, int]

    def __repr__(self) -> str:
        """One line: the parameters alone would fill ten thousand."""
        size = "x".join(map(str, (*self.config.data.image_size, self.config.data.channels)))
        return f"Model({self.config.system}, {size}, step={self.step})"

    @property
    def codec(self) -> Codec:
        """The codec of the images or fields that the model draws."""
        return codec_of(self.params["statistics"])


def pretrained(name: str) -> Model:
    """A model that comes with the package, without any download.

    Args:
        name: of the model, such as "colon_ihc".

    Raises:
        UserError: there is no such model; the message lists those that exist.
    """
    return load(model_file.PREFIX + name)


def load(
    workdir: str | Path,
    stages: Collection[str] | None = None,
    checkpoint: Literal["last", "best"] = "last",
) -> Model:
    """Reads the newest whole checkpoint of each stage of a run.

    Args:
        workdir: the folder of the run, or "pretrained:NAME" for a model of the package.
        stages: names of the stages to read; None for all.
        checkpoint: the last one of each stage, or the one with the best measure in training. A
            pretrained model has only one.

    Raises:
        UserError: there is no run in `workdir`, or a stage has no checkpoint yet.
    """
    config = read_config(model_file.folder_of(workdir))
    system = systems.build(config)
    params, step = {}, {}
    wanted = system.stages if stages is None else stages
    found = stage_models(workdir, wanted, checkpoint)
    for name in wanted:
        if name not in found:
            raise UserError(
                f"{workdir}: stage {name} has no checkpoint yet; train it with the run's --config, "
                f"--workdir={workdir} and --config.stages={name}"
            )
        step[name], model = found[name]
        params |= system.stages[name].export(model["params"], model["batch_stats"])
        params["statistics"] = model["statistics"]
    return Model(config, params, step)


def stage_models(
    workdir: str | Path, names: Iterable[str], checkpoint: Literal["last", "best"] = "last"
) -> dict[str, model_file.StageModel]:
    """What sampling needs of each stage: (step, the `model` tree of its checkpoint).

    Args:
        workdir, checkpoint: see `load`.
        names: of stages. Those without a checkpoint are left out.

    Raises:
        UserError: all checkpoints of a stage are damaged, or there is no best one.
    """
    folder = model_file.folder_of(workdir)
    packed = model_file.read(folder)
    if packed is not None:
        if checkpoint == "best":
            raise UserError(f"{workdir} holds only one checkpoint: leave out --checkpoint=best")
        return {name: packed[name] for name in names if name in packed}
    found = {}
    for name in names:
        directory = folder / ("checkpoints" if checkpoint == "last" else "best") / name
        try:
            restored = _restore(directory)
        except UserError as error:
            if checkpoint == "best":
                raise UserError(f"{directory} is damaged: use --checkpoint=last") from error
            raise
        if restored is None and checkpoint == "best":
            raise UserError(f"{directory} holds no checkpoint: use --checkpoint=last")
        if restored is not None:
            found[name] = restored[:2]
    return found


def _restore(directory: Path) -> tuple[int, Any, None] | None:
    if not directory.is_dir():
        return None
    with contextlib.closing(Checkpoints(directory)) as checkpoints:
        return checkpoints.restore()
