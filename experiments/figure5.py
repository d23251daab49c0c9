"""How Gaussian the bands are (Figure 5 of the paper).

  python -m experiments.figure5                       # on the embedded images, a minute
  python -m experiments.figure5 --config.wavelet.levels=4 --out=DIR
  python -m experiments.figure5 --config=configs/faces128.py --config.data.dir=DIR

Measures how far the image (scale 0), its low bands and its details at every scale are from white
Gaussian noise, in nats per coefficient: both divergences of
`wmgm_jax/evaluation/gaussian_divergence.py`, whose second is Eq. 78. The paper plots whole images;
per coefficient, a band does not come nearer by being smaller. Estimates from too few images are
too small: the table repeats them with half the images, to show how far they have settled. Crops of
the embedded image overlap, and are worth fewer images than they number.

Writes a figure and a table (CSV, Markdown) into --out.
"""

from pathlib import Path

from absl import flags
from matplotlib.figure import Figure

from wmgm_jax import cli, data, runs
from wmgm_jax.evaluation.measures.gaussian_divergence import gaussian_divergences
from wmgm_jax.evaluation.report.figures import write_figure
from wmgm_jax.evaluation.report.plots import BLUE, GREEN, ORANGE, VERMILION
from wmgm_jax.evaluation.report.tables import write_table

STYLES = {
    "LL": {"color": BLUE, "marker": "o"},
    "LH": {"color": ORANGE, "marker": "^"},
    "HL": {"color": GREEN, "marker": "v"},
    "HH": {"color": VERMILION, "marker": "s"},
}

HALF = {"linestyle": ":", "markerfacecolor": "white"}

DIVERGENCES = {
    "to_gaussian": "KL to the Gaussian",
    "from_gaussian": "KL from the Gaussian (Eq. 78)",
}

cli.define_config("configs/colon_ihc.py")
_OUT = flags.DEFINE_string("out", "experiments/results/figure5", "Folder of the results.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 2048, "Training images to measure.", lower_bound=6)


def main() -> None:
    out, config = Path(_OUT.value), cli.given_config()
    train, _ = runs.open_sources(config)
    images = train.codec.to_unit_range(data.spread(train, _NUM_IMAGES.value))
    whole, half = (
        by_band(gaussian_divergences(x, config.wavelet.levels)) for x in (images, images[::2])
    )
    rows = [
        {"scale": scale, "band": band}
        | {DIVERGENCES[name]: values[name] for name in DIVERGENCES}
        | {f"{DIVERGENCES[name]}, half": half[scale, band][name] for name in DIVERGENCES}
        | {"shrinkage": values["shrinkage"], "coefficients": values["coefficients"]}
        | {"images": len(images)}
        for (scale, band), values in whole.items()
    ]
    write_table(out / "divergence", rows)
    write_figure(out / "divergence.png", plot(rows, config.wavelet.levels))


def by_band(tree: dict[str, dict]) -> dict[tuple[int, str], dict[str, float]]:
    """The divergences by scale and band, the image being the low band of scale 0."""
    values = {(0, "LL"): tree.pop("image")}
    for scale, bands in enumerate(tree.values(), start=1):
        values |= {(scale, band): value for band, value in bands.items()}
    return values


def plot(rows: list[dict[str, object]], levels: int) -> Figure:
    figure = Figure(figsize=(7, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, column in zip((left, right), DIVERGENCES.values(), strict=True):
        for band, style in STYLES.items():
            rows_of_band = [row for row in rows if row["band"] == band]
            scales = [row["scale"] for row in rows_of_band]
            for name, look in ((column, {"label": band}), (f"{column}, half", HALF)):
                values = [row[name] for row in rows_of_band]
                axes.plot(scales, values, markersize=4, **style, **look)
        axes.set_title(column)
        axes.set_xlabel("scale")
        axes.set_xticks(range(levels + 1), ["image", *map(str, range(1, levels + 1))])
    left.set_ylim(bottom=0)
    right.set_yscale("log")
    left.set_ylabel("nats per coefficient")
    left.plot([], [], color="0.4", label="half the images", **HALF)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5)
    return figure


if __name__ == "__main__":
    cli.run(main)
