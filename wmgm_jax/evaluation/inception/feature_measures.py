"""Measures of Inception features: FID, KID, precision and recall."""

from pathlib import Path

import numpy as np

from wmgm_jax.core.moments import Moments
from wmgm_jax.evaluation import intervals
from wmgm_jax.evaluation.inception.features import Inception
from wmgm_jax.evaluation.measures.frechet import frechet_distance
from wmgm_jax.evaluation.measures.kernel_distance import kernel_distance
from wmgm_jax.evaluation.measures.precision_recall import precision_recall
from wmgm_jax.evaluation.sets import ImageSets, Measures

# Precision and recall compare every image with every other.
_PRECISION_IMAGES = 5000
_KERNEL_SUBSETS = 100


def feature_measures(sets: ImageSets, inception: Inception, cache_dir: Path) -> Measures:
    """How far generated images are from reference images in Inception's features.

    Args:
        sets: what is compared, images of more than three in each set.
        inception: the network.
        cache_dir: where the features of the reference and training images are kept.

    Returns:
        `fid`, `kid`, `precision` and `recall`.
    """
    generated = inception.feature_set(sets.generated, by_subset=True)
    reference = inception.cached_feature_set(sets.reference, cache_dir)

    def fid(moments: Moments) -> float:
        return frechet_distance(moments, reference.whole)

    def others(rows: np.ndarray) -> dict[str, float]:
        precision, recall = precision_recall(
            _at_most(rows, _PRECISION_IMAGES), _at_most(reference.kept, _PRECISION_IMAGES)
        )
        distance, _ = kernel_distance(
            rows, reference.kept, num_subsets=_KERNEL_SUBSETS if len(rows) > 1000 else 10
        )
        return {"kid": distance, "precision": precision, "recall": recall}

    whole = fid(generated.whole)
    measures: Measures = {"fid": {"value": whole, "interval": None}}
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
