"""What the searches for few steps share: bounds of their grids, and how trained networks follow."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

import wmgm_jax
from wmgm_jax.diffusion import samplers
from wmgm_jax.systems.coarsest import CoarsestBand

# Between which B may lie: below, a network is hardly trained; above, processes end.
LEAST, MOST = 1e-3, 5.0

Solver = TypeVar("Solver")


def mean_logarithm(errors_of: Sequence[Callable[[Solver], float]], solver: Solver) -> float:
    """The mean over several errors of a solver of their logarithms."""
    return float(np.mean([np.log(of(solver)) for of in errors_of]))


def path_error(
    workdir: str, num_paths: int, num_steps: int
) -> Callable[[np.ndarray, np.ndarray], float]:
    """How far `samplers.linear_multistep` ends from where many steps end, by the score network of a
    trained run.

    Args:
        workdir: the folder of the run.
        num_paths: draws, from the same noise.
        num_steps: of dpmpp_2m, which are the many.

    Returns:
        `error_of(grid, weights)`: the mean square distance of the ends relative to their variance,
        for a grid `[N + 1]` of B, falling to 0, and weights `[N, N]`.
    """
    model = wmgm_jax.load(workdir, stages=["score"])
    config = model.config
    score = CoarsestBand(config, config.train.dtype, config.wavelet.levels).score
    score_fn = score.score_function(model.params["score"])
    start = jax.random.normal(jax.random.key(0), (num_paths, *score.shape))
    goal = jax.jit(samplers.dpmpp_2m, static_argnums=(0, 1))(
        score_fn,
        score.process,
        jnp.asarray(score.process.times(num_steps, "optimal")),
        jax.random.key(0),
        start,
    )

    @jax.jit
    def distance(times, weights):
        ends = samplers.linear_multistep(score_fn, score.process, times, weights, start)
        return jnp.mean((ends - goal) ** 2) / jnp.var(goal)

    def error_of(grid, weights):
        times = jnp.asarray(score.process.time(grid), jnp.float32)
        return float(distance(times, jnp.asarray(weights, jnp.float32)))

    return error_of


def second_order_weights(grid: np.ndarray) -> np.ndarray:
    """`[N, N]`, those with which a linear multistep solver is DPM-Solver++(2M) on a grid of B."""
    num_steps = len(grid) - 1
    h = np.diff(-np.log(np.expm1(2 * grid[:-1])) / 2)  # of log(alpha / sigma)
    weights = np.zeros((num_steps, num_steps))
    for i in range(1, num_steps - 1):
        weights[i, i - 1] = h[i] / (2 * h[i - 1])
    return weights
