"""The learned features of a training set: trained once, then read from the cache.

Those of the embedded images come with the pretrained models.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from wmgm_jax import data
from wmgm_jax.core import files
from wmgm_jax.core.codec import IMAGES
from wmgm_jax.core.errors import UserError
from wmgm_jax.evaluation.features import FeatureNetwork
from wmgm_jax.evaluation.learned import training, weights
from wmgm_jax.evaluation.learned.network import Backbone
from wmgm_jax.networks.apply import apply_fn
from wmgm_jax.runs import model_file

_log = logging.getLogger(__name__)

NAME = "learned features"
NUM_STEPS = 600
# The network is trained on at most so many images, spread over the training set.
IMAGES_AT_MOST = 10_000

_VERSION = 2  # Raise it whenever the same images would give another network.
_BATCH_SIZE = 64


def learned_features(params: Any, images: jax.Array) -> jax.Array:
    """uint8 `[B, H, W, C]` -> float32 `[B, D]`, each feature over its standard deviation.

    Args:
        params: `params` of `Backbone`, and the standard deviations `deviation` `[D]`.
        images: of the shape that the network was trained on.
    """
    x = IMAGES.to_unit_range(images)
    features, _ = apply_fn(Backbone())({"params": params["params"]}, x)
    return features / params["deviation"]


def load(
    images: data.Source,
    path: str = "",
    cache_dir: str = "",
    *,
    num_steps: int = NUM_STEPS,
    augment: str = "none",
) -> FeatureNetwork | None:
    """The network of the learned features, trained on these images unless there is a file of it.

    Args:
        images: the training images; uint8, of any size, with 1 or 3 channels.
        path: of a file that an earlier call wrote; "" to train, or to read from the package or from
            the cache what was trained on the same images; "none" for no network.
        cache_dir: the folder of the trained networks; "" for the user's cache folder.
        num_steps: the length of the training.
        augment: the `data.augment` of the run. Its symmetries are no damage.

    Returns:
        The network, or None for "none". Its `path` is the file.

    Raises:
        UserError: the named file has no network for such images.
    """
    if path == "none":
        return None
    if path:
        file = Path(path).expanduser()
        return _network(file, *weights.read(file, images.image_shape))
    images = data.subset(images, IMAGES_AT_MOST)
    settings = {
        "version": _VERSION,
        "image_shape": list(images.image_shape),
        "num_steps": num_steps,
        "augment": augment,
    }
    name = f"feature_network_{_digest(images, settings)}.npz"
    packaged = next(model_file.PRETRAINED.glob(f"*/{name}"), None)
    if packaged is not None:
        return _network(packaged, *weights.read(packaged, images.image_shape))
    file = files.cache_folder(cache_dir) / name
    if file.exists():
        try:
            return _network(file, *weights.read(file, images.image_shape))
        except UserError as error:
            _log.warning("training the feature network again: %s", error)
    # As the file will hold them, which is half as large.
    tree = model_file.in_half_precision({"params": training.train(images, num_steps, augment)})
    params = tree["params"]
    weights.save(file, params, _deviation(params, images), settings)
    return _network(file, *weights.read(file, images.image_shape))


def load_of_config(config: ConfigDict, images: data.Source) -> FeatureNetwork | None:
    """`load`, as the evaluation of a config does it.

    Args:
        config: of a run.
        images: its training images.

    Returns:
        The network; None where the config wants none, and for fields.

    Raises:
        UserError: see `load`.
    """
    if not images.codec.is_image:
        return None
    return load(
        images,
        config.evaluation.feature_network,
        config.data.cache_dir,
        num_steps=config.evaluation.feature_steps,
        augment=config.data.augment,
    )


def _network(path: Path, params: Any, sha256: str) -> FeatureNetwork:
    return FeatureNetwork(
        params,
        sha256,
        _BATCH_SIZE * jax.local_device_count(),
        learned_features,
        name=NAME,
        measures={name: f"learned/{name}" for name in ("frechet", "precision", "recall")},
        path=path,
    )


def _deviation(params: Any, images: data.Source) -> np.ndarray:
    """The standard deviation of each feature, float32 `[D]`; 1 for a feature that never varies."""
    network = _network(Path(), {"params": params, "deviation": np.float32(1)}, "")
    moments = network.feature_set(images, by_subset=False).whole
    deviation = np.sqrt(np.diag(moments.scatter) / moments.count)
    return np.where(deviation > 1e-6, deviation, 1.0).astype(np.float32)


def _digest(images: data.Source, settings: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps([settings, len(images)]).encode())
    for first in range(0, len(images), 1024):
        block = images.take(np.arange(first, min(first + 1024, len(images))))
        digest.update(np.ascontiguousarray(block).data)
    return digest.hexdigest()
