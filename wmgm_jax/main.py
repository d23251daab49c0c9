"""Train, sample and evaluate wavelet-domain generative models.

  python -m wmgm_jax.main --config=configs/colon_ihc.py
      trains all stages of the config's system. It resumes by itself, and ends with a grid of
      samples and an evaluation. All files are in --workdir (by default runs/colon_ihc).
      --init_from=DIR starts a new run from the parameters of another.

  python -m wmgm_jax.main --mode=sample --workdir=runs/colon_ihc --num_samples=1000
      draws images from a trained run: a grid, single PNGs and an .npz in samples/. For fields, the
      .npz is in the units of the data, and the pictures are in false colours.

  python -m wmgm_jax.main --mode=evaluate --workdir=runs/colon_ihc
      evaluates a trained run again, and writes evaluation.json and report.html.

  python -m wmgm_jax.main --mode=evaluate --generated=DIR_OR_NPZ --reference=DIR_OR_NPZ
      compares images from any source. The results are in --workdir (by default runs/<name of the
      generated images>).

  python -m wmgm_jax.main --mode=inspect --config=configs/afhq_cat.py
      prints the parameters, FLOPs and bytes of a config, or of the model in --workdir, as a table,
      and as JSON on the last line. It trains nothing.

pretrained:NAME stands for a model that comes with the package, in --workdir and in --init_from:
  python -m wmgm_jax.main --mode=sample --workdir=pretrained:colon_ihc
      What it writes is in runs/pretrained_colon_ihc, below the current folder.

Each setting of wmgm_jax/config/ is a flag, for example --config.score.num_steps=50000.
To train on several hosts, start the same command on each with --coordinator=HOST:PORT
--num_hosts=N --host_index=I. On Slurm, Open MPI and TPU pods, --distributed alone is
meant to be enough; it is not tested yet.
"""

import logging
import shutil
import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils
from tqdm import tqdm

from wmgm_jax import cli, runs, systems
from wmgm_jax.config import base
from wmgm_jax.config.validation import validate
from wmgm_jax.core import files
from wmgm_jax.core.errors import UserError
from wmgm_jax.core.pictures import image_grid, write_png
from wmgm_jax.data import image_sets
from wmgm_jax.evaluation import ImageSets
from wmgm_jax.evaluation.report.write import Subject, write_evaluation
from wmgm_jax.evaluation.trained import evaluate_model
from wmgm_jax.runs import model_file
from wmgm_jax.sampling import draw_raw
from wmgm_jax.systems import cost
from wmgm_jax.training import loop

cli.define_config()
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "sample", "evaluate", "inspect"], "What to do; see above."
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "The folder of the run; by default runs/<name of the config file>. Or pretrained:NAME, a model "
    "of the package, to sample, evaluate or inspect; the results are in runs/pretrained_NAME.",
)
_INIT_FROM = flags.DEFINE_string(
    "init_from",
    None,
    "In --mode=train, the folder of a run, or pretrained:NAME: a new run starts from its "
    "parameters and their averages. Its networks must be the same; images may have another size. "
    "A run that has a checkpoint goes on from that instead.",
)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", 64, "The number of images to draw in --mode=sample.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "The seed of the images in --mode=sample.", lower_bound=0)
_CHECKPOINT = flags.DEFINE_enum(
    "checkpoint",
    "last",
    ["last", "best"],
    "The checkpoint to sample or evaluate. The best is that by config.evaluation.best_measure.",
)
_GENERATED = flags.DEFINE_string(
    "generated",
    None,
    "In --mode=evaluate, the images to judge: a folder, an .npz or an .npy; by default, images of "
    "the run's model.",
)
_REFERENCE = flags.DEFINE_string(
    "reference",
    None,
    "In --mode=evaluate, the images to compare with; by default, the validation images of the run.",
)
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the other hosts of a cluster that JAX detects."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of the first host; the same on all hosts."
)
_NUM_HOSTS = flags.DEFINE_integer("num_hosts", None, "The number of hosts.")
_HOST_INDEX = flags.DEFINE_integer("host_index", None, "The index of this host, from 0.")

