"""The Ornstein-Uhlenbeck noising process (Eq. 1, 12) and its time grids.

    dX = -g(t)^2 X dt + sqrt(2) g(t) dB,      B(t) = integral of g^2 from 0 to t
    X_t = alpha(t) X_0 + sigma(t) eps,        alpha = exp(-B),   sigma^2 = 1 - alpha^2

Three schedules of the same process differ in g alone:

    constant  g^2 = 1, B = t                   the papers' process, on [0, 5]
    linear    g^2 = beta(t) / 2                DDPM's beta from 0.1 to 20, on [0, 1]
    cosine    alpha = cos(pi/2 (t + s) / (1 + s)) / cos(pi/2 s / (1 + s)), s = 0.008
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from wmgm_jax.diffusion import grids

Schedule = Literal["constant", "linear", "cosine"]
Spacing = Literal["uniform", "quadratic", "logsnr", "optimal", "multistep"]
SPACINGS: tuple[str, ...] = get_args(Spacing)
ScoreFunction = Callable[[jax.Array, jax.Array], jax.Array]


class _Clock(NamedTuple):
    """What distinguishes a schedule: B(t), g(t)^2 = B'(t), t(B), and where time ends."""

    integral: Callable
    rate: Callable
    inverse: Callable
    horizon: float


_BETA_MIN, _BETA_MAX = 0.1, 20.0
_BETA_SLOPE = _BETA_MAX - _BETA_MIN
_OFFSET = 0.008
_ANGLE_RATE = np.pi / 2 / (1 + _OFFSET)
_ANGLE_START = _ANGLE_RATE * _OFFSET


def _cosine_integral(t, xp):
    angle = _ANGLE_RATE * t
    # 1 - alpha in a form that does not cancel at t = 0.
    data_lost = 2 * xp.sin(angle / 2) ** 2 + np.tan(_ANGLE_START) * xp.sin(angle)
    return -xp.log1p(-data_lost)


_CLOCKS = {
    "constant": _Clock(
        integral=lambda t, xp: t,
        rate=lambda t, xp: xp.ones_like(t),
        inverse=lambda b, xp: b,
        horizon=5.0,
    ),
    "linear": _Clock(
        integral=lambda t, xp: (_BETA_MIN * t + _BETA_SLOPE * t**2 / 2) / 2,
        rate=lambda t, xp: (_BETA_MIN + _BETA_SLOPE * t) / 2,
        inverse=lambda b, xp: 4 * b / (_BETA_MIN + xp.sqrt(_BETA_MIN**2 + 4 * _BETA_SLOPE * b)),
        horizon=1.0,
    ),
    "cosine": _Clock(
        integral=_cosine_integral,
        rate=lambda t, xp: _ANGLE_RATE * xp.tan(_ANGLE_START + _ANGLE_RATE * t),
        inverse=lambda b, xp: (
            (xp.arccos(np.cos(_ANGLE_START) * xp.exp(-b)) - _ANGLE_START) / _ANGLE_RATE
        ),
        # g diverges at t = 1, and an explicit step of any size with it.
        horizon=0.97,
    ),
}


