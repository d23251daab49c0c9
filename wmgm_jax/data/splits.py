"""What folders of images and of fields share: the split by subfolders, and files to skip."""

import logging
from collections.abc import Sequence
from pathlib import Path

_log = logging.getLogger(__name__)

VALIDATION_FOLDERS = ("valid", "val", "validation", "test")
# A run stops if more than this share of the data cannot be used.
SKIPS_PERCENT = 5
_SKIPS_NAMED = 10


def split_folders(root: Path) -> tuple[Path, Path | None]:
    """The folders of the training and validation data.

    Returns:
        The subfolders `train` and `valid` (or another of `VALIDATION_FOLDERS`), if there are both.
        Otherwise the one folder that holds both splits, `train` or the root, and None.
    """
    train = root / "train"
    if not train.is_dir():
        return root, None
    return train, next((root / n for n in VALIDATION_FOLDERS if (root / n).is_dir()), None)


def too_many(skips: int, total: int) -> bool:
    """Whether more than `SKIPS_PERCENT` of the data cannot be used."""
    return skips * 100 > total * SKIPS_PERCENT


def log_skips(skips: Sequence[tuple[str, str]], total: str) -> None:
    """Logs what is skipped.

    Args:
        skips: (name, reason) of each.
        total: how many there are of what, such as "120 fields".
    """
    for name, reason in skips[:_SKIPS_NAMED]:
        _log.warning("skipped %s: %s", name, reason)
    if skips:
        _log.warning("skipped %d of %s", len(skips), total)
