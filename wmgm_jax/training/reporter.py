"""What a run reports of itself: `metrics.jsonl` always, TensorBoard events where TensorFlow and
CLU are installed, a progress bar on a terminal and log lines elsewhere."""

import contextlib
import functools
import importlib.util
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from wmgm_jax.core.errors import UserError
from wmgm_jax.runs.metrics_file import MetricsFile
from wmgm_jax.systems.interface import Stage

_log = logging.getLogger(__name__)


class Reporter:
    """Gathers the metrics of a stage's steps on the devices, and reports their means."""

    # Calls that the devices may lag behind the host: enough that they never wait for it, few
    # enough that a pre-empted run stops at once.
    _CALLS_AHEAD = 2

    def __init__(self, workdir: Path, name: str, stage: Stage, first_step: int):
        """
        Args:
            workdir: where the files go.
            name, stage: the stage.
            first_step: the step from which the run goes on.
        """
        self._name, self._stage = name, stage
        self._pending: list[tuple[int, Any]] = []
        self._window_start = time.monotonic()
        self._seconds_waited = 0.0
        self._writes = jax.process_index() == 0
        self._bar = tqdm(
            total=stage.settings.num_steps,
            initial=first_step,
            desc=name,
            unit="step",
            dynamic_ncols=True,
            disable=not (self._writes and sys.stderr.isatty()),
        )
        if self._writes:
            self._file = MetricsFile(workdir / "metrics.jsonl", name, first_step)
            self._events = _tensorboard_writer(workdir / "tensorboard" / name)

    def add(self, step: int, metrics: Sequence[Mapping[str, jax.Array]]) -> None:
        """Keeps the metrics of the steps of one call, the first being `step`, as `jax.pmap`
        returned them."""
        self._pending += enumerate(jax.tree.map(lambda x: x.addressable_data(0), metrics), step)
        self._bar.update(len(metrics))
        steps_ahead = self._CALLS_AHEAD * len(metrics)
        if len(self._pending) > steps_ahead:
            jax.block_until_ready(self._pending[-1 - steps_ahead])

    def write_measures(self, step: int, values: Mapping[str, float]) -> None:
        """Writes measures taken after `step` steps."""
        if not self._writes:
            return
        self._write(step, values)
        text = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        _log.info("%s %d: %s", self._name, step, text)

    def report(self) -> None:
        """Writes the means over the steps since the last report.

        Raises:
            UserError: some metric is not finite; the text says which, and at which step.
        """
        if not self._pending:
            return
        window = jax.device_get(self._pending)
        values: dict[str, list[float]] = {}
        for step, metrics in window:
            for metric, value in metrics.items():
                value = float(np.asarray(value).reshape(()))
                if not math.isfinite(value):
                    raise UserError(
                        f"{metric} of stage {self._name} is {value} at step {step + 1}: "
                        "checkpoints of before are kept; lower the learning rate or set "
                        "clip_norm, and run again with another --workdir"
                    )
                values.setdefault(metric, []).append(value)
        seconds = time.monotonic() - self._window_start
        means = {metric: float(np.mean(series)) for metric, series in values.items()}
        means["steps_per_second"] = len(window) / seconds
        means["data_wait"] = self._seconds_waited / seconds
        done = window[-1][0] + 1
        self._pending, self._window_start = [], time.monotonic()
        self._seconds_waited = 0.0
        if self._writes:
            self._publish(done, means)

    def _publish(self, done: int, means: Mapping[str, float]) -> None:
        self._write(done, means)
        # Sorted, for not every objective is updated at every step.
        losses = {name: f"{means[name]:.4g}" for name in sorted(means) if name.endswith("loss")}
        if not self._bar.disable:
            self._bar.set_postfix(losses)
            return
        total, rate = self._stage.settings.num_steps, means["steps_per_second"]
        remaining = tqdm.format_interval((total - done) / rate)
        text = "  ".join(f"{name} {value}" for name, value in losses.items())
        _log.info(
            "%s %d/%d  %.3g steps/s  %s left  %s", self._name, done, total, rate, remaining, text
        )

    def _write(self, step: int, values: Mapping[str, float]) -> None:
        self._file.write(step, values)
        if self._events is not None:
            self._events.write_scalars(step, values)

    def untimed(self, work: Callable[..., None]) -> Callable[..., None]:
        """The same work, whose time does not count in the rate of steps."""

        @functools.wraps(work)
        def timed(*arguments):
            start = time.monotonic()
            work(*arguments)
            self._window_start += time.monotonic() - start

        return timed

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """A block that waits for images, of whose share of the time the next report tells."""
        start = time.monotonic()
        yield
        self._seconds_waited += time.monotonic() - start

    def close(self) -> None:
        self._bar.close()
        if self._writes:
            self._file.close()
            if self._events is not None:
                self._events.close()


def _tensorboard_writer(directory: Path) -> Any | None:
    """CLU's writer of TensorBoard events, or None where it is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("tensorflow", "tensorboard", "clu")):
        return None
    # Of an extra.
    from clu import metric_writers  # pyright: ignore[reportMissingImports]

    return metric_writers.SummaryWriter(str(directory))
