"""How near generated images come to real ones: one file a measure, one report.

Of every measure the report gives the value, a confidence interval, the numbers of images compared,
and the same measure of training images in the place of generated ones.
"""

import dataclasses
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np

from wmgm_jax import data
from wmgm_jax.core.codec import Codec
from wmgm_jax.core.moments import Moments
from wmgm_jax.evaluation import intervals
from wmgm_jax.evaluation.inception import features
from wmgm_jax.evaluation.inception.features import Inception
from wmgm_jax.evaluation.measures.frechet import frechet_distance
from wmgm_jax.evaluation.measures.gaussian_divergence import gaussian_divergences
from wmgm_jax.evaluation.measures.kernel_distance import kernel_distance
from wmgm_jax.evaluation.measures.marginals import kurtosis, marginals
from wmgm_jax.evaluation.measures.power_spectrum import spectrum_error
from wmgm_jax.evaluation.measures.precision_recall import precision_recall
from wmgm_jax.evaluation.measures.sliced_wasserstein import sliced_wasserstein
from wmgm_jax.evaluation.measures.sparsity import sparsity
from wmgm_jax.evaluation.reconstruction import fidelity

# Measures of pixels and bands take at most so many images of each set, spread over it.
PIXEL_IMAGES = 2048
# Precision and recall compare every image with every other.
PRECISION_IMAGES = 5000
_KERNEL_SUBSETS = 100
THRESHOLDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

Measures = dict[str, dict[str, object]]


@dataclasses.dataclass(frozen=True)
class ImageSets:
    """What is compared; all images are of one shape, and all or none are fields in the same units.

    Attributes:
        generated: the images to judge.
        reference: what they should be like, and were not trained on.
        training: what the model was trained on; None where that is not known.
    """

    generated: data.Source
    reference: data.Source
    training: data.Source | None = None

    @property
    def codec(self) -> Codec:
        """Of all the images."""
        return self.generated.codec

    @property
    def fewest(self) -> int:
        """Images in the smallest set."""
        sets = (self.generated, self.reference, self.training)
        return min(len(source) for source in sets if source is not None)


def evaluate(
    sets: ImageSets,
    levels: int,
    inception: Inception | None = None,
    cache_dir: Path = Path(),
) -> dict[str, object]:
    """All measures that need the images alone.

    Args:
        sets: what is compared.
        levels: the scales of the measures of Haar bands.
        inception: the network of FID and its kin; None leaves them out.
        cache_dir: where the features of the reference and the training images are kept.

    Returns:
        A tree for `evaluation.json`: values, confidence intervals, numbers of images, and what was
        done to get them.
    """
    measures = _pixel_measures(sets, levels)
    if inception is not None:
        measures |= _feature_measures(sets, inception, cache_dir)
    named = {"generated": sets.generated, "reference": sets.reference, "training": sets.training}
    return {
        "images": {
            name: {"count": len(source), "shape": list(source.image_shape)}
            for name, source in named.items()
            if source is not None
        },
        "measures": measures,
        "bands": {
            name: _describe(source, levels) for name, source in named.items() if source is not None
        },
        "method": {
            "intervals": intervals.METHOD,
            "pixels_and_bands": f"at most {PIXEL_IMAGES} images of each set, spread over it",
            "units": sets.codec.units(),
            "features": features.PREPROCESSING if inception is not None else None,
            "weights_sha256": inception.weights_sha256 if inception is not None else None,
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "jaxlib", "flax", "numpy", "scipy")},
        },
    }


def _describe(source: data.Source, levels: int) -> dict[str, object]:
    """What the bands of a set are like, whatever it is compared with."""
    images = source.codec.to_unit_range(data.spread(source, PIXEL_IMAGES))
    return {
        "sparsity": {
            "thresholds": list(THRESHOLDS),
            "by_scale": sparsity(images, levels, THRESHOLDS).tolist(),
        },
        "gaussian_divergence": _divergences(images, levels),
        "kurtosis": kurtosis(images, levels),
    }


def _divergences(images: np.ndarray, levels: int) -> dict[str, object] | None:
    try:
        return gaussian_divergences(images, levels)
    except ValueError:  # fewer than three images, or images that are all the same
        return None


