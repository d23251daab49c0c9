"""Table 1: SGM, WSGM and WMGM at 16 steps - quality, size, work, sampling time, memory.

  python -m experiments.table1 --config=configs/faces128.py --config.data.dir=DIR --scale=small
  python -m experiments.table1 --config=configs/faces128.py --config.data.dir=DIR --scale=paper \\
      --minutes=10                  # in pieces: start it again until the table is written
  python -m experiments.table1 --config=configs/afhq_cat.py --scale=paper --untrained \\
      --images=2 --trials=3         # sizes and times alone, of networks that have learnt nothing

Trains the three systems on the images of --config, each in a folder of its own below --workdir,
measures and times each, and does nothing again that an earlier call has done. At the scales "small"
and "tiny" all get the same budget of training FLOPs; at "paper" the paper's steps. Sampling is
timed after compiling, as the median of --trials draws of --images images, each one program; peak
memory is what XLA plans for it. Writes a table (CSV, Markdown) and a grid of samples into --out;
the columns "paper: ..." are those of the paper's Table 1, CelebA-HQ (5K) on an NVIDIA V100, for 100
images.
"""

import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

import wmgm_jax
from experiments import comparison
from experiments.tables import headlines, write_table
from wmgm_jax import cli, files, inspection, runs, sampling, systems
from wmgm_jax.evaluation.features import KEPT
from wmgm_jax.evaluation.trained import evaluate_model

# Table 1 of the paper: FID, parameters, seconds.
PAPER = {
    "sgm": (90.83, "160M", 15.093),
    "wsgm": (49.97, "351M", 11.097),
    "wmgm": (30.58, "89M", 2.31),
}
_SHOWN = 10

cli.define_config("configs/colon_ihc.py")
flags.adopt_module_key_flags(comparison)
_UNTRAINED = flags.DEFINE_bool("untrained", False, "Time networks as they are initialised.")
_IMAGES = flags.DEFINE_integer("images", 100, "Images in a timed draw.", lower_bound=1)
_TRIALS = flags.DEFINE_integer("trials", 10, "Timed draws.", lower_bound=1)
_OUT = flags.DEFINE_string("out", "experiments/results/table1", "Folder of the results.")


def main() -> None:
    comparison.stop_in_time()
    out, rows, pictures = Path(_OUT.value), [], []
    for system in comparison.SYSTEMS.value:
        config = comparison.system_config(cli.given_config(), system)
        if _UNTRAINED.value:
            model, measures = untrained(config), {}
            cost, images = timed(model)
        else:
            run = comparison.trained(config)
            model = dataclasses.replace(wmgm_jax.load(run.workdir), config=config)
            measures = evaluated(model, run)
            cost, images = timed_once(model, run.workdir / "table1")
        rows.append(row(config, measures, cost))
        pictures.append(images)
    name = comparison.SCALE.value + ("_untrained" if _UNTRAINED.value else "")
    write_table(out / name, rows)
    if not _UNTRAINED.value:
        picture = files.grid(files.enlarge(np.concatenate(pictures)), columns=len(pictures[0]))
        files.write_png(out / f"{name}.png", picture)


def evaluated(model: sampling.Model, run: runs.Run) -> dict[str, dict]:
    """The measures of the model's samples, or those that an earlier call has taken."""
    path = run.workdir / "evaluation.json"
    settings = model.config.evaluation
    counts = {
        "generated": settings.num_images,
        "reference": min(settings.reference_images, len(run.valid)),
        "training": min(settings.training_images, KEPT, len(run.train)),
    }
    wanted = (model.step, model.config.sampling.to_dict(), counts)

    def known():
        tree = json.loads(path.read_text())
        found = {name: images["count"] for name, images in tree["images"].items()}
        return (tree["step"], tree["sampling"], found), tree["measures"]

    if not path.exists() or known()[0] != wanted:
        evaluate_model(model, run.workdir, run.train, run.valid)
    return known()[1]


def untrained(config: ConfigDict) -> sampling.Model:
    system, params = systems.build(config), {}
    for stage in system.stages.values():
        params |= stage.export(*jax.jit(stage.init)(jax.random.key(0)))
    shape = (1, *config.data.image_size, config.data.channels)
    grey = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    params["statistics"] = system.measure([grey])
    return sampling.Model(config, params, {})


def timed_once(model: sampling.Model, folder: Path) -> tuple[dict[str, float], np.ndarray]:
    """`timed`, or what an earlier call left of it in a folder, on a device of the same kind."""
    path = folder / "cost.json"
    facts = {
        "step": model.step,
        "sampling": model.config.sampling.to_dict(),
        "images": _IMAGES.value,
        "trials": _TRIALS.value,
        "devices": [device.device_kind for device in jax.devices()],
        "jax": jax.__version__,
    }
    if path.exists():
        known = json.loads(path.read_text())
        if known["facts"] == facts:
            return known["cost"], np.load(folder / "images.npz")["images"]
    cost, images = timed(model)
    files.write_npz(folder / "images.npz", images=images)
    files.write_json(path, {"facts": facts, "cost": cost})
    return cost, images


def timed(model: sampling.Model) -> tuple[dict[str, float], np.ndarray]:
    """What drawing a batch costs, and some of the images that the first draw of it gave."""
    count = _IMAGES.value
    key = jax.random.key(0)
    start = time.perf_counter()
    sample_fn = wmgm_jax.make_sample_fn(model.config)
    program = sample_fn.lower(model.params, key, count).compile()
    compiling = time.perf_counter() - start
    images = np.asarray(program(model.params, key))
    seconds = []
    for trial in range(_TRIALS.value):
        start = time.perf_counter()
        program(model.params, jax.random.key(trial)).block_until_ready()
        seconds.append(time.perf_counter() - start)
    memory = program.memory_analysis()
    peak = memory.temp_size_in_bytes + memory.argument_size_in_bytes + memory.output_size_in_bytes
    cost = {
        f"s for {count} images": float(np.median(seconds)),
        "compiling (s)": compiling,
        "peak memory (GB)": peak / 1e9,
    }
    if count != 100:
        cost["s for 100 images, extrapolated"] = float(np.median(seconds)) * 100 / count
    return cost, files.to_uint8(images[:_SHOWN])


def row(config: ConfigDict, measures: dict, cost: dict[str, float]) -> dict[str, object]:
    facts = inspection.measure(config)
    # The discriminator does not sample, and the paper does not count it.
    parameters = sum(n for name, n in facts["parameters"].items() if name != "discriminator")
    stages = systems.build(config).stages
    flops = {
        name: stage.settings.num_steps * comparison.flops_per_step(config, stage)
        for name, stage in stages.items()
    }
    fid, paper_parameters, seconds = PAPER[config.system]
    return {
        "system": comparison.NAMES[config.system],
        "parameters": parameters,
        "GFLOP an image": facts["flops_per_image"] / 1e9,
        **cost,
        **headlines(measures),
        "training TFLOP": 0.0 if _UNTRAINED.value else sum(flops.values()) / 1e12,
        "paper: FID": fid,
        "paper: parameters": paper_parameters,
        "paper: s for 100 images": seconds,
    }


if __name__ == "__main__":
    cli.run(main)
