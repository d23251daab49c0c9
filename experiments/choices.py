"""Which of the settings that the paper and its code leave open measures better.

  python -m experiments.choices                       # on the embedded images, about an hour
  python -m experiments.choices --config.stages=msal --seeds=0

Trains one stage for every row of `CHOICES` and every seed, each in a folder of its own below
--workdir, and goes on where it was stopped. Rows of `score` compare samples of the coarsest band
with those of validation images; rows of `msal` compare validation images with what is rebuilt from
their true coarsest bands. Writes a table of means over the seeds (CSV, Markdown) and a picture of
the rebuilt images into --out.
"""

import json
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments.tables import write_table
from wmgm_jax import cli, files, runs, sampling, systems, training
from wmgm_jax.evaluation.reconstruction import reconstruction
from wmgm_jax.evaluation.sliced_wasserstein import sliced_wasserstein
from wmgm_jax.systems import bands

CHOICES = {
    "score": [
        {"score.prediction": prediction, "process.schedule": schedule}
        for schedule in ("linear", "constant")
        for prediction in ("velocity", "noise")
    ],
    "msal": [
        {"msal.loss_domain": domain, "msal.lipschitz": lipschitz, "msal.generator.norm": norm}
        for domain, lipschitz, norm in [
            ("image", "sigmoid", "batch"),
            ("image", "sigmoid", "group"),
            ("image", "gradient_penalty", "batch"),
            ("wavelet", "sigmoid", "batch"),
            ("wavelet", "gradient_penalty", "batch"),
        ]
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
        rows, rebuilt = [], {}
        for choice in CHOICES[stage]:
            name = "-".join(choice.values())
            measures = []
            for seed in _SEEDS.value:
                run = trained(stage, choice, seed, Path(_WORKDIR.value) / f"{name}-{seed}")
                measures.append(MEASURES[stage](run) | {"steps/s": steps_per_second(run, stage)})
            rows.append(choice | over_seeds(measures))
            write_table(out / stage, rows)
            if stage == "msal":
                rebuilt[name] = rebuilt_images(run)
        if rebuilt:
            true = run.valid.take(spread(run, PICTURES))
            pictures = np.concatenate([true, *rebuilt.values()])
            files.write_png(out / "rebuilt.png", files.grid(pictures, columns=PICTURES))


def trained(stage: str, choice: dict[str, str], seed: int, workdir: Path) -> runs.Run:
    """The run of one row and seed, trained to its end."""
    config = cli.given_config().copy_and_resolve_references()
    config.update_from_flattened_dict(choice | {"stages": stage, "seed": seed})
    run = runs.open_run(ConfigDict(config), workdir)
    training.train(run)
    return run


def measure_score(run: runs.Run) -> dict[str, float]:
    """Distance between the coarsest bands of samples and of validation images, as pictures."""
    count = min(run.config.evaluation.num_images, len(run.valid))
    model = sampling.load(run.workdir, ["score"])
    preview = jax.jit(run.system.stages["score"].preview)
    drawn = preview(model.params, jax.random.split(jax.random.key(0), count), None)

    def coarsest(images):
        levels = run.config.wavelet.levels
        return bands.pyramid(bands.to_unit_range(images), levels)[-1][0] / 2**levels

    def picture(low):
        return files.to_uint8((low + 1) / 2)

    valid = picture(coarsest(run.valid.take(spread(run, count))))
    indices = np.linspace(0, len(run.train) - 1, count).astype(int)
    train = picture(coarsest(run.train.take(indices)))
    return {
        "SWD": sliced_wasserstein(picture(drawn), valid)["mean"],
        "SWD of training images": sliced_wasserstein(train, valid)["mean"],
    }


def measure_msal(run: runs.Run) -> dict[str, float]:
    """How near rebuilt validation images come, each to its own and all to all."""
    count = min(run.config.evaluation.num_images, len(run.valid))
    model = sampling.load(run.workdir, ["msal"])
    images = run.valid.take(spread(run, count))
    values = reconstruction(
        lambda keys, images: run.system.reconstruct(model.params, keys, images),
        images,
        jax.random.key(0),
        run.config.sampling.batch_size,
    )
    distances = sliced_wasserstein(rebuilt_images(run, count), images)
    finest = str(images.shape[1])
    return {
        "PSNR (dB)": values["psnr"],
        "SSIM": values["ssim"],
        f"SWD {finest}": distances[finest],
        "SWD": distances["mean"],
    }


MEASURES = {"score": measure_score, "msal": measure_msal}


def rebuilt_images(run: runs.Run, count: int = PICTURES) -> np.ndarray:
    """Validation images rebuilt from their coarsest bands, uint8 `[count, H, W, C]`."""
    model = sampling.load(run.workdir, ["msal"])
    images = bands.to_unit_range(run.valid.take(spread(run, count)))
    keys = jax.random.split(jax.random.key(0), count)
    return files.to_uint8((jax.jit(run.system.reconstruct)(model.params, keys, images) + 1) / 2)


def spread(run: runs.Run, count: int) -> np.ndarray:
    """Indices of `count` validation images, evenly spread."""
    return np.linspace(0, len(run.valid) - 1, count).astype(int)


def steps_per_second(run: runs.Run, stage: str) -> float:
    lines = (run.workdir / "metrics.jsonl").read_text().splitlines()
    records = [record for record in map(json.loads, lines) if record["stage"] == stage]
    return float(np.median([record["steps_per_second"] for record in records]))


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
