"""Writing files whole or not at all."""

import contextlib
import errno
import json
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike

from wmgm_jax.core.errors import UserError


def cache_folder(cache_dir: str) -> Path:
    """The folder of the cache: `cache_dir`, or the user's cache folder if that is empty."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "wmgm_jax"
    return Path(cache_dir or default).expanduser()


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` when the block ends. If the block raises, it does not.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise disk_error(path, error) from error


def disk_error(path: Path, error: OSError) -> UserError:
    """The error for a file that cannot be written."""
    advice = "free some space" if error.errno == errno.ENOSPC else "choose another folder"
    return UserError(f"cannot write {path}: {error.strerror or error}; {advice} and run again")


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all; NaN and infinity become null."""
    write_text(path, json.dumps(_finite(value), indent=2) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text, whole or not at all."""
    with atomic_writer(path) as file:
        file.write(text.encode())


def write_npz(path: Path, **arrays: ArrayLike) -> None:
    """Writes a compressed `.npz`, whole or not at all.

    Raises:
        ValueError: an array holds objects, which could only be pickled.
        UserError: the disk is full or the folder cannot be written.
    """
    with atomic_writer(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
