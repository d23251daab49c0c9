"""Where the losses of MSAL (Eq. 21-22) compare generated details with true ones."""

from typing import Protocol

import jax

from wmgm_jax import wavelets
from wmgm_jax.systems.interface import Statistics
from wmgm_jax.systems.statistics import normalise_details

# Images in unit range span [-1, 1].
_IMAGE_RANGE = 2.0


class LossDomain(Protocol):
    """A view of (x_L^k, x_H^k) in which MSE, SSIM and the discriminator work."""

    def view(
        self, low: jax.Array, details: wavelets.Details, statistics: Statistics, k: int
    ) -> jax.Array:
        """x_L^k `[B, h, w, C]` and x_H^k, three of `[B, h, w, C]` -> what is compared."""
        ...

    def data_range(self, statistics: Statistics, k: int) -> jax.Array | float:
        """The largest value less the smallest possible one: a scalar, or one a channel."""
        ...

    def shape(self, height: int, width: int, channels: int) -> tuple[int, int, int]:
        """The shape of the view of one image, for a band of `[h, w, C]`."""
        ...


class ImageDomain:
    """x_L^(k-1) in the range of images, `[B, 2h, 2w, C]`, as the authors' code compares."""

    def view(
        self, low: jax.Array, details: wavelets.Details, statistics: Statistics, k: int
    ) -> jax.Array:
        return wavelets.idwt2(low, details) / 2 ** (k - 1)

    def data_range(self, statistics: Statistics, k: int) -> float:
        return _IMAGE_RANGE

    def shape(self, height: int, width: int, channels: int) -> tuple[int, int, int]:
        return 2 * height, 2 * width, channels


class WaveletDomain:
    """The normalised detail bands, `[B, h, w, 3C]`, as the paper compares."""

    def view(
        self, low: jax.Array, details: wavelets.Details, statistics: Statistics, k: int
    ) -> jax.Array:
        return normalise_details(details, statistics, k)

    def data_range(self, statistics: Statistics, k: int) -> jax.Array:
        return 2**k * _IMAGE_RANGE / statistics["detail_std"][k - 1].reshape(-1)

    def shape(self, height: int, width: int, channels: int) -> tuple[int, int, int]:
        return height, width, 3 * channels


LOSS_DOMAINS: dict[str, LossDomain] = {"image": ImageDomain(), "wavelet": WaveletDomain()}
