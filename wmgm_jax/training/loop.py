"""The one training loop, for every stage of every system.

A step is a pure function of the state, in which every player of the stage moves once. One call
takes a few of them under `jax.pmap` over the devices, and all else happens between two calls. What
a run computes at a step depends on the seed and the step alone, and its whole state is in its
checkpoints, so that a run that is killed and started again ends where it would have ended.
"""

import contextlib
import functools
import logging
import time
import zlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from wmgm_jax import data
from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.core.errors import Preempted
from wmgm_jax.runs.checkpoints import Checkpoints
from wmgm_jax.runs.run import Run, check_same_units, selected_stages
from wmgm_jax.systems.interface import Stage
from wmgm_jax.training.preemption import Preemption
from wmgm_jax.training.previews import Progress
from wmgm_jax.training.reporter import Reporter
from wmgm_jax.training.step import TrainState, due_players, init_state, make_train_steps

_log = logging.getLogger(__name__)

# For a program that runs once: on a CPU it compiles in half the time, to the same numbers. Other
# backends may not know the option.
_COMPILE_FAST = {"cpu": {"xla_backend_optimization_level": 1}}


def train(run: Run) -> None:
    """Trains the stages that the config selects, each from its last checkpoint to its last step.

    Raises:
        UserError: a loss that is not finite, a disk that is full.
        Preempted: SIGTERM came, and a checkpoint has been saved.
    """
    for name in selected_stages(run.config, run.system):
        _train_stage(run, name, run.system.stages[name])


def _train_stage(run: Run, name: str, stage: Stage) -> None:
    checkpoints = Checkpoints(run.workdir / "checkpoints" / name, run.config.train.keep)
    with contextlib.closing(checkpoints):
        state = _restored_state(run, name, stage, checkpoints) or _first_state(run, name, stage)
        first_step = int(state.step)
        if first_step >= stage.settings.num_steps:
            _log.info("%s: already trained for %d steps", name, first_step)
            return
        if first_step:
            _log.info("%s: continuing from step %d", name, first_step)
        _loop(run, name, stage, state, checkpoints)


