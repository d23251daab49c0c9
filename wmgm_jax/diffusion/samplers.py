"""Reverse processes: from N(0, I) at time T to data at time 0, each one `lax.scan`.

A sampler knows the score as a function `score_fn(x [B, ...], t [B]) -> [B, ...]` and the process
that it reverses. It knows nothing of networks. The data and the noise that a score stands for are
(Tweedie's formula)

    x_0 = (x + sigma^2 s) / alpha,    eps = -sigma s,    x = alpha x_0 + sigma eps.

Times fall from t to r. The decorator of each sampler states its facts, see `Sampler`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from wmgm_jax.core.random import fold_in, normal
from wmgm_jax.diffusion import grids
from wmgm_jax.diffusion.process import OUProcess, ScoreFunction, Spacing

# (score_fn, process, times `[N + 1]`, key, x_T `[B, ...]`) -> x_0 `[B, ...]`; see `sample`.
Reverse = Callable[[ScoreFunction, OUProcess, jax.Array, jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """A reverse process and the facts about it. Calling it runs it.

    Attributes:
        name: its key in `SAMPLERS`.
        reverse: the process.
        order: of convergence, in the largest step.
        is_stochastic: whether it draws noise after its start.
        spacing: the default spacing of its grid, see `OUProcess.times`: the papers' uniform one, or
            a better one where it was searched for.
        calls_per_step: calls of the score in each step except the last.
        calls_on_last_step: calls of the score on the last step.
        num_steps: the only numbers of steps that it can take; None for any.
    """

    name: str
    reverse: Reverse
    order: int
    is_stochastic: bool
    spacing: Spacing = "uniform"
    calls_per_step: int = 1
    calls_on_last_step: int = 1
    num_steps: tuple[int, ...] | None = None

    def num_function_evaluations(self, num_steps: int) -> int:
        """How often it calls the score in `num_steps` steps."""
        return self.calls_per_step * (num_steps - 1) + self.calls_on_last_step

    def __call__(
        self,
        score_fn: ScoreFunction,
        process: OUProcess,
        times: jax.Array,
        key: jax.Array,
        x: jax.Array,
    ) -> jax.Array:
        """Runs it from x_T, see `sample` for the arguments."""
        return self.reverse(score_fn, process, times, key, x)


SAMPLERS: dict[str, Sampler] = {}


def sampler(**facts: Any) -> Callable[[Reverse], Sampler]:
    """A decorator that makes a `Sampler` of a function and puts it into `SAMPLERS`."""

    def make(reverse: Reverse) -> Sampler:
        name = reverse.__name__
        SAMPLERS[name] = Sampler(name, reverse, **facts)
        return SAMPLERS[name]

    return make


@sampler(order=1, is_stochastic=True)
def euler_maruyama(
    score_fn: ScoreFunction, process: OUProcess, times: jax.Array, key: jax.Array, x: jax.Array
) -> jax.Array:
    """Euler-Maruyama steps of the reverse SDE (Eq. 13, 20), from t to t - dt:

        x <- x + g^2 dt (x + 2 s(x, t)) + sqrt(2 dt) g z,    z = 0 on the last step.

    One call of the score per step. See `sample` for the arguments.
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


@sampler(order=1, is_stochastic=True)
def ancestral(
    score_fn: ScoreFunction, process: OUProcess, times: jax.Array, key: jax.Array, x: jax.Array
) -> jax.Array:
    """Ancestral sampling of DDPM (Ho et al. 2020, Eq. 6-7), which WMGM's authors use:

        x <- alpha_r x_0 + sqrt(sigma_r^2 - eta^2) eps + eta z,
        eta^2 = sigma_r^2 / sigma_t^2 (1 - (alpha_t / alpha_r)^2),

    a draw of the forward process at r given X_t = x and X_0 = x_0. At r = 0 it is x_0. One
    call of the score per step. See `sample` for the arguments.
    """

    def step(x, inputs):
        index, t, r = inputs
        alpha_r, sigma_r, sigma_t = process.alpha(r), process.sigma(r), process.sigma(t)
        x_0, eps = _data_and_noise(score_fn, process, x, t)
        forgotten = -jnp.expm1(2 * (process.integral(r) - process.integral(t)))
        eta = sigma_r / sigma_t * jnp.sqrt(forgotten)
        z = normal(fold_in(key, index), x.shape)
        return alpha_r * x_0 + jnp.sqrt(sigma_r**2 - eta**2) * eps + eta * z, None

    inputs = (jnp.arange(len(times) - 1), times[:-1], times[1:])
    return jax.lax.scan(step, x, inputs)[0]


