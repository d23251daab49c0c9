"""The state of training: made, restored from a checkpoint, and turned into one or into a model."""

import contextlib
import functools
import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from wmgm_jax import data
from wmgm_jax.runs.checkpoints import Checkpoints
from wmgm_jax.runs.initial import Initial
from wmgm_jax.runs.run import Run, check_same_units
from wmgm_jax.systems.interface import Stage, Statistics
from wmgm_jax.training.optimizer import make_optimizers
from wmgm_jax.training.parallel import first_replica

_log = logging.getLogger(__name__)

# For a program that runs once. On a CPU it compiles in half the time, to the same numbers. Other
# backends may not know the option.
_COMPILE_FAST = {"cpu": {"xla_backend_optimization_level": 1}}


@struct.dataclass
class TrainState:
    """Everything that a step reads and writes, and a checkpoint holds.

    Attributes:
        step: steps taken, int32; also the position in the data.
        key_data: the raw key from which each step's keys are folded, uint32.
        params: by objective.
        batch_stats: batch-norm averages of the stage's networks.
        ema: exponential moving averages of (the params of objectives that have one, batch_stats).
        opt_state: by objective.
        statistics: of the training set.
    """

    step: jax.Array
    key_data: jax.Array
    params: dict[str, Any]
    batch_stats: Any
    ema: tuple[dict[str, Any], Any]
    opt_state: dict[str, Any]
    statistics: Any


@struct.dataclass
class Trained:
    """What a stage takes from a trained model.

    Attributes:
        params: by objective. Objectives that are not there start from random parameters.
        batch_stats: batch-norm averages.
        ema: see `TrainState`.
    """

    params: dict[str, Any]
    batch_stats: Any
    ema: tuple[dict[str, Any], Any]


def init_state(
    stage: Stage, statistics: Statistics, key: jax.Array, trained: Trained | None = None
) -> TrainState:
    """The state before the first step.

    Args:
        stage: the stage.
        statistics: of the training set.
        key: of the stage, for its parameters and for its steps.
        trained: what to start from; None for random parameters.
    """
    init_key, run_key = jax.random.split(key)
    params, batch_stats = stage.init(init_key)
    averaged = {name: params[name] for name, each in stage.objectives.items() if each.ema}
    ema = (averaged, batch_stats)
    if trained is not None:
        params, batch_stats = params | trained.params, trained.batch_stats
        ema = (averaged | trained.ema[0], trained.ema[1])
    optimizers = make_optimizers(stage)
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        key_data=jax.random.key_data(run_key),
        params=params,
        batch_stats=batch_stats,
        ema=ema,
        opt_state={name: optimizers[name].init(params[name]) for name in params},
        statistics=statistics,
    )
    # No two leaves may share a buffer that a step is going to donate.
    return jax.tree.map(jnp.array, state)


def first_state(run: Run, name: str, stage: Stage) -> TrainState:
    """The state before the first step of a run, with the statistics of its training set.

    Raises:
        UserError: the model that the run starts from has changed since.
    """
    statistics = run.system.compute_statistics(_batches_for_statistics(run))
    statistics |= run.train.codec.statistics()
    options = _COMPILE_FAST.get(jax.default_backend())
    init = jax.jit(functools.partial(init_state, stage), compiler_options=options)
    return jax.device_get(init(statistics, _key(run, name), _trained(run.initial, name)))


def _trained(initial: Initial | None, name: str) -> Trained | None:
    """What a stage starts from; the log tells."""
    if initial is None:
        return None
    if name not in initial.step:
        _log.info("%s: %s has no such stage: random parameters", name, initial.source)
        return None
    step, directory = initial.step[name], initial.checkpoints
    _log.info("%s: starting from %s, step %d", name, initial.source, step)
    stage = initial.stages[name]
    if directory is None:
        model = initial.model(name)
        params, batch_stats = model["params"], model["batch_stats"]
        averaged = {key: value for key, value in params.items() if stage.objectives[key].ema}
        return Trained(params, batch_stats, (averaged, batch_stats))
    step, trained = trained_stage(directory / name, stage)
    initial.check_step(name, step)
    return trained


def trained_stage(directory: Path, stage: Stage) -> tuple[int, Trained]:
    """The step of the newest checkpoint of a stage, and what another run can take from it.

    Args:
        directory: of the checkpoints of the stage. It holds one at least.
        stage: as it was trained.
    """
    like = jax.eval_shape(functools.partial(init_state, stage, None), jax.random.key(0))
    with contextlib.closing(Checkpoints(directory)) as checkpoints:
        restored = checkpoints.restore(training_tree(like))
    step, model, training = restored or (0, {}, {})
    ema = (model["params"], model["batch_stats"])
    return step, Trained(training["params"], training["batch_stats"], ema)


def restored_state(
    run: Run, name: str, stage: Stage, checkpoints: Checkpoints
) -> TrainState | None:
    """The state of the newest whole checkpoint, or None where there is none.

    Raises:
        UserError: all checkpoints are damaged, or the data has changed since.
    """
    like = jax.eval_shape(functools.partial(init_state, stage, None), _key(run, name))
    restored = checkpoints.restore(training_tree(like))
    if restored is None:
        return None
    _, model, training = restored
    check_same_units(run.workdir, run.train, model["statistics"])
    ema = (model["params"], model["batch_stats"])
    return TrainState(ema=ema, statistics=model["statistics"], **training)


def model_entries(stage: Stage, state: TrainState) -> dict[str, Any]:
    """A stage's entries and `statistics` in the parameters of the model, of a replicated state."""
    ema, statistics = jax.tree.map(first_replica, (state.ema, state.statistics))
    return stage.export(*ema) | {"statistics": statistics}


def checkpoint_trees(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """(model, training) of a replicated state, as `Checkpoints.save` takes them."""
    # A copy: the next step reuses the device's memory, of which NumPy may hold a mere view.
    state = jax.tree.map(lambda x: np.array(first_replica(x)), state)
    params, batch_stats = state.ema
    model = {"params": params, "batch_stats": batch_stats, "statistics": state.statistics}
    return model, training_tree(state)


def training_tree(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds beside the model."""
    names = ("step", "key_data", "params", "batch_stats", "opt_state")
    return {name: getattr(state, name) for name in names}


def _key(run: Run, name: str) -> jax.Array:
    """The key of a stage: that of the run, folded with the stage's name."""
    return jax.random.fold_in(jax.random.key(run.config.seed), zlib.crc32(name.encode()))


def _batches_for_statistics(run: Run) -> Iterator[jax.Array]:
    """Batches of at most `data.statistics_images` training images, augmented as in training, in
    unit range."""
    # Jitted, because XLA and NumPy round the division differently: the statistics are those of the
    # numbers that training sees.
    to_unit_range = jax.jit(run.train.codec.to_unit_range)
    count = min(len(run.train), run.config.data.statistics_images)
    size = min(count, 64)
    return (
        to_unit_range(
            data.batch_at(
                run.train,
                seed=run.config.seed,
                step=step,
                batch_size=size,
                augment=run.config.data.augment,
            )
        )
        for step in range(count // size)
    )
