"""What the comparisons of systems share: siblings of one scale, equal budgets, training in pieces.

A budget is counted in the FLOPs of training steps, as XLA counts them, so that no system gains by
the shape of its networks.
"""

import collections
import functools
import json
import logging
import math
import os
import shutil
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from configs import colon_ihc
from wmgm_jax import cli, runs, systems
from wmgm_jax.config import registry, sibling
from wmgm_jax.config.compatibility import different
from wmgm_jax.config.siblings import apply_overrides, config_of_system
from wmgm_jax.config.validation import validate
from wmgm_jax.core.devices import BATCH_AXIS
from wmgm_jax.core.errors import UserError
from wmgm_jax.systems import cost
from wmgm_jax.systems.interface import Statistics
from wmgm_jax.training import loop
from wmgm_jax.training import step as train_step
from wmgm_jax.training.state import init_state

_log = logging.getLogger("wmgm_jax.experiments")

NAMES = registry.labels()


class Contender(NamedTuple):
    """A row of a comparison.

    Attributes:
        label: its name in tables.
        system: a key of `NAMES`.
        choice: settings by key, where a system is compared with itself.
    """

    label: str
    system: str
    choice: Mapping[str, object] = MappingProxyType({})


# The details as the paper trains them.
PAPER_DETAILS = MappingProxyType(
    {"msal.loss": "paper", "msal.ema_decay": 0.999, "msal.generator.norm": "batch"}
)

CONTENDERS = {name: Contender(label, name) for name, label in NAMES.items() if name != "wmgm"} | {
    "wmgm_paper": Contender("WMGM (paper)", "wmgm", PAPER_DETAILS),
    "wmgm": Contender("WMGM", "wmgm"),
}

_SIDES = {"small": 64, "tiny": 32}
# TFLOP to train one system with.
BUDGETS = {"small": 200.0, "tiny": 15.0}


SCALE = flags.DEFINE_enum(
    "scale", "small", ["paper", "small", "tiny"], "Sizes of images and networks; see above."
)
SYSTEMS = flags.DEFINE_multi_enum(
    "systems", list(CONTENDERS), list(CONTENDERS), "The systems to compare."
)
_BUDGET = flags.DEFINE_float(
    "budget", None, f"TFLOP to train each system with; by default {BUDGETS}, at paper scale none."
)
_MINUTES = flags.DEFINE_float(
    "minutes",
    None,
    "Stop after so long, more than compiling takes; the next call goes on.",
    lower_bound=0.1,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the runs; by default runs/comparison_SCALE."
)


def given_config(*accepted: str) -> ConfigDict:
    """The config of the command line.

    Args:
        accepted: the systems that it may be of, keys of `NAMES`.

    Raises:
        UserError: it is of another system, or of fields.
    """
    config = cli.given_config()
    if config.system not in accepted:
        names = " or ".join(NAMES[system] for system in accepted)
        raise UserError(
            f"--config must be of {names}, not of {NAMES[config.system]}: the configs of what is "
            "compared are made from it"
        )
    if config.data.source.startswith("array:"):
        raise UserError("the systems are compared on images, not on fields (array:)")
    return config


def system_config(
    config: ConfigDict, system: str, choice: Mapping[str, object] = MappingProxyType({})
) -> ConfigDict:
    """The config of a system at the scale and with the budget of the command, sampled as its paper
    does: by 16 steps of Euler-Maruyama, or back along WaveDiff's own chain.

    Args:
        config: of WMGM, or of the system.
        system: a key of `NAMES`.
        choice: settings by key, where one system is compared with itself.

    Raises:
        UserError: the command gives a setting that the comparison makes, or one that cannot work;
            the images are missing.
    """
    overrides = cli.config_overrides()
    budget = BUDGETS.get(SCALE.value) if _BUDGET.value is None else _BUDGET.value
    for key in sorted(overrides.keys() & _overwritten(config, choice, budget)):
        raise UserError(f"--config.{key} is not yours to set here: the comparison does")
    config = scaled(config, system, SCALE.value, overrides)
    config.update_from_flattened_dict(choice)
    config.sampling.update(registry.settings_of(system).paper_sampling(config))
    validate(config)
    if budget is not None:
        # Images that are missing are found before the FLOPs are counted, which takes minutes.
        runs.open_sources(config)
        if not 0 < budget < math.inf:
            raise UserError(f"--budget is a positive number of TFLOP, not {budget}")
        config = budgeted(config, budget)
    return config


def _overwritten(
    config: ConfigDict, choice: Mapping[str, object], budget: float | None
) -> set[str]:
    """Keys of the settings that a comparison makes whatever the command line says."""
    keys = {"sampling.sampler", "sampling.spacing", *choice}
    if SCALE.value != "paper":
        keys.add("data.image_size")
    # Where there is one way to sample, the config has been checked to hold it.
    if not registry.settings_of(config.system).has_one_sampler:
        keys.add("sampling.num_steps")
    if budget is not None:
        keys |= {f"{section}.num_steps" for name in NAMES for section in sections(name)}
    return keys


def scaled(
    config: ConfigDict, system: str, scale: str, overrides: Mapping[str, object] | None = None
) -> ConfigDict:
    """The config of a system on the images of another config.

    Args:
        config: of WMGM, or of the system; its images and its evaluation stay. How the result is
            sampled, `system_config` says.
        system: a key of `NAMES`.
        scale: "paper" leaves the sizes of `config`; "small" takes images of 64x64 and the networks
            and training of `configs/*colon_ihc*.py`, "tiny" the same at 32x32.
        overrides: settings by key that the command line gave on top of the file of `config`. They
            hold at every scale, those of `score` for `details`, too, and those of `data` where the
            scale does not say otherwise.
    """
    config = config.copy_and_resolve_references()
    if scale != "paper":
        small = config_of_system(colon_ihc.get_config(), system, colon_ihc.__file__)
        for section in ("data", "sampling", "evaluation"):
            small[section] = config[section]
        small.data.image_size = (_SIDES[scale], _SIDES[scale])
        config = small
    elif system != config.system:
        config = sibling(config, system)
    data_stays = {k: v for k, v in (overrides or {}).items() if not k.startswith("data.")}
    apply_overrides(config, data_stays)
    return config


