"""The systems by name.

A file of this package registers its class, and is imported automatically.
"""

from collections.abc import Callable
from typing import TypeVar

from ml_collections import ConfigDict

from wmgm_jax.systems.interface import System

# A class of systems: (validated config, dtype of the networks) -> the system.
_Class = TypeVar("_Class", bound=Callable[[ConfigDict, str], System])
SYSTEMS: dict[str, Callable[[ConfigDict, str], System]] = {}


def register(name: str) -> Callable[[_Class], _Class]:
    """A decorator of the class that `config.system = name` builds. The defaults and the checks of
    its config are registered under the same name, see `wmgm_jax.config.registry`."""

    def add(system: _Class) -> _Class:
        SYSTEMS[name] = system
        return system

    return add


def build(config: ConfigDict, dtype: str | None = None) -> System:
    """The system that a config names.

    Args:
        config: validated.
        dtype: in which the networks compute; None for that of training.
    """
    return SYSTEMS[config.system](config, dtype or config.train.dtype)
