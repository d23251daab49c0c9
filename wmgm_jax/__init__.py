"""Wavelet-domain multi-scale generative modelling in JAX."""

from wmgm_jax.runs.model import Model, load, pretrained
from wmgm_jax.sampling import make_sample_fn

__all__ = ["Model", "load", "make_sample_fn", "pretrained"]
__version__ = "0.1.0"