@dataclasses.dataclass(frozen=True, init=False)
class OUProcess:
    """The forward process on [0, T].

    Attributes:
        schedule: "constant", "linear" or "cosine".
        T: end time. "linear" admits any T > 0, "cosine" T < 1.
    """

    schedule: Schedule
    T: float

    def __init__(self, schedule: Schedule = "constant", T: float | None = None):
        """
        Args:
            schedule: "constant", "linear" or "cosine".
            T: end time; None for the schedule's own (5, 1, 0.97).

        Raises:
            ValueError: an unknown schedule, or a T outside its range.
        """
        if schedule not in _CLOCKS:
            raise ValueError(f"schedule is one of {', '.join(_CLOCKS)}; got {schedule!r}")
        if T is None:
            T = _CLOCKS[schedule].horizon
        limit = 1.0 if schedule == "cosine" else np.inf
        if not 0 < T < limit:
            raise ValueError(f"T of the {schedule} schedule lies in (0, {limit}); got {T}")
        # The way to set what is frozen.
        object.__setattr__(self, "schedule", schedule)
        object.__setattr__(self, "T", T)

    @property
    def _clock(self) -> _Clock:
        return _CLOCKS[self.schedule]

    def integral(self, t: jax.Array) -> jax.Array:
        """B(t), the time of the papers' process (g = 1) that t stands for; any shape."""
        return self._clock.integral(t, jnp)

    def time(self, integral: Any, xp: Any = np) -> Any:
        """t at which B(t) is `integral`, at least 0; an array of any shape, of the module `xp`,
        `numpy` or `jax.numpy`."""
        # Exactly 0 at 0: sigma does not exist below.
        return xp.where(integral > 0, self._clock.inverse(integral, xp), 0.0)

    def g(self, t: jax.Array) -> jax.Array:
        """g(t) > 0; any shape."""
        return jnp.sqrt(self._clock.rate(t, jnp))

    def alpha(self, t: jax.Array) -> jax.Array:
        """Share of the data left at t: exp(-B(t)), in (0, 1]; any shape."""
        return jnp.exp(-self.integral(t))

    def sigma(self, t: jax.Array) -> jax.Array:
        """Standard deviation of the noise at t: sqrt(1 - alpha^2), in [0, 1); any shape."""
        return jnp.sqrt(-jnp.expm1(-2 * self.integral(t)))

    def times(
        self, num_steps: int, spacing: str = "uniform", sigma_min: float = 0.08
    ) -> np.ndarray:
        """A grid of decreasing times for a reverse process.

        Args:
            num_steps: number of steps, at least 1.
            spacing: "uniform" in t; "quadratic", t = T u^2 with u uniform; "logsnr", uniform in
                log(alpha^2 / sigma^2) from T down to sigma = `sigma_min`, then one step to 0;
                "optimal" and "multistep", the best known for few steps of `samplers.dpmpp_2m` and
                `samplers.multistep`.
            sigma_min: noise level of the last time before 0; used by "logsnr" alone.

        Returns:
            float32 `[num_steps + 1]`, from T (the last two: from at most T) to exactly 0.

        Raises:
            ValueError: `num_steps` < 1, an unknown spacing, or a `sigma_min` outside
                (0, sigma(T)).
        """
        if num_steps < 1:
            raise ValueError(f"a time grid needs num_steps >= 1, got {num_steps}")
        fraction = np.linspace(1.0, 0.0, num_steps + 1)
        start = self._clock.integral(np.float64(self.T), np)
        if spacing == "uniform":
            times = self.T * fraction
        elif spacing == "quadratic":
            times = self.T * fraction**2
        elif spacing == "logsnr":
            times = self.time(grids.logsnr(num_steps, start, sigma_min))
            times[0] = self.T
        elif spacing in ("optimal", "multistep"):
            searched = {"optimal": grids.optimal, "multistep": grids.multistep}
            times = self.time(searched[spacing](num_steps, start))
        else:
            raise ValueError(f"spacing is one of {', '.join(SPACINGS)}; got {spacing!r}")
        return times.astype(np.float32)


def perturb(process: OUProcess, x0: jax.Array, t: jax.Array, noise: jax.Array) -> jax.Array:
    """A draw of the forward marginal (Eq. 58): X_t = alpha X_0 + sigma eps.

    Args:
        x0: `[B, ...]`.
        t: `[B]`, in [0, T].
        noise: standard normal, of x0's shape.

    Returns:
        X_t, of x0's shape.
    """
    return per_image(process.alpha(t), x0) * x0 + per_image(process.sigma(t), x0) * noise


def per_image(value: jax.Array, x: jax.Array) -> jax.Array:
    """`[B]` -> `[B, 1, ..., 1]`, to multiply x `[B, ...]`."""
    return value.reshape(value.shape + (1,) * (x.ndim - value.ndim))