@sampler(order=1, is_stochastic=False)
def ddim(
    score_fn: ScoreFunction, process: OUProcess, times: jax.Array, key: jax.Array, x: jax.Array
) -> jax.Array:
    """Denoising diffusion implicit model (Song et al. 2021, https://arxiv.org/abs/2010.02502):

        x <- alpha_r x_0 + sigma_r eps,

    the first-order exponential integrator of the probability flow. It draws nothing after its
    start. One call of the score per step. See `sample` for the arguments.
    """

    def step(x, inputs):
        t, r = inputs
        x_0, eps = _data_and_noise(score_fn, process, x, t)
        return process.alpha(r) * x_0 + process.sigma(r) * eps, None

    return jax.lax.scan(step, x, (times[:-1], times[1:]))[0]


@sampler(order=2, is_stochastic=False, calls_per_step=2)
def heun(
    score_fn: ScoreFunction, process: OUProcess, times: jax.Array, key: jax.Array, x: jax.Array
) -> jax.Array:
    """Heun's method (Karras et al. 2022, Algorithm 1, https://arxiv.org/abs/2206.00364) for the
    probability flow of y = x / alpha, whose time is rho = sigma / alpha:

        dy = eps d rho:    y' = y + (rho_r - rho_t) eps(y, t)
                           y <- y + (rho_r - rho_t) (eps(y, t) + eps(y', r)) / 2,

    and y <- y' on the step to 0, where there is no slope to average with. It draws nothing after
    its start. Two calls of the score per step, one on the last. See `sample` for the
    arguments.
    """

    def slope(y, t):
        return _data_and_noise(score_fn, process, process.alpha(t) * y, t)[1]

    # Each iteration of the scan calls the score once: for the predictor y', then for its
    # correction. So the program contains the network once.
    def evaluate(carry, inputs):
        y, before, slope_before = carry
        is_predictor, at, t, r = inputs
        here = slope(y, at)
        length = _rho(process, r) - _rho(process, t)
        predicted = y + length * here
        corrected = before + length * (slope_before + here) / 2
        y_next = jnp.where(is_predictor, predicted, corrected)
        before, slope_before = (
            jnp.where(is_predictor, new, old) for new, old in ((y, before), (here, slope_before))
        )
        return (y_next, before, slope_before), None

    turn = jnp.arange(2 * (len(times) - 1) - 1)
    step, is_predictor = turn // 2, turn % 2 == 0
    inputs = (is_predictor, times[(turn + 1) // 2], times[step], times[step + 1])
    y = x / process.alpha(times[0])
    (y, *_), _ = jax.lax.scan(evaluate, (y, y, jnp.zeros_like(y)), inputs)
    return y


@sampler(order=2, is_stochastic=False, spacing="optimal")
def dpmpp_2m(
    score_fn: ScoreFunction, process: OUProcess, times: jax.Array, key: jax.Array, x: jax.Array
) -> jax.Array:
    """DPM-Solver++(2M) (Lu et al. 2022, Algorithm 2, https://arxiv.org/abs/2211.01095), the
    second-order multistep exponential integrator of the probability flow:

        D = x_0 + (x_0 - x_0') h / (2 h'),    h = lambda_r - lambda_t,   lambda = log(alpha / sigma)
        x <- sigma_r / sigma_t x + (alpha_r - alpha_t sigma_r / sigma_t) D,

    where x_0' and h' are those of the step before. The first step has none. On the last step h is
    infinite, and D = x_0. It draws nothing after its start. One call of the score per step.
    See `sample` for the arguments.
    """

    def step(carry, inputs):
        x, x_0_before = carry
        extrapolation, t, r = inputs
        x_0, _ = _data_and_noise(score_fn, process, x, t)
        D = x_0 + extrapolation * (x_0 - x_0_before)
        kept = process.sigma(r) / process.sigma(t)
        x = kept * x + (process.alpha(r) - process.alpha(t) * kept) * D
        return (x, x_0), None

    log_rho = jnp.log(_rho(process, times[:-1]))
    h = log_rho[:-1] - log_rho[1:]  # of all steps but the last
    extrapolation = jnp.zeros(len(times) - 1).at[1:-1].set(h[1:] / (2 * h[:-1]))
    inputs = (extrapolation, times[:-1], times[1:])
    (x, _), _ = jax.lax.scan(step, (x, jnp.zeros_like(x)), inputs)
    return x


@sampler(order=1, is_stochastic=False, spacing="multistep", num_steps=grids.MULTISTEP_STEPS)
def multistep(
    score_fn: ScoreFunction, process: OUProcess, times: jax.Array, key: jax.Array, x: jax.Array
) -> jax.Array:
    """`linear_multistep` with weights that were searched for together with its grid
    (`grids.multistep`).

    It draws nothing after its start. One call of the score per step. See `sample` for the
    arguments.

    Raises:
        ValueError: a number of steps for which no weights were searched for.
    """
    weights = jnp.asarray(grids.multistep_weights(len(times) - 1), x.dtype)
    return linear_multistep(score_fn, process, times, weights, x)


def linear_multistep(
    score_fn: ScoreFunction, process: OUProcess, times: jax.Array, weights: jax.Array, x: jax.Array
) -> jax.Array:
    """The exponential integrator of the probability flow that goes, on step i, towards

        D = x_0^i + sum over j < i of c_ij (x_0^i - x_0^j)
        x <- sigma_r / sigma_t x + (alpha_r - alpha_t sigma_r / sigma_t) D,

    x_0^j that of step j. With c = 0 it is `ddim`; `dpmpp_2m` has c_ij = h / (2 h') for j = i - 1.

    Args:
        score_fn, process, times, x: as of a sampler.
        weights: `[N, N]`, c; 0 but for j < i.
    """

    def step(carry, inputs):
        x, seen = carry  # x_0 of every step so far, [N, B, ...]
        index, c, t, r = inputs
        x_0, _ = _data_and_noise(score_fn, process, x, t)
        D = x_0 + jnp.tensordot(c, x_0 - seen, axes=1)
        kept = process.sigma(r) / process.sigma(t)
        x = kept * x + (process.alpha(r) - process.alpha(t) * kept) * D
        return (x, seen.at[index].set(x_0)), None

    seen = jnp.zeros((len(weights), *x.shape), x.dtype)
    inputs = (jnp.arange(len(weights)), weights, times[:-1], times[1:])
    (x, _), _ = jax.lax.scan(step, (x, seen), inputs)
    return x


def find(name: str, num_steps: int | None = None) -> Sampler:
    """The sampler of a name.

    Args:
        name: a key of `SAMPLERS`.
        num_steps: how many steps it is to take.

    Raises:
        ValueError: there is none, or it cannot take so many steps.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler is one of {', '.join(SAMPLERS)}; got {name!r}")
    allowed = SAMPLERS[name].num_steps
    if num_steps is not None and allowed is not None and num_steps not in allowed:
        raise ValueError(f"{name} takes {' or '.join(map(str, allowed))} steps; got {num_steps}")
    return SAMPLERS[name]


def sample(
    name: str,
    score_fn: ScoreFunction,
    process: OUProcess,
    times: jax.Array | np.ndarray,
    key: jax.Array,
    shape: tuple[int, ...],
) -> jax.Array:
    """Draws from the data distribution by a reverse process.

    Args:
        name: a key of `SAMPLERS`.
        score_fn: `(x [B, ...], t [B]) -> score`, of x's shape.
        process: the forward process.
        times: `[N + 1]`, decreasing to 0 from where the process has all but forgotten the data;
            `OUProcess.times` makes them.
        key: one key, or `[B]` keys, one for each image: an image then depends on its own key
            alone, whatever batch it is drawn in.
        shape: `[B, ...]` of the result.

    Returns:
        float32 of `shape`.

    Raises:
        ValueError: an unknown sampler, or a number of steps that it cannot take.
    """
    reverse = find(name, num_steps=len(times) - 1)
    times = jnp.asarray(times, jnp.float32)
    x = normal(fold_in(key, len(times)), shape)
    return reverse(score_fn, process, times, key, x)


def _data_and_noise(
    score_fn: ScoreFunction, process: OUProcess, x: jax.Array, t: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(x_0, eps) by the score at one time t > 0."""
    score, sigma = score_fn(x, jnp.full(x.shape[:1], t)), process.sigma(t)
    return (x + sigma**2 * score) / process.alpha(t), -sigma * score


def _rho(process: OUProcess, t: jax.Array) -> jax.Array:
    """sigma / alpha, the noise for a signal of unit size; any shape."""
    return process.sigma(t) / process.alpha(t)
