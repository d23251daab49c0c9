"""Critical phi^4 fields by SGM and by WSGM (Figure 3 of WSGM, https://arxiv.org/abs/2208.05003).

  python -m experiments.phi4                          # L = 16, 32 and 64
  python -m experiments.phi4 --size=32 --num_steps=64 --out=DIR
  python -m experiments.phi4 --size=64 --num_fields=20000 --fields=DIR    # the fields alone

Samples phi^4 fields at the critical point (`phi4_fields.py`), fits the scores of an SGM of the
field and of a WSGM of its wavelet coefficients, both linear in their parameters and fitted in
closed form (`linear_scores.py`), and draws from them with Euler-Maruyama steps on uniform times,
without noise on the last step. The error of drawn fields is, as in the paper, the sum of

    |P' - P|_2 / |P|_2                       P(omega) = E |X(omega)|^2, all L^2 frequencies
    total variation 1/2 sum_b |q'_b - q_b|   q the marginal of a pixel in `BINS`,

the dashed quantities being those of the drawn fields, the others of fields held out from the fit.
The paper does not say how it divides the first; as it is dominated by the largest powers, the table
has the root mean square over frequencies of log(P' / P) beside it. The floor is the error of true
fields, as many as are drawn, of other Markov chains' sweeps than the reference's.

Writes tables (CSV, Markdown) and figures into --out.
"""

import logging
from pathlib import Path

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from experiments import linear_scores, phi4_fields
from wmgm_jax import cli
from wmgm_jax.core import files
from wmgm_jax.core.errors import UserError
from wmgm_jax.diffusion.process import OUProcess
from wmgm_jax.evaluation.report.figures import write_figure
from wmgm_jax.evaluation.report.plots import BLUE, GREEN, ORANGE, VERMILION
from wmgm_jax.evaluation.report.tables import write_table

MODELS = ("SGM", "WSGM")
COLOURS = (BLUE, ORANGE, GREEN, VERMILION)

# Of the marginals, in standard deviations of the reference; what lies beyond joins the last bins.
BINS = np.linspace(-4, 4, 81)

