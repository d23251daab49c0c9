"""Settings: every default, and the checks that a config must pass."""

import importlib
import pkgutil

from wmgm_jax.config.defaults import arguments, base, leaves, sibling

__all__ = ["arguments", "base", "leaves", "sibling"]

# Every file of this folder registers the system that it defines.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
