"""Training steps of every stage of a system, one program for each set of active terms."""

import collections
import dataclasses
import logging
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from benchmarks.programs import Program, Row, compiled
from benchmarks.timing import paired_medians
from wmgm_jax import systems
from wmgm_jax.core.codec import IMAGES
from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.core.errors import UserError
from wmgm_jax.runs import untrained
from wmgm_jax.systems import cost
from wmgm_jax.systems.interface import Stage
from wmgm_jax.training.parallel import replicate
from wmgm_jax.training.state import init_state
from wmgm_jax.training.step import active_terms, make_train_step, period

_log = logging.getLogger("wmgm_jax.benchmarks")


def measure(config: ConfigDict, batch_size: int, repeats: int) -> list[Row]:
    """A row for every program of every stage, and one for the mean of a stage's steps.

    Args:
        config: of any system.
        batch_size: images a step, over all devices.
        repeats: timings of each.

    Raises:
        UserError: the batch cannot be divided among the devices.
    """
    if batch_size % jax.device_count():
        raise UserError(
            f"--batch_size={batch_size} must be divisible by the {jax.device_count()} devices"
        )
    system = systems.build(config)
    noise = np.random.default_rng(0).integers(
        0, 256, (batch_size, *config.data.image_size, config.data.channels), np.uint8
    )
    statistics = system.compute_statistics([IMAGES.to_unit_range(noise)])
    programs = {
        name: steps(stage, kinds(stage), statistics, noise, config.train.dtype)
        for name, stage in system.stages.items()
    }
    seconds = paired_medians(
        {
            _label(name, active): program.call
            for name, of_stage in programs.items()
            for active, program in of_stage.items()
        },
        repeats,
    )
    rows: list[Row] = []
    for name, of_stage in programs.items():
        active_seconds = {active: seconds[_label(name, active)] for active in of_stage}
        for active, program in of_stage.items():
            rows.append({"step": _label(name, active), **program.columns(active_seconds[active])})
        if len(of_stage) > 1:
            count = kinds(system.stages[name])
            mean = sum(n * active_seconds[active] for active, n in count.items()) / count.total()
            label = f"{name}, mean of {count.total()} steps"
            rows.append({"step": label, **_mean(of_stage, count).columns(mean)})
    return rows


def kinds(stage: Stage) -> collections.Counter:
    """How many steps of a period have the same active terms, by those terms."""
    return collections.Counter(active_terms(stage, i) for i in range(period(stage)))


def steps(
    stage: Stage,
    wanted: Iterable[tuple[str, ...]],
    statistics: Any,
    images: np.ndarray,
    dtype: str,
) -> dict[tuple[str, ...], Program]:
    """The programs of a stage's steps, by their active terms.

    Args:
        stage: the stage.
        wanted: active terms, from `kinds`.
        statistics: of the training set.
        images: `[B, H, W, C]`, the batch of every step.
        dtype: of the computation.
    """
    params = untrained.parameters(stage)
    first = init_state(
        dataclasses.replace(stage, init=lambda _: params), statistics, jax.random.key(0)
    )
    state = {"now": replicate(first)}
    share = images.reshape(jax.device_count(), -1, *images.shape[1:])

    def call(program: Callable) -> Any:
        # A step takes the memory of the state that it is given.
        state["now"], metrics = program(state["now"], share)
        return state["now"], metrics

    programs = {}
    for active in wanted:
        step = make_train_step(stage, active)
        step_fn = jax.pmap(step, BATCH_AXIS, donate_argnums=0)
        program, seconds, memory = compiled(step_fn.lower(state["now"], share))
        programs[active] = Program(
            call=lambda program=program: call(program),
            images=len(images),
            flops=cost.flops(jax.vmap(step, axis_name=BATCH_AXIS), state["now"], share),
            dtype=dtype,
            compiling=seconds,
            memory=memory,
            devices=jax.device_count(),
        )
        _log.info("%s: compiled in %.0f s", " and ".join(active), seconds)
    return programs


def _mean(programs: dict[tuple[str, ...], Program], count: collections.Counter) -> Program:
    """What an average step does; nothing of it can be called."""
    first = next(iter(programs.values()))
    return dataclasses.replace(
        first,
        flops=sum(n * programs[active].flops for active, n in count.items()) / count.total(),
        compiling=sum(program.compiling for program in programs.values()),
        memory=max(program.memory for program in programs.values()),
    )


def _label(stage: str, active: tuple[str, ...]) -> str:
    return stage if active == (stage,) else f"{stage}: {' and '.join(active)}"
