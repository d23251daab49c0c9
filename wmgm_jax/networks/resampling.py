"""Halving and doubling images with the FIR filter (1, 3, 3, 1).

StyleGAN2 (Karras et al. 2020, https://arxiv.org/abs/1912.04958) and NCSN++ resample with it. It is
applied to rows, then to columns. Pixels outside of the image are 0.
"""

import jax
import jax.numpy as jnp


def fir_downsample(x: jax.Array) -> jax.Array:
    """`[B, H, W, C] -> [B, H/2, W/2, C]`, for even H and W.

    y_i = (x_{2i-1} + 3 x_{2i} + 3 x_{2i+1} + x_{2i+2}) / 8 along both axes.
    """
    for axis in (1, 2):
        pairs = x.reshape(*x.shape[:axis], x.shape[axis] // 2, 2, *x.shape[axis + 1 :])
        even, odd = (jax.lax.index_in_dim(pairs, i, axis + 1, keepdims=False) for i in range(2))
        x = (_shift(odd, 1, axis) + 3 * (even + odd) + _shift(even, -1, axis)) / 8
    return x


def fir_upsample(x: jax.Array) -> jax.Array:
    """`[B, H, W, C] -> [B, 2H, 2W, C]`.

    y_{2i} = (x_{i-1} + 3 x_i) / 4 and y_{2i+1} = (3 x_i + x_{i+1}) / 4 along both axes.
    """
    for axis in (1, 2):
        even = (_shift(x, 1, axis) + 3 * x) / 4
        odd = (3 * x + _shift(x, -1, axis)) / 4
        doubled = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
        x = jnp.stack([even, odd], axis + 1).reshape(doubled)
    return x


def fir_blur(x: jax.Array) -> jax.Array:
    """Filters between the pixels, `[B, H, W, C] -> [B, H+1, W+1, C]`.

    y_i = (x_{i-2} + 3 x_{i-1} + 3 x_i + x_{i+1}) / 8 along both axes. A convolution of 3x3 with
    stride 2 and no padding then halves an image: NCSN++ makes its pyramid of the input this way.
    """
    for axis in (1, 2):
        x = _pad(x, 2, 2, axis)
        size = x.shape[axis] - 3
        a, b, c, d = (jax.lax.slice_in_dim(x, i, i + size, axis=axis) for i in range(4))
        x = (a + 3 * (b + c) + d) / 8
    return x


def _pad(x: jax.Array, before: int, after: int, axis: int) -> jax.Array:
    """Zeros at both ends of an axis."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (before, after)
    return jnp.pad(x, widths)


def _shift(x: jax.Array, steps: int, axis: int) -> jax.Array:
    """y_i = x_{i - steps}, and 0 where there is no such x; `steps` is 1 or -1."""
    size = x.shape[axis]
    if steps > 0:
        return _pad(jax.lax.slice_in_dim(x, 0, size - 1, axis=axis), 1, 0, axis)
    return _pad(jax.lax.slice_in_dim(x, 1, size, axis=axis), 0, 1, axis)
