"""Makes the model of a run one that comes with the package: wmgm_jax.pretrained(NAME).

  python -m experiments.pretrained --workdir=runs/colon_ihc_long --name=colon_ihc \\
      --command="python -m wmgm_jax.main --config=configs/colon_ihc.py ..."

Writes wmgm_jax/pretrained_models/NAME/ with config.json, model.npz, evaluation.json, README.md and
the network of the learned features, all of them or nothing, and replaces the model that was there.
Who trains on the same images then need not train that network. Kernels are stored in float16. The
script draws images with the run's parameters and with the stored ones, from the same noise. It
writes nothing if a grey level differs by more than --limit, or if the file is larger than
--megabytes. The measures are those of the stored model.
"""

import json
import logging
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from ml_collections import ConfigDict

import wmgm_jax
from wmgm_jax import cli, runs, systems
from wmgm_jax.core import files
from wmgm_jax.core.errors import UserError
from wmgm_jax.core.pictures import enlarge, image_grid, write_png
from wmgm_jax.evaluation.learned.load import load_of_config
from wmgm_jax.evaluation.report.headlines import summary
from wmgm_jax.evaluation.trained import evaluate_model
from wmgm_jax.runs import model_file
from wmgm_jax.runs.metrics_file import read_metrics
from wmgm_jax.sampling import draw_raw
from wmgm_jax.training.state import trained_stage

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of the run.", required=True)
_NAME = flags.DEFINE_string("name", None, "The name of the model.", required=True)
_COMMAND = flags.DEFINE_string("command", "", "The command that trained it, for its README.")
_CHECKPOINT = flags.DEFINE_enum("checkpoint", "last", ["last", "best"], "Which to take.")
_IMAGES = flags.DEFINE_integer("images", 1000, "Images to draw, compare and measure.")
_LIMIT = flags.DEFINE_integer("limit", 2, "The largest difference of a pixel, in grey levels.")
_MEGABYTES = flags.DEFINE_float("megabytes", 10, "The largest size of the stored parameters.")
_PICTURE = flags.DEFINE_string(
    "picture", None, "Where to write a PNG of samples, on the left, beside training images."
)
_OUT = flags.DEFINE_string("out", str(model_file.PRETRAINED), "The folder of all models.")

_log = logging.getLogger("wmgm_jax")


