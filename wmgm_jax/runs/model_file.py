"""A trained model as a small folder: `config.json`, as in a run, and its parameters in one file.

Models that come with the package are such folders, and so is whatever `write` makes. `load` reads
them like runs. `model.npz` holds what the run's checkpoints hold for sampling, by stage: moving
averages of the parameters and of batch norm, statistics of the training set, and the step. It may
hold discriminators, for runs that start from it, but no optimizers.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from wmgm_jax.config import compatibility
from wmgm_jax.core import files
from wmgm_jax.core.errors import UserError, one_line

FILE = "model.npz"
PREFIX = "pretrained:"
PRETRAINED = Path(__file__).resolve().parents[1] / "pretrained_models"

# What a damaged file makes its reader raise.
_DAMAGE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error),
    *(ValueError, KeyError, AttributeError, TypeError),
)

# (step, `model` tree of a checkpoint): `params` by objective, `batch_stats`, `statistics`.
StageModel = tuple[int, dict[str, Any]]


def names() -> list[str]:
    """The models that come with the package."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{FILE}"))


def pretrained_name(workdir: str | Path) -> str | None:
    """NAME of `pretrained:NAME`; None for the path of a folder."""
    text = str(workdir)
    return text.removeprefix(PREFIX) if text.startswith(PREFIX) else None


def folder_of(workdir: str | Path) -> Path:
    """The folder that `--workdir` and `load` mean: a path, or a model in the package.

    Args:
        workdir: a path, or `pretrained:NAME`.

    Raises:
        UserError: the package has no model of that name.
    """
    name = pretrained_name(workdir)
    if name is None:
        return Path(workdir)
    if name not in names():
        known = ", ".join(names()) or "none"
        raise UserError(f"there is no pretrained model {name!r}; those that exist: {known}")
    return PRETRAINED / name


def in_half_precision(model: Mapping[str, Any]) -> dict[str, Any]:
    """A `model` tree whose kernels are float16, which halves the size of its file.

    Vectors, batch-norm averages and statistics stay as they are, and so does a kernel with a number
    that float16 cannot hold.
    """

    def cast(leaf: np.ndarray) -> np.ndarray:
        leaf = np.asarray(leaf)
        if leaf.dtype != np.float32 or leaf.ndim < 2:
            return leaf
        with np.errstate(over="ignore"):
            half = leaf.astype(np.float16)
        return half if np.isfinite(half).all() else leaf

    return {**model, "params": jax.tree.map(cast, model["params"])}


def write(folder: Path, config: ConfigDict, stages: Mapping[str, StageModel]) -> None:
    """Writes a model that `load` reads.

    Args:
        folder: where `config.json` and `model.npz` go.
        config: of the model.
        stages: every stage of its system, by name; see `in_half_precision`.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    tree = {name: {"step": np.int64(step), **model} for name, (step, model) in stages.items()}
    arrays: dict[str, Any] = traverse_util.flatten_dict(tree, sep="/")
    files.write_json(folder / "config.json", compatibility.to_json(config))
    files.write_npz(folder / FILE, **arrays)


def exists(folder: Path) -> bool:
    """Whether a folder holds a model that `write` wrote, and not a run."""
    return (folder / FILE).exists()


def read(folder: Path) -> dict[str, StageModel] | None:
    """What `write` wrote, by stage, all of it in float32. None where the folder has no model file.

    Raises:
        UserError: the file is damaged.
    """
    if not exists(folder):
        return None
    path = folder / FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            flat = {name: _single_precision(arrays[name]) for name in arrays.files}
        tree = traverse_util.unflatten_dict(flat, sep="/")
        return {
            name: (int(entries.pop("step")), {"batch_stats": {}, **entries})
            for name, entries in tree.items()
        }
    except _DAMAGE as error:
        raise UserError(f"{path} is damaged: {one_line(error)}") from error


def _single_precision(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype == np.float16 else x
