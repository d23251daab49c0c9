"""What a run starts from where it does not start from random parameters (`--init_from`).

A new run takes the parameters and their averages from a trained model. Optimizers and steps are
new, and so are the statistics, which are those of the new data. `init_from.json` in the run's
folder keeps what it started from, for stages that start later and for people. A run that has a
checkpoint goes on from there, whatever the command line says.
"""

import dataclasses
import functools
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from wmgm_jax import systems
from wmgm_jax.config import compatibility, leaves
from wmgm_jax.core import files
from wmgm_jax.core.errors import UserError
from wmgm_jax.runs import model_file
from wmgm_jax.runs.config_file import read_config
from wmgm_jax.runs.model import stage_models
from wmgm_jax.systems.interface import Stage, System

_FILE = "init_from.json"

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Initial:
    """A trained model from which a run starts.

    Attributes:
        source: the folder of its run, or "pretrained:NAME".
        step: the training steps that it had taken then, by stage. Stages that are not there start
            from random parameters.
    """

    source: str
    step: dict[str, int]

    @functools.cached_property
    def config(self) -> ConfigDict:
        """The config of the model."""
        return read_config(model_file.folder_of(self.source))

    @functools.cached_property
    def stages(self) -> dict[str, Stage]:
        """The stages of its system, as they were trained."""
        return systems.build(self.config).stages

    @property
    def checkpoints(self) -> Path | None:
        """The folder of its checkpoints, by stage. None for a model that has averages alone."""
        folder = model_file.folder_of(self.source)
        return None if model_file.exists(folder) else folder / "checkpoints"

    def model(self, stage: str) -> dict[str, Any]:
        """The `model` tree of a stage's checkpoint: `params` by objective, of those that are
        averaged, and `batch_stats`. A model file may have the parameters of others, too.

        Raises:
            UserError: it is not the checkpoint of `step` any more.
        """
        step, model = stage_models(self.source, [stage]).get(stage, (0, {}))
        self.check_step(stage, step)
        return model

    def check_step(self, stage: str, step: int) -> None:
        """Compares the step of a checkpoint with the one that the run started from.

        Raises:
            UserError: they differ.
        """
        if step != self.step[stage]:
            raise UserError(
                f"{self.source} has changed: stage {stage} is at step {step}, and this run started "
                f"from step {self.step[stage]}; start it in another --workdir"
            )

    def record(self, workdir: Path) -> None:
        """Keeps it in the folder of the run."""
        files.write_json(workdir / _FILE, {"init_from": self.source, "step": self.step})


def find_initial(
    config: ConfigDict, system: System, stages: Iterable[str], workdir: Path, init_from: str | None
) -> Initial | None:
    """The model from which the run in a folder starts, or has started.

    Args:
        config: of the run.
        system: that it builds.
        stages: those that it is going to train.
        workdir: the folder of the run; it may not exist yet.
        init_from: what the command line says; None for nothing.

    Raises:
        UserError: there is no such model, or it has other networks.
    """
    initial = _recorded(workdir)
    if init_from is not None:
        source = _absolute(init_from)
        if not _has_checkpoint(workdir):
            initial = _read(source, system)
        elif initial is not None and initial.source == source:
            _log.info("stages with a checkpoint go on, and do not start from %s again", init_from)
        else:
            began = "random parameters" if initial is None else initial.source
            _log.info("--init_from is ignored: %s has started from %s", workdir, began)
    if initial is None:
        return None
    starting = [name for name in stages if not _has_checkpoint(workdir, name)]
    for name in starting:
        if name in initial.step:
            initial.model(name)  # It raises an error if the model has changed.
            _check_networks(initial, config, name, system.stages[name])
    return initial


def _recorded(workdir: Path) -> Initial | None:
    path = workdir / _FILE
    try:
        tree = json.loads(path.read_text())
        return Initial(str(tree["init_from"]), {k: int(v) for k, v in tree["step"].items()})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}): use another --workdir"
        ) from error


def _absolute(init_from: str) -> str:
    """The same from every folder."""
    is_pretrained = model_file.pretrained_name(init_from) is not None
    return init_from if is_pretrained else str(Path(init_from).resolve())


def _has_checkpoint(workdir: Path, stage: str = "*") -> bool:
    return any(path.name.isdigit() for path in workdir.glob(f"checkpoints/{stage}/*"))


def _read(source: str, system: System) -> Initial:
    folder = model_file.folder_of(source)
    if not (folder / "config.json").exists():
        raise UserError(
            f"--init_from={source} is no trained model: name the folder of a run, or "
            f"{' or '.join(model_file.PREFIX + name for name in model_file.names())}"
        )
    found = stage_models(source, system.stages)
    if not found:
        raise UserError(
            f"--init_from={source} has no checkpoint of {' or '.join(system.stages)}: name the "
            "folder of a run of the same system that has trained"
        )
    return Initial(source, {name: step for name, (step, _) in found.items()})


def _check_networks(initial: Initial, config: ConfigDict, name: str, stage: Stage) -> None:
    """Compares a stage's networks with those of the model.

    Raises:
        UserError: they are others. The message names the settings, or else a parameter.
    """
    source, theirs = initial.source, initial.config
    if theirs.system != config.system:
        raise UserError(
            f"--init_from={source} is a model of another system: config.system is "
            f"{theirs.system!r} there, and {config.system!r} here"
        )
    before, now = initial.stages[name], stage
    # A network that is not there starts from random parameters, whatever it is.
    absent: set[str] = set()
    if initial.checkpoints is None:
        absent = before.objectives.keys() - initial.model(name)["params"].keys()
    keys = [
        key
        for key in compatibility.different_networks(config, theirs, stage.section)
        if absent.isdisjoint(key.split("."))
    ]
    their_shapes, our_shapes = (_shapes(each, absent) for each in (before, now))
    same = [path for path in our_shapes if our_shapes[path] == their_shapes.get(path)]
    if not keys and len(same) == len(our_shapes) == len(their_shapes):
        return
    more = [] if keys else ["data.channels", "wavelet.levels"]
    ours, other = dict(leaves(config)), dict(leaves(theirs))
    differences = [
        f"config.{key} is {other.get(key)!r} there, and {ours.get(key)!r} here"
        for key in (keys + more)[:3]
        if ours.get(key) != other.get(key)
    ]
    if not differences:
        path = min((our_shapes.keys() | their_shapes.keys()) - set(same))
        differences = [
            f"parameter {path} of stage {name} is {their_shapes.get(path, 'missing')} there, and "
            f"{our_shapes.get(path, 'missing')} here"
        ]
    raise UserError(f"--init_from={source} has other networks: {'; '.join(differences)}")


def _shapes(stage: Stage, absent: set[str]) -> dict[str, list[int]]:
    """The shape of every parameter and batch-norm average, by its path."""
    params, batch_stats = jax.eval_shape(stage.init, jax.random.key(0))
    kept = {name: tree for name, tree in params.items() if name not in absent}
    leaves_by_path = jax.tree_util.tree_leaves_with_path((kept, batch_stats))
    return {
        jax.tree_util.keystr(path[1:], simple=True, separator="/"): list(leaf.shape)
        for path, leaf in leaves_by_path
    }
