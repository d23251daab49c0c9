"""Two-dimensional discrete wavelet transforms of channels-last arrays, as pure functions.

The Haar transform is this package's own: with h = [1, 1]/sqrt2 and g = [1, -1]/sqrt2 it is a
reshape and four sums, orthonormal, so that energy is kept and the inverse is the transpose.
Coefficient order and signs are those of PyWavelets: `(cA, (cH, cV, cD))` = `(LL, (LH, HL, HH))`,
and multi-level lists run from the coarsest scale to the finest. Every other wavelet is jaxwt's.
"""

from collections.abc import Sequence
from typing import TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np

_Array = TypeVar("_Array", jax.Array, np.ndarray)
Details = tuple[jax.Array, jax.Array, jax.Array]


def dwt2(x: _Array) -> tuple[_Array, tuple[_Array, _Array, _Array]]:
    """One level of the orthonormal Haar transform: `A x` of Eq. 11.

    Args:
        x: floating-point array of JAX or NumPy, `[..., H, W, C]`, H and W even.

    Returns:
        `ll, (lh, hl, hh)`, each `[..., H/2, W/2, C]` of x's type and dtype. `lh` is the horizontal
        detail (high-pass along H), `hl` the vertical (high-pass along W), `hh` the diagonal.

    Raises:
        ValueError: H or W is odd, or x has fewer than three axes.
    """
    if x.ndim < 3:
        raise ValueError(f"dwt2 expects [..., H, W, C], got shape {x.shape}")
    *batch, height, width, channels = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"dwt2 halves H and W, which must be even; got {height}x{width}")
    blocks = x.reshape(*batch, height // 2, 2, width // 2, 2, channels)
    top_left, top_right = blocks[..., 0, :, 0, :], blocks[..., 0, :, 1, :]
    bottom_left, bottom_right = blocks[..., 1, :, 0, :], blocks[..., 1, :, 1, :]

    top, bottom = top_left + top_right, bottom_left + bottom_right
    top_step, bottom_step = top_left - top_right, bottom_left - bottom_right
    ll, lh = (top + bottom) / 2, (top - bottom) / 2
    hl, hh = (top_step + bottom_step) / 2, (top_step - bottom_step) / 2
    return ll, (lh, hl, hh)


def idwt2(ll: jax.Array, details: Details) -> jax.Array:
    """The inverse of `dwt2`, its transpose: `A^T (x_L, x_H)` of Eq. 18.

    Args:
        ll: low band, `[..., H, W, C]`.
        details: `(lh, hl, hh)`, each of the shape of `ll`.

    Returns:
        `[..., 2H, 2W, C]`.
    """
    lh, hl, hh = details
    top, bottom = ll + lh, ll - lh
    top_step, bottom_step = hl + hh, hl - hh
    rows = [
        jnp.stack([total + step, total - step], axis=-2) / 2
        for total, step in ((top, top_step), (bottom, bottom_step))
    ]
    *batch, height, width, channels = ll.shape
    blocks = jnp.stack(rows, axis=-4)
    return blocks.reshape(*batch, 2 * height, 2 * width, channels)


def wavedec2(x: jax.Array, levels: int, wavelet: str = "haar") -> list[jax.Array | Details]:
    """Multi-level analysis, coarsest scale first.

    Args:
        x: `[..., H, W, C]`. For Haar, H and W are divisible by `2**levels`.
        levels: number of scales S, at least 1.
        wavelet: "haar", or any discrete wavelet that PyWavelets names; those are computed by
            jaxwt with symmetric padding, so their bands are a little larger than half.

    Returns:
        `[LL_S, (LH, HL, HH)_S, ..., (LH, HL, HH)_1]`, as `pywt.wavedec2(..., axes=(-3, -2))`.

    Raises:
        ValueError: `levels` < 1, fewer than three axes, or a size that does not admit that many
            Haar levels.
    """
    if x.ndim < 3:
        raise ValueError(f"wavedec2 expects [..., H, W, C], got shape {x.shape}")
    if levels < 1:
        raise ValueError(f"wavedec2 needs levels >= 1, got {levels}")
    if wavelet != "haar":
        import jaxwt  # Here, because Haar does not need it.

        # Not jaxwt's own `axes`, which it cannot trace.
        coefficients = jaxwt.wavedec2(jnp.moveaxis(x, -1, -3), wavelet, level=levels)
        return jax.tree.map(lambda band: jnp.moveaxis(band, -3, -1), coefficients)
    height, width = x.shape[-3:-1]
    if height % 2**levels or width % 2**levels:
        raise ValueError(
            f"{levels} Haar levels need H and W divisible by {2**levels}; got {height}x{width}"
        )
    coefficients = []
    for _ in range(levels):
        x, details = dwt2(x)
        coefficients.append(details)
    return [x, *reversed(coefficients)]


def waverec2(coefficients: Sequence[jax.Array | Details], wavelet: str = "haar") -> jax.Array:
    """The inverse of `wavedec2`.

    For wavelets other than Haar an odd size comes back one larger, as it does in PyWavelets.

    Args:
        coefficients: `[LL_S, (LH, HL, HH)_S, ..., (LH, HL, HH)_1]`.
        wavelet: the wavelet of the analysis.

    Returns:
        `[..., H, W, C]`.
    """
    if wavelet != "haar":
        import jaxwt

        bands = jax.tree.map(lambda band: jnp.moveaxis(band, -1, -3), list(coefficients))
        return jnp.moveaxis(jaxwt.waverec2(bands, wavelet), -3, -1)
    x, *details = cast(tuple[jax.Array, *tuple[Details, ...]], tuple(coefficients))
    for detail in details:
        x = idwt2(x, detail)
    return x


def pyramid(images: _Array, levels: int) -> list[tuple[_Array, tuple[_Array, _Array, _Array]]]:
    """`[(x_L^1, x_H^1), ..., (x_L^S, x_H^S)]`: the low band and the details of every scale."""
    bands, low = [], images
    for _ in range(levels):
        low, details = dwt2(low)
        bands.append((low, details))
    return bands


def low(images: _Array, k: int) -> _Array:
    """x_L^k `[..., H / 2^k, W / 2^k, C]`; the image itself where k is 0."""
    return pyramid(images, k)[-1][0] if k else images
