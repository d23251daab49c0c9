"""Figure 4: quality against the number of steps, and against seconds, of the systems of Table 1.

  python -m experiments.figure4 --config=configs/faces128.py --config.data.dir=DIR --scale=small

Takes the systems that `experiments.table1` trains (and trains them, if they are not yet trained).
Every --sampler draws --num_images images in every number of steps, on the grid that is its own,
from the same keys; seconds are of drawing them all, after compiling. "papers" is Euler-Maruyama on
the papers' own process, g = 1 and T = 5, euler_maruyama that on the process of the config: the
networks know the noise, not the time. dpmpp_2m and multistep take --few_steps. WaveDiff takes the
steps that it was trained with: one point. A point that stands in the table, of as many images from
the same training steps, is not measured again, so that the work may be stopped and started. The
dashed line is what as many training images measure.
Writes a table (CSV, Markdown) and a figure into --out.
"""

import time
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags
from matplotlib.figure import Figure
from ml_collections import ConfigDict

import wmgm_jax
from experiments import comparison, measuring
from wmgm_jax import cli, data, runs
from wmgm_jax.config import registry
from wmgm_jax.core import files
from wmgm_jax.diffusion import grids
from wmgm_jax.diffusion.samplers import SAMPLERS
from wmgm_jax.evaluation import ImageSets, evaluate
from wmgm_jax.evaluation.features import FeatureNetwork
from wmgm_jax.evaluation.inception.load import load_inception
from wmgm_jax.evaluation.learned.load import load_of_config
from wmgm_jax.evaluation.report.figures import write_figure
from wmgm_jax.evaluation.report.headlines import HEADLINES
from wmgm_jax.evaluation.report.plots import BLUE, GREEN, ORANGE, PURPLE, VERMILION
from wmgm_jax.evaluation.report.tables import headlines, read_table, write_table

STEPS = ["4", "6", "8", "16", "32", "64", "96", "192"]
FLOOR = "training images"
PAPERS = "papers"
# The samplers that need no name.
_UNNAMED = ("euler_maruyama", "posterior")
_FEW = ("dpmpp_2m", "multistep")
_STYLES = {
    "euler_maruyama": "o:",
    PAPERS: "x:",
    "posterior": "o",
    "dpmpp_2m": "o-",
    "multistep": "D-",
    "heun": "^--",
    "ddim": "v--",
    "ancestral": "s--",
}
_COLOURS = {
    "SGM": BLUE,
    "WSGM": GREEN,
    "WMGM (paper)": ORANGE,
    "WMGM": VERMILION,
    "WaveDiff": PURPLE,
}

cli.define_config("configs/colon_ihc.py")
flags.adopt_module_key_flags(comparison)
_STEPS = flags.DEFINE_list("steps", STEPS, "Numbers of steps.")
_FEW_STEPS = flags.DEFINE_list(
    "few_steps", ["4", "5", "6", "8", "16"], "Of dpmpp_2m, and of multistep where it has weights."
)
_SAMPLERS = flags.DEFINE_multi_enum(
    "sampler",
    [PAPERS, "euler_maruyama", "dpmpp_2m", "multistep"],
    [PAPERS, *SAMPLERS],
    "Samplers of all but WaveDiff.",
)
_NUM_IMAGES = flags.DEFINE_integer("num_images", 256, "Images to draw.", lower_bound=4)
_OUT = flags.DEFINE_string("out", "experiments/results/figure4", "Folder of the results.")


def main() -> None:
    comparison.stop_in_time()
    path = Path(_OUT.value) / comparison.SCALE.value
    rows = read_table(path, texts=("system", "sampler", "trained"))
    given = comparison.given_config("wmgm")
    inception = load_inception(given.evaluation.inception_weights, given.data.cache_dir)
    for key, config in comparison.contenders(given).items():
        name = comparison.CONTENDERS[key].label
        run = comparison.trained(config, key)
        model = measuring.trained_model(run)
        floor = {"system": FLOOR, "images": min(_NUM_IMAGES.value, len(run.train))}
        trained = "+".join(map(str, model.step.values()))
        draws = {"system": name, "trained": trained, "images": _NUM_IMAGES.value}
        if registry.settings_of(config.system).has_one_sampler:
            draws["steps"] = config.sampling.num_steps
        for same in (floor, draws):
            rows = [r for r in rows if r["system"] != same["system"] or same.items() <= r.items()]
        if not any(row["system"] == FLOOR for row in rows):
            images = data.subset(run.train, _NUM_IMAGES.value)
            rows.insert(0, floor | measured(images, run, inception))
        for sampler, steps in ways(config):
            point = {"system": name, "sampler": sampler, "steps": steps}
            if any(point.items() <= row.items() for row in rows):
                continue
            images, seconds = drawn(model, sampler, steps)
            measures = measured(data.from_array(images), run, inception)
            rows.append(draws | point | {"seconds": seconds} | measures)
            write_table(path, rows)
    write_figure(path.with_suffix(".png"), curves(rows))