_SIZE = flags.DEFINE_multi_integer("size", [16, 32, 64], "L, a power of 2; may be repeated.")
_NUM_STEPS = flags.DEFINE_multi_integer(
    "num_steps", [4, 8, 16, 32, 64], "Steps of the sampler; each divides the largest."
)
_NUM_FIELDS = flags.DEFINE_integer(
    "num_fields", 2048, "Fields to sample, one half to fit, the other to compare.", lower_bound=2
)
_NUM_DRAWN = flags.DEFINE_integer("num_drawn", 512, "Fields to draw.", lower_bound=1)
_WAVELET = flags.DEFINE_enum("wavelet", "db4", ["haar", "db2", "db4"], "Wavelet of the WSGM.")
_BETA = flags.DEFINE_float("beta", phi4_fields.CRITICAL_BETA, "Coupling of the fields.")
_TIME = flags.DEFINE_float("time", 5.0, "T, where the forward process ends.", lower_bound=0.1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of everything.")
_OUT = flags.DEFINE_string("out", "experiments/results/phi4", "Folder of the results.")
_FIELDS = flags.DEFINE_string(
    "fields", None, "Write the fields as phi4_L.npy, float32 [N, L, L], here, and do nothing else."
)

_log = logging.getLogger("wmgm_jax.experiments")


def main() -> None:
    check_flags()
    out, key = Path(_OUT.value), jax.random.key(_SEED.value)
    chains, errors = [], []
    for size in _SIZE.value:
        fields_key, models_key = jax.random.split(jax.random.fold_in(key, size))
        fields, row = true_fields(size, fields_key)
        if _FIELDS.value:
            write_fields(Path(_FIELDS.value) / f"phi4_{size}.npy", fields)
            continue
        chains.append(row)
        train, reference = np.array_split(fields, 2)
        floor = {"L": size, "model": "true fields", "steps": 0}
        errors.append(floor | error(train[: _NUM_DRAWN.value], reference))
        spectra, examples = {"true fields": reference}, {"true fields": reference}
        for model, steps, drawn in draws(train, models_key):
            errors.append({"L": size, "model": model, "steps": steps} | error(drawn, reference))
            _log.info("L = %d, %s, %d steps: %.3g", size, model, steps, errors[-1]["error"])
            spectra[f"{model}, {steps} steps"] = drawn
            examples[model] = drawn
        write_table(out / "chains", chains)
        write_table(out / "errors", errors)
        write_figure(out / "errors.png", plot_errors(errors))
        write_figure(out / "fields.png", plot_fields(examples))
        write_figure(out / "spectrum.png", plot_spectrum(spectra))


def check_flags() -> None:
    for size in _SIZE.value:
        if size < 2 or size & (size - 1):
            raise UserError(f"--size is a power of 2, at least 2; got {size}")
    for name, value in {"beta": _BETA.value, "time": _TIME.value}.items():
        if not 0 < value < np.inf:
            raise UserError(f"--{name} is a positive number, got {value}")
    for steps in _NUM_STEPS.value:
        if steps < 1 or max(_NUM_STEPS.value) % steps:
            raise UserError(
                f"--num_steps is at least 1 and divides the largest given, "
                f"{max(_NUM_STEPS.value)}, to share its times; got {steps}"
            )
    if _NUM_DRAWN.value > _NUM_FIELDS.value // 2:
        raise UserError(
            f"--num_drawn is at most half of --num_fields, {_NUM_FIELDS.value // 2}, so that the "
            f"floor has as many fields; got {_NUM_DRAWN.value}"
        )


def true_fields(size: int, key: jax.Array) -> tuple[np.ndarray, dict[str, object]]:
    """Fields `[N, L, L]`, and what the chains tell of themselves and of the fields."""
    energy = phi4_fields.Energy(_BETA.value)
    chains = phi4_fields.sample_fields(energy, size, _NUM_FIELDS.value, key)
    row = {
        "L": size,
        "beta": _BETA.value,
        "fields": len(chains.fields),
        "acceptance": chains.acceptance,
        "autocorrelation time (sweeps)": chains.autocorrelation_time,
        "thinning (sweeps)": chains.thinning,
        "standard deviation": float(chains.fields.std()),
    }
    return chains.fields, row | phi4_fields.magnetic_moments(chains.fields)


def write_fields(path: Path, fields: np.ndarray) -> None:
    with files.atomic_writer(path) as file:
        np.save(file, fields, allow_pickle=False)
    _log.info("wrote %s", path)


def draws(train: np.ndarray, key: jax.Array):
    """Fits both models; yields (model, steps, fields `[N, L, L]`) for every number of steps."""
    process = OUProcess(schedule="constant", T=_TIME.value)
    num_times, num = max(_NUM_STEPS.value), _NUM_DRAWN.value
    fit_key, draw_key = jax.random.split(key)
    sgm = linear_scores.fit_sgm(train, process, num_times, fit_key)
    wsgm = linear_scores.fit_wsgm(train, _WAVELET.value, process, num_times, fit_key)
    for steps in sorted(_NUM_STEPS.value):
        for name, model, draw in (
            ("SGM", sgm, linear_scores.draw_sgm),
            ("WSGM", wsgm, linear_scores.draw_wsgm),
        ):
            steps_key = jax.random.fold_in(draw_key, steps)
            yield name, steps, np.asarray(draw(model, num, process, steps, steps_key))


def power_spectrum(fields: np.ndarray) -> np.ndarray:
    """P(omega) = E |X(omega)|^2 `[L, L]` of fields `[N, L, L]`, X the unitary transform; its mean
    is the mean square of the pixels."""
    return np.mean(np.abs(np.fft.fft2(fields.astype(np.float64), norm="ortho")) ** 2, axis=0)


def marginal(fields: np.ndarray, unit: float) -> np.ndarray:
    """The shares of pixels in `BINS`, in the given unit."""
    inside = np.clip(fields / unit, BINS[0], BINS[-1])
    return np.histogram(inside, BINS)[0] / fields.size


def error(fields: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """The error of this module's docstring and its parts, 0 for equal sets `[N, L, L]`."""
    ours, theirs = power_spectrum(fields), power_spectrum(reference)
    spectrum = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    unit = float(reference.std())
    variation = np.abs(marginal(fields, unit) - marginal(reference, unit)).sum() / 2
    return {
        "error": float(spectrum + variation),
        "spectrum": float(spectrum),
        "marginal": float(variation),
        "log spectrum": float(np.sqrt(np.mean(np.log(ours / theirs) ** 2))),
    }


def plot_errors(rows: list[dict]) -> Figure:
    figure = Figure(figsize=(7, 3), layout="constrained")
    panels = figure.subplots(1, 2)
    sizes = list(dict.fromkeys(row["L"] for row in rows))
    for axes, column in zip(panels, ("error", "log spectrum"), strict=True):
        for size, colour in zip(sizes, COLOURS * len(sizes), strict=False):
            of_size = [row for row in rows if row["L"] == size]
            for model, style in zip(MODELS, ("o--", "s-"), strict=True):
                points = [row for row in of_size if row["model"] == model]
                axes.plot(
                    [row["steps"] for row in points],
                    [row[column] for row in points],
                    style,
                    color=colour,
                    ms=4,
                    label=f"{model}, L = {size}",
                )
            axes.axhline(of_size[0][column], color=colour, lw=0.8, ls=":")
        steps = sorted({row["steps"] for row in rows if row["steps"]})
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(steps, map(str, steps))
        axes.set_xlabel("steps")
    panels[0].set_title("spectrum (relative) + marginal")
    panels[1].set_title("spectrum (rms of the logarithm)")
    panels[0].set_ylabel("error")
    panels[0].plot([], [], color="0.4", lw=0.8, ls=":", label="true fields")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(sizes) + 1)
    return figure


def plot_fields(examples: dict[str, np.ndarray], columns: int = 4) -> Figure:
    """Rows of true and drawn fields, one scale of colours for all."""
    columns = min(columns, *(len(fields) for fields in examples.values()))
    figure = Figure(figsize=(1.5 * columns + 0.9, 1.5 * len(examples)), layout="constrained")
    panels = figure.subplots(len(examples), columns, squeeze=False)
    for row, (name, fields) in zip(panels, examples.items(), strict=True):
        for axes, field in zip(row, fields, strict=False):
            picture = axes.imshow(field, cmap="RdBu_r", vmin=-2, vmax=2, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name)
    figure.colorbar(picture, ax=panels, shrink=0.6, label="field", extend="both")
    return figure


def plot_spectrum(sets: dict[str, np.ndarray]) -> Figure:
    """Power by rings of integer radius, of the true fields and of the most and a middling number
    of steps."""
    names = [name for name in sets if name != "true fields"]
    shown = [*names[len(names) // 4 * 2 : len(names) // 4 * 2 + 2], *names[-2:]]
    figure = Figure(figsize=(4.2, 3), layout="constrained")
    axes = figure.subplots()
    looks = dict(zip(dict.fromkeys(shown), COLOURS, strict=False))
    for name, colour in ({"true fields": "0.2"} | looks).items():
        frequencies, power = by_rings(power_spectrum(sets[name]))
        width = 3 if name == "true fields" else 1.2
        style = "--" if name.startswith("SGM") else "-"
        alpha = 0.4 if name == "true fields" else 1
        axes.loglog(frequencies, power, style, color=colour, lw=width, alpha=alpha, label=name)
    ticks = [2.0**-k for k in range(1, 8) if 2.0**-k >= frequencies[0]]
    axes.set_xticks(ticks, [f"1/{round(1 / tick)}" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("frequency (cycles per pixel)")
    axes.set_ylabel("power")
    axes.legend()
    return figure


def by_rings(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies and the mean power of the rings of integer radius 1 to L / 2."""
    size = len(power)
    cycles = np.fft.fftfreq(size, 1 / size)
    radius = np.rint(np.hypot(cycles[:, None], cycles)).astype(int)
    counts = np.bincount(radius.ravel())[1 : size // 2 + 1]
    sums = np.bincount(radius.ravel(), power.ravel())[1 : size // 2 + 1]
    return np.arange(1, size // 2 + 1) / size, sums / counts


if __name__ == "__main__":
    cli.run(main)
