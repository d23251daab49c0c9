"""Measures of pixels and of Haar bands, which need no network."""

import numpy as np

from wmgm_jax import data
from wmgm_jax.core.codec import Codec
from wmgm_jax.evaluation import intervals
from wmgm_jax.evaluation.measures.gaussian_divergence import gaussian_divergences
from wmgm_jax.evaluation.measures.marginals import kurtosis, marginals
from wmgm_jax.evaluation.measures.power_spectrum import spectrum_error
from wmgm_jax.evaluation.measures.sliced_wasserstein import sliced_wasserstein
from wmgm_jax.evaluation.measures.sparsity import sparsity
from wmgm_jax.evaluation.reconstruction import fidelity
from wmgm_jax.evaluation.sets import ImageSets, Measures

# The measures use at most so many images of each set, spread over it.
IMAGES = 2048
THRESHOLDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def pixel_measures(sets: ImageSets, levels: int) -> Measures:
    """How far generated images are from reference images.

    Args:
        sets: what is compared.
        levels: the number of scales S of the Haar bands.

    Returns:
        `sliced_wasserstein/LEVEL`, `spectrum_error` and `marginal_wasserstein/SCALE/BAND`.
    """
    generated, reference = (
        data.spread(source, IMAGES) for source in (sets.generated, sets.reference)
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


def band_facts(source: data.Source, levels: int) -> dict[str, object]:
    """Sparsity, divergence from a Gaussian and kurtosis of the Haar bands of one set."""
    images = source.codec.to_unit_range(data.spread(source, IMAGES))
    return {
        "sparsity": {
            "thresholds": list(THRESHOLDS),
            "by_scale": sparsity(images, levels, THRESHOLDS).tolist(),
        },
        "gaussian_divergence": _divergences(images, levels),
        "kurtosis": kurtosis(images, levels),
    }


def _divergences(images: np.ndarray, levels: int) -> dict[str, dict] | None:
    try:
        return gaussian_divergences(images, levels)
    except ValueError:  # fewer than three images, or images that are all the same
        return None


def quick_measures(
    generated: np.ndarray, true: np.ndarray, codec: Codec, is_paired: bool
) -> dict[str, float]:
    """How far generated pictures are from true ones, by measures quick enough for training.

    Args:
        generated, true: encoded `[N, H, W, C]`.
        codec: of both.
        is_paired: whether the i-th generated picture should be the i-th true one. If not, the two
            sets should only look alike.

    Returns:
        `sliced_wasserstein` and `spectrum_error`, where less is better; also `psnr` and `ssim` of
        paired pictures.
    """
    values = {
        "sliced_wasserstein": sliced_wasserstein(generated, true)["mean"],
        "spectrum_error": spectrum_error(codec.to_unit_range(generated), codec.to_unit_range(true)),
    }
    return values | fidelity(generated, true, codec) if is_paired else values