def sections(system: str) -> tuple[str, ...]:
    """The sections of the config that the stages of a system have."""
    return tuple(registry.settings_of(system).sections())


def budgeted(config: ConfigDict, budget: float) -> ConfigDict:
    """A config whose stages, those that it trains, together do so for `budget` TFLOP.

    All diffusions of a system take the same number of steps, and so do the stages of one section.
    The diffusions together get as much of the budget as every other section: WMGM's score network
    half of it, and MSAL the other half.
    """
    config = config.copy_and_resolve_references()
    system = systems.build(config)
    diffusions = registry.settings_of(config.system).score_sections
    flops: dict[tuple[str, ...], float] = collections.defaultdict(float)
    for name in runs.selected_stages(config, system):
        section = system.stages[name].section
        group = diffusions if section in diffusions else (section,)
        flops[group] += flops_per_step(config, name)
    for group, of_step in flops.items():
        for section in group:
            config[section].num_steps = max(1, round(budget * 1e12 / len(flops) / of_step))
    return config


def training_cost(config: ConfigDict) -> dict[str, float]:
    """The column of a table for the work of training the stages that a config trains."""
    system = systems.build(config)
    flops = sum(
        system.stages[name].settings.num_steps * flops_per_step(config, name)
        for name in runs.selected_stages(config, system)
    )
    return {"training TFLOP": flops / 1e12}


def flops_per_step(config: ConfigDict, name: str) -> float:
    """FLOPs of a training step of a stage on the whole batch, as XLA counts them before it
    optimises.

    A mean over the steps of a period, which have different active terms.
    """
    stage = systems.build(config).stages[name]
    period = min(train_step.period(stage), stage.settings.num_steps)
    steps = collections.Counter(train_step.active_terms(stage, step) for step in range(period))
    # How many steps there are changes none of them.
    config = config.copy_and_resolve_references()
    for section in sections(config.system):
        config[section].num_steps = 1
    settings = config.to_json(sort_keys=True)
    return sum(count * flops_of(settings, name, terms) for terms, count in steps.items()) / period


# Counting takes up to a minute, and rows of a table ask more than once.
@functools.cache
def flops_of(settings: str, name: str, active: tuple[str, ...]) -> float:
    """Of a step with these active terms; the config comes as JSON."""
    config = ConfigDict(json.loads(settings))
    stage = systems.build(config).stages[name]
    init = functools.partial(init_state, stage, _any_statistics(config))
    state = jax.eval_shape(init, jax.random.key(0))
    shape = (1, stage.settings.batch_size, *config.data.image_size, config.data.channels)
    images = jax.ShapeDtypeStruct(shape, jnp.uint8)
    state = jax.tree.map(lambda x: jax.ShapeDtypeStruct((1, *x.shape), x.dtype), state)
    step_fn = jax.vmap(train_step.make_train_step(stage, active), axis_name=BATCH_AXIS)
    return cost.flops(step_fn, state, images)


def _any_statistics(config: ConfigDict) -> Statistics:
    shape = (1, *config.data.image_size, config.data.channels)
    return systems.build(config).compute_statistics([np.zeros(shape, np.float32)])


def contenders(config: ConfigDict) -> dict[str, ConfigDict]:
    """The configs of the systems of the command, by their keys in `CONTENDERS`."""
    return {
        name: system_config(config, CONTENDERS[name].system, CONTENDERS[name].choice)
        for name in SYSTEMS.value
    }


def trained(config: ConfigDict, name: str) -> runs.Run:
    """The run of a config, trained to its end, from where it was stopped.

    Stages that a run beside it has trained in the same way are copied from there.

    Args:
        config: what to train.
        name: of its folder.
    """
    workdir = Path(_WORKDIR.value or f"runs/comparison_{SCALE.value}") / name
    run = runs.open_run(config, workdir)
    for beside in workdir.parent.iterdir():
        if beside != workdir and (beside / "config.json").exists():
            _copy_equal_stages(run, beside)
    loop.train(run)
    return run


def _copy_equal_stages(run: runs.Run, beside: Path) -> None:
    """Copies finished stages that no setting would make another in this run."""
    other = runs.read_config(beside)
    if other.system != run.config.system:
        return
    sections_that_differ = {key.split(".")[0] for key in different(run.config, other)}
    for name in runs.selected_stages(run.config, run.system):
        section = run.system.stages[name].section
        others = {stage.section for stage in run.system.stages.values()} - {section}
        source, target = (folder / "checkpoints" / name for folder in (beside, run.workdir))
        is_finished = (source / str(run.config[section].num_steps)).exists()
        same_length = other[section].num_steps == run.config[section].num_steps
        if sections_that_differ <= others and is_finished and same_length and not target.exists():
            _log.info("stage %s is that of %s", name, beside)
            partial = target.with_name(f".{name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(source, partial)
            partial.rename(target)


def stop_in_time() -> None:
    """Asks this process to stop after `--minutes`, as pre-emption does: training saves a
    checkpoint first, and the same command goes on from there."""

    def stop():
        _log.info("--minutes are over: the same command goes on from what has been saved")
        os.kill(os.getpid(), signal.SIGTERM)

    if _MINUTES.value is not None:
        timer = threading.Timer(60 * _MINUTES.value, stop)
        timer.daemon = True
        timer.start()
