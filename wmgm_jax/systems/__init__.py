"""The systems: what is trained and how an image is drawn, one file each."""

from collections.abc import Callable

from ml_collections import ConfigDict

from wmgm_jax.systems import sgm, wavediff, wmgm, wsgm
from wmgm_jax.systems.interface import System

SYSTEMS: dict[str, Callable[[ConfigDict], System]] = {
    "wmgm": wmgm.build,
    "sgm": sgm.build,
    "wsgm": wsgm.build,
    "wavediff": wavediff.build,
}


def build(config: ConfigDict) -> System:
    """The system that a validated config names."""
    return SYSTEMS[config.system](config)
