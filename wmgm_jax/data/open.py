"""The images that a config names, from whatever kind of source."""

from typing import Literal

from wmgm_jax.core.errors import UserError
from wmgm_jax.data.arrays import open_arrays
from wmgm_jax.data.embedded import open_embedded
from wmgm_jax.data.folder import open_folder
from wmgm_jax.data.source import Source, from_array
from wmgm_jax.data.tfds import open_tfds


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
    """Opens the images of one split of a data set.

    Args:
        source: "embedded", crops of a micrograph that comes with scikit-image; "folder", the image
            files below `directory`; "tfds:NAME", a TensorFlow Datasets data set; or "array:PATH",
            the fields of an `.npy` or `.npz` file or of a folder of such files.
        split: the two splits share no image, and no pixel of an image.
        image_size: (H, W). Folder and TFDS images are cropped about their centre and resized;
            fields must have this size.
        channels: 1 (grey) or 3 (RGB); for fields, the number that they have.
        directory: the folder, or the TFDS data directory ("" for its default).
        validation_fraction: in (0, 1), the share for validation if the data has no split of its
            own.
        cache_dir: where decoded folders, unpacked arrays and the statistics of fields are kept; ""
            for the user's cache directory.
        missing_hint: a sentence to append to the error if the data is missing or empty.

    Returns:
        A source of at least one image.

    Raises:
        UserError: an argument is out of range, or the data is missing, too small or unreadable.
    """
    kind, _, name = source.partition(":")
    shape = (int(image_size[0]), int(image_size[1]), channels)
    is_array = kind == "array" and name != ""
    _check(shape, validation_fraction, is_array)
    if source == "embedded":
        return open_embedded(split, shape)
    if source == "folder" or is_array:
        settings = {
            "split": split,
            "shape": shape,
            "validation_fraction": validation_fraction,
            "cache_dir": cache_dir,
            "missing_hint": missing_hint,
        }
        if is_array:
            return open_arrays(name, **settings)
        return from_array(open_folder(directory, **settings))
    if kind == "tfds" and name:
        return open_tfds(source, split, shape, directory, validation_fraction)
    raise UserError(
        f"--config.data.source is {source!r}: use 'embedded', 'folder', 'tfds:NAME' or "
        "'array:PATH', such as 'tfds:cifar10'"
    )


def _check(shape: tuple[int, int, int], validation_fraction: float, is_array: bool) -> None:
    """
    Raises:
        UserError: a setting is out of range.
    """
    height, width, channels = shape
    if min(height, width) < 1:
        raise UserError(f"--config.data.image_size is {shape[:2]}: both sides must be at least 1")
    if channels not in (1, 3) and not is_array:
        raise UserError(f"--config.data.channels is {channels}: use 1 (grey) or 3 (RGB)")
    if not 0 < validation_fraction < 1:
        raise UserError(
            f"--config.data.validation_fraction is {validation_fraction}: use a number in (0, 1)"
        )
