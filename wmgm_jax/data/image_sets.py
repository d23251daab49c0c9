"""Sets of images to compare, from files: a folder, an `.npz` or an `.npy`."""

from pathlib import Path

from wmgm_jax.core.codec import IMAGES, Codec
from wmgm_jax.core.errors import UserError
from wmgm_jax.data import array_files
from wmgm_jax.data.folder import open_images
from wmgm_jax.data.source import Source, from_array

# What evaluation.json says of files that are compared.
PREPARATION = (
    "arrays as they are; image files cropped about the centre to one aspect ratio, resized to one "
    "size (Lanczos) and converted to one number of channels. Size and channels are those of the "
    "settings, or of the first generated image with its sides rounded down to even"
)


def open_set(
    path: str,
    flag: str,
    shape: tuple[int, int, int] | None = None,
    cache_dir: str = "",
    codec: Codec = IMAGES,
) -> Source:
    """Opens all images of a folder or an array file.

    Args:
        path: a folder of images, also in subfolders; an `.npz` with one array, or with one named
            `images`, `fields` or `arr_0`; or an `.npy`. Arrays are uint8 `[N, H, W, C]` or
            `[N, H, W]`, C 1 or 3.
        flag: the flag that gave the path, for messages.
        shape: (H, W, C) that the images must have. Images of a folder are cropped and resized to
            it; an array of another shape is an error. None takes the shape of the array, or of the
            first image of the folder with its sides rounded down to even.
        cache_dir: where decoded folders are kept; "" for the user's cache directory.
        codec: of the images, or of the fields, that the set is compared with. Fields are arrays of
            any real type in the same units.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    place = Path(path).expanduser()
    if place.is_dir() and codec.is_image:
        return from_array(open_images(place, shape=shape, cache_dir=cache_dir))
    if place.suffix not in array_files.SUFFIXES or not place.is_file():
        kinds = "a folder of images, an .npz" if codec.is_image else "an .npz"
        raise UserError(f"{flag}={path} is not {kinds} or an .npy file")
    images = array_files.read(place, f"{flag}={path}")
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
