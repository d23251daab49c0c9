"""Where a reverse process is evaluated: grids in the clock B of the process (see `process`).

B is the time of the papers' process; in it a grid means the same noise under every schedule.
"""

import numpy as np

# Searched for by `experiments/few_steps.py`, which says how: DPM-Solver++(2M) on the spectra of
# real coarsest bands, and those of 4 to 6 steps on trained networks, too.
_SEARCHED = {
    2: (2.546, 0.7917),
    3: (2.996, 1.902, 0.06816),
    4: (2.992, 1.604, 0.2163, 0.001019),
    5: (3.236, 2.042, 0.641, 0.07547, 0.001),
    6: (4.295, 2.989, 1.428, 0.3305, 0.03404, 0.00102),
    8: (4.037, 3.432, 2.063, 1.018, 0.2893, 0.05321, 0.0121, 0.001),
}

# The same for `samplers.multistep`, by `experiments/multistep.py`: B of every step, and c_ij of all
# but the first, j < i.
_MULTISTEP = {
    4: (
        (4.62, 2.801, 0.8604, 0.02555),
        ((0.8264,), (-0.2114, 0.5105), (-0.03145, 0.2489, 0.834)),
    ),
}

MULTISTEP_STEPS = tuple(_MULTISTEP)


def logsnr(num_steps: int, start: float, sigma_min: float) -> np.ndarray:
    """`[num_steps + 1]`, uniform in log(alpha^2 / sigma^2) from B = `start` down to sigma =
    `sigma_min`, then 0.

    Raises:
        ValueError: a `sigma_min` outside (0, sigma(start)).
    """
    if not 0 < sigma_min**2 < -np.expm1(-2 * start):
        raise ValueError(f"sigma_min lies in (0, sigma(T)); got {sigma_min}")
    end = -np.log1p(-(sigma_min**2)) / 2
    return np.append(_integral(np.linspace(_logsnr(start), _logsnr(end), num_steps)), 0.0)


def optimal(num_steps: int, start: float) -> np.ndarray:
    """`[num_steps + 1]`, the best grid known for DPM-Solver++(2M), then 0.

    Searched for up to 8 steps, 7 excepted; the other grids are that of 8, interpolated in
    log(alpha^2 / sigma^2). Where the process ends before a grid begins, all of it is shortened.
    """
    searched = _SEARCHED.get(num_steps, _SEARCHED[max(_SEARCHED)])
    places = np.linspace(0, 1, len(searched))
    nodes = np.interp(np.linspace(0, 1, num_steps), places, _logsnr(np.array(searched)))
    return _within(start, np.append(_integral(nodes), 0.0))


def multistep(num_steps: int, start: float) -> np.ndarray:
    """`[num_steps + 1]`, the grid that `multistep_weights` belong to, then 0.

    Where the process ends before the grid begins, all of it is shortened, as in `optimal`. The
    weights are then no longer the best.

    Raises:
        ValueError: a number of steps for which none was searched for.
    """
    return _within(start, np.append(_searched_multistep(num_steps)[0], 0.0))


def multistep_weights(num_steps: int) -> np.ndarray:
    """`[num_steps, num_steps]`, c of `samplers.linear_multistep`, which is 0 but for j < i.

    Raises:
        ValueError: a number of steps for which none were searched for.
    """
    weights = np.zeros((num_steps, num_steps))
    for i, row in enumerate(_searched_multistep(num_steps)[1], start=1):
        weights[i, :i] = row
    return weights


def _searched_multistep(num_steps: int) -> tuple[tuple[float, ...], tuple[tuple[float, ...], ...]]:
    if num_steps not in _MULTISTEP:
        known = " or ".join(map(str, MULTISTEP_STEPS))
        raise ValueError(f"multistep takes {known} steps; got {num_steps}")
    return _MULTISTEP[num_steps]


def _within(start: float, grid: np.ndarray) -> np.ndarray:
    return grid * np.minimum(1.0, start / grid[0])


def _logsnr(integral: np.ndarray | float) -> np.ndarray:
    """log(alpha^2 / sigma^2) at B."""
    return -2 * integral - np.log(-np.expm1(-2 * integral))


def _integral(logsnr: np.ndarray) -> np.ndarray:
    """B at log(alpha^2 / sigma^2), for alpha^2 = sigmoid(logsnr) and alpha = exp(-B)."""
    return np.logaddexp(0.0, -logsnr) / 2
