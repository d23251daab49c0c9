"""How images and fields are encoded: in files, in memory, as networks see them, and when shown.

The same data takes four forms, and a codec converts between them:

| form | 8-bit images | fields |
| --- | --- | --- |
| raw, as files hold it | uint8 | any real type, in the units of the data |
| encoded, as a source returns it and devices receive it | uint8 | float32 in unit range |
| unit range, as networks see it | float32 in [-1, 1] | float32, mean 0, standard deviation 1/2 |
| sample, as `sample_fn` returns it | float32 in [0, 1] | float32, in the units of the data |

A source and a model each have a codec. Other code asks the codec, and seldom needs to know whether
data are images or fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np

from wmgm_jax.core.moments import Moments
from wmgm_jax.core.pictures import false_colours, to_uint8

if TYPE_CHECKING:  # Reading data takes no JAX.
    import jax

Array = TypeVar("Array", np.ndarray, "jax.Array")


class Codec(Protocol):
    """The conversions of one kind of data. All arrays are `[..., H, W, C]`.

    Attributes:
        dtype: of encoded arrays, and of samples written to a file.
        is_image: whether image files can hold the data, and Inception can judge it.
        wanted: the raw arrays that `accepts` takes, in words, for error messages.
        legend: explains the colours of `to_visible` in a report; "" where none is needed.
    """

    dtype: ClassVar[np.dtype]
    is_image: ClassVar[bool]
    wanted: ClassVar[str]
    legend: ClassVar[str]

    @staticmethod
    def accepts(raw: np.ndarray) -> bool:
        """Whether an array read from a file can be encoded."""
        ...

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Raw -> encoded. Samples of `sample_file` count as raw."""
        ...

    def to_unit_range(self, encoded: Array) -> Array:
        """Encoded -> float32 in unit range."""
        ...

    def encode_unit_range(self, x: np.ndarray) -> np.ndarray:
        """Unit range -> encoded; 8-bit images are clipped and rounded."""
        ...

    def to_sample(self, x: Array) -> Array:
        """Unit range -> sample; images are clipped to [0, 1]."""
        ...

    def sample_file(self, sample: np.ndarray) -> np.ndarray:
        """Sample -> raw, as it is written to a file: of type `dtype`."""
        ...

    def to_visible(self, encoded: np.ndarray) -> np.ndarray:
        """Encoded `[B, H, W, C]` -> uint8 pictures `[B, H, w, 1 or 3]`."""
        ...

    def statistics(self) -> dict[str, Any]:
        """The entries in the statistics of a model from which `codec_of` rebuilds the codec."""
        ...

    def units(self) -> dict[str, list[float]] | None:
        """Mean and standard deviation by channel, for `evaluation.json`; None for images."""
        ...

    def difference(self, trained: "Codec") -> str:
        """How these data differ from those a model was trained on, in words; "" if they agree."""
        ...


