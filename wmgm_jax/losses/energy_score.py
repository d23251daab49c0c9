"""The energy score, a proper scoring rule of draws against the truth.

Gneiting and Raftery 2007, https://doi.org/10.1198/016214506000001437, section 4.3; as a loss of
generative networks Bouchacourt et al. 2016, https://arxiv.org/abs/1606.02556.
"""

import jax
import jax.numpy as jnp

# The square root of the machine's precision: a norm has no gradient at 0.
_SMALLEST_SQUARE = 1e-6


def energy_score(first: jax.Array, second: jax.Array, true: jax.Array, patch: int) -> jax.Array:
    """E |g - x| - E |g - g'| / 2 of two independent draws, in patches of every channel.

    Its expectation is least where the draws have the distribution of the truth, so that it asks for
    the right mean and the right spread alike. A mean square asks for no spread at all.

    Args:
        first, second: independent draws, `[B, H, W, C]`.
        true: `[B, H, W, C]`.
        patch: side of the square patches, whose Euclidean norms are taken; a remainder at the right
            and lower border is left out, and a side beyond H or W is cut to it.

    Returns:
        Scalar: the mean over patches, in root mean squares a pixel.
    """
    to_truth = (_norms(first - true, patch) + _norms(second - true, patch)) / 2
    return jnp.mean(to_truth - _norms(first - second, patch) / 2)


def _norms(x: jax.Array, patch: int) -> jax.Array:
    """Root mean squares of patches, `[B, H, W, C] -> [B, h, w, C]`."""
    height, width = (min(patch, side) for side in x.shape[1:3])
    x = x[:, : x.shape[1] // height * height, : x.shape[2] // width * width]
    x = x.reshape(len(x), x.shape[1] // height, height, x.shape[2] // width, width, -1)
    return jnp.sqrt(jnp.mean(x**2, axis=(2, 4)) + _SMALLEST_SQUARE)
