"""The Fourier neural operator (Li et al. 2021), https://arxiv.org/abs/2010.08895.

A map between functions, of which images are samples: pixelwise layers, and convolutions given by
their Fourier coefficients at a fixed set of frequencies, whatever the grid.
"""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

_gelu = functools.partial(nn.gelu, approximate=False)


class SpectralConv(nn.Module):
    """A periodic convolution whose Fourier coefficients are the parameters, plus a bias.

        y(p) = sum_k c_k Re(X_k W_k e^(2 pi i k.p)) + b,   X_k = mean over q of x(q) e^(-2 pi i k.q)

    with p and q in [0, 1)^2, k_1 = -floor(m_1/2)..ceil(m_1/2) - 1, k_2 = 0..floor(m_2/2), c_k = 1
    where k_2 = 0 and 2 elsewhere, for the frequencies of the other half plane are the conjugates.
    X_k is a mean, not a sum, so that samples of the same function on any grid have the same
    output. A grid leaves out the frequencies that it does not resolve, |k_1| >= H/2 or k_2 >= W/2:
    also those of exactly half its sampling rate, whose phase it cannot tell.

    W_k is complex normal with E|W|^2 = 1 / C at first, so that every frequency keeps its power.

    Attributes:
        channels: c, of the result.
        modes: (m_1, m_2), the numbers of frequencies, of both signs.
    """

    channels: int
    modes: tuple[int, int]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Args: x `[B, H, W, C]`, H and W even. Returns: float32 `[B, H, W, c]`."""
        height, width, channels = x.shape[1:]
        rows, columns = self.modes[0], self.modes[1] // 2 + 1
        # Real numbers, for the optimiser's sake: [2, k_1, k_2, C, c], the last two of a matrix.
        real, imaginary = self.param(
            "weights",
            nn.initializers.normal((2 * channels) ** -0.5),
            (2, rows, columns, channels, self.channels),
        )
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))

        # The rows of k_1 >= 0 come first in a spectrum and those of k_1 < 0 last; W_k is ordered
        # by k_1.
        negative = min(rows // 2, height // 2 - 1)
        others = min(rows - rows // 2, height // 2)
        columns = min(columns, width // 2)
        spectrum = jnp.fft.rfft2(x.astype(jnp.float32), axes=(1, 2), norm="forward")[:, :, :columns]
        X = jnp.concatenate([spectrum[:, height - negative :], spectrum[:, :others]], axis=1)
        kept = slice(rows // 2 - negative, rows // 2 + others)

        def times(part, weights):
            return jnp.einsum("bklC,klCc->bklc", part, weights[kept, :columns])

        # Four real products: of a complex one XLA counts a quarter of the work.
        Y = jax.lax.complex(
            times(X.real, real) - times(X.imag, imaginary),
            times(X.real, imaginary) + times(X.imag, real),
        )
        gap = jnp.zeros((len(Y), height - negative - others, columns, self.channels), Y.dtype)
        Y = jnp.concatenate([Y[:, negative:], gap, Y[:, :negative]], axis=1)
        Y = jnp.pad(Y, ((0, 0), (0, 0), (0, width // 2 + 1 - columns), (0, 0)))
        return jnp.fft.irfft2(Y, (height, width), axes=(1, 2), norm="forward") + bias


class FourierLayer(nn.Module):
    """A spectral convolution plus a bias-free 1x1 convolution of the same input."""

    channels: int
    modes: tuple[int, int]
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = SpectralConv(self.channels, self.modes)(x).astype(self.dtype)
        return h + nn.Dense(self.channels, use_bias=False, dtype=self.dtype)(x)


class FNO(nn.Module):
    """The network `x -> [B, H, W, out_channels]`: a pixelwise network of two layers that lifts x to
    `channels`, `depth` Fourier layers with GELU between, and a pixelwise one that projects.

    On two grids the same function has the same result up to the frequencies that GELU makes and
    the coarser grid does not resolve.

    Attributes:
        out_channels: channels of the result.
        modes: of every Fourier layer, see `SpectralConv`.
        channels: channels between the layers.
        depth: number of Fourier layers.
        rematerialise: recompute the Fourier layers in the backward pass, to save memory.
        dtype: of the pixelwise computation; Fourier transforms and what is done to their
            coefficients, the parameters and the result are float32.
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
            train: whether this is training, in which no layer here behaves otherwise.

        Returns:
            float32 `[B, H, W, out_channels]`.

        Raises:
            ValueError: H or W is odd.
        """
        height, width = x.shape[1:3]
        if height % 2 or width % 2:
            raise ValueError(f"the sides of x must be even, not {height}x{width}")
        layer_class = nn.remat(FourierLayer) if self.rematerialise else FourierLayer

        def dense(h):
            return nn.Dense(self.channels, dtype=self.dtype)(h)

        h = dense(_gelu(dense(x.astype(self.dtype))))
        for i in range(self.depth):
            # Else the parameters would be named after the class, which rematerialising changes.
            name = f"FourierLayer_{i}"
            h = layer_class(self.channels, self.modes, self.dtype, name=name)(h)
            if i < self.depth - 1:
                h = _gelu(h)
        h = _gelu(dense(h))
        return nn.Dense(self.out_channels)(h.astype(jnp.float32))
