"""Train, sample and evaluate wavelet-domain generative models.

  python -m wmgm_jax.main --config=configs/colon_ihc.py
      trains what the config's system needs, resumes by itself, and ends with a grid of samples
      and an evaluation, all in --workdir (by default runs/colon_ihc).

  python -m wmgm_jax.main --mode=sample --workdir=runs/colon_ihc --num_samples=1000
      draws images from a trained run: a grid, single PNGs and an .npz under samples/.

  python -m wmgm_jax.main --mode=evaluate --workdir=runs/colon_ihc
      measures a trained run again and writes evaluation.json.

  python -m wmgm_jax.main --mode=inspect --config=configs/afhq_cat.py
      prints what a config builds - parameters, FLOPs, bytes - and trains nothing.

Every setting of wmgm_jax/config.py is a flag: --config.score.num_steps=50000.
Several hosts: start the same command on each with --coordinator=HOST:PORT --num_hosts=N
--host_index=I; on Slurm, Open MPI and TPU pods, --distributed alone.
"""

import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from absl import logging as absl_logging
from jax.experimental import multihost_utils
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from wmgm_jax import config as configs
from wmgm_jax import data, evaluation, files, inspection, sampling, systems, training
from wmgm_jax.errors import UserError
from wmgm_jax.preemption import Preempted

_CONFIG = config_flags.DEFINE_config_file("config", None, "The config file.", lock_config=True)
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "sample", "evaluate", "inspect"], "What to do; see above."
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "The folder of the run; by default runs/<name of the config file>."
)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples", 64, "How many images to draw in --mode=sample.", lower_bound=1
)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the images drawn in --mode=sample.")
_DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Join the other hosts of a cluster that JAX can detect."
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "HOST:PORT of the first host, the same on all of several hosts."
)
_NUM_HOSTS = flags.DEFINE_integer("num_hosts", None, "How many hosts there are.")
_HOST_INDEX = flags.DEFINE_integer("host_index", None, "Which of the hosts this is, from 0.")

_log = logging.getLogger("wmgm_jax")

_EXIT_USER_ERROR = 2
_EXIT_PREEMPTED = 143  # as a process that SIGTERM has ended


def main(argv: Sequence[str]) -> None:
    """Runs one mode; mistakes of the user's end in one line and exit code 2."""
    if len(argv) > 1:
        _fail(f"unexpected argument {argv[1]!r}: all arguments are flags; see --help")
    _log_to_stderr()
    try:
        with logging_redirect_tqdm([_log]):
            _join_hosts()
            {"train": _train, "sample": _sample, "evaluate": _evaluate, "inspect": _inspect}[
                _MODE.value
            ]()
    except UserError as error:
        _fail(str(error))
    except Preempted as preempted:
        _log.warning("%s", preempted)
        sys.exit(_EXIT_PREEMPTED)


# --- modes ---------------------------------------------------------------------------------------


def _train() -> None:
    config, workdir = _given_config(), _workdir()
    system = systems.build(config)
    train, valid = _sources(config)
    run = training.Run(config, system, train, valid, workdir)
    training.check(run)
    _claim(workdir, config)
    training.train(run)
    try:
        model = sampling.load(workdir)  # on every host: Orbax waits for all of them
    except UserError as error:
        _log.info("no samples yet: %s", error)
        return
    if jax.process_index() == 0:
        model = sampling.Model(config, model.params, model.step)
        _write_evaluation(model, workdir, train, valid)
    if jax.process_count() > 1:
        # A host that left would be missed by the first when that leaves, minutes later.
        multihost_utils.sync_global_devices("evaluated")


def _sample() -> None:
    workdir = _workdir()
    model = _trained_model(workdir)
    images = _draw(model, _NUM_SAMPLES.value, _SEED.value)
    folder = workdir / "samples" / f"seed_{_SEED.value}"
    # What an earlier call left must not mix with what this one draws.
    shutil.rmtree(folder, ignore_errors=True)
    files.write_png(folder / "grid.png", files.grid(images[: model.config.evaluation.grid_images]))
    files.write_npz(folder / "images.npz", images=images)
    for i, image in enumerate(tqdm(images, "writing", disable=not sys.stderr.isatty())):
        files.write_png(folder / "images" / f"{i:06d}.png", image)
    _log.info("%d images in %s", len(images), folder)


def _evaluate() -> None:
    workdir = _workdir()
    model = _trained_model(workdir)
    _write_evaluation(model, workdir, *_sources(model.config))


def _inspect() -> None:
    print(inspection.report(_given_config()))


# --- parts of modes ------------------------------------------------------------------------------


