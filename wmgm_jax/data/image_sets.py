"""Sets of images to compare, from files: a folder, an `.npz` or an `.npy`."""

from pathlib import Path

import numpy as np

from wmgm_jax.core.codec import IMAGES, Codec
from wmgm_jax.core.errors import UserError, one_line
from wmgm_jax.data.folder import open_images
from wmgm_jax.data.source import Source, from_array

PREPARATION = (
    "arrays as they are; image files cropped about the centre to one aspect ratio, resized to one "
    "size (Lanczos) and brought to one number of channels, those of the settings or of the first "
    "generated image, its sides rounded down to even"
)


def open_set(
    path: str,
    flag: str,
    shape: tuple[int, int, int] | None = None,
    cache_dir: str = "",
    codec: Codec = IMAGES,
) -> Source:
    """All images of a folder or an array file.

    Args:
        path: a folder of images, of any nesting; an `.npz` with one array, or with one named
            `images`; or an `.npy`. Arrays are uint8 `[N, H, W, C]` or `[N, H, W]`, C 1 or 3.
        flag: what gave the path, for messages.
        shape: (H, W, C) that the images must have. A folder is cropped and resized to it, an
            array is refused where it differs. None for that of the array or, with its sides
            rounded down to even, of the first image.
        cache_dir: where decoded folders are kept; "" for the user's cache directory.
        codec: of the images, or of the fields, that the set is compared with. Fields are arrays of
            any real type in the same units.

    Raises:
        UserError: there is no such file, or its content is something else.
    """
    place = Path(path).expanduser()
    if place.is_dir() and codec.is_image:
        return from_array(open_images(place, shape=shape, cache_dir=cache_dir))
    if place.suffix not in (".npy", ".npz") or not place.is_file():
        kinds = "a folder of images, an .npz" if codec.is_image else "an .npz"
        raise UserError(f"{flag}={path} is not {kinds} or an .npy file")
    images = _read_array(place, flag)
    if images.ndim == 3:
        images = images[..., None]
    if not codec.accepts(images):
        raise UserError(
            f"{flag}={path} holds {images.dtype} {list(images.shape)}: give {codec.wanted}"
        )
    if not len(images):
        raise UserError(f"{flag}={path} holds no image")
    if shape is not None and images.shape[1:] != shape:
        raise UserError(
            f"{flag}={path} holds images {list(images.shape[1:])}, to be compared with "
            f"{list(shape)}: give both sets the same size"
        )
    return from_array(images, codec)


def _read_array(path: Path, flag: str) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        with np.load(path, allow_pickle=False) as arrays:
            names = arrays.files
            if "images" not in names and len(names) != 1:
                raise UserError(
                    f"{flag}={path} holds arrays {', '.join(names) or 'none'}: name one 'images'"
                )
            return arrays["images" if "images" in names else names[0]]
    except UserError:
        raise
    except Exception as error:  # Damaged files make NumPy raise almost anything.
        raise UserError(f"{flag}={path} cannot be read: {one_line(error)}") from error
