"""Fields: arrays of any number of channels and any range, from `.npy` and `.npz` files.

Files are mapped into memory, never read whole. The source encodes fields with the mean and standard
deviation of its training split; see `core.codec`.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from wmgm_jax.core import files
from wmgm_jax.core.codec import Fields, FieldStatistics
from wmgm_jax.core.errors import UserError
from wmgm_jax.data import array_files
from wmgm_jax.data.array_files import SUFFIXES, ArrayFile
from wmgm_jax.data.splits import SKIPS_PERCENT, log_skips, split_folders, too_many

_CACHE_VERSION = 1  # Raise it whenever the same files would give other statistics.
# Values that are read at a time: 32 MB in float64.
CHUNK = 2**22


@dataclass(frozen=True)
class ArrayFields:
    """The fields of one split, as a `data.Source`.

    Attributes:
        image_shape: (H, W, C).
        codec: with the mean and standard deviation of the training split.
        files: the files of both splits, in order. A field's *place* counts from the first field of
            the first file.
        starts: the place of the first field of each file, and the number of all fields at the end.
        positions: the places of the fields of this split.
    """

    image_shape: tuple[int, int, int]
    codec: Fields
    files: tuple[ArrayFile, ...]
    starts: np.ndarray
    positions: np.ndarray

    def __len__(self) -> int:
        return len(self.positions)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """The fields at `indices` `[B]`, encoded: float32 `[B, H, W, C]` in unit range."""
        places = self.positions[indices]
        owners = np.searchsorted(self.starts, places, side="right") - 1
        fields = np.empty((len(places), *self.image_shape), np.float32)
        for owner in np.unique(owners):
            here = owners == owner
            mapped = array_files.mapped(self.files[owner])
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
    """Opens the fields of one split of a file or of a folder of files.

    Subfolders `train` and `valid` (or `val`, `validation`, `test`) are the splits. Without them the
    hash of its file's name and of its index decides for each field alone: a new field moves no
    other. Fields with NaN or infinity are skipped and logged.

    Args:
        path: an `.npy`; an `.npz` with one array, or with one named `images`, `fields` or `arr_0`;
            or a folder of such files, also in subfolders. Arrays are `[N, H, W]` or `[N, H, W, C]`
            of floating-point numbers or integers.
        split: "train" or "valid".
        shape: (H, W, C) that the fields must have.
        validation_fraction: in (0, 1), the share for validation if subfolders do not decide.
        cache_dir: where unpacked arrays and statistics are kept; "" for the user's cache directory.
        missing_hint: a sentence to append when there is no such file or folder; "" for none.

    Raises:
        UserError: the data is missing, too small, of another shape or type, or has too many fields
            with NaN or infinity.
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
    skips = [(_place(found, starts, i), "it holds NaN or infinity") for i in skipped if chosen[i]]
    log_skips(skips, f"{chosen.sum()} fields")
    chosen[skipped] = False
    if not chosen.any():
        raise UserError(f"{key} has no field for the {split} split: add some")
    return ArrayFields(shape, codec, found, starts, np.flatnonzero(chosen))


# --- files ---------------------------------------------------------------------------------------


def _find(path: str, key: str, missing_hint: str) -> tuple[Path, list[Path], list[Path]]:
    """The folder that names are relative to, and the files of the two splits.

    If subfolders do not decide, the first list holds all files and the second none.
    """
    place, hint = Path(path).expanduser(), f". {missing_hint}" if missing_hint else ""
    if place.is_file() and place.suffix.lower() in SUFFIXES:
        return place.parent, [place], []
    if not place.is_dir():
        wanted = "an .npy file, an .npz file or a folder of them"
        fault = f"is not {wanted}" if place.exists() else f"does not exist: give {wanted}"
        raise UserError(f"{key} {fault}{hint}")
    found = {folder: _list(folder) for folder in split_folders(place) if folder is not None}
    for folder, paths in found.items():
        if not paths:
            raise UserError(f"{key}: folder {str(folder)!r} has no .npy or .npz file{hint}")
    train, valid = [*found.values(), []][:2]
    return place, train, valid


