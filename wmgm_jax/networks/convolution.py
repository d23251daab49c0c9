"""Convolutions, as the networks use them: on a CPU by what is fastest there.

XLA's 3x3 convolutions for a CPU run at half the speed of a matrix product or more, but at a
hundredth of it where images are smaller than the kernel and in gradients of wide strided ones.
Those are computed here as one matrix product, and wide ones of many pixels by Winograd's algorithm.
On every other device all of them are the library's.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks import winograd

# With fewer channels, in or out, or at stride 1 with more pixels, the product was not faster.
_PRODUCT_CHANNELS = 128
_PRODUCT_PIXELS = 16
# With fewer channels or tiles the transforms cost what they save of the products; with less work,
# compiling them takes longer than a short training gains.
_WINOGRAD_CHANNELS = 64
_WINOGRAD_TILES = 512
_WINOGRAD_FLOPS = 1e9


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: str | Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated` as `nn.Conv` calls it, without dilation and groups.

    Args:
        x: `[B, H, W, C]`.
        kernel: `[h, w, C, D]`.
        strides, padding, options: the original's.

    Returns:
        `[B, H', W', D]`.
    """
    direct = functools.partial(
        jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options
    )
    # At other strides "SAME" pads one side alone.
    by_a_pixel = list(padding) == [(1, 1), (1, 1)] or (padding == "SAME" and max(strides) == 1)
    fast = None
    if kernel.shape[:2] == (3, 3) and by_a_pixel and x.dtype == jnp.float32:
        fast = _faster(x.shape, kernel.shape, tuple(strides))
    return direct(x, kernel) if fast is None else _by_platform(fast, direct)(x, kernel)


def _faster(
    images: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...]
) -> Callable | None:
    """What beats XLA on a CPU, of a 3x3 kernel and one pixel of zeros at every border, if any does.

    Args:
        images: `(B, H, W, C)`.
        kernel: `(3, 3, C, D)`.
        strides: of the windows.
    """
    batch, height, width, channels = images
    narrowest = min(kernel[2:])
    if narrowest >= _PRODUCT_CHANNELS and (
        strides == (2, 2) or (strides == (1, 1) and height * width <= _PRODUCT_PIXELS)
    ):
        return functools.partial(product_of_windows, stride=strides[0])
    tiles = batch * height * width / 4
    if (
        strides == (1, 1)
        and narrowest >= _WINOGRAD_CHANNELS
        and tiles >= _WINOGRAD_TILES
        and 72 * tiles * channels * kernel[3] >= _WINOGRAD_FLOPS
    ):
        return winograd.convolution
    return None


def _by_platform(on_cpu: Callable, elsewhere: Callable) -> Callable:
    """A function of two arrays that is one of two, and its gradients those of the same one."""

    def gradients(function):
        return lambda cotangent, *inputs: jax.vjp(function, *inputs)[1](cotangent)

    # Without a gradient of its own, what both need for theirs would be kept for every platform.
    @jax.custom_vjp
    def function(*inputs):
        return jax.lax.platform_dependent(*inputs, cpu=on_cpu, default=elsewhere)

    def backward(inputs, cotangent):
        return jax.lax.platform_dependent(
            cotangent, *inputs, cpu=gradients(on_cpu), default=gradients(elsewhere)
        )

    function.defvjp(lambda *inputs: (function(*inputs), inputs), backward)
    return function


def product_of_windows(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """A convolution with one pixel of zeros at every border, as one matrix product.

    Args:
        x: `[B, H, W, C]`.
        kernel: `[3, 3, C, D]`.
        stride: s, of both axes.

    Returns:
        `[B, ceil(H/s), ceil(W/s), D]`.
    """
    height, width, channels = x.shape[1:]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    places = [
        x[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)
    ]
    return jnp.concatenate(places, axis=-1) @ kernel.reshape(9 * channels, -1)


Conv = functools.partial(nn.Conv, conv_general_dilated=convolve)
