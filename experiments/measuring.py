"""What the comparisons of systems measure: size, samples, and what drawing them costs."""

import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

import wmgm_jax
from wmgm_jax import runs
from wmgm_jax.core import files
from wmgm_jax.evaluation import Measures
from wmgm_jax.evaluation.features import KEPT
from wmgm_jax.evaluation.inception.load import load_inception
from wmgm_jax.evaluation.learned.load import load_of_config
from wmgm_jax.evaluation.trained import evaluate_model
from wmgm_jax.systems import cost

# Images of a system in a picture.
SHOWN = 10

_IMAGES = flags.DEFINE_integer("images", 100, "Images in a timed draw.", lower_bound=1)
_TRIALS = flags.DEFINE_integer("trials", 10, "Timed draws.", lower_bound=1)


def size(config: ConfigDict) -> dict[str, float]:
    """The parameters of a system and the work of drawing an image."""
    facts = cost.summarise(config)
    return {
        # The discriminator does not sample, and the papers do not count it.
        "parameters": sum(n for name, n in facts["parameters"].items() if name != "discriminator"),
        "network calls": sum(call["calls"] for call in facts["sampling"]),
        "GFLOP an image": facts["flops_per_image"] / 1e9,
    }


def trained_model(run: runs.Run) -> runs.Model:
    """The model of a run, sampled and evaluated as the run's config now says."""
    return dataclasses.replace(wmgm_jax.load(run.workdir), config=run.config)


def evaluated(model: runs.Model, run: runs.Run) -> Measures:
    """The measures of the model's samples, or those that an earlier call has taken.

    Those are taken again where only now the Inception weights are at hand, or where they were taken
    in other learned features.
    """
    path = run.workdir / "evaluation.json"
    settings = model.config.evaluation
    counts = {
        "generated": settings.num_images,
        "reference": min(settings.reference_images, len(run.valid)),
        "training": min(settings.training_images, KEPT, len(run.train)),
    }
    inception = load_inception(settings.inception_weights, model.config.data.cache_dir)
    learned = load_of_config(run.config, run.train)
    sha256 = None if learned is None else learned.sha256
    wanted = (model.step, model.config.sampling.to_dict(), counts, sha256)

    def known():
        tree = json.loads(path.read_text())
        found = {name: images["count"] for name, images in tree["images"].items()}
        network = tree["method"].get("feature_network")
        found_in = (tree["step"], tree["sampling"], found, network and network["sha256"])
        return found_in, tree["measures"]

    is_known = path.exists() and known()[0] == wanted
    if not is_known or (inception is not None and "fid" not in known()[1]):
        evaluate_model(model, run.workdir, run.train, run.valid)
    return known()[1]


def timed_once(model: runs.Model, folder: Path) -> tuple[dict[str, float], np.ndarray]:
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


def timed(model: runs.Model) -> tuple[dict[str, float], np.ndarray]:
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
    return cost, model.codec.sample_file(images[:SHOWN])
