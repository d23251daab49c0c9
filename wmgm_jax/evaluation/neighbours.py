"""The training images nearest to generated ones: has the model memorised them?"""

import dataclasses
import functools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import scipy

from wmgm_jax import data
from wmgm_jax.core.codec import Codec
from wmgm_jax.core.pictures import enlarge, image_grid
from wmgm_jax.evaluation.features import FeatureNetwork

SAMPLES = 8
NEIGHBOURS = 5
_COARSE = 16


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Samples and their nearest training images.

    Attributes:
        picture: uint8, one row per sample: the sample, then its neighbours from the nearest on.
        nearest_distance: the median distance of samples to their nearest training image.
        nearest_distance_of_reference: the same for reference images, which the model was not
            trained on. Samples that are much nearer than these are copies.
        space: in which distances are computed, in words.
    """

    picture: np.ndarray
    nearest_distance: float
    nearest_distance_of_reference: float
    space: str


def neighbours(
    generated: data.Source,
    reference: data.Source,
    training: data.Source,
    network: FeatureNetwork | None,
    cache_dir: Path,
    count: int = 64,
) -> Neighbours:
    """Finds the nearest training images of a few samples.

    Args:
        generated, reference, training: the images; at most `features.KEPT` training images.
        network: distances are between its features; None takes pixels averaged to about 16x16.
        cache_dir: where the features of the training images are kept.
        count: samples and reference images behind the median distances.
    """
    if network is not None:
        space, features = network.name, network.features
        batches = [network.cached_feature_set(training, cache_dir).kept]
    else:
        space = "pixels of about 16x16"
        features = functools.partial(_coarse_pixels, codec=generated.codec)
        batches = _coarse_batches(training)
    samples, others = data.spread(generated, count), data.spread(reference, count)
    queries = features(np.concatenate([samples, others]))
    distances, indices = nearest(queries, batches, min(NEIGHBOURS, len(training)))
    shown = min(SAMPLES, len(samples))
    rows = [np.stack([samples[i], *training.take(indices[i])]) for i in range(shown)]
    pictures = generated.codec.to_visible(enlarge(np.concatenate(rows)))
    first = distances[:, 0]
    return Neighbours(
        picture=image_grid(pictures, columns=1 + indices.shape[1]),
        nearest_distance=float(np.median(first[: len(samples)])),
        nearest_distance_of_reference=float(np.median(first[len(samples) :])),
        space=space,
    )


def nearest(
    queries: np.ndarray, batches: Iterable[np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nearest vectors of a stream, holding one batch at a time.

    Args:
        queries: `[Q, D]`.
        batches: `[B, D]` each; B may vary.
        count: neighbours to find for each query.

    Returns:
        Euclidean distances, float64 `[Q, count]`, from the nearest on, and the places of these
        vectors in the whole stream, `[Q, count]`. Vectors at equal distances keep their order.

    Raises:
        ValueError: the stream has fewer than `count` vectors.
    """
    distances = np.empty((len(queries), 0))
    indices = np.empty((len(queries), 0), int)
    seen = 0
    for batch in batches:
        places = np.broadcast_to(np.arange(seen, seen + len(batch)), (len(queries), len(batch)))
        of_batch = scipy.spatial.distance.cdist(queries, batch)
        distances = np.concatenate([distances, of_batch], axis=1)
        indices = np.concatenate([indices, places], axis=1)
        # Earlier vectors come before the batch, and a stable sort keeps them there.
        order = np.argsort(distances, axis=1, kind="stable")[:, :count]
        distances, indices = (np.take_along_axis(x, order, axis=1) for x in (distances, indices))
        seen += len(batch)
    if seen < count:
        raise ValueError(f"{count} neighbours wanted of {seen} vectors")
    return distances, indices


def _coarse_batches(source: data.Source, size: int = 1024) -> Iterator[np.ndarray]:
    for first in range(0, len(source), size):
        images = source.take(np.arange(first, min(first + size, len(source))))
        yield _coarse_pixels(images, source.codec)


def _coarse_pixels(images: np.ndarray, codec: Codec) -> np.ndarray:
    """Averages of blocks of encoded images, float32 `[N, D]`, in about [0, 1]."""
    x = (codec.to_unit_range(images) + 1) / 2
    while min(x.shape[1:3]) >= 2 * _COARSE and not any(side % 2 for side in x.shape[1:3]):
        x = (x[:, ::2, ::2] + x[:, 1::2, ::2] + x[:, ::2, 1::2] + x[:, 1::2, 1::2]) / 4
    return x.reshape(len(x), -1)
