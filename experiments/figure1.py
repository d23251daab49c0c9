"""Details drown in the noise before the low band does (Figure 1 of the paper).

  python -m experiments.figure1                       # on the embedded images, seconds
  python -m experiments.figure1 --config=configs/faces128.py --config.data.dir=DIR

Draws a few wavelet coefficients on their way through the paper's forward process (Eq. 12 with
g = 1) and marks when noise and signal are equal, alpha^2 Var[x] = sigma^2: at

    t = 1/2 log(1 + Var[x]),

Var[x] being measured, for every band, on images in [-1, 1]. Writes a picture of the trajectories
and a table of the crossing times (CSV, Markdown) into --out.
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from wmgm_jax import cli, data, runs
from wmgm_jax.diffusion.process import OUProcess
from wmgm_jax.evaluation.measures.marginals import named_bands
from wmgm_jax.evaluation.report.figures import write_figure
from wmgm_jax.evaluation.report.plots import BLUE, GREEN, ORANGE
from wmgm_jax.evaluation.report.tables import write_table

CURVES = 10
FIRST_TIME = 1e-5

cli.define_config("configs/colon_ihc.py")
_OUT = flags.DEFINE_string("out", "experiments/results/figure1", "Folder of the results.")
_NUM_IMAGES = flags.DEFINE_integer(
    "num_images", 2048, "Training images to measure the bands on.", lower_bound=1
)


def main() -> None:
    out, config = Path(_OUT.value), cli.given_config()
    train, _ = runs.open_sources(config)
    images = train.codec.to_unit_range(data.spread(train, _NUM_IMAGES.value))
    bands = named_bands(images, config.wavelet.levels)
    process = OUProcess("constant")
    times = np.geomspace(FIRST_TIME, process.T, 200)
    random = np.random.default_rng(config.seed)

    rows = []
    figure = Figure(figsize=(9, 2.2 * len(bands) + 0.4), layout="constrained")
    grid = figure.subplots(len(bands), 4, sharex=True, sharey=True, squeeze=False)
    for axes_of_scale, (scale, bands_of_scale) in zip(grid, bands.items(), strict=True):
        for axes, (band, coefficients) in zip(axes_of_scale, bands_of_scale.items(), strict=True):
            variance = float(coefficients.var(axis=(0, 1, 2), dtype=np.float64).mean())
            crossing = float(np.log1p(variance) / 2)
            rows.append({"scale": scale[-1], "band": band, "variance": variance, "t": crossing})
            start = random.choice(coefficients.ravel(), CURVES)
            draw(axes, times, trajectories(process, start, times, random), variance, crossing)
            axes.set_title(f"{band}, scale {scale[-1]}: t = {crossing:.3g}")
    write_table(out / "crossing_times", rows)
    label(figure, grid)
    write_figure(out / "trajectories.png", figure)


def trajectories(
    process: OUProcess, start: np.ndarray, times: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Paths of the process from `start` `[N]` at time 0, at `times` `[T]`: `[T, N]`.

    A step of a process with g = 1 is a draw of the forward marginal over that time, without error.
    """
    x, path = start, []
    for elapsed in np.diff(times, prepend=0.0):
        noise = random.standard_normal(len(x))
        x = process.alpha(elapsed) * x + process.sigma(elapsed) * noise
        path.append(x)
    return np.array(jax.device_get(path))


def draw(axes, times: np.ndarray, paths: np.ndarray, variance: float, crossing: float) -> None:
    axes.plot(times, paths, color="0.65", linewidth=0.5, label="coefficients")
    signal, noise = np.exp(-times) * variance**0.5, np.sqrt(-np.expm1(-2 * times))
    for sign in (1, -1):
        axes.plot(times, sign * signal, color=BLUE, label="signal, ± deviation")
        axes.plot(times, sign * noise, color=ORANGE, label="noise, ± deviation")
    axes.axvline(crossing, color=GREEN, linestyle="--", label="equal")
    axes.set_xscale("log")
    axes.set_xlim(times[0], times[-1])
    axes.set_xticks([1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1])
    axes.minorticks_off()


def label(figure: Figure, grid: np.ndarray) -> None:
    for axes in grid[-1]:
        axes.set_xlabel("time t")
    for axes in grid[:, 0]:
        axes.set_ylabel("coefficient")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside upper center", ncols=4)


if __name__ == "__main__":
    cli.run(main)
