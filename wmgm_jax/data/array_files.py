"""Reading `.npy` and `.npz` files. Nothing in them is ever unpickled."""

import contextlib
import functools
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wmgm_jax.core import files
from wmgm_jax.core.errors import UserError, one_line

SUFFIXES = (".npy", ".npz")
# The names that an array of an `.npz` may have where it is not the only one.
NAMES = ("images", "fields", "arr_0")
# Each memory map holds a file descriptor.
_MAPS_KEPT = 64


class ArrayFile(NamedTuple):
    """An `.npy` file as it was found.

    Attributes:
        name: what messages call it.
        path: where it lies; for an `.npz`, where its array has been unpacked to.
        facts: size and time stamp of the file that the user gave.
    """

    name: str
    path: str
    facts: tuple[int, int]


@functools.lru_cache(maxsize=_MAPS_KEPT)
def mapped(file: ArrayFile) -> np.ndarray:
    """The array of a file, mapped into memory; `[N, H, W]` becomes `[N, H, W, 1]`."""
    return with_channels(np.load(file.path, mmap_mode="r", allow_pickle=False))


def read(path: Path, label: str) -> np.ndarray:
    """The array of an `.npy`, mapped into memory, or of an `.npz`, read whole.

    Args:
        path: of the file.
        label: what messages call the file.

    Returns:
        The array; `[N, H, W]` becomes `[N, H, W, 1]`.

    Raises:
        UserError: the file is damaged, or holds no array of numbers, or several of unknown names.
    """
    with unreadable(label):
        if path.suffix == ".npy":
            return with_channels(np.load(path, mmap_mode="r", allow_pickle=False))
        with np.load(path, allow_pickle=False) as arrays:
            return with_channels(arrays[choose(arrays.files, label)])


def unpack(path: Path, target: Path, label: str) -> None:
    """Copies the array of an `.npz`, which holds it as an `.npy` file, in constant memory.

    Args:
        path: of the `.npz`.
        target: of the `.npy`.
        label: what messages call the file.

    Raises:
        UserError: as `read`, or `target` cannot be written.
    """
    with unreadable(label), zipfile.ZipFile(path) as archive:
        members = {member.removesuffix(".npy"): member for member in archive.namelist()}
        chosen = members[choose(list(members), label)]
        with archive.open(chosen) as packed, files.atomic_writer(target) as file:
            shutil.copyfileobj(packed, file, 2**20)


def choose(names: Sequence[str], label: str) -> str:
    """The name of the array to use: the only one, or the first of `NAMES`.

    Raises:
        UserError: there are several arrays of other names, or none.
    """
    known = [name for name in NAMES if name in names]
    if known or len(names) == 1:
        return (known or names)[0]
    found = ", ".join(names) or "none"
    raise UserError(f"{label} holds arrays {found}: name one 'images' or 'fields'")


def with_channels(array: np.ndarray) -> np.ndarray:
    """`[N, H, W]` as `[N, H, W, 1]`; other arrays as they are."""
    return array[..., None] if array.ndim == 3 else array


@contextlib.contextmanager
def unreadable(label: str) -> Iterator[None]:
    """Turns the errors of reading a file into one line that names it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # Damaged files make NumPy raise almost anything.
        raise UserError(f"{label} cannot be read: {one_line(error)}") from error
