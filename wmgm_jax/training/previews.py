"""What a stage has learnt so far: pictures, quick measures, and the best checkpoint."""

import functools
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from wmgm_jax import data
from wmgm_jax.core.devices import dividing, over_devices
from wmgm_jax.core.pictures import enlarge, image_grid, write_png
from wmgm_jax.evaluation import quick_measures
from wmgm_jax.runs.checkpoints import Checkpoints
from wmgm_jax.runs.metrics_file import read_metrics
from wmgm_jax.runs.run import Run
from wmgm_jax.systems.interface import Stage


class Previews:
    """Compares what a stage generates with what it should generate, during training."""

    def __init__(self, run: Run, name: str, stage: Stage, first_step: int):
        """
        Args:
            run: the run.
            name, stage: the stage.
            first_step: the step from which the run continues.
        """
        self._run, self._name, self._stage = run, name, stage

        def compare(model, batch):
            return stage.generated_and_target(model, *batch)

        # One for each set of devices: previews and measures may use different numbers of images.
        self._compare = functools.cache(functools.partial(over_devices, compare))
        self._measure = run.config.evaluation.best_measure
        self._checkpoints = Checkpoints(run.workdir / "best" / name, keep=1)
        self._least = min(
            (
                record[self._measure]
                for record in read_metrics(run.workdir / "metrics.jsonl")
                if record["stage"] == name
                and record["step"] <= first_step
                and self._measure in record
            ),
            default=np.inf,
        )

    def write(self, step: int, model: Any) -> None:
        """Writes pictures to `samples/<stage>_<step>.png`.

        Args:
            step: steps taken.
            model: the stage's entries and `statistics` in the parameters of the model.
        """
        pictures = self._pictures(model, self._run.config.train.preview_images)
        shown, true = (self._run.valid.codec.to_visible(enlarge(picture)) for picture in pictures)
        margin = 2
        if self._stage.is_paired:
            gap = np.full_like(true[:, :, :3], 255)
            shown, margin = np.concatenate([true, gap, shown], axis=2), 2 * gap.shape[2]
        path = self._run.workdir / "samples" / f"{self._name}_{step:07d}.png"
        write_png(path, image_grid(shown, margin=margin))

    def measure(self, model: Any) -> dict[str, float]:
        """`evaluation.quick_measures` of validation images."""
        generated, true = self._pictures(model, self._run.config.evaluation.every_images)
        return quick_measures(generated, true, self._run.valid.codec, self._stage.is_paired)

    def keep_best(self, step: int, values: dict[str, float], tree: Any) -> None:
        """Saves a checkpoint to `best/<stage>` if its measure is less than any before.

        Args:
            step: steps taken.
            values: of `measure`, on the first host; it tells the others.
            tree: the `model` tree of a checkpoint.
        """
        value = np.float64(values.get(self._measure, np.inf))
        if jax.process_count() > 1:
            value = multihost_utils.broadcast_one_to_all(value)
        if value < self._least:
            self._least = value
            self._checkpoints.save(step, tree)
            self._checkpoints.wait()

    def close(self) -> None:
        """Waits until checkpoints are written."""
        self._checkpoints.close()

    def _pictures(self, model: Any, count: int) -> list[np.ndarray]:
        """(generated, true) `[N, h, w, C]`, of at most `count` validation images, encoded."""
        codec = self._run.valid.codec
        batch_size = min(count, len(self._run.valid), self._run.config.sampling.batch_size)
        # Whole batches, so that one program serves them all.
        count = min(count, len(self._run.valid)) // batch_size * batch_size
        images = codec.to_unit_range(data.spread(self._run.valid, count))
        keys = jax.random.split(jax.random.key(self._run.config.seed), count)
        compare = self._compare(dividing(batch_size))
        pictures = compare.in_batches(model, (keys, images), batch_size)
        return [codec.encode_unit_range(picture) for picture in pictures]
