"""Does every measure notice what it should, and nothing where there is nothing?

  python -m experiments.measures                      # on the embedded image
  python -m experiments.measures --config=configs/faces128.py --config.data.dir=DIR

Splits the training images of a data set in two halves. One is the reference; the other is measured
as it is, and after blur, noise and JPEG compression of growing strength. A measure should be near 0
for the untouched half and grow with every distortion. Writes a table (CSV, Markdown) and curves
into --out.
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from wmgm_jax import cli, data, runs
from wmgm_jax.core import files
from wmgm_jax.evaluation import ImageSets, evaluate
from wmgm_jax.evaluation.inception.features import load_inception
from wmgm_jax.evaluation.report.figures import write_figure
from wmgm_jax.evaluation.report.plots import BLUE, GREEN, ORANGE
from wmgm_jax.evaluation.report.tables import write_table

NAMES = {
    "fid": "FID",
    "kid": "KID",
    "sliced_wasserstein/mean": "sliced Wasserstein",
    "spectrum_error": "spectrum error (dB)",
    "marginal_wasserstein": "marginals, worst band",
}

cli.define_config("configs/colon_ihc.py")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 1000, "Images in each half.", lower_bound=80)
_OUT = flags.DEFINE_string("out", "experiments/results/measures", "Folder of the results.")


def main() -> None:
    config, out = cli.given_config(), Path(_OUT.value)
    train, _ = runs.open_sources(config)
    # Shuffled, for neighbours in a source may be alike; halves of the embedded image overlap.
    order = np.random.default_rng(0).permutation(len(train))[: 2 * _NUM_IMAGES.value]
    first, second = (train.take(np.sort(half)) for half in np.array_split(order, 2))
    inception = load_inception(config.evaluation.inception_weights, config.data.cache_dir)
    rows = []
    for kind, strength, images in distorted(second):
        sets = ImageSets(data.from_array(images), data.from_array(first))
        tree = evaluate(
            sets,
            config.wavelet.levels,
            inception,
            files.cache_folder(config.data.cache_dir),
        )
        rows.append({"distortion": kind, "strength": strength, **values(tree["measures"])})
        write_table(out / "measures", rows)
    write_figure(out / "measures.png", curves(rows))


def distorted(images: np.ndarray) -> Iterator[tuple[str, float, np.ndarray]]:
    """(distortion, strength, uint8 images), from none on."""
    yield "none", 0.0, images
    for kind, (function, strengths) in DISTORTIONS.items():
        for strength in strengths:
            yield kind, strength, function(images, strength)


def blur(images: np.ndarray, sigma: float) -> np.ndarray:
    return ndimage.gaussian_filter(images, (0, sigma, sigma, 0))


def noise(images: np.ndarray, deviation: float) -> np.ndarray:
    added = np.random.default_rng(0).normal(0, deviation, images.shape)
    return np.clip(np.rint(images + added), 0, 255).astype(np.uint8)


def compression(images: np.ndarray, loss: float) -> np.ndarray:
    """JPEG of the quality 100 less the loss."""

    def compress(image):
        file = BytesIO()
        picture = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
        picture.save(file, "JPEG", quality=int(100 - loss))
        return np.asarray(Image.open(file)).reshape(image.shape)

    return np.stack([compress(image) for image in images])


DISTORTIONS: dict[str, tuple[Callable, tuple[float, ...]]] = {
    "blur (sigma, pixels)": (blur, (0.5, 1.0, 2.0, 4.0)),
    "noise (deviation, grey levels)": (noise, (4.0, 8.0, 16.0, 32.0)),
    "JPEG (100 - quality)": (compression, (20.0, 50.0, 80.0, 95.0)),
}


def values(measures: dict[str, dict]) -> dict[str, float]:
    """Of the marginals the worst band alone, for blur leaves the coarsest as it is."""
    marginals = [m["value"] for name, m in measures.items() if name.startswith("marginal")]
    found = {name: measures[name]["value"] for name in NAMES if name in measures}
    return found | {"marginal_wasserstein": max(marginals)}


def curves(rows: list[dict]) -> Figure:
    names = [name for name in NAMES if name in rows[0]]
    figure = Figure(figsize=(2.8 * len(names), 2.8), layout="constrained")
    panels = figure.subplots(1, len(names))
    for axes, name in zip(panels, names, strict=True):
        for kind, colour in zip(DISTORTIONS, (BLUE, ORANGE, GREEN), strict=True):
            points = [rows[0][name], *(row[name] for row in rows if row["distortion"] == kind)]
            axes.plot(range(len(points)), points, color=colour, marker="o", ms=3, label=kind)
        axes.set_title(NAMES[name])
        axes.set_yscale("log")
        axes.set_xticks(range(len(points)), ["none", "weak", "", "", "strong"])
    panels[0].legend(loc="upper left")
    return figure


if __name__ == "__main__":
    cli.run(main)
