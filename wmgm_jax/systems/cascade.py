"""What WMGM and WSGM share: the coarsest band by diffusion, then the details scale by scale.

    x_L^S  <- reverse diffusion (Eq. 20)
    for k = S..1:   x_H^k <- details given x_L^k;   x_L^(k-1) = A^T (x_L^k, x_H^k)
    image = x_L^0

A system says how the details of one scale are generated. Adding them, scale by scale, is the same.
"""

import abc
import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np
from ml_collections import ConfigDict

from wmgm_jax import wavelets
from wmgm_jax.core.random import fold_in
from wmgm_jax.systems.coarsest import CoarsestBand
from wmgm_jax.systems.interface import Draw, NetworkCall, Params, Sampling, Stage, Statistics
from wmgm_jax.systems.statistics import compute_statistics

# (parameters of the model, keys `[B]`, x_L^k `[B, h, w, C]`, k) -> x_H^k, three of `[B, h, w, C]`.
GenerateDetails = Callable[[Params, jax.Array, jax.Array, int], wavelets.Details]


class Cascade(abc.ABC):
    """The part of a `System` that does not depend on how details are generated.

    Attributes:
        levels: the number of scales S.
        scales: 1 (the finest) to S.
        coarsest: the diffusion of x_L^S.
    """

    def __init__(self, config: ConfigDict, dtype: str):
        """
        Args:
            config: validated.
            dtype: in which the networks compute.
        """
        self.config = config
        self.levels = config.wavelet.levels
        self.scales = range(1, self.levels + 1)
        self.coarsest = CoarsestBand(config, dtype, self.levels)

    @property
    def stages(self) -> dict[str, Stage]:
        """`score`, then those of the details."""
        return self._stages

    @functools.cached_property
    def _stages(self) -> dict[str, Stage]:
        return {"score": self.coarsest.stage(), **self.detail_stages()}

    @abc.abstractmethod
    def detail_stages(self) -> dict[str, Stage]:
        """The stages of the details, by name."""

    @abc.abstractmethod
    def make_generate_details(self, sampling: Sampling) -> GenerateDetails:
        """Makes the pure function that generates the details of one scale.

        It takes x_L^k and returns x_H^k as they are, and normalises them inside.
        """

    @abc.abstractmethod
    def detail_calls(self, sampling: Sampling) -> list[NetworkCall]:
        """The work behind the details of one image."""

    def compute_statistics(self, batches: Iterable[jax.Array | np.ndarray]) -> Statistics:
        """See `statistics.compute_statistics`."""
        return compute_statistics(batches, self.levels)

    def make_draw(self, sampling: Sampling) -> Draw:
        """The coarsest band, then the details, added scale by scale."""
        draw_coarsest = self.coarsest.make_draw(sampling)
        add_details = self.make_add_details(sampling)

        def draw(params, keys):
            low = draw_coarsest(params, fold_in(keys, 0))
            return add_details(params, fold_in(keys, 1), low)

        return draw

    def make_add_details(
        self, sampling: Sampling
    ) -> Callable[[Params, jax.Array, jax.Array], jax.Array]:
        """Makes a pure function (parameters of the model, keys `[B]`, x_L^S) -> images
        `[B, H, W, C]`."""
        generate_details = self.make_generate_details(sampling)

        def add_details(params, keys, low):
            for k in reversed(self.scales):
                low = wavelets.idwt2(low, generate_details(params, fold_in(keys, k), low, k))
            return low

        return add_details

    def reconstruct(self, params: Params, keys: jax.Array, images: jax.Array) -> jax.Array:
        """Images with details generated for their true coarsest bands; see `System`."""
        add_details = self.make_add_details(Sampling.of(self.config))
        return add_details(params, keys, wavelets.low(images, self.levels))

    def network_calls(self, sampling: Sampling) -> list[NetworkCall]:
        """The calls for the coarsest band, then those for the details."""
        return [self.coarsest.network_call(sampling), *self.detail_calls(sampling)]
