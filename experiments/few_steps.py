"""How few calls of the score does each sampler need, and on which grid?

  python -m experiments.few_steps --config=configs/faces128.py --config.data.dir=DIR
  python -m experiments.few_steps                     # adds the embedded images; two minutes
  python -m experiments.few_steps --workdir=runs/colon_ihc   # by trained networks, too; ten minutes
  python -m experiments.few_steps --search=False      # the table and the figure alone

The coarsest band of real images is taken for Gaussian, N(0, diag(lambda)), lambda the eigenvalues
of its covariance brought to mean 1: every sampler is then linear, and its error with exact scores a
number (`experiments/linear_samplers.py`): sum (sqrt v - sqrt lambda)^2 / sum lambda, v the variance
that it generates.

  spectra      eigenvalues of x_L^S and of x_L^(S + 1) of the training images of every --config that
               this was called with, in the order of the calls
  grids        the grids of B on which DPM-Solver++(2M) errs least: in the mean over all spectra of
               the logarithm of its error, by Nelder-Mead from twelve starts. Real data are not
               Gaussian: with --workdir the search goes on from there for the grid that trained
               networks follow best, by the same mean of the mean square distance from the ends of
               48 steps from the same noise, relative to their variance, among those that in the
               mean over the spectra err no more than a grid uniform in log-SNR. B stays above
               0.001, below which a network is hardly trained, and below 5, where processes end
  errors       every sampler and grid by calls, for the first spectrum

Writes them (tables as CSV and Markdown) and a figure into --out.
`wmgm_jax/diffusion/grids.py` holds the
grids found; those of the sampler multistep are searched for by `experiments.multistep`.
"""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure
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
from wmgm_jax import cli, data, runs, wavelets
from wmgm_jax.core import files
from wmgm_jax.diffusion import grids, samplers
from wmgm_jax.diffusion.process import OUProcess
from wmgm_jax.evaluation.report.figures import write_figure
from wmgm_jax.evaluation.report.plots import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from wmgm_jax.evaluation.report.tables import write_table

SEARCHED_STEPS = (2, 3, 4, 5, 6, 8)
# Fewer steps than these are too far from a path of many, and more need no help.
FOLLOWED_STEPS = (4, 5, 6)
SHOWN_STEPS = (2, 3, 4, 5, 6, 8, 12, 16, 32, 64, 256)
# Noise at which the grids that are uniform in log-SNR end, of few steps; 0.08 of more.
_EVEN_ENDS = {2: 0.24, 3: 0.24, 4: 0.24}

cli.define_config("configs/colon_ihc.py")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 5000, "Images of a spectrum.", lower_bound=2)
_WORKDIR = flags.DEFINE_multi_string("workdir", [], "Trained runs, for their score networks.")
_NUM_PATHS = flags.DEFINE_integer("num_paths", 96, "Draws of a trained network.", lower_bound=1)
_SEARCH = flags.DEFINE_bool("search", True, "Search for grids; else take those in the package.")
_OUT = flags.DEFINE_string("out", "experiments/results/few_steps", "Folder of the results.")


def main() -> None:
    out = Path(_OUT.value)
    spectra = add_spectra(out / "spectra.npz")
    if _SEARCH.value:
        write_grids(out / "grids", spectra)
    rows = errors(next(iter(spectra.values())))
    write_table(out / "errors", rows)
    write_figure(out / "errors.png", plot(rows))


def add_spectra(path: Path) -> dict[str, np.ndarray]:
    """The spectra that stand in a file, by their names, with those of --config."""
    spectra = dict(np.load(path, allow_pickle=False)) if path.exists() else {}
    config = cli.given_config()
    train, _ = runs.open_sources(config)
    images = train.codec.to_unit_range(data.spread(train, _NUM_IMAGES.value))
    name = Path(cli.config_path()).stem
    for scale in (config.wavelet.levels, config.wavelet.levels + 1):
        spectra[f"{name}, scale {scale}"] = spectrum(np.float64(wavelets.low(images, scale)))
    files.write_npz(path, **spectra)
    return spectra


def spectrum(low: np.ndarray) -> np.ndarray:
    """Eigenvalues of the covariance of `[N, h, w, C]`, with mean 1, largest first."""
    vectors = low.reshape(len(low), -1)
    eigenvalues = np.linalg.eigvalsh(np.cov(vectors.T))[::-1]
    # Where the images are fewer than the pixels, the rest is rounding.
    eigenvalues = np.maximum(eigenvalues, 1e-9 * eigenvalues[0])
    return eigenvalues / eigenvalues.mean()


def write_grids(path: Path, spectra: dict[str, np.ndarray]) -> None:
    gaussian = {
        name: functools.partial(error, "dpmpp_2m", eigenvalues=values)
        for name, values in spectra.items()
    }
    trained = {workdir: followed_error(workdir) for workdir in _WORKDIR.value}
    rows = []
    for num_steps in tqdm(SEARCHED_STEPS, "searching"):
        grid = best_grid(num_steps, list(gaussian.values()))
        found = {"Gaussian": grid}
        if trained and num_steps in FOLLOWED_STEPS:
            found["trained"] = followed(grid, list(gaussian.values()), list(trained.values()))
        for search, grid in found.items():
            errors_of_grid = {
                f"error, {Path(name).name}": of(grid) for name, of in (gaussian | trained).items()
            }
            text = " ".join(f"{value:.4g}" for value in grid[:-1])
            rows.append({"steps": num_steps, "search": search, "B": text} | errors_of_grid)
        write_table(path, rows)


def followed_error(workdir: str) -> Callable[[np.ndarray], float]:
    """Of a grid, how far DPM-Solver++(2M) ends on it from where 48 steps end."""
    error_of = path_error(workdir, _NUM_PATHS.value, 48)
    return lambda grid: error_of(grid, second_order_weights(grid))


