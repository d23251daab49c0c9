"""The order in which training sees the images: a pure function of a seed and a step.

The images form an endless chain of epochs, each a new shuffle. The batch of step `s` has the
positions `s * batch_size` to `(s + 1) * batch_size - 1` of that chain. So a run that continues
needs only its step.
"""

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from wmgm_jax.core.errors import UserError
from wmgm_jax.data.prefetch import map_ahead
from wmgm_jax.data.source import Source


def check_batch(source: Source, batch_size: int, augment: str) -> None:
    """Checks that a source can give such batches, see `batch_at`.

    Raises:
        UserError: the source is smaller than a batch, or cannot be augmented in this way.
    """
    count, (height, width, _) = len(source), source.image_shape
    if not 1 <= batch_size <= count:
        raise UserError(
            f"batch_size is {batch_size} but the data has {count} images: set "
            f"--config.*.batch_size between 1 and {count}, or add images"
        )
    if augment not in _SYMMETRIES:
        known = ", ".join(map(repr, _SYMMETRIES))
        raise UserError(f"--config.data.augment is {augment!r}: use one of {known}")
    if augment == "dihedral" and height != width:
        raise UserError(
            f"--config.data.augment is 'dihedral' but the images are {height}x{width}: use 'flip', "
            "or a square --config.data.image_size"
        )


def batch_at(
    source: Source,
    *,
    seed: int,
    step: int,
    batch_size: int,
    augment: str,
    rows: slice = slice(None),
) -> np.ndarray:
    """The batch of one step. Each step takes the same time to read.

    Args:
        source: of the images.
        seed: of the shuffles and augmentations, non-negative.
        step: the place of the batch in the endless chain, non-negative.
        batch_size: B, the size of the whole batch, at most `len(source)`.
        augment: "none", "flip" (half of the images mirrored left to right) or "dihedral" (each of
            the eight symmetries of the square equally often).
        rows: the part of the whole batch to read and return.

    Returns:
        Encoded images `[b, H, W, C]`, b being the number of selected rows.

    Raises:
        UserError: the source is smaller than a batch, or cannot be augmented in this way.
    """
    check_batch(source, batch_size, augment)
    count = len(source)
    epochs, offsets = np.divmod(step * batch_size + np.arange(batch_size)[rows], count)
    indices = np.empty_like(offsets)
    for epoch in np.unique(epochs):
        inside = epochs == epoch
        indices[inside] = epoch_order(seed, int(epoch), count)[offsets[inside]]
    images = source.take(indices)
    # Drawn for the whole batch, so that an image does not depend on the process that reads it.
    random = np.random.default_rng([seed, step, 2])
    symmetries = random.integers(_SYMMETRIES[augment], size=batch_size)[rows]
    for symmetry in range(1, _SYMMETRIES[augment]):
        chosen = symmetries == symmetry
        turned = np.rot90(images[chosen], symmetry // 2, axes=(1, 2))
        images[chosen] = turned[:, :, ::-1] if symmetry % 2 else turned
    return images


def batches(
    source: Source,
    *,
    seed: int,
    first_step: int,
    batch_size: int,
    augment: str,
    rows: slice = slice(None),
    steps: int = 1,
    prefetch: int = 2,
) -> Iterator[np.ndarray]:
    """The batches of `first_step`, `first_step + 1` and so on without end, `steps` at a time.

    A background thread reads ahead. It ends when the iterator is closed or garbage-collected.

    Args:
        source, seed, batch_size, augment, rows: as for `batch_at`.
        first_step: the step of the first batch, non-negative.
        steps: the number of batches to return at a time.
        prefetch: how many times `steps` batches to read ahead, at most.

    Returns:
        An iterator of `[steps, b, H, W, C]`, batches as `batch_at` returns them.

    Raises:
        UserError: as for `batch_at`, when the iterator reaches the batch.
    """

    def at(step: int) -> np.ndarray:
        return batch_at(
            source, seed=seed, step=step, batch_size=batch_size, augment=augment, rows=rows
        )

    def from_step(first: int) -> np.ndarray:
        return np.stack([at(step) for step in range(first, first + steps)])

    firsts = itertools.count(first_step, steps)
    return map_ahead(from_step, firsts, workers=1, ahead=prefetch)


# Few epochs are in use at a time: two where a batch straddles a boundary, and two more for the
# other split.
@functools.lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    """The shuffle of an epoch: a permutation of `count` indices."""
    return np.random.default_rng([seed, epoch, 1]).permutation(count)


_SYMMETRIES = {"none": 1, "flip": 2, "dihedral": 8}
