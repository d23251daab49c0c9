"""Measures of the features of a network: Fréchet and kernel distance, precision and recall."""

from pathlib import Path

import numpy as np

from wmgm_jax import data
from wmgm_jax.core.moments import Moments
from wmgm_jax.evaluation import intervals
from wmgm_jax.evaluation.features import FeatureNetwork
from wmgm_jax.evaluation.measures.frechet import frechet_distance
from wmgm_jax.evaluation.measures.kernel_distance import kernel_distance
from wmgm_jax.evaluation.measures.precision_recall import precision_recall
from wmgm_jax.evaluation.sets import ImageSets, Measures

# Precision and recall compare every image with every other.
_PRECISION_IMAGES = 5000
_KERNEL_SUBSETS = 100


def feature_measures(sets: ImageSets, network: FeatureNetwork, cache_dir: Path) -> Measures:
    """How far generated images are from reference images in the features of a network.

    Args:
        sets: what is compared, images of more than three in each set.
        network: what computes the features.
        cache_dir: where the features of the reference and training images are kept.

    Returns:
        The measures of `network.measures`, by the names that it gives them. With the features of
        Inception the Fréchet distance is the FID and the kernel distance the KID.
    """
    generated = network.feature_set(sets.generated, by_subset=True)
    reference = network.cached_feature_set(sets.reference, cache_dir)

    def frechet(moments: Moments) -> float:
        return frechet_distance(moments, reference.whole)

    def others(rows: np.ndarray) -> dict[str, float]:
        precision, recall = precision_recall(
            _at_most(rows, _PRECISION_IMAGES), _at_most(reference.kept, _PRECISION_IMAGES)
        )
        values = {"precision": precision, "recall": recall}
        if "kernel" in network.measures:
            subsets = _KERNEL_SUBSETS if len(rows) > 1000 else 10
            distance, _ = kernel_distance(rows, reference.kept, num_subsets=subsets)
            values = {"kernel": distance, **values}
        return values

    whole = frechet(generated.whole)
    measures: Measures = {"frechet": {"value": whole, "interval": None}}
    if len(generated.moments) > 1:
        parts = [frechet(part) for part in generated.moments]
        measures["frechet"] = intervals.with_interval(whole, parts)
    measures |= intervals.measured(others, generated.kept)

    floor = {}
    if sets.training is not None:
        rows = network.cached_feature_set(sets.training, cache_dir).kept
        rows = _at_most(rows, len(sets.generated))
        floor = {"frechet": frechet(Moments.of(rows)), **others(rows)}
    counts = [len(sets.generated), len(sets.reference)]
    return {
        network.measures[name]: value | {"training": floor.get(name), "images": counts}
        for name, value in measures.items()
    }


def frechet(network: FeatureNetwork, a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of two sets of images in the features of a network.

    Args:
        network: what computes the features.
        a, b: uint8 `[N, H, W, C]` and `[M, H, W, C]`, at least two images each.
    """
    ours, theirs = (
        network.feature_set(data.from_array(images), by_subset=False).whole for images in (a, b)
    )
    return frechet_distance(ours, theirs)


def _at_most(rows: np.ndarray, count: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(int)]