def quick_measures(
    generated: np.ndarray, true: np.ndarray, codec: Codec, is_paired: bool
) -> dict[str, float]:
    """How far generated pictures are from true ones.

    Args:
        generated, true: encoded `[N, H, W, C]`.
        codec: of both.
        is_paired: whether the i-th generated picture should be the i-th true one, and not only one
            of their kind.

    Returns:
        `sliced_wasserstein` and `spectrum_error`, the less the better; of paired pictures also
        `psnr` and `ssim`.
    """
    values = {
        "sliced_wasserstein": sliced_wasserstein(generated, true)["mean"],
        "spectrum_error": spectrum_error(*(codec.to_unit_range(x) for x in (generated, true))),
    }
    return values | fidelity(generated, true, codec) if is_paired else values


def reconstructed(rebuilt: np.ndarray, true: np.ndarray, codec: Codec) -> Measures:
    """PSNR and SSIM of images rebuilt from their true coarsest band, with intervals.

    Args:
        rebuilt, true, codec: as for `fidelity`.
    """
    values = intervals.measured(
        lambda indices: fidelity(rebuilt[indices], true[indices], codec), np.arange(len(true))
    )
    return {
        f"reconstruction/{name}": value | {"training": None, "images": [len(true)] * 2}
        for name, value in values.items()
    }


def _pixel_measures(sets: ImageSets, levels: int) -> Measures:
    generated, reference = (
        data.spread(source, PIXEL_IMAGES) for source in (sets.generated, sets.reference)
    )

    def measure(images: np.ndarray) -> dict[str, float]:
        distances = sliced_wasserstein(images, reference)
        values = {f"sliced_wasserstein/{level}": value for level, value in distances.items()}
        ours, theirs = (sets.codec.to_unit_range(x) for x in (images, reference))
        values["spectrum_error"] = spectrum_error(ours, theirs)
        for scale, bands in marginals(ours, theirs, levels).items():
            for band, facts in bands.items():
                values[f"marginal_wasserstein/{scale}/{band}"] = facts["wasserstein"]
        return values

    floor = {}
    if sets.training is not None:
        floor = measure(data.spread(sets.training, len(generated)))
    counts = [len(generated), len(reference)]
    return {
        name: value | {"training": floor.get(name), "images": counts}
        for name, value in intervals.measured(measure, generated).items()
    }


def _feature_measures(sets: ImageSets, inception: Inception, cache_dir: Path) -> Measures:
    generated = inception.feature_set(sets.generated, by_subset=True)
    reference = inception.cached_feature_set(sets.reference, cache_dir)

    def fid(moments):
        return frechet_distance(moments, reference.whole)

    def others(rows: np.ndarray) -> dict[str, float]:
        precision, recall = precision_recall(
            _at_most(rows, PRECISION_IMAGES), _at_most(reference.kept, PRECISION_IMAGES)
        )
        distance, _ = kernel_distance(
            rows, reference.kept, num_subsets=_KERNEL_SUBSETS if len(rows) > 1000 else 10
        )
        return {"kid": distance, "precision": precision, "recall": recall}

    whole = fid(generated.whole)
    measures = {"fid": {"value": whole, "interval": None}}
    if len(generated.moments) > 1:
        measures["fid"] = intervals.with_interval(whole, [fid(part) for part in generated.moments])
    measures |= intervals.measured(others, generated.kept)

    floor = {}
    if sets.training is not None:
        rows = inception.cached_feature_set(sets.training, cache_dir).kept
        rows = _at_most(rows, len(sets.generated))
        floor = {"fid": fid(Moments.of(rows)), **others(rows)}
    counts = [len(sets.generated), len(sets.reference)]
    return {
        name: value | {"training": floor.get(name), "images": counts}
        for name, value in measures.items()
    }


def _at_most(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int)]


def summary(measures: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The measures that one looks at first, a line each."""
    lines = []
    for name, label in HEADLINES.items():
        if name in measures:
            lines.append(f"{label}: {formatted(measures[name])}")
    return lines


HEADLINES = {
    "fid": "FID",
    "kid": "KID",
    "precision": "precision",
    "recall": "recall",
    "sliced_wasserstein/mean": "sliced Wasserstein distance",
    "spectrum_error": "power spectrum error (dB)",
    "reconstruction/psnr": "PSNR of rebuilt images (dB)",
    "reconstruction/ssim": "SSIM of rebuilt images",
}


def formatted(measure: Mapping[str, object]) -> str:
    """A value, its interval and the value of training images."""
    text = f"{measure['value']:.4g}"
    if measure["interval"] is not None:
        text += " [{:.4g}, {:.4g}]".format(*measure["interval"])
    if measure["training"] is not None:
        text += f"; training images {measure['training']:.4g}"
    return text