_log = logging.getLogger("wmgm_jax")


def main() -> None:
    """Runs the mode that the command line names."""
    _refuse_flags_of_other_modes()
    _join_hosts()
    {"train": _train, "sample": _sample, "evaluate": _evaluate, "inspect": _inspect}[_MODE.value]()


# --- modes ---------------------------------------------------------------------------------------


def _train() -> None:
    workdir = _workdir()
    if model_file.pretrained_name(workdir) is not None:
        raise UserError(
            f"--workdir={workdir} cannot be trained further: name a folder, and start from the "
            f"model by --init_from={workdir}"
        )
    run = runs.open_run(cli.given_config(), workdir, _INIT_FROM.value)
    loop.train(run)
    try:
        model = runs.load(run.workdir)  # on every host: Orbax waits for all of them
    except UserError as error:
        _log.info("no samples yet: %s", error)
        return
    if jax.process_index() == 0:
        model = runs.Model(run.config, model.params, model.step)
        evaluate_model(model, run.workdir, run.train, run.valid)
    if jax.process_count() > 1:
        # If a host left early, the first host would wait for it when it leaves, minutes later.
        multihost_utils.sync_global_devices("evaluated")


def _sample() -> None:
    workdir = _workdir()
    model = _trained_model(workdir)
    images = np.concatenate(list(draw_raw(model, _NUM_SAMPLES.value, _SEED.value)))
    folder = _output_folder(workdir) / "samples" / f"seed_{_SEED.value}"
    # Images of an earlier call must not mix with those of this one.
    shutil.rmtree(folder, ignore_errors=True)
    files.write_npz(folder / "images.npz", images=images)
    settings = model.config.sampling
    facts = {"step": model.step, "checkpoint": _CHECKPOINT.value, "seed": _SEED.value}
    files.write_json(folder / "sampling.json", {**facts, "sampling": settings.to_dict()})
    images = model.codec.to_visible(model.codec.encode(images))
    write_png(folder / "grid.png", image_grid(images[: model.config.evaluation.grid_images]))
    for i, image in enumerate(tqdm(images, "writing", disable=not sys.stderr.isatty())):
        write_png(folder / "images" / f"{i:06d}.png", image)
    steps, sampler = settings.num_steps, settings.sampler
    _log.info("%d images in %s, by %d steps of %s", len(images), folder, steps, sampler)


def _evaluate() -> None:
    if _GENERATED.value is not None:
        _compare_files(_GENERATED.value)
        return
    workdir = _workdir()
    model = _trained_model(workdir)
    train, reference = runs.open_sources(model.config)
    runs.check_same_units(workdir, train, model.params["statistics"])
    facts = {"checkpoint": _CHECKPOINT.value, "reference": _REFERENCE.value or "validation images"}
    folder = _output_folder(workdir)
    if _REFERENCE.value is not None:
        reference = image_sets.open_set(
            _REFERENCE.value, "--reference", train.image_shape, codec=train.codec
        )
        facts["preparation"] = image_sets.PREPARATION
    if _REFERENCE.value is not None or _CHECKPOINT.value != "last":
        # Keeps the evaluation of the run itself.
        name = Path(_REFERENCE.value or "validation").resolve().stem
        folder = folder / "evaluations" / f"{name}_{_CHECKPOINT.value}"
    run_folder = _output_folder(workdir)
    evaluate_model(model, run_folder, train, reference, folder=folder, facts=facts)


def _inspect() -> None:
    if cli.config_path() is None and _WORKDIR.value is not None:
        config = runs.read_config(model_file.folder_of(_WORKDIR.value))
    else:
        config = cli.given_config()
    runs.selected_stages(config, systems.build(config))
    print(cost.report(config))


