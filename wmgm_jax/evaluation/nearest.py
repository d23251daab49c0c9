"""The nearest vectors of a stream: the training images that samples resemble most."""

from collections.abc import Iterable

import numpy as np
import scipy


def nearest(
    queries: np.ndarray, batches: Iterable[np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The nearest vectors of a stream, of which a batch is held at a time.

    Args:
        queries: `[Q, D]`.
        batches: `[B, D]` each, of any and varying B.
        count: neighbours of each query.

    Returns:
        Euclidean distances, float64 `[Q, count]`, from the nearest on, and the places of these
        vectors in the stream, counted over all batches, `[Q, count]`. Of vectors equally far the
        first in the stream comes first.

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
        # What was kept stands before the batch, and a stable sort leaves it there.
        order = np.argsort(distances, axis=1, kind="stable")[:, :count]
        distances, indices = (np.take_along_axis(x, order, axis=1) for x in (distances, indices))
        seen += len(batch)
    if seen < count:
        raise ValueError(f"{count} neighbours wanted of {seen} vectors")
    return distances, indices
