"""The variance of draws against what their mean misses, as a loss.

Where draws of x given a condition have the right distribution, the variance of the draws is the
mean square that their mean leaves over (Bendel et al. 2023, https://arxiv.org/abs/2210.13389).
Draws that vary too little in rare, strong details lose little by an energy score. Here they lose.
"""

import jax
import jax.numpy as jnp


def spread_error(first: jax.Array, second: jax.Array, true: jax.Array) -> jax.Array:
    """(V - M)^2 of the variance V of the draws and the mean square M that their mean misses.

    Both are means over the pixels of an image, for each channel. The mean of two draws is off by
    V / 2 more than the mean of many, so that E |x - (g + g') / 2|^2 = M + V / 2, and this is 3/2 V
    where V = M. Only V has a gradient: a worse mean makes nothing better.

    Args:
        first, second: independent draws, `[B, H, W, C]`.
        true: `[B, H, W, C]`.

    Returns:
        Scalar: the mean over images and channels.
    """
    variance = jnp.mean((first - second) ** 2, axis=(1, 2)) / 2
    missed = jnp.mean((true - (first + second) / 2) ** 2, axis=(1, 2))
    return jnp.mean((variance - jax.lax.stop_gradient(missed) / 1.5) ** 2)
