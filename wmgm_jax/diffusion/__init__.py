"""Noising processes and the samplers that reverse them; they know nothing of networks."""

from wmgm_jax.diffusion import samplers
from wmgm_jax.diffusion.process import OUProcess

__all__ = ["OUProcess", "samplers"]
