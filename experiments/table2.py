"""Table 2: the details x_H of an image learnt from its low bands x_L, in six ways.

  python -m experiments.table2 --config=configs/faces128.py --config.data.dir=DIR --scale=small
  python -m experiments.table2 --config=configs/celebahq.py:5k --scale=paper \\
      --minutes=10                  # in pieces: start it again until the table is written

Operator learning (OL) by a Fourier neural operator, standard learning (SL) by a plain U-Net and
adversarial learning (AL) by MSAL; single-scale (SS), with a network a scale, or multi-scale (MS),
with one for all (Appendix H of the paper). For each, trains the stage `msal` of WMGM on the images
of --config, in a folder of its own below --workdir, and trains nothing again that an earlier call
has trained. At the scales "small" and "tiny" (64x64 and 32x32, small networks) all get the same
budget of training FLOPs; at "paper" they take the config's own sizes and steps.

Measures the validation images rebuilt from their true coarsest bands against these images; FID and
its kin where the Inception weights are at hand. Parameters are those of the networks that generate.
Writes a table (CSV, Markdown) into --out, and a picture: true images above, then a row of rebuilt
ones for every row of the table. The columns "paper: ..." are those of the paper's Table 2,
CelebA-HQ (5K), 4,750 images to train with and 250 to measure with.
"""

from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments import comparison
from wmgm_jax import cli, data, runs
from wmgm_jax.core import files
from wmgm_jax.evaluation import ImageSets, evaluate
from wmgm_jax.evaluation.features import FeatureNetwork
from wmgm_jax.evaluation.inception.load import load_inception
from wmgm_jax.evaluation.learned.load import load_of_config
from wmgm_jax.evaluation.reconstruction import rebuild, reconstruction_measures
from wmgm_jax.evaluation.report.figures import rows_of_images, write_figure
from wmgm_jax.evaluation.report.tables import headlines, write_table
from wmgm_jax.systems import cost

# In the order of the paper: learning, one network for all scales; FID, PSNR, parameters there.
ROWS = {
    "SS-OL": ("operator", False, 92.24, 30.99, "152M"),
    "MS-OL": ("operator", True, 85.82, 31.13, "76M"),
    "SS-SL": ("standard", False, 70.20, 31.39, "72M"),
    "MS-SL": ("standard", True, 59.38, 31.73, "36M"),
    "SS-AL": ("adversarial", False, 65.48, 31.59, "72M"),
    "MS-AL": ("adversarial", True, 49.34, 31.86, "36M"),
}
PICTURES = 10

cli.define_config("configs/colon_ihc.py")
# Not --systems: there is one.
for _name in ("scale", "budget", "minutes", "workdir"):
    flags.declare_key_flag(_name)
_OUT = flags.DEFINE_string("out", "experiments/results/table2", "Folder of the results.")


def main() -> None:
    comparison.stop_in_time()
    given, rows, pictures = comparison.given_config("wmgm"), [], {}
    inception = load_inception(given.evaluation.inception_weights, given.data.cache_dir)
    configs = {
        name: comparison.system_config(
            given,
            "wmgm",
            {
                "stages": "msal",
                **comparison.PAPER_DETAILS,
                "msal.learning": learning,
                "msal.shared": shared,
            },
        )
        for name, (learning, shared, *_) in ROWS.items()
    }
    for name, config in configs.items():
        run = comparison.trained(config, name)
        true = data.spread(run.valid, run.config.evaluation.reference_images)
        learnt = rebuilt(run, true)
        _, _, fid, psnr, parameters = ROWS[name]
        paper = {"paper: FID": fid, "paper: PSNR": psnr, "paper: parameters": parameters}
        rows.append({"method": name} | costs(run) | measured(learnt, true, run, inception) | paper)
        pictures[name] = data.spread(data.from_array(learnt), PICTURES)
    path = Path(_OUT.value) / comparison.SCALE.value
    write_table(path, rows)
    pictures = {"true": data.spread(data.from_array(true), PICTURES)} | pictures
    write_figure(path.with_suffix(".png"), rows_of_images(pictures))


def rebuilt(run: runs.Run, images: np.ndarray) -> np.ndarray:
    """Images with the details that a run generates for their true coarsest bands."""
    model = runs.load(run.workdir, ["msal"])
    return rebuild(
        run.system.reconstruct,
        model.params,
        images,
        run.valid.codec,
        jax.random.key(0),
        run.config.sampling.batch_size,
    )


def costs(run: runs.Run) -> dict[str, object]:
    """The size of what generates the details, and the work of its training."""
    return {
        "parameters": cost.count_parameters(run.system)["generator"],
        "steps": run.config.msal.num_steps,
        **comparison.training_cost(run.config),
    }


def measured(
    rebuilt: np.ndarray, true: np.ndarray, run: runs.Run, inception: FeatureNetwork | None
) -> dict[str, float]:
    """The measures that a table shows, by their labels."""
    sets = ImageSets(data.from_array(rebuilt), data.from_array(true))
    cache = files.cache_folder(run.config.data.cache_dir)
    learned = load_of_config(run.config, run.train)
    measures = evaluate(sets, run.config.wavelet.levels, inception, cache, learned)["measures"]
    measures |= reconstruction_measures(rebuilt, true, run.valid.codec)
    return headlines(measures)


if __name__ == "__main__":
    cli.run(main)
