"""How sparse the details are (Figure 6 of the paper).

  python -m experiments.figure6                       # on the embedded images, seconds
  python -m experiments.figure6 --config=configs/faces128.py --config.data.dir=DIR

Counts the share of detail coefficients with |x_H| <= t (Eq. 62) at every scale, of images in
[0, 1], beside that of Gaussian coefficients of the same variance: what is sparse has more
coefficients next to nothing than a Gaussian has. Writes a figure and a table (CSV, Markdown) into
--out.
"""

from pathlib import Path

import numpy as np
import scipy.stats
from absl import flags
from matplotlib.figure import Figure

from wmgm_jax import cli, data, runs, wavelets
from wmgm_jax.evaluation.measures.sparsity import sparsity
from wmgm_jax.evaluation.report.figures import write_figure
from wmgm_jax.evaluation.report.plots import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION
from wmgm_jax.evaluation.report.tables import write_table

THRESHOLDS = np.array([0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)

cli.define_config("configs/colon_ihc.py")
_OUT = flags.DEFINE_string("out", "experiments/results/figure6", "Folder of the results.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 2048, "Training images to measure.", lower_bound=1)


def main() -> None:
    out, config = Path(_OUT.value), cli.given_config()
    train, _ = runs.open_sources(config)
    images = train.codec.to_unit_range(data.spread(train, _NUM_IMAGES.value))
    levels = config.wavelet.levels
    deviations = [
        np.sqrt(np.mean(np.square(details, dtype=np.float64))) / 2
        for _, details in wavelets.pyramid(images, levels)
    ]
    columns = {"t": THRESHOLDS}
    for scale, shares in enumerate(sparsity(images, levels, THRESHOLDS), start=1):
        columns[f"scale {scale}"] = shares
        columns[f"scale {scale}, Gaussian"] = gaussian(THRESHOLDS, deviations[scale - 1])
    rows = [
        {name: float(column[i]) for name, column in columns.items()} for i in range(len(THRESHOLDS))
    ]
    write_table(out / "sparsity", rows)
    write_figure(out / "sparsity.png", plot(images, levels, deviations))


def gaussian(thresholds: np.ndarray, deviation: float) -> np.ndarray:
    """The share of N(0, deviation^2) within each threshold."""
    return 2 * scipy.stats.norm.cdf(thresholds / deviation) - 1


def plot(images: np.ndarray, levels: int, deviations: list[float]) -> Figure:
    thresholds = np.geomspace(2e-3, 1, 1000)
    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axes = figure.subplots()
    for scale, shares in enumerate(sparsity(images, levels, thresholds), start=1):
        colour = COLOURS[(scale - 1) % len(COLOURS)]
        axes.plot(thresholds, shares, color=colour, label=f"scale {scale}")
        same_variance = gaussian(thresholds, deviations[scale - 1])
        axes.plot(thresholds, same_variance, color=colour, linestyle=":", label="  as a Gaussian")
    axes.set_xscale("log")
    axes.set_xlabel("threshold t, of images in [0, 1]")
    axes.set_ylabel(r"share of details with $|x_H| \leq t$")
    axes.set_ylim(0, 1.02)
    axes.margins(x=0)
    axes.legend()
    return figure


if __name__ == "__main__":
    cli.run(main)
