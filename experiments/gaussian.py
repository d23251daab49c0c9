"""How many steps a Gaussian field takes, exactly: Theorem 1 and WSGM's Figure 2.

  python -m experiments.gaussian                      # two minutes
  python -m experiments.gaussian --eta=2 --size=64 --coarsest=4 --out=DIR
  python -m experiments.gaussian --config=configs/faces128.py --config.data.dir=DIR

Fields of power spectrum P(w) = c / (xi^eta + |w|^eta) and mean power 1, sampled by uniform steps of
Euler-Maruyama with exact scores and noise on every step. SGM samples the field at once; WSGM
(https://arxiv.org/abs/2208.05003) its coarsest band, then scale by scale the normalised details
given the low band, with as many steps at every scale. Nothing is trained and nothing drawn: every
number is from the linear recursion of `experiments/gaussian_fields.py`.

  theorem1         KL(p || p~_0) of SGM on the smallest field against the step and T, beside its
                   expansion (Eq. 26) and the terms of Theorem 1 as printed (Eq. 5-6)
  spectrum_error   error of the power spectrum P^ that N steps generate (WSGM's Figure 2), where
                   "relative" is sup |P^ - P| / P, "of peak" sup |P^ - P| / sup P, and "absolute"
                   sup |P^ - P|; beside it the divergence per pixel
  steps            N(epsilon), the steps that bring the first two to epsilon, to within 1%
  conditions       condition numbers of the field and, scale by scale, of the details
  coarsest_band    those of the coarsest Haar band, which WMGM diffuses, after S scales
  fit              eta fitted to the power spectrum of the images of --config, with xi = 2 pi / L
                   where it is not fitted

Writes tables (CSV, Markdown) and figures into --out. Only the fit looks at images.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pywt
from absl import flags
from ml_collections import ConfigDict

from experiments import gaussian_fields as fields
from experiments.gaussian_figures import plot_conditions, plot_fit, plot_steps, plot_theorem
from wmgm_jax import cli, data, runs
from wmgm_jax.core.errors import UserError
from wmgm_jax.evaluation.measures.power_spectrum import power_spectrum
from wmgm_jax.evaluation.report.figures import write_figure
from wmgm_jax.evaluation.report.tables import write_table

NUM_STEPS = (16, 64, 256, 1024, 4096)
MOST_STEPS = 2**18

# Short enough that of the error against T the steps' own is a floor.
SHORT_STEP = 1 / 512

# Cycles per pixel up to which the spectrum is fitted once more, free of what optics and compression
# do to the finest details.
COARSE = 1 / 8

cli.define_config("configs/colon_ihc.py")
_ETA = flags.DEFINE_multi_float("eta", [1.0, 2.0, 3.0], "Exponents of the spectra.")
_SIZE = flags.DEFINE_multi_integer("size", [32, 64, 128, 256], "Pixels a side, powers of two.")
_WAVELET = flags.DEFINE_multi_string("wavelet", ["haar", "db4"], "Orthogonal, of PyWavelets.")
_XI = flags.DEFINE_float("xi", None, "Cutoff in radians per pixel.  [2 pi / size]")
_T = flags.DEFINE_float("T", 10.0, "Where the diffusion begins.", lower_bound=0.1)
_EPSILON = flags.DEFINE_float("epsilon", 0.1, "The error to reach.", lower_bound=1e-3)
_COARSEST = flags.DEFINE_integer("coarsest", 1, "Where WSGM's scales end, a power of two.")
_NUM_IMAGES = flags.DEFINE_integer("num_images", 2048, "Images of the fit.", lower_bound=1)
_OUT = flags.DEFINE_string("out", "experiments/results/gaussian", "Folder of the results.")

Sampler = Callable[[int], tuple[np.ndarray, float]]


def main() -> None:
    config, out = cli.given_config(), Path(_OUT.value)
    check_flags()
    write_fit(out, config)
    write_theorem(out)
    write_conditions(out)
    write_steps(out)


def check_flags() -> None:
    for name, sizes in {"size": _SIZE.value, "coarsest": [_COARSEST.value]}.items():
        for size in sizes:
            if size < 1 or size & (size - 1):
                raise UserError(f"--{name} is a power of two, got {size}")
    if min(_SIZE.value) < 4 * _COARSEST.value:
        raise UserError(f"--size={min(_SIZE.value)} leaves WSGM fewer than two scales: enlarge it")
    given = {"eta": _ETA.value, "xi": [_XI.value], "T": [_T.value], "epsilon": [_EPSILON.value]}
    for name, values in given.items():
        for value in values:
            if value is not None and not 0 < value < np.inf:
                raise UserError(f"--{name} is a positive number, got {value}")
    for name in _WAVELET.value:
        if name not in pywt.wavelist(kind="discrete") or not pywt.Wavelet(name).orthogonal:
            raise UserError(f"--wavelet is an orthogonal one, such as haar or db4, got {name!r}")


# Theorem 1


def write_theorem(out: Path) -> None:
    size, rows = min(_SIZE.value), []
    for eta in _ETA.value:
        power = fields.spectrum(size, eta, _XI.value)
        sweeps = [("dt", _T.value, n) for n in (64, 256, 1024, 4096, 16384)]
        sweeps += [("T", T, round(T / SHORT_STEP)) for T in (0.5, 1, 1.5, 2, 3, 4, 6, 8, 10)]
        for sweep, T, num_steps in sweeps:
            dt = T / num_steps
            _, divergence = fields.sgm(power, T, num_steps)
            psi_T, psi_dt = fields.printed_terms(power, T, dt)
            rows.append(
                {"eta": eta, "L": size, "sweep": sweep, "T": float(T), "dt": dt}
                | {"KL": divergence, "expansion": fields.expansion(power, T, dt)}
                | {"Psi_T (Eq. 5)": psi_T, "Psi_dt (Eq. 6)": psi_dt}
            )
    write_table(out / "theorem1", rows)
    write_figure(out / "theorem1.png", plot_theorem(rows))


# WSGM's Figure 2


def samplers(power: np.ndarray) -> dict[str, Sampler]:
    """Of a number of steps: the power spectrum that they generate and the divergence."""
    found: dict[str, Sampler] = {"SGM": lambda n: fields.sgm(power, _T.value, n)}
    for wavelet in _WAVELET.value:
        scales = fields.cascade(power, wavelet, _COARSEST.value)
        found[f"WSGM {wavelet}"] = functools.partial(fields.wsgm, *scales, _T.value)
    return found


def errors(power: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """The sup-norm of the error of a power spectrum, in three normalisations."""
    error = np.abs(generated - power)
    largest = float(error.max())
    return {
        "relative": float(np.max(error / power)),
        "of peak": largest / float(power.max()),
        "absolute": largest,
    }


def write_steps(out: Path) -> None:
    errors_of_steps, steps = [], []
    for eta in _ETA.value:
        for size in _SIZE.value:
            power = fields.spectrum(size, eta, _XI.value)
            found = samplers(power)
            for num_steps in NUM_STEPS:
                row = {"eta": eta, "L": size, "N": num_steps}
                for name, sampler in found.items():
                    generated, divergence = sampler(num_steps)
                    values = errors(power, generated) | {"KL/d": divergence / size**2}
                    row |= {f"{norm}, {name}": value for norm, value in values.items()}
                errors_of_steps.append(row)
            row = {"eta": eta, "L": size, "condition number": fields.condition_number(power)}
            for norm in ("relative", "of peak"):
                for name, sampler in found.items():
                    row[f"{norm}, {name}"] = steps_to_reach(power, sampler, norm)
            steps.append(row)
    write_table(out / "spectrum_error", errors_of_steps)
    write_table(out / "steps", steps)
    write_figure(out / "figure2.png", plot_steps(errors_of_steps, steps, _EPSILON.value))


def steps_to_reach(power: np.ndarray, sampler: Sampler, norm: str) -> int:
    """N(epsilon), to within 1%, for an error that falls with N."""

    def reached(num_steps):
        return errors(power, sampler(num_steps)[0])[norm] <= _EPSILON.value

    least = 1
    while not reached(least):
        if least == MOST_STEPS:
            raise UserError(
                f"--epsilon={_EPSILON.value:g} is not reached in {MOST_STEPS} steps from "
                f"--T={_T.value:g}: enlarge one of them"
            )
        least *= 2
    too_few = least // 2
    while least - too_few > max(1, least // 100):
        middle = (least + too_few) // 2
        least, too_few = (middle, too_few) if reached(middle) else (least, middle)
    return least


# Condition numbers


def write_conditions(out: Path) -> None:
    conditions, coarsest = [], []
    deepest = int(np.log2(max(_SIZE.value) // _COARSEST.value))
    for eta in _ETA.value:
        for size in _SIZE.value:
            power = fields.spectrum(size, eta, _XI.value)
            number = fields.condition_number
            for wavelet in _WAVELET.value:
                scales, _ = fields.cascade(power, wavelet, _COARSEST.value)
                for law, found in (
                    ("details", [number(scale.unconditional) for scale in scales]),
                    ("details given low", [number(scale.eigenvalues) for scale in scales]),
                ):
                    row = {"eta": eta, "L": size, "field": number(power), "wavelet": wavelet}
                    row |= {"law": law} | by_scale("scale ", range(1, deepest + 1), found)
                    conditions.append(row)
            bands = [power, *(scale.low_spectrum for scale in fields.cascade(power, "haar", 4)[0])]
            depths = range(int(np.log2(max(_SIZE.value))) - 1)
            found = [number(band) for band in bands]
            coarsest.append({"eta": eta, "L": size} | by_scale("S = ", depths, found))
    write_table(out / "conditions", conditions)
    write_table(out / "coarsest_band", coarsest)
    write_figure(out / "conditions.png", plot_conditions(conditions, coarsest))


def by_scale(prefix: str, scales: range, values: list[float]) -> dict[str, float | str]:
    """Columns of the same names for fields of all sizes, of which small ones fill fewer."""
    padded = [*values, *[""] * (len(scales) - len(values))]
    return {f"{prefix}{k}": value for k, value in zip(scales, padded, strict=True)}


# The exponent of images


def write_fit(out: Path, config: ConfigDict) -> None:
    train, _ = runs.open_sources(config)
    images = train.codec.to_unit_range(data.spread(train, _NUM_IMAGES.value))
    frequencies, power = power_spectrum(images)
    width = 2 * np.pi * frequencies[0]
    rows, laws = [], {}
    for name, held, highest in (
        ("eta and xi fitted", {}, 0.5),
        ("eta fitted", {"xi": width}, 0.5),
        (f"eta fitted below {COARSE:g}", {"xi": width}, COARSE),
        ("eta = 1 (WMGM Eq. 10)", {"eta": 1.0, "xi": width}, 0.5),
        ("eta = 2 (WSGM Eq. 13)", {"eta": 2.0, "xi": width}, 0.5),
    ):
        rings = frequencies <= highest
        eta, xi, law = fields.fit_power_law(frequencies[rings], power[rings], **held)
        decibels = 10 * np.log10(law / power[rings])
        rows.append(
            {"law": name, "eta": eta, "xi L / 2 pi": xi / width, "cycles per pixel up to": highest}
            | {"rms error (dB)": float(np.sqrt(np.mean(decibels**2))), "images": len(images)}
        )
        laws[name] = frequencies[rings], law
    write_table(out / "fit", rows)
    write_figure(out / "fit.png", plot_fit(frequencies, power, laws))


if __name__ == "__main__":
    cli.run(main)
