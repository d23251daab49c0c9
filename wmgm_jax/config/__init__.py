"""Settings: every default, and the checks that a config must pass."""

from wmgm_jax.config.defaults import SECTIONS, arguments, base, different, leaves, sibling

__all__ = ["SECTIONS", "arguments", "base", "different", "leaves", "sibling"]
