"""Wavelet-domain multi-scale generative modelling in JAX."""

from wmgm_jax.sampling import Model, load, make_sample_fn

__all__ = ["Model", "load", "make_sample_fn"]
__version__ = "0.1.0"