@dataclass(frozen=True)
class EightBit:
    """8-bit images: x = raw / 127.5 - 1."""

    dtype: ClassVar[np.dtype] = np.dtype(np.uint8)
    is_image: ClassVar[bool] = True
    wanted: ClassVar[str] = "uint8 [N, H, W, C] with C 1 or 3"
    legend: ClassVar[str] = ""

    @staticmethod
    def accepts(raw: np.ndarray) -> bool:
        """Whether an array is uint8 `[N, H, W, C]` with C 1 or 3."""
        return raw.dtype == np.uint8 and raw.ndim == 4 and raw.shape[-1] in (1, 3)

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Returns uint8 images as they are."""
        return raw

    def to_unit_range(self, encoded: Array) -> Array:
        """uint8 -> float32 in [-1, 1]."""
        return encoded.astype(np.float32) / np.float32(127.5) - 1

    def encode_unit_range(self, x: np.ndarray) -> np.ndarray:
        """Floating-point in about [-1, 1] -> uint8, clipped and rounded to the nearest."""
        return to_uint8((x + 1) / 2)

    def to_sample(self, x: Array) -> Array:
        """Floating-point in about [-1, 1] -> [0, 1], clipped."""
        return ((x + 1) / 2).clip(0, 1)

    def sample_file(self, sample: np.ndarray) -> np.ndarray:
        """[0, 1] -> uint8, rounded to the nearest."""
        return to_uint8(sample)

    def to_visible(self, encoded: np.ndarray) -> np.ndarray:
        """Returns uint8 images as they are."""
        return encoded

    def statistics(self) -> dict[str, Any]:
        """Nothing: the encoding of images does not depend on the training set."""
        return {}

    def units(self) -> None:
        """None: images have no units."""

    def difference(self, trained: Codec) -> str:
        """Nothing: there are no statistics to compare."""
        return ""


IMAGES = EightBit()


@dataclass(frozen=True, eq=False)
class Fields:
    """Fields in units of their own: x = (raw - mean) / (2 std), by channel.

    In unit range a channel has mean 0 and standard deviation 1/2, about that of images in [-1, 1].

    Attributes:
        mean, std: `[C]`, of the training fields, in their units. A channel that never varies has
            std 0; it is 0 in unit range, and its mean in samples.
    """

    mean: np.ndarray
    std: np.ndarray

    dtype: ClassVar[np.dtype] = np.dtype(np.float32)
    is_image: ClassVar[bool] = False
    wanted: ClassVar[str] = "fields [N, H, W, C] of real numbers"
    legend: ClassVar[str] = (
        "Fields in false colours, their first three channels side by side: dark blue is three "
        "standard deviations of the training fields below their mean, yellow three above."
    )

    @staticmethod
    def accepts(raw: np.ndarray) -> bool:
        """Whether an array is `[N, H, W, C]` of floating-point numbers or integers."""
        return raw.dtype.kind in "fiu" and raw.ndim == 4

    def encode(self, raw: np.ndarray) -> np.ndarray:
        """Fields `[..., C]` in their units -> float32 in unit range."""
        # In float64, because a mean far from 0 would use up the digits of float32.
        raw, mean, std = (np.asarray(x, np.float64) for x in (raw, self.mean, self.std))
        return ((raw - mean) / np.where(std > 0, 2 * std, 1)).astype(np.float32)

    def to_unit_range(self, encoded: Array) -> Array:
        """Returns encoded fields as they are."""
        return encoded

    def encode_unit_range(self, x: np.ndarray) -> np.ndarray:
        """Returns fields in unit range as they are."""
        return x

    def to_sample(self, x: Array) -> Array:
        """Unit range -> the units of the data, not clipped."""
        return x * (2 * self.std) + self.mean

    def sample_file(self, sample: np.ndarray) -> np.ndarray:
        """Returns samples as they are."""
        return sample

    def to_visible(self, encoded: np.ndarray) -> np.ndarray:
        """The first three channels in false colours, side by side; see `false_colours`."""
        # In unit range a standard deviation is 1/2.
        return false_colours(encoded, 1.5)

    def statistics(self) -> dict[str, Any]:
        """`units`: float32 `mean` and `std`, `[C]`."""
        return {"units": {name: x.astype(np.float32) for name, x in self.moments.items()}}

    def units(self) -> dict[str, list[float]]:
        """`mean` and `std`, lists of C numbers."""
        return {name: x.tolist() for name, x in self.moments.items()}

    def difference(self, trained: Codec) -> str:
        """The first channel whose mean or standard deviation differs by more than rounding."""
        if not isinstance(trained, Fields):
            return ""
        tolerance = 1e-3 * trained.std + 1e-6 * np.abs(trained.mean)
        for name, before in trained.moments.items():
            now = self.moments[name]
            for channel in np.flatnonzero(np.abs(now - before) > tolerance):
                return (
                    f"channel {channel} had the {name} {before[channel]:.6g}, and has "
                    f"{now[channel]:.6g} now"
                )
        return ""

    @property
    def moments(self) -> dict[str, np.ndarray]:
        """`mean` and `std`, `[C]`."""
        return {"mean": self.mean, "std": self.std}


class FieldStatistics:
    """The mean and standard deviation of each channel of a stream of fields."""

    def __init__(self):
        self._moments: Moments | None = None
        self._least, self._most = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """Adds the next values of the stream, float64 `[M, C]`."""
        if not len(values):
            return
        with np.errstate(over="ignore", invalid="ignore"):  # `codec` raises an error instead.
            new = Moments.of(values, is_diagonal=True)
            self._moments = new if self._moments is None else self._moments + new
        self._least = np.minimum(self._least, values.min(axis=0))
        self._most = np.maximum(self._most, values.max(axis=0))

    def codec(self) -> Fields:
        """The codec of the fields added so far.

        Raises:
            ValueError: there were none, or float32, the type of samples, cannot resolve them.
        """
        if self._moments is None:
            raise ValueError("no training field is finite")
        is_constant = self._least == self._most
        # Exact, where rounding would leave a small deviation.
        mean = np.where(is_constant, self._least, self._moments.mean)
        std = np.where(is_constant, 0.0, np.sqrt(self._moments.scatter / self._moments.count))
        resolution = np.finfo(np.float32)
        with np.errstate(invalid="ignore"):
            fits = np.isfinite(std) & (np.abs(mean) + 100 * std < resolution.max)
            fits &= is_constant | (std > np.maximum(100 * np.abs(mean) * resolution.eps, 1e-30))
        for channel in np.flatnonzero(~fits):
            raise ValueError(
                f"channel {channel} has mean {mean[channel]:.6g} and standard deviation "
                f"{std[channel]:.3g}, which float32 cannot resolve: shift or scale it"
            )
        return Fields(mean, std)


def codec_of(statistics: Mapping[str, Any]) -> Codec:
    """The codec of a model, from the statistics in its parameters or in a checkpoint.

    Args:
        statistics: of the model, NumPy or JAX arrays, also while JAX traces a function of them.
    """
    return Fields(**statistics["units"]) if "units" in statistics else IMAGES
