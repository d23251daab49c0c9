"""The variance over draws of details, against what their mean misses."""

import numpy as np
import pytest

from wmgm_jax.evaluation.measures.spread import BANDS, spread_by_band


@pytest.mark.parametrize(("noise", "ratio"), [(1.0, 1.0), (0.5, 0.25), (0.0, 0.0), (1.5, 2.25)])
def test_the_spread_of_draws(noise, ratio):
    """The truth is a mean and noise of a deviation of its own in each band."""
    random = np.random.default_rng(0)
    mean = random.standard_normal((40, 8, 8, 6))
    scale = np.repeat([1.0, 2.0, 0.1], 2)
    true = mean + scale * random.standard_normal(mean.shape)
    drawn = mean + noise * scale * random.standard_normal((12, *mean.shape))
    for band, deviation in zip(BANDS, (1.0, 2.0, 0.1), strict=True):
        values = spread_by_band(true, drawn)[band]
        assert values["missing"] == pytest.approx(deviation**2, rel=0.05)
        assert values["ratio"] == pytest.approx(ratio, rel=0.05)
