"""The Haar transform against jaxwt and PyWavelets, and how far it is from the memory's limit."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import jaxwt
import numpy as np
import pywt

from benchmarks.programs import Row
from benchmarks.timing import paired_medians
from wmgm_jax import wavelets

_OURS, _FLOOR = "wmgm_jax", "x + 1"


def measure(shape: Sequence[int], levels: int, repeats: int) -> list[Row]:
    """A row for every transform of the same images.

    Args:
        shape: `(B, H, W, C)` of float32 images.
        levels: of the transform.
        repeats: timings of each.
    """
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    channels_last = jax.device_put(images)
    channels_first = jax.device_put(np.moveaxis(images, -1, -3).copy())

    ours = jax.jit(functools.partial(wavelets.wavedec2, levels=levels))
    theirs = jax.jit(functools.partial(jaxwt_haar, levels=levels))
    theirs_channels_first = jax.jit(functools.partial(jaxwt.wavedec2, wavelet="haar", level=levels))
    contenders = {
        _OURS: lambda: ours(channels_last),
        "jaxwt": lambda: theirs(channels_last),
        "jaxwt, channels first": lambda: theirs_channels_first(channels_first),
        "PyWavelets": lambda: pywt.wavedec2(images, "haar", level=levels, axes=(-3, -2)),
        # It moves every value in once and out once, which a transform must do as well: the bytes
        # are the same, and so its time is the floor.
        _FLOOR: functools.partial(jax.jit(lambda x: x + 1), channels_last),
    }
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, atol=1e-5),
        ours(channels_last),
        theirs(channels_last),
    )
    seconds = paired_medians(contenders, repeats)
    return [
        {
            "transform": name,
            "ms": 1e3 * value,
            "ms / ms of wmgm_jax": value / seconds[_OURS],
            "ms / floor": value / seconds[_FLOOR],
            "GB/s": 2 * images.nbytes / value / 1e9,
        }
        for name, value in seconds.items()
    ]


def jaxwt_haar(x: jax.Array, levels: int) -> list:
    """jaxwt's transform of channels-last images; its own `axes` cannot be jitted."""
    coefficients = jaxwt.wavedec2(jnp.moveaxis(x, -1, -3), "haar", level=levels)
    return jax.tree.map(lambda band: jnp.moveaxis(band, -3, -1), coefficients)
