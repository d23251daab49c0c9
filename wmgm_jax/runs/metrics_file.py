"""`metrics.jsonl`: what a run has measured, a JSON object a line."""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wmgm_jax.core.files import atomic_writer, disk_error


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a `metrics.jsonl`; none where there is no such file."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().splitlines():
        with contextlib.suppress(ValueError):  # torn by a kill
            records.append(json.loads(line))
    return records


class MetricsFile:
    """`metrics.jsonl`: one JSON object a line, each with `stage` and `step`."""

    def __init__(self, path: Path, stage: str, first_step: int):
        """Opens the file to append, less what a killed run wrote beyond its last checkpoint.

        Args:
            path: the file.
            stage: name of the stage that reports.
            first_step: the step from which the run goes on.
        """
        self._path, self._stage = path, stage
        if path.exists():
            lines = path.read_bytes().splitlines(keepends=True)
            with atomic_writer(path) as file:
                file.writelines(line for line in lines if self._keeps(line, first_step))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", buffering=1)
        except OSError as error:
            raise disk_error(path, error) from error

    def _keeps(self, line: bytes, first_step: int) -> bool:
        try:
            record = json.loads(line)
            return record["stage"] != self._stage or record["step"] <= first_step
        except (ValueError, KeyError, TypeError):
            return False  # torn by a kill

    def write(self, step: int, values: Mapping[str, float]) -> None:
        try:
            self._file.write(json.dumps({"stage": self._stage, "step": step, **values}) + "\n")
        except OSError as error:
            raise disk_error(self._path, error) from error

    def close(self) -> None:
        self._file.close()
