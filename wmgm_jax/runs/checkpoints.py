"""Checkpoints of one stage: written whole or not at all, verified when read.

Orbax writes each step into a temporary folder and renames it. Beside the arrays goes a digest of
them, so that damage that still decodes is found too; a damaged checkpoint is passed over for the
one before it.
"""

import contextlib
import errno
import logging
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

from wmgm_jax.core.errors import UserError
from wmgm_jax.core.files import disk_error

_log = logging.getLogger(__name__)


class Checkpoints:
    """The last few checkpoints of one stage, in a folder of their own.

    Each holds two trees of arrays: `model`, nested dictionaries of what sampling needs, and
    `training`, what else it takes to go on training.
    """

    def __init__(self, directory: Path, keep: int | None = None):
        """
        Args:
            directory: made where it does not exist; on shared storage if there are several hosts.
            keep: how many to keep; None keeps all.
        """
        self._directory = directory
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(directory.resolve(), options=options)

    def save(self, step: int, model: Any, training: Any | None = None) -> None:
        """Begins to write one or two trees of NumPy arrays, and returns; see `wait`."""
        if step in self._manager.all_steps():
            self._manager.delete(step)
        trees = {"model": model} | ({} if training is None else {"training": training})
        items: dict[str, ocp.args.CheckpointArgs] = {
            name: ocp.args.StandardSave(tree) for name, tree in trees.items()
        }
        items["digests"] = ocp.args.JsonSave({name: _digest(tree) for name, tree in trees.items()})
        with self._disk_errors():
            # Forced, also below the step of a damaged one that was passed over.
            self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def wait(self) -> None:
        """Blocks until what was saved is on disk."""
        with self._disk_errors():
            self._manager.wait_until_finished()

    def restore(self, training_like: Any | None = None) -> tuple[int, Any, Any] | None:
        """The newest checkpoint that is whole, or None where there is none.

        Args:
            training_like: a tree of `jax.ShapeDtypeStruct` as `training` was saved; None reads
                `model` alone.

        Returns:
            (step, model, training or None), trees of NumPy arrays.

        Raises:
            UserError: there are checkpoints, and none is whole.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                return step, *self._restore_step(step, training_like)
            except Exception as error:  # Whatever a damaged file makes a reader raise.
                reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                damaged = self._directory / str(step)
                _log.warning("checkpoint %s is damaged and passed over: %s", damaged, reason)
        if steps:
            raise UserError(
                f"{self._directory}: all {len(steps)} checkpoints are damaged; move that folder "
                "away, and the command that trained it trains again"
            )
        return None

    def _restore_step(self, step: int, training_like: Any | None) -> tuple[Any, Any | None]:
        wanted = {"model": ocp.args.StandardRestore(), "digests": ocp.args.JsonRestore()}
        if training_like is not None:
            wanted["training"] = ocp.args.StandardRestore(training_like)
        for name in wanted.keys() - {"digests"}:
            _read_through(self._directory / str(step) / name)
        restored = self._manager.restore(step, args=ocp.args.Composite(**wanted))
        trees = {}
        for name in wanted.keys() - {"digests"}:
            trees[name] = jax.tree.map(np.asarray, restored[name])
            if _digest(trees[name]) != restored["digests"][name]:
                raise ValueError(f"the content of {name} does not match its digest")
        return trees["model"], trees.get("training")

    def close(self) -> None:
        with self._disk_errors():
            self._manager.close()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """One line for a full disk, of which Orbax makes errors of several kinds."""
        try:
            yield
        except Exception as error:
            if os.strerror(errno.ENOSPC) not in str(error):
                raise
            full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise disk_error(self._directory, full) from error


def _read_through(folder: Path) -> None:
    """Reads what Orbax is going to read, and raises ValueError where some of it cannot be."""
    # Orbax reads all arrays at once, and where one fails every other prints a traceback.
    store = tensorstore.KvStore.open({"driver": "ocdbt", "base": folder.resolve().as_uri() + "/"})
    try:
        store = store.result()
        # What lies in a missing file is read as nothing.
        whole = all(store.read(key).result().value for key in store.list().result())
    except ValueError:
        whole = False
    if not whole:
        raise ValueError(f"files of {folder.name} are damaged or missing")


def _digest(tree: Any) -> int:
    value = 0
    for leaf in jax.tree.leaves(tree):
        value = zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).reshape(-1).data, value)
    return value
