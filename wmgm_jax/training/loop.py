"""The one training loop, for every stage of every system.

A step is a pure function of the state. One call of a compiled program takes a few steps on all
devices, and callbacks do all else between two calls. What a run computes at a step depends on the
seed and the step alone, and its whole state is in its checkpoints. So a run that is killed and
started again ends where it would have ended.
"""

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable

import jax
import numpy as np

from wmgm_jax import data
from wmgm_jax.core.errors import Preempted
from wmgm_jax.runs.checkpoints import Checkpoints
from wmgm_jax.runs.run import Run, selected_stages
from wmgm_jax.systems.interface import Stage
from wmgm_jax.training import parallel
from wmgm_jax.training.callbacks import Progress, make_callbacks
from wmgm_jax.training.preemption import Preemption
from wmgm_jax.training.previews import Previews
from wmgm_jax.training.reporter import Reporter
from wmgm_jax.training.state import TrainState, first_state, restored_state
from wmgm_jax.training.step import active_terms, make_train_steps

_log = logging.getLogger(__name__)

# The active terms of each step of one call.
CallTerms = tuple[tuple[str, ...], ...]


def train(run: Run) -> None:
    """Trains the stages that the config selects, each from its last checkpoint to its last step.

    Raises:
        UserError: a loss is not finite, or the disk is full.
        Preempted: SIGTERM or Ctrl-C came, and a checkpoint has been saved.
    """
    for name in selected_stages(run.config, run.system):
        is_initialised = run.initial is not None and name in run.initial.step
        stage = dataclasses.replace(run.system.stages[name], is_initialised=is_initialised)
        _train_stage(run, name, stage)


def _train_stage(run: Run, name: str, stage: Stage) -> None:
    checkpoints = Checkpoints(run.workdir / "checkpoints" / name, run.config.train.keep)
    with contextlib.closing(checkpoints):
        state = restored_state(run, name, stage, checkpoints) or first_state(run, name, stage)
        first_step = int(state.step)
        if first_step >= stage.settings.num_steps:
            _log.info("%s: already trained for %d steps", name, first_step)
            return
        if first_step:
            _log.info("%s: continuing from step %d", name, first_step)
        _loop(run, name, stage, state, checkpoints)


def _loop(run: Run, name: str, stage: Stage, state: TrainState, checkpoints: Checkpoints) -> None:
    first_step, num_steps = int(state.step), stage.settings.num_steps
    per_call = run.config.train.steps_per_call
    state = parallel.replicate(state)
    programs = compile_calls(run, name, stage, first_step, state)
    with contextlib.ExitStack() as stack:

        def opened(resource):
            return stack.enter_context(contextlib.closing(resource))

        images = opened(_batches(run, stage, first_step))
        reporter = opened(Reporter(run.workdir, name, stage, first_step))
        previews = opened(Previews(run, name, stage, first_step))
        callbacks = make_callbacks(run, stage, reporter, previews, checkpoints)
        preemption = stack.enter_context(Preemption())
        progress = Progress(first_step, is_last=False, is_preempted=False)
        for step in range(first_step, num_steps, per_call):
            with reporter.waiting():
                batches = next(images)
            program = programs[_call_terms(run, stage, step)]
            state, metrics = program(state, parallel.split_over_devices(batches))
            reporter.add(step, metrics)

            done = step + per_call
            progress = Progress(done, done == num_steps, preemption.requested(done // per_call))
            for callback in callbacks:
                if callback.when(progress):
                    callback.run(progress, state)
            if progress.is_preempted:
                break
        # A signal may have come during the last callbacks, with stages left to train.
        is_preempted = progress.is_preempted or preemption.requested(progress.step // per_call + 1)
    checkpoints.wait()
    if is_preempted:
        raise Preempted(f"{name}: saved step {progress.step}; the same command goes on from there")


def compile_calls(
    run: Run, name: str, stage: Stage, first_step: int, state: TrainState
) -> dict[CallTerms, Callable]:
    """The programs of all calls from a step on.

    There is one program for each sequence of active terms, and no branch inside. On a CPU, code in
    a branch is slower.

    Args:
        run: the run.
        name, stage: the stage.
        first_step: the first step of the first call.
        state: replicated.
    """
    start, per_call = time.monotonic(), run.config.train.steps_per_call
    shape = (per_call, stage.settings.batch_size // jax.process_count(), *run.train.image_shape)
    images = parallel.split_over_devices(np.zeros(shape, run.train.codec.dtype))
    steps = range(first_step, stage.settings.num_steps, per_call)
    sequences = list(dict.fromkeys(_call_terms(run, stage, step) for step in steps))
    programs = {}
    for i, terms in enumerate(sequences, 1):
        _log.info("%s: compiling program %d of %d", name, i, len(sequences))
        programs[terms] = parallel.compiled(make_train_steps(stage, terms), state, images)
    _log.info("%s: compiled in %.0f s", name, time.monotonic() - start)
    return programs


def _call_terms(run: Run, stage: Stage, first: int) -> CallTerms:
    """The active terms of each step of the call that begins with step `first`."""
    steps = range(first, first + run.config.train.steps_per_call)
    return tuple(active_terms(stage, step) for step in steps)


def _batches(run: Run, stage: Stage, first_step: int):
    """This host's part of the batches from a step on, those of one call at a time."""
    return data.batches(
        run.train,
        seed=run.config.seed,
        first_step=first_step,
        batch_size=stage.settings.batch_size,
        augment=run.config.data.augment,
        rows=parallel.rows_of_this_host(stage.settings.batch_size),
        steps=run.config.train.steps_per_call,
    )
