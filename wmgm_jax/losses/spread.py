"""The variance of draws against what their mean misses, as a loss.

Where draws of x given a condition have the right distribution, the variance of the draws is the
mean square that their mean misses (Bendel et al. 2023, https://arxiv.org/abs/2210.13389). If x is
sometimes much stronger than its condition tells, an energy score is best for draws of less
variance than that. This loss is not.
"""

import jax
import jax.numpy as jnp


def spread_error(first: jax.Array, second: jax.Array, true: jax.Array) -> jax.Array:
    """(V - 2/3 Q)^2, with V = |g - g'|^2 / 2 and Q = |x - (g + g') / 2|^2.

    V estimates the variance of the draws. M is the mean square that the mean of many draws misses.
    The mean of two is off by V / 2 more, so that Q estimates M + V / 2, and this loss is 4/9
    (V - M)^2. V and Q are means over the pixels of an image, for each channel. Q has no gradient:
    a worse mean makes nothing better. With few independent pixels, the scatter
    of V makes a V below M the best.

    Args:
        first, second: independent draws, `[B, H, W, C]`.
        true: `[B, H, W, C]`.

    Returns:
        Scalar: the mean over images and channels.
    """
    variance = jnp.mean((first - second) ** 2, axis=(1, 2)) / 2
    missed = jnp.mean((true - (first + second) / 2) ** 2, axis=(1, 2))
    return jnp.mean((variance - jax.lax.stop_gradient(missed) / 1.5) ** 2)
