"""All measures of a comparison, and what was done to get them."""

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from wmgm_jax.evaluation import intervals, pixels
from wmgm_jax.evaluation.feature_measures import feature_measures
from wmgm_jax.evaluation.features import FeatureNetwork
from wmgm_jax.evaluation.inception.load import PREPROCESSING
from wmgm_jax.evaluation.sets import ImageSets


def evaluate(
    sets: ImageSets,
    levels: int,
    inception: FeatureNetwork | None = None,
    cache_dir: Path = Path(),
    learned: FeatureNetwork | None = None,
) -> dict[str, Any]:
    """Computes all measures that need only the images.

    Args:
        sets: what is compared.
        levels: the number of scales S of the measures of Haar bands.
        inception: the network of FID, KID, precision and recall; None leaves them out.
        cache_dir: where the features of the reference and training images are kept.
        learned: the network of the learned features; None leaves their measures out.

    Returns:
        A tree for `evaluation.json`: values, confidence intervals, numbers of images, and how they
        were computed.
    """
    measures = pixels.pixel_measures(sets, levels)
    for network in (inception, learned):
        if network is not None:
            measures |= feature_measures(sets, network, cache_dir)
    return {
        "images": {
            name: {"count": len(source), "shape": list(source.image_shape)}
            for name, source in sets.named.items()
        },
        "measures": measures,
        "bands": {name: pixels.band_facts(source, levels) for name, source in sets.named.items()},
        "method": {
            "intervals": intervals.METHOD,
            "pixels_and_bands": f"at most {pixels.IMAGES} images of each set, spread over it",
            "units": sets.codec.units(),
            "features": PREPROCESSING if inception is not None else None,
            "weights_sha256": inception.sha256 if inception is not None else None,
            "feature_network": None if learned is None else {"sha256": learned.sha256},
        },
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("jax", "jaxlib", "flax", "numpy", "scipy")},
        },
    }
