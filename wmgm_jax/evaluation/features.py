"""Features of any number of images, by any network, in constant memory.

For a set of images, only moments are kept (of the whole set and of disjoint subsets of it) and the
features of at most `KEPT` images, spread over the set. So 50,000 images of 128x128 are never in
memory at once.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from wmgm_jax import data
from wmgm_jax.core import files
from wmgm_jax.core.devices import one_ahead, over_devices
from wmgm_jax.core.moments import Moments
from wmgm_jax.evaluation import intervals

_log = logging.getLogger(__name__)

KEPT = 10_000

_VERSION = 1  # Raise it whenever the same images would give other features.


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Moments and samples of the features of a set of images.

    Attributes:
        moments: of disjoint subsets that together are the set, or of the set alone.
        kept: float32 `[min(N, KEPT), D]`, features of images spread over the set.
    """

    moments: list[Moments]
    kept: np.ndarray

    @property
    def whole(self) -> Moments:
        """Moments of the whole set."""
        return sum(self.moments[1:], self.moments[0])


class FeatureNetwork:
    """A network with its weights, on all local devices.

    Attributes:
        name: which features these are, in words: "Inception features".
        sha256: the digest of the weights.
        measures: the names in `evaluation.json` of those measures that are taken in these features,
            by their names `frechet`, `kernel`, `precision` and `recall`.
        path: the file of the weights, where others may want it.
    """

    def __init__(
        self,
        params: Any,
        sha256: str,
        batch_size: int,
        apply: Callable[[Any, jax.Array], jax.Array],
        *,
        name: str,
        measures: Mapping[str, str],
        path: Path | None = None,
    ):
        """
        Args:
            params: a tree of arrays.
            batch_size: images at a time on all devices; rounded up to a multiple of their number.
            apply: (params, uint8 `[B, H, W, C]`) -> features `[B, D]`.
            sha256, name, measures, path: see the attributes.
        """
        devices = jax.local_devices()
        self.name, self.sha256, self.measures, self.path = name, sha256, measures, path
        self._batch_size = -(-batch_size // len(devices)) * len(devices)
        self._apply = over_devices(apply, devices)
        self._params = self._apply.share(params)

    def features(self, images: np.ndarray) -> np.ndarray:
        """The features of uint8 images: `[N, H, W, C]` -> float32 `[N, D]`."""
        return np.concatenate([rows for _, rows in self._stream(data.from_array(images))])

    def feature_set(self, source: data.Source, by_subset: bool) -> FeatureSet:
        """The features of all images of a source.

        Args:
            source: the images.
            by_subset: whether to keep separate moments for each of `intervals.subsets`.
        """
        count = len(source)
        parts = intervals.subsets(count) if by_subset else None
        subset = np.arange(count) % (1 if parts is None else len(parts))
        is_kept = np.zeros(count, bool)
        is_kept[np.linspace(0, count - 1, min(count, KEPT)).astype(int)] = True
        moments: dict[int, Moments] = {}
        kept = []
        progress = tqdm(
            self._stream(source), "features", self._batches(source), unit="batch", disable=None
        )
        for first, rows in progress:
            here = slice(first, first + len(rows))
            for part in np.unique(subset[here]):
                new = Moments.of(rows[subset[here] == part])
                moments[part] = moments[part] + new if part in moments else new
            kept.append(rows[is_kept[here]])
        return FeatureSet([moments[part] for part in sorted(moments)], np.concatenate(kept))

    def cached_feature_set(self, source: data.Source, cache_dir: Path) -> FeatureSet:
        """`feature_set` of the whole set, read from a file if there is one for these images.

        Args:
            source: the images.
            cache_dir: the folder of these files, named by a digest of images, weights and settings.
        """
        path = cache_dir / f"features_{self._digest(source)}.npz"
        try:
            return _read(path)
        except FileNotFoundError:
            pass
        except Exception as error:  # Whatever is wrong with the file, computing again helps.
            _log.warning("%s is damaged (%s): computing again", path, type(error).__name__)
        features = self.feature_set(source, by_subset=False)
        files.write_npz(
            path,
            count=features.whole.count,
            mean=features.whole.mean,
            scatter=features.whole.scatter,
            kept=features.kept,
        )
        return features

    def _batches(self, source: data.Source) -> int:
        return -(-len(source) // self._batch_size)

    def _stream(self, source: data.Source) -> Iterator[tuple[int, np.ndarray]]:
        """(place of the first image, features) of each batch; the devices work one batch ahead."""

        def started() -> Iterator[tuple[int, jax.Array]]:
            for first in range(0, len(source), self._batch_size):
                # The last batch is filled up, so that one program serves all batches.
                indices = np.arange(first, first + self._batch_size)
                images = source.take(np.minimum(indices, len(source) - 1))
                yield first, self._apply(self._params, images)[: len(source) - first]

        for first, rows in one_ahead(started()):
            yield first, np.asarray(rows)

    def _digest(self, source: data.Source) -> str:
        settings = [_VERSION, KEPT, self.sha256, len(source)]
        digest = hashlib.sha256(json.dumps([*settings, *source.image_shape]).encode())
        for first in range(0, len(source), 1024):
            images = source.take(np.arange(first, min(first + 1024, len(source))))
            digest.update(np.ascontiguousarray(images).data)
        return digest.hexdigest()


def _read(path: Path) -> FeatureSet:
    with np.load(path, allow_pickle=False) as arrays:
        moments = Moments(int(arrays["count"]), arrays["mean"], arrays["scatter"])
        return FeatureSet([moments], arrays["kept"])
