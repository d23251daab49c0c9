"""Fields: float arrays of any channels and range, read from `.npy` and `.npz` files.

Files are mapped into memory, never read whole. Fields reach the model brought to unit range by
their own statistics, and samples leave it in the units of the data; see `units`.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from wmgm_jax.core import files
from wmgm_jax.core.codec import Fields, FieldStatistics
from wmgm_jax.core.errors import UserError, one_line
from wmgm_jax.data.folder import SKIPS_NAMED, SKIPS_PERCENT, VALIDATION_FOLDERS

_log = logging.getLogger(__name__)

_CACHE_VERSION = 1  # To be raised whenever the same files would give other statistics.
_SUFFIXES = (".npy", ".npz")
# Values that are read at a time: 32 MB in float64.
_CHUNK = 2**22
# Mapped at a time, for every map holds a file descriptor.
_MAPPED = 64


class _File(NamedTuple):
    """An `.npy` file as it was found.

    Attributes:
        name: what messages call it, and decides with the index which split a field belongs to.
        path: where it lies; for an `.npz`, where its array has been unpacked to.
        facts: size and time stamp of what the user gave.
    """

    name: str
    path: str
    facts: tuple[int, int]


@dataclass(frozen=True)
class ArrayFields:
    """The fields of one split; a `data.Source`.

    Attributes:
        image_shape: (H, W, C).
        codec: with the mean and standard deviation of the training split.
        files: where the fields of both splits are, one file after the other.
        starts: the place of the first field of every file, and their number at the end.
        positions: the places of the fields of this split.
    """

    image_shape: tuple[int, int, int]
    codec: Fields
    files: tuple[_File, ...]
    starts: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The fields at `indices` `[B]` in unit range, float32 `[B, H, W, C]`."""
        places = self.positions[indices]
        owners = np.searchsorted(self.starts, places, side="right") - 1
        fields = np.empty((len(places), *self.image_shape), np.float32)
        for owner in np.unique(owners):
            here = owners == owner
            mapped = _map(self.files[owner])
            fields[here] = self.codec.encode(mapped[places[here] - self.starts[owner]])
        return fields


def open_arrays(
    path: str,
    *,
    split: str,
    shape: tuple[int, int, int],
    validation_fraction: float,
    cache_dir: str,
    missing_hint: str,
) -> ArrayFields:
    """The fields of one split of a file or of a folder of files.

    Subfolders named `train` and `valid` (or `val`, `validation`, `test`) are the split. Without
    them a hash of its file's name and its index decides for each field alone, so that adding one
    moves no other. Fields that are not finite are skipped, as are images that cannot be read.

    Args:
        path: an `.npy`; an `.npz` with one array, or with one named `images`, `fields` or `arr_0`;
            or a folder of such files, of any nesting, taken one after the other. Every array is
            `[N, H, W]` or `[N, H, W, C]`, of floating-point numbers or integers.
        split: "train" or "valid".
        shape: (H, W, C) that the fields must have.
        validation_fraction: in (0, 1), the share set aside where the data has no split of its own.
        cache_dir: where unpacked arrays and statistics are kept; "" for the user's cache directory.
        missing_hint: a sentence to append when there is no such file or folder; "" for none.

    Raises:
        UserError: the data is missing, too small, of another shape or type, or not finite.
    """
    key = f"--config.data.source 'array:{path}'"
    root, train, valid = _find(path, key, missing_hint)
    cache = files.cache_folder(cache_dir)
    found = tuple(_npy(root, place, cache, key) for place in [*train, *valid])
    starts = np.cumsum([0, *(_check(file, shape, key) for file in found)])
    if valid:
        is_valid = np.arange(starts[-1]) >= starts[len(train)]
    else:
        is_valid = _held_out(found, starts, validation_fraction, key)
    codec, skipped = _survey(found, starts, is_valid, cache, key)

    chosen = is_valid == (split == "valid")
    _log_skips(found, starts, [i for i in skipped if chosen[i]], int(chosen.sum()))
    chosen[skipped] = False
    if not chosen.any():
        raise UserError(f"{key} has no field for the {split} split: add some")
    return ArrayFields(shape, codec, found, starts, np.flatnonzero(chosen))


