"""Measures cheap enough to be taken again and again while a stage trains."""

import numpy as np

from wmgm_jax.evaluation.power_spectrum import spectrum_error
from wmgm_jax.evaluation.reconstruction import fidelity
from wmgm_jax.evaluation.sliced_wasserstein import sliced_wasserstein
from wmgm_jax.systems.bands import to_unit_range


def measures(generated: np.ndarray, true: np.ndarray, is_paired: bool) -> dict[str, float]:
    """How far generated pictures are from true ones.

    Args:
        generated, true: `[N, H, W, C]`, uint8, or floating-point in unit range.
        is_paired: whether the i-th generated picture should be the i-th true one, and not only one
            of their kind.

    Returns:
        `sliced_wasserstein` and `spectrum_error`, the less the better; of paired pictures also
        `psnr` and `ssim`.
    """
    values = {
        "sliced_wasserstein": sliced_wasserstein(generated, true)["mean"],
        "spectrum_error": spectrum_error(to_unit_range(generated), to_unit_range(true)),
    }
    return values | fidelity(generated, true) if is_paired else values
