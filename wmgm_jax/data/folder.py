"""Folders of image files, decoded once into a cache that later runs map into memory.

Subfolders decide which split a file belongs to, or the hash of its path. Files that cannot be
decoded are skipped and logged; if they are too many, the run stops.
"""

import hashlib
import json
import logging
import os
import uuid
import zlib
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from wmgm_jax.core.errors import UserError, one_line
from wmgm_jax.core.files import cache_folder
from wmgm_jax.data.prefetch import map_ahead
from wmgm_jax.data.splits import SKIPS_PERCENT, log_skips, split_folders, too_many

_log = logging.getLogger(__name__)

WORKERS = os.cpu_count() or 1

_CACHE_VERSION = 1  # Raise it whenever the same file would decode to other pixels.
_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
_SUFFIXES_WANTED = f"put {' '.join(_SUFFIXES)} files there"
_FORMATS = ("BMP", "JPEG", "PNG", "TIFF", "WEBP")
_SHAPES_READ = 1000

# Input pixels per output pixel that the fast box reduction leaves to the Lanczos filter. With 3,
# says Pillow's documentation, the result is almost the same as filtering all pixels.
_REDUCING_GAP = 3


def open_folder(
    directory: str,
    *,
    split: str,
    shape: tuple[int, int, int],
    validation_fraction: float,
    cache_dir: str,
    missing_hint: str,
) -> np.ndarray:
    """Opens the images of one split of a folder, and decodes those that are not in the cache.

    Args:
        directory: the folder.
        split: "train" or "valid".
        shape: (H, W, C), as of `decode_image`.
        validation_fraction: in (0, 1), the share for validation if subfolders do not decide.
        cache_dir: where decoded images are kept; "" for the user's cache directory.
        missing_hint: a sentence to append when the folder is missing or empty; "" for none.

    Returns:
        uint8 `[N, H, W, C]`, N >= 1, mapped from the cache, in the order of the files' paths.

    Raises:
        UserError: the folder is missing, too small or unreadable, too many of its files are
            unreadable, or the cache cannot be written.
    """
    root, names = _find_images(directory, split, validation_fraction, missing_hint)
    return _open_files(root, names, split, shape, cache_dir)


def open_images(
    directory: Path, *, shape: tuple[int, int, int] | None, cache_dir: str
) -> np.ndarray:
    """Opens all images of a folder, in whatever subfolders; see `open_folder`.

    Args:
        directory: an existing folder.
        shape: (H, W, C) to crop and resize to. None takes H and W of the first image, rounded down
            to even, and colour if one of the first thousand images has it.
        cache_dir: as of `open_folder`.

    Returns:
        uint8 `[N, H, W, C]`, N >= 1, in the order of the files' paths.

    Raises:
        UserError: as `open_folder`.
    """
    names = _list_images(directory)
    if not names:
        raise UserError(f"folder {str(directory)!r} has no images: {_SUFFIXES_WANTED}")
    if shape is None:
        shapes = [_shape(directory / name) for name in names[:_SHAPES_READ]]
        shapes = [found for found in shapes if found is not None]
        if not shapes:
            raise UserError(f"folder {str(directory)!r} has no image that can be read")
        (height, width, _), channels = shapes[0], max(found[-1] for found in shapes)
        shape = (height, width, channels)
        if len(set(shapes)) > 1:
            kind = "grey" if channels == 1 else "colour"
            _log.warning(
                "%s: images differ; all are converted to %dx%d in %s",
                directory,
                *shape[:2],
                kind,
            )
    return _open_files(directory, names, "all", shape, cache_dir)


