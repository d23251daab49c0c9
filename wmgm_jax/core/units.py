"""The units of fields, and the way between them and the range in which networks see them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Units:
    """The units of fields, and the way between them and unit range, x' = (x - mean) / (2 std).

    In unit range a channel has mean 0 and standard deviation 1/2, about that of images in [-1, 1].

    Attributes:
        mean, std: `[C]`, of the training fields; std is 0 for a channel that never varies, which
            is 0 in unit range and comes out as its mean.
    """

    mean: np.ndarray
    std: np.ndarray

    def normalise(self, fields: np.ndarray) -> np.ndarray:
        """Fields `[..., C]` in their own units, as float32 in unit range."""
        # In float64, for a mean that is far from 0 would take a float32's digits.
        fields, mean, std = (np.asarray(x, np.float64) for x in (fields, self.mean, self.std))
        return ((fields - mean) / np.where(std > 0, 2 * std, 1)).astype(np.float32)

    def denormalise(self, x: Any) -> Any:
        """The inverse of `normalise`, for arrays of NumPy or JAX."""
        return x * (2 * self.std) + self.mean

    def statistics(self) -> dict[str, np.ndarray]:
        """As the model holds them: float32 `mean` and `std`, `[C]`."""
        return {"mean": self.mean.astype(np.float32), "std": self.std.astype(np.float32)}

    @classmethod
    def of(cls, statistics: Mapping[str, Any]) -> "Units | None":
        """The units in the statistics of a model; None for a model of images."""
        return cls(**statistics["units"]) if "units" in statistics else None


class Moments:
    """Means and standard deviations of a stream of float64 `[M, C]`, merged part by part (Chan,
    Golub and LeVeque 1983, https://doi.org/10.1080/00031305.1983.10483115)."""

    def __init__(self):
        self._count, self._mean, self._square = 0, 0.0, 0.0
        self._least, self._most = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """The next values of the stream."""
        if not len(values):
            return
        with np.errstate(over="ignore", invalid="ignore"):  # told by `units`
            mean = values.mean(axis=0)
            square = np.sum((values - mean) ** 2, axis=0)
            total, difference = self._count + len(values), mean - self._mean
            self._square = (
                self._square + square + difference**2 * (self._count * len(values) / total)
            )
            self._mean = self._mean + difference * (len(values) / total)
        self._count = total
        self._least = np.minimum(self._least, values.min(axis=0))
        self._most = np.maximum(self._most, values.max(axis=0))

    def units(self) -> Units:
        """What has been measured.

        Raises:
            ValueError: nothing has, or float32, in which samples come, cannot hold it.
        """
        if not self._count:
            raise ValueError("no training field is finite")
        is_constant = self._least == self._most
        # Exactly, where rounding would leave a small deviation.
        mean = np.where(is_constant, self._least, self._mean)
        std = np.where(is_constant, 0.0, np.sqrt(self._square / self._count))
        resolution = np.finfo(np.float32)
        with np.errstate(invalid="ignore"):
            fits = np.isfinite(std) & (np.abs(mean) + 100 * std < resolution.max)
            fits &= is_constant | (std > np.maximum(100 * np.abs(mean) * resolution.eps, 1e-30))
        for channel in np.flatnonzero(~fits):
            raise ValueError(
                f"channel {channel} has mean {mean[channel]:.6g} and standard deviation "
                f"{std[channel]:.3g}, which float32 cannot resolve: shift or scale it"
            )
        return Units(mean, std)


def to_unit_range(images: Any) -> Any:
    """Brings uint8 images, of NumPy or JAX, to float32 in [-1, 1]; fields are there already."""
    if images.dtype != np.uint8:
        return images
    return images.astype(np.float32) / np.float32(127.5) - 1
