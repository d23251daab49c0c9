"""The weights and grids of `samplers.multistep`, which `wmgm_jax/diffusion/grids.py` holds.

  python -m experiments.multistep                           # by the spectra alone; two minutes
  python -m experiments.multistep --workdir=runs/colon_ihc  # by trained networks, too; ten minutes

With exact scores a linear multistep sampler of Gaussian data N(0, diag(lambda)) has a closed form
(`experiments/linear_samplers.py`), and an error: sum (sqrt v - sqrt lambda)^2 / sum lambda, v the
variance that it generates. Searched for are, of a number of steps, the values of B and the weights
c that err least: in the mean over all spectra that `experiments.few_steps` has measured of the
logarithm of the error, by the method of Nelder and Mead, from the grid and the weights of
DPM-Solver++(2M) and from near there. Several weights do the same to Gaussian data.

Real data are not Gaussian, nor scores exact. With --workdir the search goes on, from the best of
those that it has found, for the least sum of --gaussian_share of that mean and, for the rest, of
the mean logarithm of the mean square distance from the ends of 32 steps of dpmpp_2m from the same
noise, relative to their variance, by the score networks of trained runs.

Writes a table (CSV and Markdown) into --out.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags
from scipy.optimize import minimize
from tqdm import tqdm

from experiments import linear_samplers
from experiments.followed_paths import (
    LEAST,
    MOST,
    mean_logarithm,
    path_error,
    second_order_weights,
)
from wmgm_jax import cli
from wmgm_jax.core.errors import UserError
from wmgm_jax.diffusion import grids
from wmgm_jax.evaluation.report.tables import write_table

_NEAR = 0.15  # standard deviation of the starts, of log B and of c
_ATTEMPTS = 12
_IMPOSSIBLE = 1e3  # instead of a mean logarithm
_STEP = 0.1  # of the first simplex at trained networks

_STEPS = flags.DEFINE_list("steps", ["4"], "Numbers of steps.")
_SPECTRA = flags.DEFINE_string(
    "spectra", "experiments/results/few_steps/spectra.npz", "What experiments.few_steps wrote."
)
_WORKDIR = flags.DEFINE_multi_string("workdir", [], "Trained runs, for their score networks.")
_NUM_PATHS = flags.DEFINE_integer("num_paths", 64, "Draws of a trained network.", lower_bound=1)
_EVALUATIONS = flags.DEFINE_integer(
    "evaluations", 220, "Of the distance from the ends, in a search.", lower_bound=1
)
_GAUSSIAN_SHARE = flags.DEFINE_float("gaussian_share", 0.3, "See above.", 0.0, 1.0)
_OUT = flags.DEFINE_string("out", "experiments/results/few_steps", "Folder of the results.")


class Solver(NamedTuple):
    """A grid of B `[N + 1]`, falling to 0, and weights `[N, N]`, 0 but below the diagonal."""

    grid: np.ndarray
    weights: np.ndarray


def main() -> None:
    if not Path(_SPECTRA.value).exists():
        raise UserError(f"--spectra={_SPECTRA.value} does not exist: see experiments.few_steps")
    gaussian = {
        name: functools.partial(gaussian_error, eigenvalues=eigenvalues)
        for name, eigenvalues in np.load(_SPECTRA.value, allow_pickle=False).items()
    }
    trained = {workdir: followed_error(workdir) for workdir in _WORKDIR.value}
    rows = []
    for num_steps in tqdm([int(text) for text in _STEPS.value], "searching"):
        first = second_order(num_steps)
        best = best_of_gaussian(first, list(gaussian.values()))
        found = {"dpmpp_2m": first, "Gaussian": best[0]}
        if trained:
            found["trained"] = followed(best, list(gaussian.values()), list(trained.values()))
        for search, solver in found.items():
            rows.append(
                {
                    "steps": num_steps,
                    "search": search,
                    "B": _text(solver.grid[:-1]),
                    "weights": "; ".join(
                        _text(c[:i]) for i, c in enumerate(solver.weights) if i > 0
                    ),
                    **{
                        f"error, {Path(name).name}": of(solver)
                        for name, of in (gaussian | trained).items()
                    },
                }
            )
        write_table(Path(_OUT.value) / "multistep", rows)


def gaussian_error(solver: Solver, eigenvalues: np.ndarray) -> float:
    variance = linear_samplers.multistep(solver.grid, eigenvalues, solver.weights)
    return linear_samplers.relative_error(variance, eigenvalues)


def followed_error(workdir: str) -> Callable[[Solver], float]:
    error_of = path_error(workdir, _NUM_PATHS.value, 32)
    return lambda solver: error_of(*solver)


def second_order(num_steps: int) -> Solver:
    """DPM-Solver++(2M) on its own grid."""
    grid = grids.optimal(num_steps, MOST)
    grid[:-1] = np.maximum(grid[:-1], LEAST)
    return Solver(grid, second_order_weights(grid))


def best_of_gaussian(first: Solver, gaussian: Sequence[Callable]) -> list[Solver]:
    """What the searches from `first` and from near it end at, the best one first."""

    def objective(numbers):
        solver = to_solver(numbers)
        return _IMPOSSIBLE if solver is None else mean_logarithm(gaussian, solver)

    random, results = np.random.default_rng(0), []
    for attempt in range(_ATTEMPTS):
        start = to_numbers(first)
        start += random.normal(scale=_NEAR, size=len(start)) * (attempt > 0)
        num_steps = len(first.weights)
        start[:num_steps] = np.clip(start[:num_steps], np.log(LEAST), np.log(MOST))
        options = {"maxfev": 4000, "adaptive": True}
        for _ in range(4):  # A simplex that has shrunk to nothing begins anew.
            result = minimize(objective, start, method="Nelder-Mead", options=options)
            start = result.x
        if result.fun < _IMPOSSIBLE:
            results.append(result)
    return [to_solver(result.x) for result in sorted(results, key=lambda result: result.fun)]


def followed(
    starts: Sequence[Solver], gaussian: Sequence[Callable], trained: Sequence[Callable]
) -> Solver:
    """A solver near the best of `starts` that trained networks follow better."""
    share = _GAUSSIAN_SHARE.value

    def objective(numbers):
        solver = to_solver(numbers)
        if solver is None:
            return _IMPOSSIBLE
        of_gaussian, of_trained = (mean_logarithm(e, solver) for e in (gaussian, trained))
        return share * of_gaussian + (1 - share) * of_trained

    numbers = min(map(to_numbers, starts), key=objective)
    simplex = np.vstack([numbers, numbers + _STEP * np.eye(len(numbers))])
    options = {"maxfev": _EVALUATIONS.value, "initial_simplex": simplex}
    return to_solver(minimize(objective, numbers, method="Nelder-Mead", options=options).x)


def to_numbers(solver: Solver) -> np.ndarray:
    """log B of every step, then the weights row by row."""
    below = np.tril_indices(len(solver.weights), -1)
    return np.concatenate([np.log(solver.grid[:-1]), solver.weights[below]])


def to_solver(numbers: np.ndarray) -> Solver | None:
    """The inverse of `to_numbers`; None where the times do not fall, or leave their bounds."""
    num_steps = int(np.sqrt(2 * len(numbers)))  # N + N (N - 1) / 2 numbers
    grid = np.append(np.exp(numbers[:num_steps]), 0.0)
    if grid[0] > MOST or grid[-2] < LEAST * (1 - 1e-9) or np.any(np.diff(grid) >= 0):
        return None
    weights = np.zeros((num_steps, num_steps))
    weights[np.tril_indices(num_steps, -1)] = numbers[num_steps:]
    return Solver(grid, weights)


def _text(numbers: np.ndarray) -> str:
    return " ".join(f"{number:.4g}" for number in numbers)


if __name__ == "__main__":
    cli.run(main)