def ways(config: ConfigDict) -> list[tuple[str, int]]:
    """Samplers and their numbers of steps."""
    if registry.settings_of(config.system).has_one_sampler:
        return [(config.sampling.sampler, config.sampling.num_steps)]
    return [
        (sampler, steps)
        for sampler in _SAMPLERS.value
        for steps in map(int, (_FEW_STEPS if sampler in _FEW else _STEPS).value)
        if sampler != "multistep" or steps in grids.MULTISTEP_STEPS
    ]


def measured(
    images: data.Source, run: runs.Run, inception: FeatureNetwork | None
) -> dict[str, float]:
    """The measures that a table shows, by their labels, against the run's validation images."""
    sets = ImageSets(images, data.subset(run.valid, run.config.evaluation.reference_images))
    cache = files.cache_folder(run.config.data.cache_dir)
    learned = load_of_config(run.config, run.train)
    measures = evaluate(sets, run.config.wavelet.levels, inception, cache, learned)["measures"]
    return headlines(measures)


def drawn(model: runs.Model, sampler: str, steps: int) -> tuple[np.ndarray, float]:
    """uint8 `[N, H, W, C]`, and the seconds that drawing them took, without compiling."""
    config = model.config.copy_and_resolve_references()
    if sampler == PAPERS:
        config.process.update(schedule="constant", T=5.0)
        sampler = "euler_maruyama"
    sample_fn = wmgm_jax.make_sample_fn(config, steps, sampler)
    size = min(_NUM_IMAGES.value, model.config.sampling.batch_size)
    keys = [jax.random.key(i) for i in range(-(-_NUM_IMAGES.value // size))]
    program = sample_fn.lower(model.params, keys[0], size).compile()
    start = time.perf_counter()
    images = [np.asarray(program(model.params, key)) for key in keys]
    seconds = time.perf_counter() - start
    return model.codec.sample_file(np.concatenate(images)[: _NUM_IMAGES.value]), seconds


def curves(rows: Sequence[dict[str, object]]) -> Figure:
    """A row of panels against steps, and one against seconds."""
    measures = [label for label in HEADLINES.values() if any(label in row for row in rows)]
    figure = Figure(figsize=(3.2 * len(measures) + 1.8, 5.2), layout="constrained")
    panels = figure.subplots(2, len(measures), squeeze=False, sharey="col")
    for axis, line in zip(("steps", "seconds"), panels, strict=True):
        for axes, measure in zip(line, measures, strict=True):
            for sampler, style in _STYLES.items():
                for name, colour in _COLOURS.items():
                    points = sorted(
                        (row[axis], row[measure])
                        for row in rows
                        if (row["system"], row.get("sampler")) == (name, sampler) and measure in row
                    )
                    label = name if sampler in _UNNAMED else f"{name}, {sampler}"
                    if points:
                        line_of = zip(*points, strict=True)
                        axes.plot(*line_of, style, color=colour, ms=3, label=label)
            (floor,) = (row for row in rows if row["system"] == FLOOR)
            if measure in floor:
                axes.axhline(floor[measure], color="0.4", lw=0.8, ls="--", label=FLOOR)
            axes.set_xscale("log", base=2 if axis == "steps" else 10)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel(axis if axis == "steps" else f"seconds for {_NUM_IMAGES.value} images")
            axes.set_ylabel(measure)
            axes.set_ylim(bottom=0)
    handles_and_labels = panels[0][0].get_legend_handles_labels()
    figure.legend(*handles_and_labels, loc="outside right center")
    return figure


if __name__ == "__main__":
    cli.run(main)
