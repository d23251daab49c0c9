"""The training loop and what happens beside it."""

from wmgm_jax.training.loop import train

__all__ = ["train"]
