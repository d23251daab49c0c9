"""Reverse processes: from N(0, I) at time T to data at time 0, each one `lax.scan`.

A sampler knows the score as a function `score_fn(x [B, ...], t [B]) -> [B, ...]` and the process
it reverses, and nothing of networks.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from wmgm_jax.sde import OUProcess, ScoreFunction


def euler_maruyama(
    score_fn: ScoreFunction, process: OUProcess, times: jax.Array, key: jax.Array, x: jax.Array
) -> jax.Array:
    """Euler-Maruyama steps of the reverse SDE (Eq. 13, 20), from t to t - dt:

        x <- x + g^2 dt (x + 2 s(x, t)) + sqrt(2 dt) g z,    z = 0 on the last step.

    One evaluation of the score a step. See `sample` for the arguments.
    """

    def step(x, inputs):
        index, t, dt, is_last = inputs
        g = process.g(t)
        z = jnp.where(is_last, 0.0, normal(fold_in(key, index), x.shape))
        drift = x + 2 * score_fn(x, jnp.full(x.shape[:1], t))
        return x + g**2 * dt * drift + jnp.sqrt(2 * dt) * g * z, None

    index = jnp.arange(len(times) - 1)
    inputs = (index, times[:-1], times[:-1] - times[1:], index == index[-1])
    return jax.lax.scan(step, x, inputs)[0]


SAMPLERS: dict[str, Callable] = {"euler_maruyama": euler_maruyama}


def sample(
    name: str,
    score_fn: ScoreFunction,
    process: OUProcess,
    times: jax.Array,
    key: jax.Array,
    shape: tuple[int, ...],
) -> jax.Array:
    """Draws from the data distribution by a reverse process.

    Args:
        name: a key of `SAMPLERS`.
        score_fn: `(x [B, ...], t [B]) -> score`, of x's shape.
        process: the forward process, which ends at `times[0]`.
        times: `[N + 1]`, decreasing from T to 0; `OUProcess.times` makes them.
        key: one key, or `[B]` keys, one for each image: an image then depends on its own key
            alone, whatever batch it is drawn in.
        shape: `[B, ...]` of the result.

    Returns:
        float32 of `shape`.

    Raises:
        ValueError: an unknown sampler.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler is one of {', '.join(SAMPLERS)}; got {name!r}")
    times = jnp.asarray(times, jnp.float32)
    x = normal(fold_in(key, len(times)), shape)
    return SAMPLERS[name](score_fn, process, times, key, x)


def normal(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal draws of `shape` `[B, ...]`, from one key or from `[B]` keys."""
    if key.ndim == 0:
        return jax.random.normal(key, shape)
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:]))(key)


def fold_in(key: jax.Array, data: jax.Array | int) -> jax.Array:
    """`jax.random.fold_in` of one key or of `[B]` keys."""
    if key.ndim == 0:
        return jax.random.fold_in(key, data)
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(key, data)
