"""Drawing images: WMGM in several ways, and the systems that it is compared with."""

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks.programs import Program, Row, compiled
from benchmarks.timing import paired_medians
from wmgm_jax import runs, sampling
from wmgm_jax.config import registry
from wmgm_jax.config.siblings import apply_overrides, config_of_system
from wmgm_jax.config.validation import validate
from wmgm_jax.core.devices import dividing
from wmgm_jax.core.errors import UserError
from wmgm_jax.runs import untrained
from wmgm_jax.systems import cost
from wmgm_jax.systems.interface import Sampling

_log = logging.getLogger("wmgm_jax.benchmarks")

PAPER = Sampling("euler_maruyama", 16, "uniform")
SIX = Sampling("dpmpp_2m", 6, "optimal")
FOUR = Sampling("multistep", 4, "multistep")


def measure(
    config: ConfigDict,
    systems: Sequence[str],
    images: int,
    repeats: int,
    path: str | None = None,
    overrides: Mapping[str, object] = MappingProxyType({}),
) -> list[Row]:
    """A row for every system and way of sampling, WMGM's with the paper's steps first.

    Args:
        config: of WMGM; for the others see `other_config`.
        systems: names of systems.
        images: to draw at once.
        repeats: timings of each.
        path: the file of the config.
        overrides: settings by key that the config has on top of the file.

    Raises:
        UserError: a config of another system, or one that cannot work.
    """
    if config.system != "wmgm":
        label = registry.settings_of(config.system).label
        raise UserError(f"--config must be of WMGM, not of {label}: see --help")
    programs, labels = {}, {}
    for system in ("wmgm", *(name for name in systems if name != "wmgm")):
        other = config if system == "wmgm" else other_config(config, system, path, overrides)
        model = untrained.model(other)
        for way in _ways(other):
            label = registry.settings_of(system).label
            name = f"{label}, {way.sampler}, {way.num_steps} steps"
            programs[name] = drawing(model, images, way)
            labels[name] = {
                "system": label,
                "sampler": way.sampler,
                "steps": way.num_steps,
            }
            _log.info("%s: compiled in %.0f s", name, programs[name].compiling)
    seconds = paired_medians({name: program.call for name, program in programs.items()}, repeats)
    first = next(iter(seconds.values()))
    return [
        {**labels[name], **program.columns(seconds[name]), "s / first": seconds[name] / first}
        for name, program in programs.items()
    ]


def drawing(
    model: runs.Model,
    images: int,
    way: Sampling,
    devices: Sequence[jax.Device] | None = None,
) -> Program:
    """The program that draws so many images at once from the key 0, by all devices that can have an
    equal share, or by some."""
    devices = dividing(images) if devices is None else devices
    config = model.config.copy_and_resolve_references()
    config.sampling.update(dataclasses.asdict(way))
    validate(config)
    batch_fn = sampling.make_batch_fn(config, devices)
    arguments = (model.params, jax.random.key(0)), jnp.arange(images)
    program, seconds, memory = compiled(batch_fn.lower(*arguments))
    arguments = jax.device_put(arguments, program.input_shardings[0])
    return Program(
        call=functools.partial(program, *arguments),
        images=images,
        flops=images * cost.summarise(config)["flops_per_image"],
        dtype=config.train.dtype,
        compiling=seconds,
        memory=memory,
        devices=len(devices),
        text=program.as_text(),
    )


def other_config(
    config: ConfigDict, system: str, path: str | None, overrides: Mapping[str, object]
) -> ConfigDict:
    """The config of another system on the images of one of WMGM.

    See `config_of_system`.

    Args:
        config: of WMGM.
        system: the name of a system.
        path: the file of `config`, with the argument of its `get_config` after a colon, if any.
        overrides: settings by key; those of `score` hold for `details`, too.
    """
    other = config_of_system(config, system, path)
    apply_overrides(other, overrides)
    validate(other)
    return other


def _ways(config: ConfigDict) -> tuple[Sampling, ...]:
    if registry.settings_of(config.system).has_one_sampler:
        return (Sampling.of(config),)
    return (PAPER, SIX, FOUR) if config.system == "wmgm" else (PAPER,)
