"""How few evaluations of the score does each sampler need, and on which grid?

  python -m experiments.few_steps --config=configs/faces128.py --config.data.dir=DIR
  python -m experiments.few_steps                     # adds the embedded images; four minutes
  python -m experiments.few_steps --search=False      # the table and the figure alone

The coarsest band of real images is taken for Gaussian, N(0, diag(lambda)), lambda the eigenvalues
of its covariance brought to mean 1: every sampler is then linear, and its error with exact scores a
number (`experiments/linear_samplers.py`): sum (sqrt v - sqrt lambda)^2 / sum lambda, v the variance
that it generates.

  spectra      eigenvalues of x_L^S and of x_L^(S + 1) of the training images of every --config that
               this was called with, in the order of the calls
  grids        the grids of B on which DPM-Solver++(2M) errs least (the mean over all spectra of the
               logarithm of its error), found by Nelder-Mead from twelve starts. B stays above
               0.001, below which a network is hardly trained, and below 5, where processes end
  errors       every sampler and grid by evaluations, for the first spectrum

Writes them (tables as CSV and Markdown) and a figure into --out. `wmgm_jax/time_grids.py` holds the
grids found.
"""

import itertools
from pathlib import Path

import numpy as np
from absl import flags
from matplotlib.figure import Figure
from scipy.optimize import minimize
from tqdm import tqdm

from experiments import linear_samplers
from experiments.figures import write_figure
from experiments.tables import write_table
from wmgm_jax import cli, data, files, runs, samplers, time_grids
from wmgm_jax.evaluation.plots import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from wmgm_jax.sde import OUProcess
from wmgm_jax.systems import bands

SEARCHED_STEPS = (2, 3, 4, 5, 6, 8)
SHOWN_STEPS = (2, 3, 4, 5, 6, 8, 12, 16, 32, 64, 256)
LEAST, MOST = 1e-3, 5.0

cli.define_config("configs/colon_ihc.py")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 5000, "Images of a spectrum.", lower_bound=2)
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
    images = bands.to_unit_range(data.spread(train, _NUM_IMAGES.value))
    name = Path(cli.config_path()).stem
    for scale in (config.wavelet.levels, config.wavelet.levels + 1):
        spectra[f"{name}, scale {scale}"] = spectrum(np.float64(bands.low(images, scale)))
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
    rows = []
    for num_steps in tqdm(SEARCHED_STEPS, "searching"):
        grid = best_grid(num_steps, list(spectra.values()))
        rows.append(
            {"steps": num_steps, "B": " ".join(f"{value:.4g}" for value in grid[:-1])}
            | {
                f"error, {name}": error("dpmpp_2m", grid, values)
                for name, values in spectra.items()
            }
        )
        write_table(path, rows)


def best_grid(num_steps: int, spectra: list[np.ndarray]) -> np.ndarray:
    """`[num_steps + 1]` values of B, falling to 0."""

    def grid(logarithms):
        """From the logarithms of the ratios of neighbours, and of the last value above 0."""
        ratios, last = np.exp(np.clip(logarithms[:-1], -30, 3)), np.exp(logarithms[-1])
        last = np.clip(last, LEAST, MOST)
        values = last * np.exp(np.append(np.cumsum(ratios[::-1])[::-1], 0.0))
        return np.append(np.minimum(values, MOST), 0.0)

    def objective(logarithms):
        return np.mean([np.log(error("dpmpp_2m", grid(logarithms), s)) for s in spectra])

    results = []
    for start, end in itertools.product((2.5, 3.5, 4.5), (0.1, 0.03, 0.01, 0.004)):
        sigma_min = np.sqrt(-np.expm1(-2 * end))
        values = time_grids.logsnr(num_steps, start, sigma_min)[:-1]
        first = np.log(np.append(-np.diff(np.log(values)), values[-1]))
        options = {"maxiter": 4000, "maxfev": 4000, "xatol": 1e-4, "fatol": 1e-6}
        results.append(minimize(objective, first, method="Nelder-Mead", options=options))
    return grid(min(results, key=lambda result: result.fun).x)


def error(sampler: str, grid: np.ndarray, eigenvalues: np.ndarray) -> float:
    if np.any(np.diff(grid) >= 0):  # a search may run two times into one
        return np.inf
    variance = linear_samplers.SAMPLERS[sampler](grid, eigenvalues)
    return linear_samplers.relative_error(variance, eigenvalues)


def errors(eigenvalues: np.ndarray) -> list[dict[str, object]]:
    """A row for every number of evaluations, a column for every sampler on a grid of its own kind:
    the papers' and the authors' own, and the best known for the rest."""
    rows = []
    for count in SHOWN_STEPS:
        row: dict[str, object] = {"evaluations": count}
        for name, (sampler, grid) in _CONTENDERS.items():
            # Of two evaluations a step, but on the last.
            num_steps = (count + 1) // 2 if sampler == "heun" else count
            if samplers.evaluations(sampler, num_steps) == count:
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
        lambda n: time_grids.logsnr(n, 4.0, 0.24 if n < 5 else 0.08),
    ),
    "DPM-Solver++(2M), optimal": ("dpmpp_2m", lambda n: time_grids.optimal(n, 5.0)),
}
_COLOURS = dict(
    zip(_CONTENDERS, (VERMILION, VERMILION, ORANGE, GREEN, PURPLE, BLUE, BLUE), strict=True)
)


def plot(rows: list[dict[str, object]]) -> Figure:
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, colour in _COLOURS.items():
        points = [(row["evaluations"], row[name]) for row in rows if name in row]
        is_second = name in ("Euler-Maruyama, linear-beta", "DPM-Solver++(2M), uniform in log-SNR")
        style = "o--" if is_second else "o-"
        axes.loglog(*zip(*points, strict=True), style, color=colour, ms=3, label=name)
    axes.set_xticks(SHOWN_STEPS, SHOWN_STEPS)
    axes.minorticks_off()
    axes.set_xlabel("evaluations of the score")
    axes.set_ylabel("relative squared Wasserstein-2 error")
    axes.legend()
    return figure


if __name__ == "__main__":
    cli.run(main)
