"""Sliced Wasserstein distance between patches of two sets of images, at several scales.

Karras et al. 2018, section 5, https://arxiv.org/abs/1710.10196: patches of 7x7 pixels (smaller in
smaller images) of each level of a Laplacian pyramid are compared along random directions. Karras et
al. standardise the patches of each set by its own mean and deviation, which hides errors of colour
and contrast. Here both sets are standardised by the mean and deviation of the reference.
"""

import numpy as np
import scipy

PATCH = 7
PATCHES_PER_IMAGE = 128
DIRECTIONS = 256
COARSEST = 16

_BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16


def sliced_wasserstein(
    images: np.ndarray, reference: np.ndarray, seed: int = 0
) -> dict[str, float]:
    """The distance at each level and its mean, in standard deviations of the reference.

    Args:
        images, reference: `[N, H, W, C]` and `[M, H, W, C]`, both in the same range.
        seed: of the random patches and directions.

    Returns:
        By the height of the level ("64", "32", "16", ...), and "mean"; 0 is perfect.

    Raises:
        ValueError: the images of the two sets differ in shape.
    """
    if images.shape[1:] != reference.shape[1:]:
        raise ValueError(f"images of unequal shapes: {images.shape[1:]} and {reference.shape[1:]}")
    count = PATCHES_PER_IMAGE * min(len(images), len(reference))
    random = np.random.default_rng(seed)
    distances = {}
    levels = zip(laplacian_pyramid(images), laplacian_pyramid(reference), strict=True)
    for level, reference_level in levels:
        ours, theirs = (_patches(x, count, random) for x in (level, reference_level))
        mean = theirs.mean((0, 1, 2), keepdims=True)
        std = theirs.std((0, 1, 2), keepdims=True)
        # A channel that varies only by rounding takes the scale of the others.
        spread = np.ptp(theirs, (0, 1, 2), keepdims=True)
        std = np.where(spread > 1e-5 * spread.max(), std, std.max() + 1e-8)
        ours, theirs = (((x - mean) / std).reshape(len(x), -1) for x in (ours, theirs))
        distances[str(level.shape[1])] = sliced_distance(ours, theirs, random)
    return distances | {"mean": float(np.mean(list(distances.values())))}


def laplacian_pyramid(images: np.ndarray) -> list[np.ndarray]:
    """A Laplacian pyramid: band-pass levels from the finest on, and a low-pass level at the end.

    Args:
        images: `[N, H, W, C]`.

    Returns:
        float32 `[N, h, w, C]` each. Sides are halved while they are even and at least 32.
    """
    level = images.astype(np.float32)
    pyramid = []
    while min(level.shape[1:3]) // 2 >= COARSEST and not any(n % 2 for n in level.shape[1:3]):
        smaller = _blur(level)[:, ::2, ::2]
        spread = np.zeros_like(level)
        spread[:, ::2, ::2] = smaller
        pyramid.append(level - 4 * _blur(spread))
        level = smaller
    return [*pyramid, level]


def _blur(x: np.ndarray) -> np.ndarray:
    for axis in (1, 2):
        x = scipy.ndimage.convolve1d(x, _BINOMIAL, axis=axis, mode="mirror")
    return x


def _patches(level: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Patches at random places, equally many of each image, `[count, size, size, C]`."""
    height, width = level.shape[1:3]
    size = min(PATCH, height, width)
    windows = np.lib.stride_tricks.sliding_window_view(level, (size, size), axis=(1, 2))
    image = np.arange(count) * len(level) // count
    top = random.integers(height - size + 1, size=count)
    left = random.integers(width - size + 1, size=count)
    return np.moveaxis(windows[image, top, left], 1, -1)


def sliced_distance(x: np.ndarray, y: np.ndarray, random: np.random.Generator) -> float:
    """The Wasserstein-1 distance of projections of x and y, `[M, D]`, averaged over directions."""
    directions = random.standard_normal((x.shape[1], DIRECTIONS)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=0)
    x, y = (np.sort(points @ directions, axis=0) for points in (x, y))
    return float(np.abs(x - y).mean())
