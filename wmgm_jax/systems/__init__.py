"""The systems: what is trained and how an image is drawn, one file each."""

import importlib
import pkgutil

from wmgm_jax.systems.interface import System
from wmgm_jax.systems.registry import build, register

__all__ = ["System", "build", "register"]

# Every file of this folder registers what it defines.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