# --- files ---------------------------------------------------------------------------------------


def _find(path: str, key: str, missing_hint: str) -> tuple[Path, list[Path], list[Path]]:
    """What names are relative to, and the files of the two splits, or of both and none."""
    place, hint = Path(path).expanduser(), f". {missing_hint}" if missing_hint else ""
    if place.is_file() and place.suffix.lower() in _SUFFIXES:
        return place.parent, [place], []
    if not place.is_dir():
        fault = "is neither" if place.exists() else "does not exist, as"
        raise UserError(f"{key} {fault} an .npy file, an .npz file or a folder of them{hint}")
    held_out = None
    if (place / "train").is_dir():
        held_out = next((place / n for n in VALIDATION_FOLDERS if (place / n).is_dir()), None)
    train = _list(place / "train" if (place / "train").is_dir() else place)
    valid = _list(held_out) if held_out else []
    for folder, listed in ((place, train), *([(held_out, valid)] if held_out else [])):
        if not listed:
            raise UserError(f"{key}: folder {str(folder)!r} has no .npy or .npz file{hint}")
    return place, train, valid


def _list(folder: Path) -> list[Path]:
    found = (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES
        and path.is_file()
        and not any(part[0] == "." for part in path.relative_to(folder).parts)
    )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _npy(root: Path, place: Path, cache: Path, key: str) -> _File:
    """A file that can be mapped, unpacked first if it is an `.npz`."""
    status, name = place.stat(), place.relative_to(root).as_posix()
    facts = (status.st_size, status.st_mtime_ns)
    if place.suffix.lower() == ".npy":
        return _File(name, str(place.resolve()), facts)
    digest = hashlib.sha256(json.dumps([str(place.resolve()), *facts]).encode()).hexdigest()
    file = _File(name, str(cache / f"unpacked_{digest}.npy"), facts)
    try:
        _map(file)
    except (OSError, ValueError):  # There is none yet, or it is damaged.
        _unpack(place, Path(file.path), name, key)
    return file


def _unpack(place: Path, target: Path, name: str, key: str) -> None:
    """Copies the array of an `.npz`, which holds it as an `.npy` file, in constant memory."""
    try:
        with zipfile.ZipFile(place) as archive:
            members = {member.removesuffix(".npy"): member for member in archive.namelist()}
            known = [n for n in ("images", "fields", "arr_0") if n in members]
            if not known and len(members) != 1:
                raise UserError(
                    f"{key}: {name!r} holds arrays {', '.join(members) or 'none'}: name one "
                    "'images' or 'fields'"
                )
            chosen = members[known[0]] if known else next(iter(members.values()))
            with archive.open(chosen) as packed, files.atomic_writer(target) as file:
                shutil.copyfileobj(packed, file, 2**20)
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise UserError(f"{key}: {name!r} cannot be read: {one_line(error)}") from error


@functools.lru_cache(maxsize=_MAPPED)
def _map(file: _File) -> np.ndarray:
    """The array of a file, `[N, H, W, C]`, of which nothing has been read yet."""
    array = np.load(file.path, mmap_mode="r", allow_pickle=False)
    return array[..., None] if array.ndim == 3 else array


def _check(file: _File, shape: tuple[int, int, int], key: str) -> int:
    """The number of fields of a file, which must have the shape of the config."""
    try:
        array = _map(file)
    except Exception as error:  # Damaged files make NumPy raise almost anything.
        raise UserError(f"{key}: {file.name!r} cannot be read: {one_line(error)}") from error
    if array.ndim != 4 or array.dtype.kind not in "fiu":
        raise UserError(
            f"{key}: {file.name!r} holds {array.dtype} {list(array.shape)}: give floating-point "
            "numbers or integers, [N, H, W] or [N, H, W, C]"
        )
    count, *found = array.shape
    if tuple(found) != shape:
        height, width, channels = found
        raise UserError(
            f"{key}: {file.name!r} holds {count} fields of {height}x{width} with {channels} "
            f"channels, not of {shape[0]}x{shape[1]} with {shape[2]}: set "
            f'--config.data.image_size="({height},{width})" --config.data.channels={channels}'
        )
    return count


