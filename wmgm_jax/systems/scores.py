"""A U-Net as the score of a noised distribution, and its training by score matching."""

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from wmgm_jax import sde
from wmgm_jax.networks import UNet
from wmgm_jax.networks.layers import fold_in_each
from wmgm_jax.sde import OUProcess, ScoreFunction
from wmgm_jax.systems.interface import Params

# Times closer to 0 than this share of T are not trained: sigma vanishes there, and the score with
# it diverges. No sampler evaluates below its last step.
_SHORTEST_TIME = 1e-4


def unet(settings: ConfigDict, out_channels: int, dtype: Any, rematerialise: bool) -> UNet:
    """The network of a config section with `channels`, `multipliers`, ... of `UNet`."""
    return UNet(
        out_channels=out_channels,
        channels=settings.channels,
        multipliers=tuple(settings.multipliers),
        num_blocks=settings.num_blocks,
        attention_levels=tuple(settings.attention_levels),
        num_heads=settings.num_heads,
        dropout=settings.dropout,
        rematerialise=rematerialise,
        dtype=dtype,
    )


def noise_level(process: OUProcess, t: jax.Array) -> jax.Array:
    """What the network is told of time: the angle of (alpha, sigma), from 0 to 1000; `[B]`.

    It is 1000 t for a cosine schedule and a function of the noise alone for every schedule, so
    that a network trained under one can be sampled under another.
    """
    return jnp.arctan2(process.sigma(t), process.alpha(t)) * (2000 / jnp.pi)


def score_function(
    network: UNet,
    params: Params,
    process: OUProcess,
    prediction: str,
    dropout_keys: jax.Array | None = None,
) -> ScoreFunction:
    """The score that the network stands for.

    Args:
        network: U-Net with as many output channels as x has.
        params: its parameters.
        process: the forward process.
        prediction: what the network predicts: "noise", eps, or "velocity", v = alpha eps -
            sigma X_0, for which eps = sigma x + alpha v and zero is the answer for white data.
        dropout_keys: `[B]` keys in training, else None.

    Returns:
        `(x [B, H, W, C], t [B]) -> -eps / sigma`, of x's shape.
    """

    def score_fn(x, t):
        output = network.apply({"params": params}, x, noise_level(process, t), dropout_keys)
        alpha, sigma = (value(t)[:, None, None, None] for value in (process.alpha, process.sigma))
        noise = sigma * x + alpha * output if prediction == "velocity" else output
        return -noise / sigma

    return score_fn


def loss(
    network: UNet,
    params: Params,
    process: OUProcess,
    prediction: str,
    x0: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    """Score matching (Eq. 19) at times uniform in (0, T], one an image.

    Args:
        x0: `[B, H, W, C]`, of unit scale.
        keys: `[B]`.

    Returns:
        Scalar, averaged over the batch.
    """
    t = jax.vmap(jax.random.uniform)(fold_in_each(keys, 0))
    t = process.T * (_SHORTEST_TIME + (1 - _SHORTEST_TIME) * t)
    noise = jax.vmap(lambda key: jax.random.normal(key, x0.shape[1:]))(fold_in_each(keys, 1))
    score_fn = score_function(network, params, process, prediction, fold_in_each(keys, 2))
    return jnp.mean(sde.score_matching_loss(score_fn, process, x0, t, noise))
