"""A source holds the images of one split, addressed at random.

Images are uint8 arrays; fields are float32 ones, brought to unit range by the source.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wmgm_jax.core.units import Units


class Source(Protocol):
    """The images of one split, all of the same shape.

    Attributes:
        image_shape: (H, W, C).
        units: of fields, which the source brings to unit range; None for images.
    """

    image_shape: tuple[int, int, int]
    units: Units | None

    def __len__(self) -> int:
        """The number of images."""
        ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The images at `indices`, integers `[B]`, as uint8 `[B, H, W, C]`, or the fields there in
        unit range, as float32."""
        ...


def from_array(images: np.ndarray, units: Units | None = None) -> Source:
    """A source of images that lie in memory or are mapped into it.

    Args:
        images: uint8 `[N, H, W, C]`, or fields of any real type.
        units: those that the fields are in; None for images.
    """

    def take(indices: np.ndarray) -> np.ndarray:
        chosen = np.asarray(images[indices])
        return chosen if units is None else units.normalise(chosen)

    return FunctionSource(images.shape[1:], len(images), take, units)


def subset(source: Source, count: int) -> Source:
    """At most `count` images, evenly spread over a source."""
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    return FunctionSource(
        source.image_shape, len(chosen), lambda indices: source.take(chosen[indices]), source.units
    )


def spread(source: Source, count: int) -> np.ndarray:
    """At most `count` images, evenly spread over a source, `[N, H, W, C]` as `take` returns."""
    chosen = subset(source, count)
    return chosen.take(np.arange(len(chosen)))


@dataclass(frozen=True)
class FunctionSource:
    """A source made of a length and a function that reads."""

    image_shape: tuple[int, int, int]
    count: int
    take: Callable[[np.ndarray], np.ndarray]
    units: Units | None = None

    def __len__(self) -> int:
        return self.count