def main() -> None:
    """Writes the folder of the model."""
    source, folder = Path(_WORKDIR.value), Path(_OUT.value) / _NAME.value
    model = wmgm_jax.load(source, checkpoint=_CHECKPOINT.value)
    stored = {
        name: (step, model_file.in_half_precision(with_discriminators(tree, source, name, model)))
        for name, (step, tree) in runs.stage_models(
            source, systems.build(model.config).stages, _CHECKPOINT.value
        ).items()
    }
    config = _for_everyone(model.config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{_NAME.value}.") as temporary:
        new = Path(temporary) / _NAME.value
        model_file.write(new, config, stored)
        megabytes = (new / model_file.FILE).stat().st_size / 1e6
        _log.info("%s: %.2f MB", model_file.FILE, megabytes)
        if megabytes > _MEGABYTES.value:
            raise UserError(f"{model_file.FILE} has {megabytes:.1f} MB: more than --megabytes")
        difference = _difference(model, wmgm_jax.load(new))
        measured = _evaluation(new, source.resolve().name, Path(temporary) / "evaluation")
        shutil.copy(measured, new / "evaluation.json")
        _copy_feature_network(config, new)
        text = _readme(model, source, megabytes, difference, measured)
        files.write_text(new / "README.md", text)
        if folder.exists():
            folder.rename(Path(temporary) / "former")
        new.rename(folder)
    if _PICTURE.value is not None:
        write_png(Path(_PICTURE.value), picture(wmgm_jax.load(folder)))
    _log.info("%s: wmgm_jax.pretrained(%r)", folder, _NAME.value)


def with_discriminators(
    tree: dict[str, Any], source: Path, name: str, model: runs.Model
) -> dict[str, Any]:
    """The `model` tree of a stage, and the parameters that have no average.

    A run that starts from the model would otherwise lose what it took over to a discriminator that
    knows nothing yet. The best checkpoint has none.
    """
    if _CHECKPOINT.value == "best":
        return tree
    stage = systems.build(model.config).stages[name]
    _, trained = trained_stage(source / "checkpoints" / name, stage)
    return {**tree, "params": {**trained.params, **tree["params"]}}


def picture(model: runs.Model, side: int = 6) -> np.ndarray:
    """The first samples of seed 0 on the left, and training images on the right, in squares of
    `side` images a side; uint8 `[height, width, C]`."""
    train, _ = runs.open_sources(model.config)
    random = np.random.default_rng(0)
    real = train.take(np.sort(random.choice(len(train), side**2, replace=False)))
    drawn = np.concatenate(list(draw_raw(model, side**2, seed=0)))
    halves = [
        image_grid(model.codec.to_visible(enlarge(images)), columns=side)
        for images in (model.codec.encode(drawn), random.permutation(real))
    ]
    gap = np.full((len(halves[0]), 24, halves[0].shape[-1]), 255, np.uint8)
    return np.concatenate([halves[0], gap, halves[1]], axis=1)


def _for_everyone(config: ConfigDict) -> ConfigDict:
    """The config without what holds on this machine, or for this call, alone."""
    config = config.copy_and_resolve_references()
    config.stages, config.data.cache_dir = "all", ""
    for file in ("inception_weights", "feature_network"):
        if config.evaluation[file] != "none":
            config.evaluation[file] = ""
    return config


def _difference(model: runs.Model, stored: runs.Model) -> str:
    """How far images of two models differ, in words.

    Raises:
        UserError: they differ by more than --limit.
    """

    def images(of: runs.Model) -> np.ndarray:
        drawn = np.concatenate(list(draw_raw(of, _IMAGES.value, seed=0)))
        return of.codec.to_visible(of.codec.encode(drawn)).astype(int)

    differences = np.abs(images(model) - images(stored))
    text = (
        f"{_IMAGES.value} images differ by at most {differences.max()} of 255 grey levels, "
        f"{(differences > 0).mean():.2%} of the values by one or more"
    )
    _log.info("%s", text)
    if differences.max() > _LIMIT.value:
        raise UserError(f"float16 changes the images: {text}; --limit={_LIMIT.value}")
    return text


def _evaluation(folder: Path, title: str, outputs: Path) -> Path:
    """The evaluation.json of a stored model; it and its other files are in `outputs`."""
    model = wmgm_jax.load(folder)
    settings = model.config.evaluation
    settings.num_images = settings.reference_images = settings.training_images = _IMAGES.value
    train, valid = runs.open_sources(model.config)
    evaluate_model(model, Path(title), train, valid, folder=outputs)
    return outputs / "evaluation.json"


def _copy_feature_network(config: ConfigDict, folder: Path) -> None:
    """Copies the network that the evaluation of a config takes its features from."""
    train, _ = runs.open_sources(config)
    network = load_of_config(config, train)
    if network is not None and network.path is not None:
        shutil.copy(network.path, folder)


def _readme(
    model: runs.Model, source: Path, megabytes: float, difference: str, evaluation: Path
) -> str:
    size = " x ".join(map(str, (*model.config.data.image_size, model.config.data.channels)))
    measures = json.loads(evaluation.read_text())["measures"]
    command = _COMMAND.value or f"python -m wmgm_jax.main --workdir={shlex.quote(str(source))}"
    lines = [
        f"# {_NAME.value}",
        "",
        f"A model of {size} images, trained by wmgm_jax {wmgm_jax.__version__}. "
        f'`wmgm_jax.pretrained("{_NAME.value}")` loads it, and '
        f"`pretrained:{_NAME.value}` stands for it in `--workdir` and `--init_from`.",
        "",
        "The command that trained it:",
        "",
        "```",
        command,
        "```",
        "",
        "Its last training, without what a model that it started from had been trained before:",
        "",
        "| stage | steps | batch | hours |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {step:,} | {stage.settings.batch_size} | {_hours(source, name):.1f} |"
            for (name, step), stage in zip(
                model.step.items(), systems.build(model.config).stages.values(), strict=True
            )
        ),
        "",
        f"Measures of {_IMAGES.value} samples (`evaluation.json` has all of them):",
        "",
        *(f"- {line}" for line in summary(measures)),
        "",
        f"`model.npz` has {megabytes:.1f} MB: the averages of the parameters, kernels in float16. "
        f"With the parameters of the run in float32, {difference}.",
        "",
    ]
    return "\n".join(lines)


def _hours(source: Path, stage: str) -> float:
    """The time that the steps of a stage took, from the rates in its metrics."""
    seconds, before = 0.0, 0
    for record in read_metrics(source / "metrics.jsonl"):
        if record["stage"] == stage and "steps_per_second" in record:
            seconds += (record["step"] - before) / record["steps_per_second"]
            before = record["step"]
    return seconds / 3600


if __name__ == "__main__":
    cli.run(main)
