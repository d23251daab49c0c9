"""Table 1: SGM, WSGM, WMGM (paper) and WMGM at 16 steps, WaveDiff at 4 - quality, size, work, time,
memory. "WMGM (paper)" has the paper's own losses of the details.

  python -m experiments.table1 --config=configs/faces128.py --config.data.dir=DIR --scale=small
  python -m experiments.table1 --config=configs/faces128.py --config.data.dir=DIR --scale=paper \\
      --minutes=10                  # in pieces: start it again until the table is written
  python -m experiments.table1 --config=configs/afhq_cat.py --scale=paper --untrained \\
      --images=2 --trials=3         # sizes and times alone, of networks that have learnt nothing

Trains the systems on the images of --config, each in a folder of its own below --workdir, measures
and times each, and does nothing again that an earlier call has done. The rows of systems that are
not in --systems stay as they are; the columns "training TFLOP" and "feature network" tell whether
they can be compared. At the scales "small" and "tiny" all get the same budget of training FLOPs; at
"paper" the networks and steps of their papers for 128x128, whatever the size of the images.
Sampling is timed after compiling, as the median of --trials draws of --images images, each one
program; peak memory is what XLA plans for it. Writes a table (CSV, Markdown) and a picture into
--out, samples of a system in every row of it, and for each system a sheet of up to 1,024 uncurated
samples, 32 in a row. The columns "paper: ..." are those of the paper's Table 1, CelebA-HQ (5K) on
an NVIDIA V100, for 100 images; WaveDiff is not in it.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from absl import flags
from ml_collections import ConfigDict
from PIL import Image

from experiments import comparison, measuring
from wmgm_jax import cli, runs
from wmgm_jax.core.pictures import write_png
from wmgm_jax.evaluation import Measures
from wmgm_jax.evaluation.learned.load import load_of_config
from wmgm_jax.evaluation.report.figures import rows_of_images, write_figure
from wmgm_jax.evaluation.report.tables import headlines, read_table, write_table
from wmgm_jax.runs import untrained

PAPER = {
    label: {
        "paper: FID": fid,
        "paper: parameters": parameters,
        "paper: s for 100 images": seconds,
    }
    for label, fid, parameters, seconds in (
        ("SGM", 90.83, "160M", 15.093),
        ("WSGM", 49.97, "351M", 11.097),
        ("WMGM (paper)", 30.58, "89M", 2.31),
    )
}

_TEXTS = ("system", "feature network", "paper: parameters")

cli.define_config("configs/colon_ihc.py")
flags.adopt_module_key_flags(comparison)
flags.adopt_module_key_flags(measuring)
_UNTRAINED = flags.DEFINE_bool("untrained", False, "Time networks as they are initialised.")
_OUT = flags.DEFINE_string("out", "experiments/results/table1", "Folder of the results.")


def main() -> None:
    comparison.stop_in_time()
    table = Path(_OUT.value) / (comparison.SCALE.value + ("_untrained" if _UNTRAINED.value else ""))
    configs = comparison.contenders(comparison.given_config("wmgm"))
    rows = {known["system"]: known for known in read_table(table, _TEXTS)}
    for name, config in configs.items():
        label = comparison.CONTENDERS[name].label
        if _UNTRAINED.value:
            cost, _ = measuring.timed(untrained.model(config))
            rows[label] = row(label, config, cost)
        else:
            run = comparison.trained(config, name)
            model = measuring.trained_model(run)
            measures = measuring.evaluated(model, run)
            cost, _ = measuring.timed_once(model, run.workdir / "timing")
            write_png(sheet_path(table, name), sheet(run.workdir / "samples"))
            rows[label] = row(label, config, cost | quality(run, measures))
        labels = [contender.label for contender in comparison.CONTENDERS.values()]
        write_table(table, [rows[label] for label in labels if label in rows])
    if not _UNTRAINED.value:
        height, width = next(iter(configs.values())).data.image_size
        pictures = {
            contender.label: tiles(sheet_path(table, name), height, width)[: measuring.SHOWN]
            for name, contender in comparison.CONTENDERS.items()
            if sheet_path(table, name).exists()
        }
        write_figure(table.with_suffix(".png"), rows_of_images(pictures))


def sheet_path(table: Path, name: str) -> Path:
    """Of the sheet of a system, a key of `comparison.CONTENDERS`."""
    return table.with_name(f"{table.name}_{name}.png")


def tiles(path: Path, height: int, width: int) -> np.ndarray:
    """The images of a sheet, row by row, uint8 `[N, H, W, C]`."""
    picture = np.atleast_3d(np.asarray(Image.open(path)))
    rows, columns = picture.shape[0] // height, picture.shape[1] // width
    images = picture.reshape(rows, height, columns, width, -1).swapaxes(1, 2)
    return images.reshape(rows * columns, height, width, -1)


def sheet(samples: Path) -> np.ndarray:
    """The first samples of an evaluation, uncurated, as a square of at most 32x32 without margins.

    Args:
        samples: the folder of the run's samples.

    Returns:
        uint8 `[rows H, columns W, C]`.
    """
    images = np.load(samples / "evaluated.npy", mmap_mode="r", allow_pickle=False)
    side = min(32, math.isqrt(len(images)))
    rows = images[: side**2].reshape(side, side, *images.shape[1:])
    return rows.swapaxes(1, 2).reshape(side * images.shape[1], side * images.shape[2], -1)


def quality(run: runs.Run, measures: Measures) -> dict[str, object]:
    """The columns of a trained system: its measures, what took them, and its training."""
    network = load_of_config(run.config, run.train)
    return {
        **headlines(measures),
        **({} if network is None else {"feature network": network.sha256[:8]}),
        **comparison.training_cost(run.config),
    }


def row(label: str, config: ConfigDict, columns: Mapping[str, object]) -> dict[str, object]:
    return {"system": label, **measuring.size(config), **columns, **PAPER.get(label, {})}


if __name__ == "__main__":
    cli.run(main)