# --- the split -----------------------------------------------------------------------------------


def _held_out(
    found: tuple[_File, ...], starts: np.ndarray, fraction: float, key: str
) -> np.ndarray:
    """Which fields are for validation, bool `[N]`: of both splits at least one."""
    total = int(starts[-1])
    if total < 2:
        raise UserError(f"{key} has {total} fields: give at least two, one to validate on")
    ranks = np.empty(total, np.uint64)
    for file, start, end in zip(found, starts, starts[1:], strict=False):
        # Of a single file the name means nothing, so that it may be renamed.
        name = os.fsencode(file.name) if len(found) > 1 else b""
        for i in range(end - start):
            digest = hashlib.sha256(b"%s/%d" % (name, i)).digest()
            ranks[start + i] = int.from_bytes(digest[:8], "big")
    count = int(np.sum(ranks < np.uint64(fraction * 2**64)))
    is_valid = np.zeros(total, bool)
    is_valid[np.argsort(ranks, kind="stable")[: min(max(count, 1), total - 1)]] = True
    return is_valid


# --- statistics ----------------------------------------------------------------------------------


def _survey(
    found: tuple[_File, ...], starts: np.ndarray, is_valid: np.ndarray, cache: Path, key: str
) -> tuple[Fields, list[int]]:
    """The codec of the training fields, and the places of the fields that are not finite.

    Reads everything once; what it finds is kept in the cache.
    """
    facts = [_CACHE_VERSION, [[file.path, file.name, *file.facts] for file in found]]
    digest = hashlib.sha256(json.dumps(facts).encode() + np.packbits(is_valid).tobytes())
    path = cache / f"fields_{digest.hexdigest()}.json"
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        record = json.loads(path.read_text())
        return Fields(*(np.array(record[name]) for name in ("mean", "std"))), record["skipped"]

    statistics, skipped, total = FieldStatistics(), [], int(starts[-1])
    with tqdm(total=total, desc="measuring", unit="field", disable=None, delay=1) as bar:
        for first, fields in _chunks(found, starts):
            is_finite = np.isfinite(fields).all(axis=(1, 2, 3))
            skipped += (first + np.flatnonzero(~is_finite)).tolist()
            is_used = is_finite & ~is_valid[first : first + len(fields)]
            statistics.add(fields[is_used].reshape(-1, fields.shape[-1]))
            bar.update(len(fields))
    if len(skipped) * 100 > total * SKIPS_PERCENT:
        raise UserError(
            f"{key}: {len(skipped)} of {total} fields hold values that are not finite, over "
            f"{SKIPS_PERCENT}%: remove or repair them, such as {_place(found, starts, skipped[0])}"
        )
    try:
        codec = statistics.codec()
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error
    files.write_json(path, {**codec.units(), "skipped": skipped})
    return codec, skipped


def _chunks(found: tuple[_File, ...], starts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(place of the first, float64 `[n, H, W, C]`) of a few fields at a time."""
    for file, start in zip(found, starts, strict=False):
        mapped = _map(file)
        size = max(1, _CHUNK // max(1, int(np.prod(mapped.shape[1:]))))
        for i in range(0, len(mapped), size):
            yield int(start) + i, np.asarray(mapped[i : i + size], np.float64)


def _place(found: tuple[_File, ...], starts: np.ndarray, i: int) -> str:
    owner = int(np.searchsorted(starts, i, side="right")) - 1
    return f"field {i - starts[owner]} of {found[owner].name!r}"


def _log_skips(
    found: tuple[_File, ...], starts: np.ndarray, skipped: list[int], total: int
) -> None:
    for i in skipped[:SKIPS_NAMED]:
        _log.warning("skipped %s: it holds values that are not finite", _place(found, starts, i))
    if skipped:
        _log.warning("skipped %d of %d fields", len(skipped), total)
