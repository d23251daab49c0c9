"""The discrete process of denoising diffusion GANs: a few large steps of the noising process.

y_0, y_1, ..., y_T is the Ornstein-Uhlenbeck process (see `process`) at T + 1 equally spaced times,
the first of which is a thousandth of the last. alpha_t and sigma_t are its alpha and sigma at the
t-th of them, counted from the first, where nothing is noised yet (Xiao et al. 2022,
https://arxiv.org/abs/2112.07804):

    q(y_t | y_0)          = N(alpha_t y_0, sigma_t^2)
    q(y_t | y_{t-1})      = N(a_t y_{t-1}, beta_t)
    q(y_{t-1} | y_t, y_0) = N((alpha_{t-1} beta_t y_0 + a_t sigma_{t-1}^2 y_t) / sigma_t^2,
                              beta_t sigma_{t-1}^2 / sigma_t^2)

    a_t = alpha_t / alpha_{t-1},   beta_t = 1 - a_t^2

With the schedule "linear" this is their chain, except that in training they add noise of standard
deviation 1e-4 to y_0.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from wmgm_jax.core.random import fold_in, normal
from wmgm_jax.diffusion.process import OUProcess, per_image

_START = 1e-3  # the first time, as a part of the last

# (y_t `[B, ...]`, t `[B]`, keys `[B]`) -> a guess of y_0, of y_t's shape.
Predictor = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Chain:
    """The chain y_0, ..., y_T.

    Attributes:
        process: the noising process; it ends where the chain does.
        num_steps: T.
    """

    process: OUProcess
    num_steps: int

    def integral(self, t: jax.Array) -> jax.Array:
        """B from the first time to the t-th: alpha_t = exp(-B). t in 0, ..., T; any shape."""
        part = _START + (1 - _START) * t / self.num_steps
        start = self.process.integral(jnp.asarray(_START * self.process.T))
        # Exactly 0 at t = 0.
        return jnp.where(t == 0, 0.0, self.process.integral(part * self.process.T) - start)

    def transition(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """a_t and beta_t of q(y_t | y_{t-1}); t in 1, ..., T; any shape."""
        elapsed = self.integral(t) - self.integral(t - 1)
        return jnp.exp(-elapsed), _variance(elapsed)

    def posterior(self, t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The weights of y_0 and y_t in the mean of q(y_{t-1} | y_t, y_0), and its variance; at
        t = 1 they are exactly 1, 0 and 0. t in 1, ..., T; any shape."""
        (a, beta), before = self.transition(t), self.integral(t - 1)
        variance, variance_before = _variance(self.integral(t)), _variance(before)
        return (
            jnp.exp(-before) * beta / variance,
            a * variance_before / variance,
            beta * variance_before / variance,
        )

    def draw_pair(
        self, y0: jax.Array, t: jax.Array, keys: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Draws y_{t-1} and y_t given y_0.

        Args:
            y0: `[B, ...]`.
            t: `[B]`, in 1, ..., T.
            keys: `[B]`.

        Returns:
            Both of y0's shape.
        """
        before = self.integral(t - 1)
        a, beta = (per_image(value, y0) for value in self.transition(t))
        alpha, variance = (per_image(x, y0) for x in (jnp.exp(-before), _variance(before)))
        y_before = alpha * y0 + jnp.sqrt(variance) * normal(fold_in(keys, 0), y0.shape)
        return y_before, a * y_before + jnp.sqrt(beta) * normal(fold_in(keys, 1), y0.shape)

    def draw_before(self, y0: jax.Array, y: jax.Array, t: jax.Array, keys: jax.Array) -> jax.Array:
        """Draws y_{t-1} given y_t and y_0, which at t = 1 it is.

        Args:
            y0, y: y_0 and y_t, `[B, ...]`.
            t: `[B]`, in 1, ..., T.
            keys: `[B]`.

        Returns:
            Of y's shape.
        """
        of_y0, of_y, variance = (per_image(value, y) for value in self.posterior(t))
        return of_y0 * y0 + of_y * y + jnp.sqrt(variance) * normal(keys, y.shape)

    def sample(self, predict: Predictor, keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        """Draws y_0 from the end of the chain back to its beginning, one `lax.scan`:

            y_T ~ N(0, I);   for t = T..1:  y_{t-1} ~ q(y_{t-1} | y_t, y_0 = predict(y_t, t)).

        Args:
            predict: its keys differ from step to step.
            keys: `[B]`; an image depends on its own key alone.
            shape: `[B, ...]` of the result.
        """

        def step(y, t):
            predict_keys, noise_keys = (fold_in(keys, t, i) for i in range(2))
            each = jnp.full(len(y), t)
            return self.draw_before(predict(y, each, predict_keys), y, each, noise_keys), None

        y = normal(fold_in(keys, 0), shape)
        return jax.lax.scan(step, y, jnp.arange(self.num_steps, 0, -1))[0]


def _variance(integral: jax.Array) -> jax.Array:
    """1 - exp(-2 B), the noise that a time B of the process adds to data of unit scale."""
    return -jnp.expm1(-2 * integral)