# --- parts of modes ------------------------------------------------------------------------------


def _refuse_flags_of_other_modes() -> None:
    modes = {
        "num_samples": ("sample",),
        "seed": ("sample",),
        "checkpoint": ("sample", "evaluate"),
        "generated": ("evaluate",),
        "reference": ("evaluate",),
        "init_from": ("train",),
    }
    for name, theirs in modes.items():
        if flags.FLAGS[name].present and _MODE.value not in theirs:
            raise UserError(
                f"--{name} has no effect in --mode={_MODE.value}: use it with "
                + " and ".join(f"--mode={mode}" for mode in theirs)
            )


def _workdir() -> Path:
    if _WORKDIR.value is not None:
        return Path(_WORKDIR.value)
    config_path = cli.config_path()
    if config_path is None:
        raise UserError("--workdir is missing: name the folder of a run, or its --config")
    return Path("runs") / Path(config_path).stem


def _output_folder(workdir: Path) -> Path:
    """Where the results of a run go: into its folder, or below the current one for a model of the
    package."""
    name = model_file.pretrained_name(workdir)
    return workdir if name is None else Path("runs") / f"pretrained_{name}"


def _trained_model(workdir: Path) -> runs.Model:
    """The model of a run, with the sampling and evaluation settings of the command line."""
    model = runs.load(workdir, checkpoint="best" if _CHECKPOINT.value == "best" else "last")
    if cli.config_path() is None:
        return model
    # A deep copy: ConfigDict(config) would share its sections.
    config = model.config.copy_and_resolve_references()
    config.update_from_flattened_dict(cli.config_overrides())
    validate(config)
    runs.check_same_model(workdir, config, model.config)
    return runs.Model(config, model.params, model.step)


def _compare_files(generated: str) -> None:
    """Evaluates images against images, from any source."""
    if _REFERENCE.value is None:
        raise UserError("--reference is missing: name the images to compare with --generated")
    config = cli.given_config() if cli.config_path() is not None else base()
    cache_dir = config.data.cache_dir
    overrides = cli.config_overrides() if cli.config_path() is not None else {}
    shape = None
    if "data.image_size" in overrides:
        shape = (*config.data.image_size, config.data.channels)
    images = image_sets.open_set(generated, "--generated", shape, cache_dir=cache_dir)
    reference = image_sets.open_set(
        _REFERENCE.value, "--reference", images.image_shape, cache_dir=cache_dir
    )
    folder = _output_folder(Path(_WORKDIR.value or Path("runs") / Path(generated).resolve().stem))
    subject = Subject(
        title=f"{generated} against {_REFERENCE.value}",
        sets=ImageSets(images, reference),
        levels=_levels(images.image_shape, config.wavelet.levels),
        facts={
            "generated": generated,
            "reference": _REFERENCE.value,
            "preparation": image_sets.PREPARATION,
        },
    )
    write_evaluation(subject, folder, config.evaluation, cache_dir)


def _levels(shape: tuple[int, int, int], wanted: int) -> int:
    """The largest number of scales, up to `wanted`, that the sides of an image allow."""
    allowed = [k for k in range(1, wanted + 1) if not any(side % 2**k for side in shape[:2])]
    if not allowed:
        raise UserError(f"--generated has images {list(shape)}: give images with even sides")
    return allowed[-1]


def _join_hosts() -> None:
    if _COORDINATOR.value is not None:
        jax.distributed.initialize(_COORDINATOR.value, _NUM_HOSTS.value, _HOST_INDEX.value)
    elif _DISTRIBUTED.value:
        try:
            jax.distributed.initialize()
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"--distributed found no cluster ({str(error).splitlines()[0]}): set "
                "--coordinator=HOST:PORT --num_hosts=N --host_index=I"
            ) from error


if __name__ == "__main__":
    cli.run(main)
