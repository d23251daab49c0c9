"""Does the generator's noise matter? The variance over its draws, band by band.

  python -m experiments.details --workdir=runs/colon_ihc

Draws the details of true low bands many times. Where the draws of x_H given x_L have the right
distribution, their variance is what their mean leaves over: E |x_H - E G|^2 = Var G. Less variance
is a generator that ignores its noise, more is one that adds noise of its own. Compares both, for
training and for validation images, augmented as in training, with normalised bands of true low
bands at every scale. Writes a table (CSV, Markdown) and a figure into --out.
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure

from wmgm_jax import cli, data, runs, wavelets
from wmgm_jax.core.errors import UserError
from wmgm_jax.evaluation.measures.spread import spread_by_band
from wmgm_jax.evaluation.report.figures import write_figure
from wmgm_jax.evaluation.report.plots import BLUE, ORANGE
from wmgm_jax.evaluation.report.tables import write_table
from wmgm_jax.systems.statistics import normalise_details

_WORKDIR = flags.DEFINE_string("workdir", None, "The folder of a run of WMGM.", required=True)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 128, "Images of each split.", lower_bound=1)
_DRAWS = flags.DEFINE_integer("draws", 16, "Draws for each image.", lower_bound=2)
_NAME = flags.DEFINE_string("name", None, "Of the table; by default that of the run's folder.")
_OUT = flags.DEFINE_string("out", "experiments/results/details", "Folder of the results.")


def main() -> None:
    workdir = Path(_WORKDIR.value)
    run = runs.open_run(runs.read_config(workdir), workdir)
    if run.config.system != "wmgm":
        raise UserError(f"--workdir={workdir} is a run of another system than WMGM")
    params = runs.load(workdir, ["msal"]).params
    rows = [
        {"images": split, "scale": k, "band": band, **values}
        for split, source in (("training", run.train), ("validation", run.valid))
        for k, by_band in spreads(run, params, source).items()
        for band, values in by_band.items()
    ]
    path = Path(_OUT.value) / (_NAME.value or workdir.resolve().name)
    write_table(path, rows)
    write_figure(path.with_suffix(".png"), bars(rows))


def spreads(run: runs.Run, params, source: data.Source) -> dict[int, dict[str, dict[str, float]]]:
    """By scale and band, in variances of the band over the training set."""
    images = data.batch_at(
        source,
        seed=0,
        step=0,
        batch_size=min(_NUM_IMAGES.value, len(source)),
        augment=run.config.data.augment,
    )
    images = source.codec.to_unit_range(images)
    pyramid = wavelets.pyramid(images, run.config.wavelet.levels)
    return {
        k: spread_by_band(
            np.asarray(normalise_details(details, params["statistics"], k)),
            draws(run, params, low, k),
        )
        for k, (low, details) in enumerate(pyramid, 1)
    }


def draws(run: runs.Run, params, low: jax.Array, k: int) -> np.ndarray:
    """Normalised details `[draws, B, h, w, 3C]` of x_L^k."""

    @jax.jit
    def draw(key):
        keys = jax.random.split(key, len(low))
        details = run.system.msal.generator.generate_details(params, keys, low, k)
        return normalise_details(details, params["statistics"], k)

    return np.stack(
        [np.asarray(draw(key)) for key in jax.random.split(jax.random.key(0), _DRAWS.value)]
    )


def bars(rows: list[dict]) -> Figure:
    """The ratios by scale and band; the dotted lines are 20% off the right one."""
    figure = Figure(figsize=(5, 2.8), layout="constrained")
    axes = figure.subplots()
    labels = list(dict.fromkeys(f"{row['band']}, scale {row['scale']}" for row in rows))
    for i, (split, colour) in enumerate((("training", BLUE), ("validation", ORANGE))):
        ratios = [row["ratio"] for row in rows if row["images"] == split]
        axes.bar(np.arange(len(labels)) + 0.4 * i, ratios, 0.4, color=colour, label=split)
    for level, style in ((0.8, ":"), (1.0, "-"), (1.2, ":")):
        axes.axhline(level, color="black", lw=0.8, ls=style)
    # Room for the legend.
    axes.set_ylim(top=1.25 * max(1.2, *(row["ratio"] for row in rows)))
    axes.set_xticks(np.arange(len(labels)) + 0.2, labels, rotation=30, ha="right")
    axes.set_ylabel("variance / missing")
    axes.legend()
    return figure


if __name__ == "__main__":
    cli.run(main)
