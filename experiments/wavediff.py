"""WaveDiff's tables: quality, recall, network evaluations and seconds, of it and of its parts.

  python -m experiments.wavediff --config=configs/wavediff_faces128.py --config.data.dir=DIR \\
      --scale=small
  python -m experiments.wavediff --config=configs/wavediff_faces128.py --config.data.dir=DIR \\
      --scale=paper --minutes=10    # in pieces: start it again until the table is written

Trains, on the images of --config: DDGAN, which is WaveDiff without the transform; WaveDiff with the
plain generator and with the one that has wavelets inside; and this one without each of its three
parts. Each has a folder of its own below --workdir, and nothing is done again that an earlier call
has done. At the scales "small" and "tiny" (64x64 and 32x32, small networks) all get the same budget
of training FLOPs; at "paper" they take the config's own sizes and steps. Samples are measured
against the validation images; recall, like FID, where the Inception weights are at hand. Sampling
is timed after compiling, as the median of --trials draws of --images images.

Writes a table (CSV, Markdown) and a picture into --out, samples of a method in every row of it. The
columns "slides: ..." are the figures of the slides of WaveDiff (CVPR 2023), for CelebA-HQ at
256x256 and two steps, on hardware and for a number of images that these do not name.
"""

from pathlib import Path

from absl import flags

from experiments import comparison, measuring
from experiments.figures import rows_of_images, write_figure
from experiments.tables import headlines, write_table
from wmgm_jax import cli

RESIDUAL, RESAMPLING, BOTTLENECK = (
    f"wavediff.generator.{part}"
    for part in ("wavelet_residual", "frequency_resampling", "frequency_bottleneck")
)
PLAIN = {RESIDUAL: False, RESAMPLING: False, BOTTLENECK: False}
FULL = {RESIDUAL: True, RESAMPLING: True, BOTTLENECK: True}
# By folder: name, settings; FID, recall and seconds of the slides, whose ablation has no recall.
ROWS = {
    "ddgan": ("DDGAN", PLAIN | {"wavediff.levels": 0}, 7.64, 0.36, 1.73),
    "plain": ("WaveDiff, plain generator", PLAIN, 6.55, 0.35, 0.60),
    "wavediff": ("WaveDiff", FULL, 5.94, 0.37, 0.79),
    "no_residual": ("without wavelet residual", FULL | {RESIDUAL: False}, 6.25, None, 0.78),
    "no_resampling": (
        "without frequency resampling",
        FULL | {RESAMPLING: False},
        6.23,
        None,
        0.61,
    ),
    "no_bottleneck": ("without frequency bottleneck", FULL | {BOTTLENECK: False}, 6.18, None, 0.78),
}

cli.define_config("configs/wavediff_colon_ihc.py")
flags.adopt_module_key_flags(measuring)
# Not --systems: there is one.
for _name in ("scale", "budget", "minutes", "workdir"):
    flags.declare_key_flag(_name)
_METHODS = flags.DEFINE_multi_enum("methods", list(ROWS), list(ROWS), "The rows of the table.")
_OUT = flags.DEFINE_string("out", "experiments/results/wavediff", "Folder of the results.")


def main() -> None:
    comparison.stop_in_time()
    path, rows, pictures = Path(_OUT.value) / comparison.SCALE.value, [], {}
    config = cli.given_config()
    for folder in _METHODS.value:
        name, choice, fid, recall, seconds = ROWS[folder]
        run = comparison.trained(comparison.system_config(config, "wavediff", choice), folder)
        model = measuring.trained_model(run)
        measures = measuring.evaluated(model, run)
        cost, images = measuring.timed_once(model, run.workdir / "timing")
        slides = {"FID": fid, "recall": recall, "network evaluations": 2, "s": seconds}
        rows.append(
            {"method": name}
            | headlines(measures)
            | measuring.size(run.config)
            | cost
            | {
                "steps": run.config.wavediff.num_steps,
                "training TFLOP": comparison.training_flops(run.config) / 1e12,
            }
            | {f"slides: {key}": value for key, value in slides.items() if value is not None}
        )
        pictures[name] = images
        write_table(path, rows)
    write_figure(path.with_suffix(".png"), rows_of_images(pictures))


if __name__ == "__main__":
    cli.run(main)
