"""WaveDiff's tables: quality, recall, network calls and seconds, of it and of its parts.

  python -m experiments.wavediff --config=configs/wavediff_faces128.py --config.data.dir=DIR \\
      --scale=small
  python -m experiments.wavediff --config=configs/wavediff_faces128.py --config.data.dir=DIR \\
      --scale=paper --minutes=10    # in pieces: start it again until the table is written

Trains, on the images of --config, which is of WaveDiff or of WMGM: DDGAN, which is WaveDiff without
the transform and without the reconstruction loss; WaveDiff with the plain generator and with the
one that has wavelets inside; and this one without each of its three parts. Each has a folder of its
own below --workdir, and nothing is done again that an earlier call has done. At the scales "small"
and "tiny" (64x64 and 32x32, the networks and training of configs/wavediff_colon_ihc.py) all get the
same budget of training FLOPs; at "paper" they take the config's own sizes and steps. Samples are
measured against the validation images; recall, like FID, where the Inception weights are at hand.
Sampling is timed after compiling, as the median of --trials draws of --images images.

Writes a table (CSV, Markdown) and a picture into --out, samples of a method in every row of it. The
columns "slides: ..." are the figures of the slides of WaveDiff (CVPR 2023), for CelebA-HQ at
256x256 and two steps, on hardware and for a number of images that these do not name.
"""

from pathlib import Path

from absl import flags

from experiments import comparison, measuring
from wmgm_jax import cli
from wmgm_jax.evaluation.report.figures import rows_of_images, write_figure
from wmgm_jax.evaluation.report.tables import headlines, write_table

RESIDUAL, RESAMPLING, BOTTLENECK = (
    f"wavediff.generator.{part}"
    for part in ("wavelet_residual", "frequency_resampling", "frequency_bottleneck")
)
PLAIN = {RESIDUAL: False, RESAMPLING: False, BOTTLENECK: False}
FULL = {RESIDUAL: True, RESAMPLING: True, BOTTLENECK: True}
# By folder: name and settings. The published DDGAN has no reconstruction loss.
ROWS = {
    "ddgan": ("DDGAN", PLAIN | {"wavediff.levels": 0, "wavediff.reconstruction_weight": 0.0}),
    "plain": ("WaveDiff, plain generator", PLAIN),
    "wavediff": ("WaveDiff", FULL),
    "no_residual": ("without wavelet residual", FULL | {RESIDUAL: False}),
    "no_resampling": ("without frequency resampling", FULL | {RESAMPLING: False}),
    "no_bottleneck": ("without frequency bottleneck", FULL | {BOTTLENECK: False}),
}
# FID, recall and seconds; the ablation there has no recall.
SLIDES = {
    "ddgan": (7.64, 0.36, 1.73),
    "plain": (6.55, 0.35, 0.60),
    "wavediff": (5.94, 0.37, 0.79),
    "no_residual": (6.25, None, 0.78),
    "no_resampling": (6.23, None, 0.61),
    "no_bottleneck": (6.18, None, 0.78),
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
    given, rows, pictures = comparison.given_config("wmgm", "wavediff"), [], {}
    configs = {
        method: comparison.system_config(given, "wavediff", ROWS[method][1])
        for method in _METHODS.value
    }
    for method, config in configs.items():
        run = comparison.trained(config, method)
        model = measuring.trained_model(run)
        measures = measuring.evaluated(model, run)
        cost, images = measuring.timed_once(model, run.workdir / "timing")
        name, (fid, recall, seconds) = ROWS[method][0], SLIDES[method]
        slides = {"FID": fid, "recall": recall, "network calls": 2, "s": seconds}
        rows.append(
            {"method": name}
            | headlines(measures)
            | measuring.size(config)
            | cost
            | {"steps": config.wavediff.num_steps, **comparison.training_cost(config)}
            | {f"slides: {key}": value for key, value in slides.items() if value is not None}
        )
        pictures[name] = images
    path = Path(_OUT.value) / comparison.SCALE.value
    write_table(path, rows)
    write_figure(path.with_suffix(".png"), rows_of_images(pictures))


if __name__ == "__main__":
    cli.run(main)