def _given_config() -> ConfigDict:
    if _CONFIG.value is None:
        raise UserError("--config is missing: name a file, for example configs/colon_ihc.py")
    configs.validate(_CONFIG.value, tuple(systems.SYSTEMS))
    return _CONFIG.value


def _workdir() -> Path:
    if _WORKDIR.value is not None:
        return Path(_WORKDIR.value)
    path = flags.FLAGS["config"].config_filename if _CONFIG.value is not None else None
    if path is None:
        raise UserError("--workdir is missing: name the folder of a run, or its --config")
    return Path("runs") / Path(path).stem


def _trained_model(workdir: Path) -> sampling.Model:
    """The model of a run, with what the command line says of sampling and evaluation."""
    model = sampling.load(workdir)
    if _CONFIG.value is None:
        return model
    overrides = config_flags.get_override_values(flags.FLAGS["config"])
    # A deep copy: ConfigDict(config) would share its sections.
    config = model.config.copy_and_resolve_references()
    config.update_from_flattened_dict(overrides)
    configs.validate(config, tuple(systems.SYSTEMS))
    _same_model(workdir, config, model.config)
    return sampling.Model(config, model.params, model.step)


def _sources(config: ConfigDict) -> tuple[data.Source, data.Source]:
    """The training and the validation images of a config."""

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


def _claim(workdir: Path, config: ConfigDict) -> None:
    """Writes `config.json`, unless the folder belongs to a run of another config."""
    path = workdir / "config.json"
    if path.exists():
        _same_model(workdir, config, sampling.read_config(workdir))
    if jax.process_index() == 0:
        files.write_json(path, config.to_dict())


def _same_model(workdir: Path, config: ConfigDict, other: ConfigDict) -> None:
    keys = configs.different(config, other)
    if keys:
        raise UserError(
            f"{workdir} holds a run with another {', '.join('config.' + key for key in keys)}: "
            "use its settings, or another --workdir"
        )


def _draw(model: sampling.Model, num: int, seed: int) -> np.ndarray:
    """uint8 `[num, H, W, C]`, with a progress bar."""
    batches = []
    with tqdm(total=num, desc="sampling", unit="image", disable=not sys.stderr.isatty()) as bar:
        for images in sampling.sample_batches(model, jax.random.key(seed), num):
            batches.append(files.to_uint8(images))
            bar.update(len(images))
    return np.concatenate(batches)


def _write_evaluation(
    model: sampling.Model, workdir: Path, train: data.Source, valid: data.Source
) -> None:
    images = _draw(model, model.config.evaluation.num_images, seed=0)
    grid = workdir / "samples" / "grid.png"
    files.write_png(grid, files.grid(images[: model.config.evaluation.grid_images]))
    report = evaluation.evaluate(model, images, train, valid)
    files.write_json(workdir / "evaluation.json", report)
    _log.info("samples in %s, measures in %s", grid, workdir / "evaluation.json")
    for line in evaluation.summary(report):
        _log.info("%s", line)


# --- process -------------------------------------------------------------------------------------


def _join_hosts() -> None:
    if _COORDINATOR.value is not None:
        jax.distributed.initialize(_COORDINATOR.value, _NUM_HOSTS.value, _HOST_INDEX.value)
    elif _DISTRIBUTED.value:
        try:
            jax.distributed.initialize()
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"--distributed found no cluster ({str(error).splitlines()[0]}): give "
                "--coordinator=HOST:PORT --num_hosts=N --host_index=I"
            ) from error


def _log_to_stderr() -> None:
    # JAX and Orbax tell every step of theirs at the level of information.
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    _log.addHandler(handler)
    _log.setLevel(logging.INFO)
    _log.propagate = False


def _fail(message: str) -> None:
    print(f"wmgm_jax: {message}", file=sys.stderr)
    sys.exit(_EXIT_USER_ERROR)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags; whatever is wrong with them or with the config file gets one line."""
    try:
        remaining = flags.FLAGS(list(argv))
        if _CONFIG.value is not None:
            _CONFIG.value.items()  # A file that failed to load says so when it is first used.
        return remaining
    except flags.Error as error:
        _fail(f"{_one_line(error)}; see --help")
    except AttributeError as error:
        _fail(f"{_one_line(error)} is not a setting; see wmgm_jax/config.py for those that are")
    except Exception as error:  # A config file is code, which may raise anything.
        _fail(f"--config cannot be loaded: {type(error).__name__}: {_one_line(error)}")


def _one_line(error: Exception) -> str:
    message = error
    while isinstance(message, Exception) and message.args:
        message = message.args[0]
    return " ".join(str(message).split())


if __name__ == "__main__":
    app.run(main, flags_parser=_parse_flags)