def _loop(run: Run, name: str, stage: Stage, state: TrainState, checkpoints: Checkpoints) -> None:
    num_steps, batch_size = stage.settings.num_steps, stage.settings.batch_size
    every, first_step = run.config.train, int(state.step)
    is_first_host = jax.process_index() == 0
    state = replicate(state)
    programs = _compile_steps(run, name, stage, state)
    progress = Progress(run, name, stage, first_step)
    images = data.batches(
        run.train,
        seed=run.config.seed,
        first_step=first_step,
        batch_size=batch_size,
        augment=run.config.data.augment,
        rows=_rows_of_this_host(batch_size),
        steps=every.steps_per_call,
    )
    reporter = Reporter(run.workdir, name, stage, first_step)
    with contextlib.ExitStack() as stack:
        for resource in (images, reporter, progress):
            stack.enter_context(contextlib.closing(resource))
        preemption = stack.enter_context(Preemption())
        for step in range(first_step, num_steps, every.steps_per_call):
            with reporter.waiting():
                batches = next(images)
            program = programs[_dues(run, stage, step)]
            state, metrics = program(state, _split_over_devices(batches))
            reporter.add(step, metrics)

            done = step + every.steps_per_call
            is_last = done == num_steps
            is_preempted = preemption.requested(done // every.steps_per_call)
            saves = done % every.checkpoint_every == 0 or is_last or is_preempted
            measures = done % run.config.evaluation.every == 0 or is_last
            # A report comes before each checkpoint, for it stops at what is not finite.
            if done % every.log_every == 0 or saves or measures:
                reporter.report()
            with reporter.paused():
                # The checkpoint comes last, for a run that goes on from it does none of this again.
                if measures:
                    values = progress.measure(_model(stage, state)) if is_first_host else {}
                    reporter.measures(done, values)
                    progress.keep_best(done, values, _checkpoint_trees(state)[0])
                if is_first_host and (done % every.preview_every == 0 or is_last):
                    progress.preview(done, _model(stage, state))
                if saves:
                    checkpoints.save(done, *_checkpoint_trees(state))
            if is_preempted:
                break
        # A signal may have come while the last step was measured, with more stages to come.
        is_preempted = is_preempted or preemption.requested(done // every.steps_per_call + 1)
    checkpoints.wait()
    if is_preempted:
        raise Preempted(f"{name}: saved step {done}; the same command goes on from there")


def _compile_steps(
    run: Run, name: str, stage: Stage, state: TrainState
) -> dict[tuple[tuple[str, ...], ...], Callable]:
    """The programs of the calls that are left, by what `_dues` says of them.

    One program for each, and no branch inside: what a branch holds runs slower on a CPU.
    """
    start = time.monotonic()
    per_call = run.config.train.steps_per_call
    shape = (per_call, stage.settings.batch_size // jax.process_count(), *run.train.image_shape)
    dtype = np.uint8 if run.train.units is None else np.float32
    images = _split_over_devices(np.zeros(shape, dtype))
    steps = range(int(_first_device(state.step)), stage.settings.num_steps, per_call)
    kinds = list(dict.fromkeys(_dues(run, stage, step) for step in steps))
    programs = {}
    for i, dues in enumerate(kinds, 1):
        _log.info("%s: compiling program %d of %d", name, i, len(kinds))
        steps_fn = jax.pmap(make_train_steps(stage, dues), BATCH_AXIS, donate_argnums=0)
        programs[dues] = steps_fn.lower(state, images).compile()
    _log.info("%s: compiled in %.0f s", name, time.monotonic() - start)
    return programs


def _dues(run: Run, stage: Stage, first: int) -> tuple[tuple[str, ...], ...]:
    """`due_players` of each step of the call that begins with step `first`."""
    steps = range(first, first + run.config.train.steps_per_call)
    return tuple(due_players(stage, step) for step in steps)


def _first_state(run: Run, name: str, stage: Stage) -> TrainState:
    statistics = run.system.measure(_batches_to_measure(run))
    if run.train.units is not None:
        statistics |= {"units": run.train.units.statistics()}
    options = _COMPILE_FAST.get(jax.default_backend())
    init = jax.jit(functools.partial(init_state, stage), compiler_options=options)
    return jax.device_get(init(statistics, _key(run, name)))


def _restored_state(
    run: Run, name: str, stage: Stage, checkpoints: Checkpoints
) -> TrainState | None:
    like = jax.eval_shape(functools.partial(init_state, stage, None), _key(run, name))
    restored = checkpoints.restore(training_tree(like))
    if restored is None:
        return None
    _, model, training = restored
    check_same_units(run.workdir, run.train, model["statistics"])
    average = (model["params"], model["batch_stats"])
    return TrainState(average=average, statistics=model["statistics"], **training)


def _model(stage: Stage, state: TrainState) -> Any:
    """The stage's entries in the parameters of the model, as it stands."""
    average, statistics = jax.tree.map(_first_device, (state.average, state.statistics))
    return stage.export(*average) | {"statistics": statistics}


def _checkpoint_trees(state: TrainState) -> tuple[Any, Any]:
    """(model, training) of a replicated state, as `Checkpoints.save` takes them."""
    # A copy: the next step reuses the device's memory, of which NumPy may hold a mere view.
    state = jax.tree.map(lambda x: np.array(_first_device(x)), state)
    params, batch_stats = state.average
    model = {"params": params, "batch_stats": batch_stats, "statistics": state.statistics}
    return model, training_tree(state)


def training_tree(state: TrainState) -> dict[str, Any]:
    """What a checkpoint holds beside the model."""
    names = ("step", "key_data", "params", "batch_stats", "opt_state")
    return {name: getattr(state, name) for name in names}


def _key(run: Run, name: str) -> jax.Array:
    """The key of a stage: that of the run, folded with the stage's name."""
    return jax.random.fold_in(jax.random.key(run.config.seed), zlib.crc32(name.encode()))


def _batches_to_measure(run: Run):
    """Batches of at most `data.statistics_images` training images, augmented as in training."""
    count = min(len(run.train), run.config.data.statistics_images)
    size = min(count, 64)
    return (
        data.batch_at(
            run.train,
            seed=run.config.seed,
            step=step,
            batch_size=size,
            augment=run.config.data.augment,
        )
        for step in range(count // size)
    )


# --- devices -------------------------------------------------------------------------------------


def replicate(state: TrainState) -> TrainState:
    """A copy of the state for every device, on the leading axis."""
    copies = jax.local_device_count()
    return jax.tree.map(lambda x: _over_devices(np.broadcast_to(x, (copies, *np.shape(x)))), state)


def _over_devices(x: np.ndarray) -> jax.Array:
    """One row of this host's array for each of its devices, laid out as `jax.pmap` wants it."""
    layout = NamedSharding(Mesh(np.array(jax.devices()), (BATCH_AXIS,)), PartitionSpec(BATCH_AXIS))
    return jax.make_array_from_process_local_data(layout, x)


def _first_device(x: jax.Array) -> jax.Array:
    """This host's first copy of a replicated array, where it lies."""
    return x.addressable_data(0)[0]


def _rows_of_this_host(batch_size: int) -> slice:
    """Which images of a batch this host's devices take."""
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def _split_over_devices(images: np.ndarray) -> jax.Array:
    """This host's `[K, b, H, W, C]` as `[devices, K, b / devices, H, W, C]`."""
    steps, devices = len(images), jax.local_device_count()
    parts = images.reshape(steps, devices, -1, *images.shape[2:])
    return _over_devices(parts.swapaxes(0, 1))
