"""The Fourier neural operator (Li et al. 2021), https://arxiv.org/abs/2010.08895.

It maps functions to functions; an image is a function sampled on a grid. Some layers act on every
pixel alone. The others are convolutions, whose parameters are Fourier coefficients at a fixed set
of frequencies, the same on every grid.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from wmgm_jax.networks.layers import numbered

_gelu = functools.partial(nn.gelu, approximate=False)


class SpectralConv(nn.Module):
    """A periodic convolution plus a bias; the kernel's Fourier coefficients are the parameters.

        y(p) = sum_k c_k Re(X_k W_k e^(2 pi i k.p)) + b,   X_k = mean over q of x(q) e^(-2 pi i k.q)

    with p and q in [0, 1)^2, k_1 = -floor(m_1/2)..ceil(m_1/2) - 1 and k_2 = 0..floor(m_2/2).
    c_k = 1 where k_2 = 0. Elsewhere c_k = 2: coefficients of the other half plane are conjugates.
    X_k is a mean, not a sum, so that the output does not depend on the grid. Frequencies that the
    grid does not resolve, |k_1| >= H/2 or k_2 >= W/2, are left out. So are those of exactly half
    the sampling rate, whose phase a grid does not determine.

    W_k starts as complex normal with E|W|^2 = 1 / C, so that every frequency keeps its power.

    Attributes:
        channels: c, of the result.
        modes: (m_1, m_2), the number of frequencies of either sign, per axis.
    """

    channels: int
    modes: tuple[int, int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` with even H and W -> float32 `[B, H, W, c]`."""
        height, width, channels = x.shape[1:]
        rows, columns = self.modes[0], self.modes[1] // 2 + 1
        # Real and imaginary parts, since optimisers expect real parameters: [2, k_1, k_2, C, c].
        real, imaginary = self.param(
            "weights",
            nn.initializers.normal((2 * channels) ** -0.5),
            (2, rows, columns, channels, self.channels),
        )
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))

        # In a spectrum, rows with k_1 >= 0 come first and those with k_1 < 0 last. In the weights,
        # k_1 increases.
        negative = min(rows // 2, height // 2 - 1)
        others = min(rows - rows // 2, height // 2)
        columns = min(columns, width // 2)
        spectrum = jnp.fft.rfft2(x.astype(jnp.float32), axes=(1, 2), norm="forward")[:, :, :columns]
        X = jnp.concatenate([spectrum[:, height - negative :], spectrum[:, :others]], axis=1)
        kept = slice(rows // 2 - negative, rows // 2 + others)

        def times(part, weights):
            return jnp.einsum("bklC,klCc->bklc", part, weights[kept, :columns])

        # Four real products: XLA's cost analysis counts a quarter of a complex one's FLOPs.
        Y = jax.lax.complex(
            times(X.real, real) - times(X.imag, imaginary),
            times(X.real, imaginary) + times(X.imag, real),
        )
        gap = jnp.zeros((len(Y), height - negative - others, columns, self.channels), Y.dtype)
        Y = jnp.concatenate([Y[:, negative:], gap, Y[:, :negative]], axis=1)
        Y = jnp.pad(Y, ((0, 0), (0, 0), (0, width // 2 + 1 - columns), (0, 0)))
        return jnp.fft.irfft2(Y, (height, width), axes=(1, 2), norm="forward") + bias


class FourierLayer(nn.Module):
    """A spectral convolution plus a bias-free dense layer on every pixel of the same input.

    Attributes:
        channels: of the result.
        modes: of the spectral convolution.
        dtype: of the dense layer and of the result.
    """

    channels: int
    modes: tuple[int, int]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` with even H and W -> `[B, H, W, channels]`."""
        h = SpectralConv(self.channels, self.modes)(x).astype(self.dtype)
        return h + nn.Dense(self.channels, use_bias=False, dtype=self.dtype)(x)


class FNO(nn.Module):
    """The network `x -> [B, H, W, out_channels]`.

    Two dense layers on every pixel lift x to `channels`. `depth` Fourier layers follow, with GELU
    between them. Two dense layers project to `out_channels`.

    The same function on two grids has the same result, except for frequencies that GELU makes and
    that the coarser grid does not resolve.

    Attributes:
        out_channels: channels of the result.
        modes: of every Fourier layer; see `SpectralConv`.
        channels: channels between the layers.
        depth: number of Fourier layers.
        rematerialise: saves memory: the backward pass computes the Fourier layers again.
        dtype: of the dense layers. Spectral convolutions, the parameters and the result are
            float32.
    """

    out_channels: int
    modes: tuple[int, int] = (16, 16)
    channels: int = 256
    depth: int = 4
    rematerialise: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """
        Args:
            x: `[B, H, W, C]`.
            train: has no effect. It is here for the signature of the other generators.

        Returns:
            float32 `[B, H, W, out_channels]`.

        Raises:
            ValueError: H or W is odd.
        """
        height, width = x.shape[1:3]
        if height % 2 or width % 2:
            raise ValueError(f"the sides of x must be even, not {height}x{width}")

        def dense(h):
            return nn.Dense(self.channels, dtype=self.dtype)(h)

        h = dense(_gelu(dense(x.astype(self.dtype))))
        for i in range(self.depth):
            layer = numbered(FourierLayer, i, self.rematerialise)
            h = layer(self.channels, self.modes, self.dtype)(h)
            if i < self.depth - 1:
                h = _gelu(h)
        h = _gelu(dense(h))
        return nn.Dense(self.out_channels)(h.astype(jnp.float32))
