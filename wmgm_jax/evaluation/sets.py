"""The sets of images that an evaluation compares."""

import dataclasses
from collections.abc import Mapping

from wmgm_jax import data
from wmgm_jax.core.codec import Codec

# By name: `value`; `interval` [low, high] or None; `training`, the same measure with training
# images in place of the generated ones, or None; `images`, the sizes of the two sets.
Measures = dict[str, dict[str, object]]


@dataclasses.dataclass(frozen=True)
class ImageSets:
    """What is compared. All images have one shape and one codec.

    Attributes:
        generated: the images to judge.
        reference: what they should look like; the model was not trained on them.
        training: what the model was trained on; None where that is not known.
    """

    generated: data.Source
    reference: data.Source
    training: data.Source | None = None

    @property
    def named(self) -> Mapping[str, data.Source]:
        """The sets that there are, by name."""
        named = {"generated": self.generated, "reference": self.reference}
        return named if self.training is None else {**named, "training": self.training}

    @property
    def codec(self) -> Codec:
        """The codec of all sets."""
        return self.generated.codec

    @property
    def fewest(self) -> int:
        """The number of images in the smallest set."""
        return min(map(len, self.named.values()))
