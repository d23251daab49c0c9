"""Which of the settings that the paper and its code leave open measures better.

  python -m experiments.choices                       # on the embedded images
  python -m experiments.choices --config.stages=msal --seeds=0

Trains one stage for every row of `CHOICES` and every seed, each in a folder of its own below
--workdir, and goes on where it was stopped. Rows of `score` compare samples of the coarsest band
with those of validation images; rows of `msal` compare validation images with what is rebuilt from
their true coarsest bands. Writes a table of means over the seeds (CSV, Markdown) into --out, and a
picture: true images above, then a row of what was learnt for every row of the table.
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from wmgm_jax import cli, data, runs, systems
from wmgm_jax.core.pictures import enlarge, image_grid, write_png
from wmgm_jax.evaluation import quick_measures
from wmgm_jax.evaluation.report.tables import write_table
from wmgm_jax.runs.metrics_file import read_metrics
from wmgm_jax.training import loop

CHOICES = {
    "score": [
        {"score.loss": loss, "score.prediction": prediction, "process.schedule": schedule}
        for loss, prediction, schedule in [
            ("edm", "velocity", "linear"),
            ("edm", "velocity", "constant"),
            ("paper", "velocity", "linear"),
            ("paper", "velocity", "constant"),
            ("paper", "noise", "linear"),
        ]
    ],
    "msal": [
        *(
            {
                "msal.loss": "relativistic",
                "msal.ema_decay": ema_decay,
                "msal.relativistic.energy_weight": energy_weight,
                "msal.relativistic.spread_weight": spread_weight,
            }
            for ema_decay, energy_weight, spread_weight in [
                (0.99, 2.0, 2.0),
                (0.999, 2.0, 2.0),
                (0.99, 0.5, 0.0),
                (0.99, 2.0, 0.0),
                (0.99, 0.0, 0.0),
            ]
        ),
        *(
            {
                "msal.loss": "paper",
                "msal.ema_decay": 0.999,
                "msal.paper.loss_domain": domain,
                "msal.paper.lipschitz": lipschitz,
                "msal.generator.norm": norm,
            }
            for domain, lipschitz, norm in [
                ("image", "sigmoid", "batch"),
                ("image", "sigmoid", "group"),
                ("image", "gradient_penalty", "batch"),
                ("wavelet", "sigmoid", "batch"),
                ("wavelet", "gradient_penalty", "batch"),
            ]
        ),
    ],
}

PICTURES = 10

cli.define_config("configs/colon_ihc.py")
_SEEDS = flags.DEFINE_multi_integer("seeds", [0, 1], "Seeds of the runs.")
_WORKDIR = flags.DEFINE_string("workdir", "runs/choices", "Folder of the runs.")
_OUT = flags.DEFINE_string("out", "experiments/results/choices", "Folder of the results.")


def main() -> None:
    out, config = Path(_OUT.value), cli.given_config()
    for stage in runs.selected_stages(config, systems.build(config)):
        rows, pictures = [], []
        for choice in CHOICES[stage]:
            measures = []
            for seed in _SEEDS.value:
                name = "-".join(map(str, [*choice.values(), seed]))
                run = trained(stage, choice, seed, Path(_WORKDIR.value) / name)
                measures.append(measure(run, stage))
            rows.append(choice | over_seeds(measures))
            write_table(out / stage, rows)
            learnt, true = compare(run, stage, PICTURES)
            pictures.append(learnt)
        picture = image_grid(enlarge(np.concatenate([true, *pictures])), columns=PICTURES)
        write_png(out / f"{stage}.png", picture)


def trained(stage: str, choice: dict[str, object], seed: int, workdir: Path) -> runs.Run:
    """The run of one row and seed, trained to its end."""
    config = cli.given_config().copy_and_resolve_references()
    config.update_from_flattened_dict(choice | {"stages": stage, "seed": seed})
    run = runs.open_run(ConfigDict(config), workdir)
    loop.train(run)
    return run


def measure(run: runs.Run, stage: str) -> dict[str, float]:
    """The quick measures, at their fullest, and how fast the stage trained."""
    records = read_metrics(run.workdir / "metrics.jsonl")
    rates = [record["steps_per_second"] for record in records if "steps_per_second" in record]
    pictures = compare(run, stage, min(run.config.evaluation.num_images, len(run.valid)))
    values = quick_measures(*pictures, run.valid.codec, run.system.stages[stage].is_paired)
    return values | {"steps/s": float(np.median(rates))}


def compare(run: runs.Run, stage: str, count: int) -> list[np.ndarray]:
    """(learnt, true) pictures of a stage, encoded `[count, h, w, C]`."""
    model = runs.load(run.workdir, [stage])
    images = run.valid.codec.to_unit_range(data.spread(run.valid, count))
    keys = jax.random.split(jax.random.key(0), count)
    pictures = jax.jit(run.system.stages[stage].generated_and_target)(model.params, keys, images)
    return [run.valid.codec.encode_unit_range(np.asarray(x)) for x in pictures]


def over_seeds(measures: list[dict[str, float]]) -> dict[str, object]:
    """Mean of every measure, and half the range that the seeds span."""
    merged = {}
    for name in measures[0]:
        values = [measure[name] for measure in measures]
        merged[name] = float(np.mean(values))
        if len(values) > 1 and name != "steps/s":
            merged[f"{name} ±"] = float(np.ptp(values) / 2)
    return merged


if __name__ == "__main__":
    cli.run(main)