def _list(folder: Path) -> list[Path]:
    found = (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not any(part[0] == "." for part in path.relative_to(folder).parts)
    )
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _npy(root: Path, place: Path, cache: Path, key: str) -> ArrayFile:
    """A file that can be mapped; an `.npz` is unpacked first."""
    status, name = place.stat(), place.relative_to(root).as_posix()
    facts = (status.st_size, status.st_mtime_ns)
    if place.suffix.lower() == ".npy":
        return ArrayFile(name, str(place.resolve()), facts)
    digest = hashlib.sha256(json.dumps([str(place.resolve()), *facts]).encode()).hexdigest()
    file = ArrayFile(name, str(cache / f"unpacked_{digest}.npy"), facts)
    try:
        array_files.mapped(file)
    except (OSError, ValueError):  # There is none yet, or it is damaged.
        array_files.unpack(place, Path(file.path), f"{key}: {name!r}")
    return file


def _check(file: ArrayFile, shape: tuple[int, int, int], key: str) -> int:
    """The number of fields of a file, which must have the shape of the config."""
    with array_files.unreadable(f"{key}: {file.name!r}"):
        array = array_files.mapped(file)
    if not Fields.accepts(array):
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
    found: tuple[ArrayFile, ...], starts: np.ndarray, fraction: float, key: str
) -> np.ndarray:
    """Which fields are for validation, bool `[N]`; each split has at least one."""
    total = int(starts[-1])
    if total < 2:
        raise UserError(f"{key} has {total} fields: give at least two, one to validate on")
    ranks = np.empty(total, np.uint64)
    for file, start, end in zip(found, starts, starts[1:], strict=False):
        # The name of a single file does not count, so that it may be renamed.
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
    found: tuple[ArrayFile, ...], starts: np.ndarray, is_valid: np.ndarray, cache: Path, key: str
) -> tuple[Fields, list[int]]:
    """The codec of the training fields, and the places of the fields with NaN or infinity.

    Reads all fields once, and keeps the result in the cache.
    """
    facts = [_CACHE_VERSION, [[file.path, file.name, *file.facts] for file in found]]
    digest = hashlib.sha256(json.dumps(facts).encode() + np.packbits(is_valid).tobytes())
    path = cache / f"fields_{digest.hexdigest()}.json"
    with contextlib.suppress(FileNotFoundError, ValueError, KeyError):
        record = json.loads(path.read_text())
        return Fields(*(np.array(record[name]) for name in ("mean", "std"))), record["skipped"]

    statistics, skipped, total = FieldStatistics(), [], int(starts[-1])
    with tqdm(total=total, desc="statistics", unit="field", disable=None, delay=1) as bar:
        for first, fields in chunks(found, starts):
            is_finite = np.isfinite(fields).all(axis=(1, 2, 3))
            skipped += (first + np.flatnonzero(~is_finite)).tolist()
            is_used = is_finite & ~is_valid[first : first + len(fields)]
            statistics.add(fields[is_used].reshape(-1, fields.shape[-1]))
            bar.update(len(fields))
    if too_many(len(skipped), total):
        raise UserError(
            f"{key}: {len(skipped)} of {total} fields hold NaN or infinity, over "
            f"{SKIPS_PERCENT}%: remove or repair them, such as {_place(found, starts, skipped[0])}"
        )
    try:
        codec = statistics.codec()
    except ValueError as error:
        raise UserError(f"{key}: {error}") from error
    files.write_json(path, {**codec.units(), "skipped": skipped})
    return codec, skipped


def chunks(found: tuple[ArrayFile, ...], starts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """A few fields at a time: (place of the first, float64 `[n, H, W, C]`)."""
    for file, start in zip(found, starts, strict=False):
        mapped = array_files.mapped(file)
        size = max(1, CHUNK // max(1, int(np.prod(mapped.shape[1:]))))
        for i in range(0, len(mapped), size):
            yield int(start) + i, np.asarray(mapped[i : i + size], np.float64)


def _place(found: tuple[ArrayFile, ...], starts: np.ndarray, i: int) -> str:
    owner = int(np.searchsorted(starts, i, side="right")) - 1
    return f"field {i - starts[owner]} of {found[owner].name!r}"