def _shape(path: Path) -> tuple[int, int, int] | None:
    """(H, W, C) of an image file as it is shown, H and W even; None if it cannot be read."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            shown = ImageOps.exif_transpose(image)
            is_grey = image.mode in ("1", "L", "LA", "F") or image.mode.startswith("I")
            # Even, so that a wavelet transform can halve it.
            height, width = (side - side % 2 for side in (shown.height, shown.width))
            return (height, width, 1 if is_grey else 3) if height and width else None
    except Exception:  # Damaged files make Pillow's readers raise almost anything.
        return None


def decode_image(file: Path | BytesIO, shape: tuple[int, int, int]) -> np.ndarray:
    """Decodes an image file, crops it about the centre to the aspect ratio of `shape`, resizes it.

    EXIF orientation is applied, and transparency is replaced by white. 16-bit grey is scaled by
    1/257. 32-bit integers must lie in the 16-bit range, and are scaled likewise. Floats must lie in
    [0, 1].

    Args:
        file: the encoded image.
        shape: (H, W, C) of the result, C being 1 (grey) or 3 (RGB).

    Returns:
        uint8 `[H, W, C]`.

    Raises:
        ValueError: the image cannot be used; the message gives the reason in one line.
    """
    height, width, channels = shape
    try:
        with Image.open(file, formats=_FORMATS) as image:
            image.verify()  # The checksums of a PNG, which decoding ignores.
        with Image.open(file, formats=_FORMATS) as image:
            # Lets a JPEG decode at a half, a quarter or an eighth of its size. The bound is square
            # because the EXIF orientation may swap the sides.
            bound = _REDUCING_GAP * max(height, width)
            image.draft(None, (bound, bound))
            ImageOps.exif_transpose(image, in_place=True)
            whole = _to_eight_bits(image, "RGB" if channels == 3 else "L")
        crop_width = min(whole.width, whole.height * width / height)
        crop_height = min(whole.height, whole.width * height / width)
        left, top = (whole.width - crop_width) / 2, (whole.height - crop_height) / 2
        box = (left, top, left + crop_width, top + crop_height)
        resized = whole.resize((width, height), Image.Resampling.LANCZOS, box, _REDUCING_GAP)
        return np.asarray(resized).reshape(shape)
    except UnidentifiedImageError as error:
        raise ValueError("empty, or not a BMP, JPEG, PNG, TIFF or WebP image") from error
    except Exception as error:  # Damaged files make Pillow's readers raise almost anything.
        raise ValueError(one_line(error)) from error


def _to_eight_bits(image: Image.Image, mode: str) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        # Pillow converts these modes by clipping at 255, without scaling.
        values, limit = np.asarray(image, np.float32), 1 if image.mode == "F" else 65535
        low, high = values.min(), values.max()
        if not (low >= 0 and high <= limit):  # False for NaN too.
            raise ValueError(f"mode {image.mode} pixels in [{low:g}, {high:g}], not [0, {limit}]")
        image = Image.fromarray(np.rint(values * (255 / limit)).astype(np.uint8))
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    return image.convert(mode)


def _find_images(
    directory: str, split: str, validation_fraction: float, missing_hint: str
) -> tuple[Path, list[str]]:
    """A folder and the sorted relative POSIX paths of the images of a split below it."""
    root, hint = Path(directory).expanduser(), f". {missing_hint}" if missing_hint else ""
    if not directory or not root.is_dir():
        fault = "is not a folder" if directory and root.exists() else "does not exist"
        raise UserError(f"--config.data.dir {directory!r} {fault}: name a folder of images{hint}")
    train, valid = split_folders(root)
    root = valid if valid and split == "valid" else train
    names = _list_images(root)
    if not names:
        raise UserError(f"folder {str(root)!r} has no images: {_SUFFIXES_WANTED}{hint}")
    if valid:
        return root, names
    # The hash of its path decides for each file alone: a new file moves no other.
    ranks = {n: int(hashlib.sha256(os.fsencode(n)).hexdigest(), 16) / 2**256 for n in names}
    count = sum(rank < validation_fraction for rank in ranks.values())
    count = min(max(count, 1), len(names) - 1)
    ordered = sorted(names, key=ranks.__getitem__)
    names = sorted(ordered[:count] if split == "valid" else ordered[count:])
    if not names:
        raise UserError(f"folder {str(root)!r} has one image: add another for validation")
    return root, names


def _list_images(root: Path) -> list[str]:
    names, visited = [], set()

    def refuse(error: OSError) -> None:
        raise UserError(f"folder {error.filename!r} cannot be read: {error.strerror}") from error

    for folder, subfolders, files in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # Links may form a loop.
            subfolders.clear()
            continue
        visited.add(real)
        # Sorted, so that the same one of two links to a folder always comes first.
        subfolders[:] = sorted(n for n in subfolders if n[0] != ".")
        kept = (n for n in files if n[0] != "." and n.lower().endswith(_SUFFIXES))
        names += [Path(folder, name).relative_to(root).as_posix() for name in kept]
    return sorted(names)


def _open_files(
    root: Path, names: list[str], split: str, shape: tuple[int, int, int], cache_dir: str
) -> np.ndarray:
    """The images of these files, from the cache, which is written first if there is none."""

    def facts(name: str) -> tuple[str, int, int]:
        try:
            status = (root / name).stat()
        except OSError:
            return name, -1, -1
        return name, status.st_size, status.st_mtime_ns

    # The folder's path is part of the key, because unpacked archives may give all their files the
    # same time stamp.
    key = [_CACHE_VERSION, str(root.resolve()), split, shape, [facts(name) for name in names]]
    folder = cache_folder(cache_dir)
    path = folder / f"{hashlib.sha256(json.dumps(key).encode()).hexdigest()}.npy"
    cached = _read_cache(path, len(names), shape)
    if cached is None:
        try:
            _write_cache(path, root, names, shape)
        except OSError as error:  # Of the cache: a file that fails to decode is only skipped.
            gigabytes = len(names) * np.prod(shape) / 1e9
            raise UserError(
                f"folder {str(folder)!r} cannot hold {gigabytes:.2g} GB of decoded images "
                f"({error.strerror}): free some space, or set --config.data.cache_dir to another "
                "folder"
            ) from error
        cached = _read_cache(path, len(names), shape)
        if cached is None:
            raise UserError(
                f"folder {str(folder)!r} loses what is written to it: set --config.data.cache_dir "
                "to another folder"
            )
    images, skips = cached
    log_skips([(repr(name), reason) for name, reason in skips], _total(root, names))
    return images


def _read_cache(
    path: Path, total: int, shape: tuple[int, int, int]
) -> tuple[np.ndarray, list[list[str]]] | None:
    """The images, and [name, reason] of each skipped one; None if there is no whole cache."""
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        with open(path, "rb") as file:
            file.seek(images.offset + images.nbytes)
            record = json.load(file)
        expected = (total - len(record["skips"]), *shape)
        if images.dtype != np.uint8 or images.shape != expected:
            raise ValueError(f"{images.dtype} {images.shape} instead of uint8 {expected}")
        if zlib.crc32(images) != record["checksum"]:
            raise ValueError("wrong checksum")
    except FileNotFoundError:
        return None
    except Exception as error:  # Whatever is wrong with the file, decoding again helps.
        _log.warning("cache %r is damaged (%s): decoding again", str(path), one_line(error))
        return None
    return images, record["skips"]


def _write_cache(path: Path, root: Path, names: list[str], shape: tuple[int, int, int]) -> None:
    """Decodes all files into a cache, which appears whole or not at all.

    The cache is an .npy file. A JSON record follows the images, where NumPy does not look.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            skips = _write_images(file, root, names, shape)
            if too_many(len(skips), len(names)):
                log_skips([(repr(name), reason) for name, reason in skips], _total(root, names))
                raise UserError(
                    f"folder {str(root)!r}: {len(skips)} of {len(names)} images cannot be read, "
                    f"over {SKIPS_PERCENT}%: remove or repair them, such as {skips[0][0]!r} "
                    f"({skips[0][1]})"
                )
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _write_images(
    file: BinaryIO, root: Path, names: list[str], shape: tuple[int, int, int]
) -> list[tuple[str, str]]:
    def decode(name: str) -> np.ndarray | str:
        try:
            if not (root / name).is_file():
                return "missing, or not a regular file"
            return decode_image(root / name, shape)
        except (OSError, ValueError) as error:
            return str(error)

    def write_header(count: int) -> None:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)}
        np.lib.format.write_array_header_1_0(file, header)

    skips, checksum = [], 0
    write_header(len(names))
    decoded = map_ahead(decode, names, workers=WORKERS, ahead=4 * WORKERS)
    progress = tqdm(names, desc="decoding", unit="image", disable=None, delay=1)
    # Written in order, not through a memory map: there, a full disk would be a bus error.
    for name, image in zip(progress, decoded, strict=True):
        if isinstance(image, str):
            skips.append((name, image))
            continue
        file.write(image.tobytes())
        checksum = zlib.crc32(image.tobytes(), checksum)
    file.write(json.dumps({"checksum": checksum, "skips": skips}).encode())
    file.seek(0)
    write_header(len(names) - len(skips))  # NumPy pads it to the same length for any count.
    return skips


def _total(root: Path, names: list[str]) -> str:
    return f"the {len(names)} images in {str(root)!r}"
