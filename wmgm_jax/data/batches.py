"""The order in which training sees the images: a pure function of a seed and a step.

The images come in an endless chain of epochs, each a fresh shuffle. The batch of step `s` takes the
positions `s * batch_size` to `(s + 1) * batch_size - 1` of that chain, so that a run that goes on
needs its step and nothing else.
"""

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from wmgm_jax.core.errors import UserError
from wmgm_jax.data.prefetch import map_ahead
from wmgm_jax.data.source import Source


def batch_at(
    source: Source,
    *,
    seed: int,
    step: int,
    batch_size: int,
    augment: str,
    rows: slice = slice(None),
) -> np.ndarray:
    """The batch of one step; every step takes the same time.

    Args:
        source: where the images come from.
        seed: non-negative, chooses the shuffles and the augmentations.
        step: non-negative, the place of the batch in the endless order.
        batch_size: B, the size of the whole batch, at most `len(source)`.
        augment: "none", "flip" (mirrored left to right, one time in two) or "dihedral" (any of the
            eight symmetries of the square, evenly).
        rows: the part of the whole batch to read and return; the same images as slicing the whole.

    Returns:
        `[b, H, W, C]`, uint8 or float32 as the source has it, b being the number of rows selected.

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
    epochs, offsets = np.divmod(step * batch_size + np.arange(batch_size)[rows], count)
    indices = np.empty_like(offsets)
    for epoch in np.unique(epochs):
        inside = epochs == epoch
        indices[inside] = _epoch_order(seed, int(epoch), count)[offsets[inside]]
    images = source.take(indices)
    # Drawn for the whole batch, so that which process reads an image makes no difference to it.
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
    """The batches of `first_step`, `first_step + 1` and so on, `steps` at a time, without end.

    A background thread works ahead, and ends when the iterator is closed or dropped.

    Args:
        source, seed, batch_size, augment, rows: as of `batch_at`.
        first_step: non-negative, the step of the first batch.
        steps: the number of batches to return at a time.
        prefetch: how many times that number to work ahead, at most.

    Returns:
        An iterator of `[steps, b, H, W, C]`, batches as `batch_at` returns them.

    Raises:
        UserError: as `batch_at`, in the turn of the batch it belongs to.
    """

    def at(step: int) -> np.ndarray:
        return batch_at(
            source, seed=seed, step=step, batch_size=batch_size, augment=augment, rows=rows
        )

    def from_step(first: int) -> np.ndarray:
        return np.stack([at(step) for step in range(first, first + steps)])

    firsts = itertools.count(first_step, steps)
    return map_ahead(from_step, firsts, workers=1, ahead=prefetch)


# Batches of different steps alternate between few epochs: two where a batch straddles a boundary,
# and as many again for the other split.
@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 1]).permutation(count)


_SYMMETRIES = {"none": 1, "flip": 2, "dihedral": 8}
