"""What the rest of the code looks up by a system's name: its defaults, its checks, its label.

A system registers all of that in one file of this package, which is imported automatically.
Commands, experiments and benchmarks look it up here. Its class is registered in `wmgm_jax.systems`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ml_collections import ConfigDict

from wmgm_jax.core.errors import UserError

_PAPERS_SAMPLING = {"sampler": "euler_maruyama", "num_steps": 16, "spacing": "uniform"}


@dataclass(frozen=True)
class SystemSettings:
    """The settings of one system.

    Attributes:
        label: its name in tables and figures.
        sections: makes the defaults of the sections that this system alone has: the settings of its
            stages, by section.
        score_sections: those of the sections that train a score network. A sibling copies
            their training settings, see `defaults.sibling`.
        own_defaults: settings, by key, of the sections that all systems have, where this system has
            other defaults. They also override the other config in `sibling`.
        paper_sampling: config -> the settings of `config.sampling` with which the system's paper
            samples.
        choices: the values that a setting may have, by the end of its key.
        at_least_one, not_negative: the ends of keys of numbers that are at least 1, at least 0.
        check: raises UserError where a config cannot work, after all other checks.
        oldest_version: of a `config.json` whose run can still be used. The networks of older runs
            were others, with the same settings.
    """

    label: str
    sections: Callable[[], dict[str, Any]]
    score_sections: tuple[str, ...] = ()
    own_defaults: Mapping[str, Any] = field(default_factory=dict)
    paper_sampling: Callable[[ConfigDict], dict[str, Any]] = lambda config: dict(_PAPERS_SAMPLING)
    choices: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    at_least_one: tuple[str, ...] = ()
    not_negative: tuple[str, ...] = ()
    check: Callable[[ConfigDict], None] = lambda config: None
    oldest_version: int = 0

    @property
    def has_one_sampler(self) -> bool:
        """Whether the system can be sampled in one way alone."""
        return "sampling.sampler" in self.choices


SETTINGS: dict[str, SystemSettings] = {}


def register_settings(system: str, settings: SystemSettings) -> None:
    """Makes a system known by its name, the value of `config.system`."""
    SETTINGS[system] = settings


def names() -> tuple[str, ...]:
    """The names of all systems."""
    return tuple(SETTINGS)


def labels() -> dict[str, str]:
    """The labels of all systems, by name."""
    return {name: settings.label for name, settings in SETTINGS.items()}


def settings_of(system: str) -> SystemSettings:
    """The settings of a system.

    Raises:
        UserError: there is no such system.
    """
    if system not in SETTINGS:
        raise UserError(f"--config.system must be one of {', '.join(names())}, not {system!r}")
    return SETTINGS[system]
