"""The features of FID, KID, precision and recall."""

import logging
from collections.abc import Callable
from typing import Any

import jax

from wmgm_jax.core.codec import IMAGES
from wmgm_jax.core.errors import UserError
from wmgm_jax.evaluation.features import FeatureNetwork
from wmgm_jax.evaluation.inception import weights
from wmgm_jax.evaluation.inception.network import InceptionV3, to_rgb
from wmgm_jax.networks.apply import apply_fn

_log = logging.getLogger(__name__)

PREPROCESSING = (
    "uint8 / 127.5 - 1; grey repeated to RGB; bilinear to 299x299 without antialiasing, corners "
    "not aligned; Inception-v3 pool3, 2048 features, float32"
)


def inception_features(params: Any, images: jax.Array) -> jax.Array:
    """uint8 `[B, H, W, C]` -> float32 `[B, 2048]`, as `PREPROCESSING` says."""
    return apply_fn(InceptionV3())({"params": params}, to_rgb(IMAGES.to_unit_range(images)))


def inception_network(
    params: Any,
    sha256: str,
    batch_size: int,
    apply: Callable[[Any, jax.Array], jax.Array] = inception_features,
) -> FeatureNetwork:
    """Inception with its weights; the arguments are those of `FeatureNetwork`."""
    return FeatureNetwork(
        params,
        sha256,
        batch_size,
        apply,
        name="Inception features",
        measures={"frechet": "fid", "kernel": "kid", "precision": "precision", "recall": "recall"},
    )


def load_inception(path: str, cache_dir: str, batch_size: int = 32) -> FeatureNetwork | None:
    """The network of FID, or None where its weights cannot be had; the log then says why.

    Args:
        path: the `inception_weights` of a config.
        cache_dir: where downloaded weights are kept.
        batch_size: images at a time on each device.

    Raises:
        UserError: the file that the user named cannot be used.
    """
    if path == "none":
        return None
    try:
        params, digest = weights.load(path, cache_dir)
    except UserError as error:
        if path:
            raise
        _log.warning("FID, KID, precision and recall are not computed: %s", error)
        return None
    return inception_network(params, digest, batch_size * jax.local_device_count())