def to_grid(logarithms: np.ndarray) -> np.ndarray:
    """From the logarithms of the logarithmic steps, and of the last value above 0."""
    steps, last = np.exp(np.clip(logarithms[:-1], -30, 3)), np.exp(logarithms[-1])
    values = np.clip(last, LEAST, MOST) * np.exp(np.append(np.cumsum(steps[::-1])[::-1], 0.0))
    return np.append(np.minimum(values, MOST), 0.0)


def to_logarithms(grid: np.ndarray) -> np.ndarray:
    """The inverse of `to_grid`."""
    return np.log(np.append(-np.diff(np.log(grid[:-1])), grid[-2]))


def followed(grid: np.ndarray, gaussian: list[Callable], trained: list[Callable]) -> np.ndarray:
    """A grid near `grid` that trained networks follow better, and Gaussian data not too badly."""
    even = grids.logsnr(len(grid) - 1, 4.0, _EVEN_ENDS.get(len(grid) - 1, 0.08))

    def objective(logarithms):
        moved = to_grid(logarithms)
        excess = mean_logarithm(gaussian, moved) - mean_logarithm(gaussian, even)
        return mean_logarithm(trained, moved) + 100 * max(0.0, excess)

    options = {"maxfev": 60, "xatol": 1e-2, "fatol": 1e-3}
    first = to_logarithms(grid)
    options["initial_simplex"] = first + 0.15 * np.vstack(
        [np.zeros(len(first)), np.eye(len(first))]
    )
    return to_grid(minimize(objective, first, method="Nelder-Mead", options=options).x)


def best_grid(num_steps: int, gaussian: list[Callable]) -> np.ndarray:
    """`[num_steps + 1]` values of B, falling to 0."""

    def objective(logarithms):
        return mean_logarithm(gaussian, to_grid(logarithms))

    results = []
    for start, end in itertools.product((2.5, 3.5, 4.5), (0.1, 0.03, 0.01, 0.004)):
        sigma_min = np.sqrt(-np.expm1(-2 * end))
        first = to_logarithms(grids.logsnr(num_steps, start, sigma_min))
        options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-4, "fatol": 1e-6}
        results.append(minimize(objective, first, method="Nelder-Mead", options=options))
    return to_grid(min(results, key=lambda result: result.fun).x)


def error(sampler: str, grid: np.ndarray, eigenvalues: np.ndarray) -> float:
    if np.any(np.diff(grid) >= 0):  # a search may run two times into one
        return np.inf
    variance = linear_samplers.SAMPLERS[sampler](grid, eigenvalues)
    return linear_samplers.relative_error(variance, eigenvalues)


def errors(eigenvalues: np.ndarray) -> list[dict[str, object]]:
    """A row for every number of calls, a column for every sampler on a grid of its own kind:
    the papers' and the authors' own, and the best known for the rest."""
    rows = []
    for count in SHOWN_STEPS:
        row: dict[str, object] = {"calls": count}
        for name, (sampler, grid) in _CONTENDERS.items():
            # Of two calls a step, but on the last.
            num_steps = (count + 1) // 2 if sampler == "heun" else count
            if sampler == "multistep" and num_steps not in grids.MULTISTEP_STEPS:
                continue  # There it is dpmpp_2m.
            if samplers.SAMPLERS[sampler].num_function_evaluations(num_steps) == count:
                row[name] = error(sampler, grid(num_steps), eigenvalues)
        rows.append(row)
    return rows


def _uniform_in_linear_time(num_steps: int) -> np.ndarray:
    process = OUProcess("linear")
    return np.float64(process.integral(process.times(num_steps)))


_CONTENDERS = {
    "Euler-Maruyama, uniform": ("euler_maruyama", lambda n: np.linspace(5, 0, n + 1)),
    "Euler-Maruyama, linear-beta": ("euler_maruyama", _uniform_in_linear_time),
    "ancestral, linear-beta": ("ancestral", _uniform_in_linear_time),
    "DDIM, quadratic": ("ddim", lambda n: 5 * np.linspace(1, 0, n + 1) ** 2),
    "Heun, quadratic": ("heun", lambda n: 5 * np.linspace(1, 0, n + 1) ** 2),
    "DPM-Solver++(2M), uniform in log-SNR": (
        "dpmpp_2m",
        lambda n: grids.logsnr(n, 4.0, _EVEN_ENDS.get(n, 0.08)),
    ),
    "DPM-Solver++(2M), optimal": ("dpmpp_2m", lambda n: grids.optimal(n, 5.0)),
    "linear multistep, searched": ("multistep", lambda n: grids.multistep(n, 5.0)),
}
_COLOURS = dict(
    zip(
        _CONTENDERS, (VERMILION, VERMILION, ORANGE, GREEN, PURPLE, BLUE, BLUE, "black"), strict=True
    )
)


def plot(rows: list[dict[str, object]]) -> Figure:
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, colour in _COLOURS.items():
        points = [(row["calls"], row[name]) for row in rows if name in row]
        is_second = name in ("Euler-Maruyama, linear-beta", "DPM-Solver++(2M), uniform in log-SNR")
        style = "o--" if is_second else "o-"
        axes.loglog(*zip(*points, strict=True), style, color=colour, ms=3, label=name)
    axes.set_xticks(SHOWN_STEPS, SHOWN_STEPS)
    axes.minorticks_off()
    axes.set_xlabel("calls of the score")
    axes.set_ylabel("relative squared Wasserstein-2 error")
    axes.legend()
    return figure


if __name__ == "__main__":
    cli.run(main)
