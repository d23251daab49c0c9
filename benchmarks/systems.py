"""Drawing images: WMGM in several ways, and the systems that it is compared with."""

import functools
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import jax
from ml_collections import ConfigDict

from benchmarks import untrained
from benchmarks.programs import Program, Row, compiled
from benchmarks.timing import paired_medians
from wmgm_jax import inspection, sampling
from wmgm_jax.config import sibling
from wmgm_jax.config_checks import validate
from wmgm_jax.errors import UserError
from wmgm_jax.samplers import SAMPLERS

_log = logging.getLogger("wmgm_jax.benchmarks")

NAMES = {"wmgm": "WMGM", "sgm": "SGM", "wsgm": "WSGM", "wavediff": "WaveDiff"}
# Sampler and steps: the paper's, then ways to WMGM's image in a quarter of its network evaluations
# and less.
_PAPER = ("euler_maruyama", 16)
_FEW = (
    ("euler_maruyama", 4),
    ("ancestral", 4),
    ("ddim", 4),
    ("heun", 2),
    ("dpmpp_2m", 4),
)


def measure(
    config: ConfigDict,
    systems: Sequence[str],
    images: int,
    repeats: int,
    overrides: Mapping[str, object] = MappingProxyType({}),
) -> list[Row]:
    """A row for every system and way of sampling, WMGM's with the paper's steps first.

    Args:
        config: of WMGM; the others are its siblings.
        systems: keys of `NAMES`.
        images: to draw at once.
        repeats: timings of each.
        overrides: settings by key that also hold for the siblings, those of `score` for `details`,
            too.

    Raises:
        UserError: a config of another system, or one that cannot work.
    """
    if config.system != "wmgm":
        raise UserError(f"--config must be of WMGM, not of {NAMES[config.system]}: see --help")
    programs, labels = {}, {}
    for system in ("wmgm", *(name for name in systems if name != "wmgm")):
        other = config if system == "wmgm" else _sibling(config, system, overrides)
        model = untrained.model(other)
        for sampler, steps in _ways(other):
            name = f"{NAMES[system]}, {sampler}, {steps} steps"
            programs[name] = drawing(model, images, sampler, steps)
            labels[name] = {"system": NAMES[system], "sampler": sampler, "steps": steps}
            _log.info("%s: compiled in %.0f s", name, programs[name].compiling)
    seconds = paired_medians({name: program.call for name, program in programs.items()}, repeats)
    first = next(iter(seconds.values()))
    return [
        {**labels[name], **program.columns(seconds[name]), "s / first": seconds[name] / first}
        for name, program in programs.items()
    ]


def drawing(model: sampling.Model, images: int, sampler: str, steps: int) -> Program:
    """The program that draws so many images at once."""
    config = model.config.copy_and_resolve_references()
    config.sampling.update(sampler=sampler, num_steps=steps, spacing="uniform")
    validate(config)
    key = jax.random.key(0)
    lowered = sampling.make_sample_fn(config).lower(model.params, key, images)
    program, seconds, memory = compiled(lowered)
    return Program(
        call=functools.partial(program, model.params, key),
        images=images,
        flops=images * inspection.measure(config)["flops_per_image"],
        dtype=config.train.dtype,
        compiling=seconds,
        memory=memory,
    )


def _sibling(config: ConfigDict, system: str, overrides: Mapping[str, object]) -> ConfigDict:
    other = sibling(config, system)
    for key, value in overrides.items():
        section, *setting = key.split(".")
        for name in ("score", "details") if section == "score" else (section,):
            if name in other:
                other.update_from_flattened_dict({".".join([name, *setting]): value})
    validate(other)
    return other


def _ways(config: ConfigDict) -> list[tuple[str, int]]:
    if config.system == "wavediff":
        return [("posterior", config.wavediff.denoising_steps)]
    few = _FEW if config.system == "wmgm" else ()
    return [_PAPER, *((sampler, steps) for sampler, steps in few if sampler in SAMPLERS)]
