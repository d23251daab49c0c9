"""Images as uint8 arrays, or fields as float32 ones, addressed at random.

A `Source` holds the images of one split. All else is a pure function of the source, a seed and a
step: the images come in an endless chain of epochs, each a fresh shuffle, and the batch of step `s`
is the positions `s * batch_size` to `(s + 1) * batch_size - 1` of that chain. Resuming a run
therefore takes the step and nothing else.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal, Protocol

import numpy as np
from PIL import Image

from wmgm_jax import array_source, image_folder
from wmgm_jax.errors import UserError
from wmgm_jax.units import Units

_SYMMETRIES = {"none": 1, "flip": 2, "dihedral": 8}


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


def open_source(
    *,
    source: str,
    split: Literal["train", "valid"],
    image_size: tuple[int, int],
    channels: int,
    directory: str = "",
    validation_fraction: float = 0.05,
    cache_dir: str = "",
    missing_hint: str = "",
) -> Source:
    """The images of one split of a data set.

    Args:
        source: "embedded", the crops of a micrograph that scikit-image ships; "folder", the image
            files below `directory`; "tfds:NAME", a TensorFlow Datasets data set; or "array:PATH",
            the fields of an `.npy` or `.npz` file or of a folder of such files.
        split: the two splits have no image, and no pixel of an image, in common.
        image_size: (H, W). Folder and TFDS images are cropped about their centre and resized;
            fields must have it.
        channels: 1 (grey) or 3 (RGB); of fields what they have.
        directory: the folder, or the TFDS data directory ("" for its default).
        validation_fraction: in (0, 1), the share set aside where the data has no split of its own.
        cache_dir: where decoded folders, unpacked arrays and the statistics of fields are kept; ""
            for the user's cache directory.
        missing_hint: a sentence to append when the folder is missing or empty.

    Returns:
        A source of at least one image.

    Raises:
        UserError: an argument is out of range, or the data is missing, too small or unreadable.
    """
    shape = (int(image_size[0]), int(image_size[1]), channels)
    if min(image_size) < 1:
        raise UserError(f"--config.data.image_size is {shape[:2]}: both sides must be at least 1")
    is_array = source.startswith("array:") and source != "array:"
    if channels not in (1, 3) and not is_array:
        raise UserError(f"--config.data.channels is {channels}: use 1 (grey) or 3 (RGB)")
    if not 0 < validation_fraction < 1:
        raise UserError(
            f"--config.data.validation_fraction is {validation_fraction}: use a number in (0, 1)"
        )
    if source == "embedded":
        return _open_embedded(split, shape)
    if source == "folder":
        images = image_folder.open_folder(
            directory,
            split=split,
            shape=shape,
            validation_fraction=validation_fraction,
            cache_dir=cache_dir,
            missing_hint=missing_hint,
        )
        return from_array(images)
    if is_array:
        return array_source.open_arrays(
            source.removeprefix("array:"),
            split=split,
            shape=shape,
            validation_fraction=validation_fraction,
            cache_dir=cache_dir,
            missing_hint=missing_hint,
        )
    if source.startswith("tfds:") and source != "tfds:":
        return _open_tfds(source, split, shape, directory, validation_fraction)
    raise UserError(
        f"--config.data.source is {source!r}: use 'embedded', 'folder', 'tfds:NAME' or "
        "'array:PATH', such as 'tfds:cifar10'"
    )


def from_array(images: np.ndarray, units: Units | None = None) -> Source:
    """A source of images that lie in memory or are mapped into it.

    Args:
        images: uint8 `[N, H, W, C]`, or fields of any real type.
        units: those that the fields are in; None for images.
    """

    def take(indices: np.ndarray) -> np.ndarray:
        chosen = np.asarray(images[indices])
        return chosen if units is None else units.normalise(chosen)

    return _Images(images.shape[1:], len(images), take, units)


def subset(source: Source, count: int) -> Source:
    """At most `count` images, evenly spread over a source."""
    chosen = np.linspace(0, len(source) - 1, min(count, len(source))).astype(int)
    return _Images(
        source.image_shape, len(chosen), lambda indices: source.take(chosen[indices]), source.units
    )


def spread(source: Source, count: int) -> np.ndarray:
    """At most `count` images, evenly spread over a source, `[N, H, W, C]` as `take` returns."""
    chosen = subset(source, count)
    return chosen.take(np.arange(len(chosen)))


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
    return image_folder.map_ahead(from_step, firsts, workers=1, ahead=prefetch)


# Batches of different steps alternate between few epochs: two where a batch straddles a boundary,
# and as many again for the other split.
@functools.lru_cache(maxsize=4)
def _epoch_order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch, 1]).permutation(count)


@dataclass(frozen=True)
class _Images:
    """A source made of a length and a function that reads."""

    image_shape: tuple[int, int, int]
    count: int
    take: Callable[[np.ndarray], np.ndarray]
    units: Units | None = None

    def __len__(self) -> int:
        return self.count


def _open_embedded(split: str, shape: tuple[int, int, int]) -> Source:
    from skimage.data import immunohistochemistry  # Slow to import, and of use only here.

    image = immunohistochemistry()
    # By rows, since the bottom strip holds every type of tissue (glands, their lumen and stroma)
    # and the right-hand columns are mostly stroma.
    boundary = image.shape[0] * 3 // 4
    region = image[:boundary] if split == "train" else image[boundary:]
    (height, width, channels), (rows, columns, _) = shape, region.shape
    if height > rows or width > columns:
        raise UserError(
            f"--config.data.image_size is {height}x{width} but the {split} part of the embedded "
            f"image is {rows}x{columns}: use a smaller size or another --config.data.source"
        )
    if channels == 1:
        region = np.asarray(Image.fromarray(region).convert("L"))[..., None]
    crops = np.lib.stride_tricks.sliding_window_view(region, (height, width), axis=(0, 1))
    crops = np.moveaxis(crops, 2, -1)  # [rows, columns, H, W, C], still a view of the image.
    positions = crops.shape[:2]
    count = positions[0] * positions[1]
    return _Images(shape, count, lambda indices: crops[np.unravel_index(indices, positions)])


def _open_tfds(
    source: str,
    split: str,
    shape: tuple[int, int, int],
    directory: str,
    validation_fraction: float,
) -> Source:
    key = f"--config.data.source {source!r}"
    splits = _prepare_tfds(source, directory, key)
    held_out = next((n for n in ("validation", "test") if n in splits), None)
    name = held_out if held_out and split == "valid" else "train"
    if name not in splits:
        raise UserError(f"{key} has no split {name!r}, only {sorted(splits)}: choose another")
    records = splits[name]
    positions = np.arange(len(records))
    if not held_out:
        boundary = len(records) - max(round(len(records) * validation_fraction), 1)
        positions = np.split(positions, [max(boundary, 1)])[split == "valid"]
    if not len(positions):
        raise UserError(f"{key} has no image for the {split} split: choose another")

    def decode(record: dict[str, Any]) -> np.ndarray:
        try:
            return image_folder.decode_image(BytesIO(record["image"]), shape)
        except ValueError as error:
            raise UserError(f"{key} has an unreadable image ({error}): prepare it anew") from error

    def take(indices: np.ndarray) -> np.ndarray:
        encoded = records.__getitems__(positions[indices].tolist())
        with ThreadPoolExecutor(image_folder.WORKERS) as pool:
            return np.stack(list(pool.map(decode, encoded)))

    return _Images(shape, len(positions), take)


def _prepare_tfds(source: str, directory: str, key: str) -> dict[str, Any]:
    """The records of each split, random-access and with their image still encoded."""
    try:
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise UserError(f"{key} needs TFDS: pip install tensorflow-datasets") from error
    try:
        splits = tfds.data_source(
            source.removeprefix("tfds:"),
            data_dir=directory or None,
            decoders={"image": tfds.decode.SkipDecoding()},
            builder_kwargs={"file_format": "array_record"},  # Can be read at random.
        )
    except tfds.core.DatasetNotFoundError as error:
        catalog = "https://www.tensorflow.org/datasets/catalog/overview"
        raise UserError(f"{key} is unknown to TFDS: choose a name from {catalog}") from error
    except Exception as error:  # Builders download and convert, each in its own way.
        raise UserError(
            f"{key} cannot be prepared ({image_folder.one_line(error)}): prepare it as "
            "array_record, for which TFDS may need tensorflow, and set --config.data.dir"
        ) from error
    for records in splits.values():
        feature = dict(records.dataset_info.features).get("image")
        # TFDS stores a float image as the bytes of a four-channel one.
        if not isinstance(feature, tfds.features.Image) or feature.np_dtype == np.float32:
            raise UserError(f"{key} has no 'image' feature of integers: choose another")
    return splits
