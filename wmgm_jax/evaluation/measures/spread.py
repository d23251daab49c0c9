"""Does a generator of details draw from their distribution? Its variance, band by band.

Where the draws of x_H given x_L have the right distribution, their variance is what their mean
leaves over: Var G = E |x_H - E G|^2.
"""

import numpy as np

BANDS = ("LH", "HL", "HH")


def spread_by_band(true: np.ndarray, drawn: np.ndarray) -> dict[str, dict[str, float]]:
    """What the draws vary, and what their mean misses.

    Args:
        true: `[B, h, w, 3C]`.
        drawn: `[draws, B, h, w, 3C]`.

    Returns:
        By band: `variance` over the draws; `missing`, the mean square of the truth less the mean of
        infinitely many draws; `ratio` of the two, 1 where both have the right distribution.
    """
    variance = drawn.var(axis=0, ddof=1)
    # The mean of a few draws is itself off by their variance over their number.
    missing = (true - drawn.mean(axis=0)) ** 2 - variance / len(drawn)
    values = {}
    for band, v, m in zip(
        BANDS, np.split(variance, 3, axis=-1), np.split(missing, 3, axis=-1), strict=True
    ):
        values[band] = {
            "variance": float(v.mean()),
            "missing": float(m.mean()),
            "ratio": float(v.mean() / m.mean()),
        }
    return values
