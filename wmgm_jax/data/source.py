"""A source holds the images or fields of one split, addressed at random."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from wmgm_jax.core.codec import IMAGES, Codec


class Source(Protocol):
    """The images of one split, all of the same shape.

    Attributes:
        image_shape: (H, W, C).
        codec: says how the arrays are encoded.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]: ...

    @property
    def codec(self) -> Codec: ...

    def __len__(self) -> int:
        """The number of images."""
        ...

    def take(self, indices: np.ndarray, /) -> np.ndarray:
        """The images at `indices`, integers `[B]`, encoded `[B, H, W, C]`: uint8 images, or fields
        as float32 in unit range."""
        ...


def from_array(images: np.ndarray, codec: Codec = IMAGES) -> Source:
    """A source of images in memory or in a memory map.

    Args:
        images: raw `[N, H, W, C]`, as `codec.encode` takes them.
        codec: of the images.
    """

    def take(indices: np.ndarray) -> np.ndarray:
        return codec.encode(np.asarray(images[indices]))

    return FunctionSource(images.shape[1:], len(images), take, codec)


def subset(source: Source, count: int) -> Source:
    """At most `count` images, evenly spread over a source."""
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    return FunctionSource(
        source.image_shape, len(chosen), lambda indices: source.take(chosen[indices]), source.codec
    )


def spread(source: Source, count: int) -> np.ndarray:
    """At most `count` images, evenly spread over a source, encoded `[N, H, W, C]`."""
    chosen = subset(source, count)
    return chosen.take(np.arange(len(chosen)))


@dataclass(frozen=True)
class FunctionSource:
    """A source made of a length and a function that reads; see `Source`."""

    image_shape: tuple[int, int, int]
    count: int
    take: Callable[[np.ndarray], np.ndarray]
    codec: Codec = IMAGES

    def __len__(self) -> int:
        return self.count
