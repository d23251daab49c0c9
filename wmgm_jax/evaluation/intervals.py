"""Confidence intervals of measures."""

from collections.abc import Callable, Mapping

import numpy as np
import scipy  # Its subpackages load when they are first used.

SUBSETS = 10
CONFIDENCE = 0.95
# The measure of fewer images depends more on their number than on their quality.
_SMALLEST_SUBSET = 8

METHOD = (
    f"{CONFIDENCE:.0%}, Student's t over the values of {SUBSETS} disjoint subsets of the generated "
    "images, about the value of all of them"
)


def subsets(count: int) -> list[np.ndarray] | None:
    """Indices of disjoint subsets of `count` images, or None if there are too few images.

    Each subset is spread over all images, because neighbours may look alike.
    """
    if count < SUBSETS * _SMALLEST_SUBSET:
        return None
    return [np.arange(first, count, SUBSETS) for first in range(SUBSETS)]


def half_width(values: list[float]) -> float:
    """Half the width of the confidence interval of a measure that behaves like a mean.

    The measure of n/K images varies sqrt(K) times as much as that of n images.

    Args:
        values: the measure of K disjoint subsets of equal size.
    """
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * error)


def measured(
    function: Callable[[np.ndarray], Mapping[str, float]], images: np.ndarray
) -> dict[str, dict[str, object]]:
    """Measures of a set of images, with confidence intervals.

    Args:
        function: images or features `[N, ...]` -> values by name.
        images: `[N, ...]`.

    Returns:
        By name: `value` and `interval`, [low, high] or None if there are too few images.
    """
    values = function(images)
    parts = subsets(len(images))
    if parts is None:
        return {name: {"value": value, "interval": None} for name, value in values.items()}
    series = [function(images[part]) for part in parts]
    return {
        name: with_interval(value, [values[name] for values in series])
        for name, value in values.items()
    }


def with_interval(value: float, values: list[float]) -> dict[str, object]:
    """A value and its interval, from the values of K disjoint subsets."""
    margin = half_width(values)
    return {"value": value, "interval": [value - margin, value + margin]}
