"""How fast is it, beside what else there is and beside what the machine could do?

  python -m benchmarks                    # all suites but pytorch
  python -m benchmarks haar systems       # some of them
  python -m benchmarks pytorch --wmgm=DIR --improved_diffusion=DIR

Prints a table a suite. Every number in it is measured by the command that prints it: contenders
take turns in one process, and a row holds the median. --out=DIR keeps the tables (CSV, Markdown),
too, and draws the figure of the suite scaling.

  haar      the Haar transform against jaxwt, PyWavelets and x + 1, which moves as many bytes
  systems   drawing --images images with WMGM, by the paper's 16 steps and by fewer, and with SGM,
            WSGM and WaveDiff, untrained, at the sizes of --config, by default the paper's,
            configs/afhq_cat.py, and of the files beside it, such as configs/afhq_cat_sgm.py;
            without those, the others have the paper's networks. "s / first" is the time over that
            of WMGM's 16 steps
  training  steps of --batch_size images of every stage of --config, by default the same
  scaling   drawing with WMGM against the number of images, their size, the levels and the devices,
            by --config, by default configs/colon_ihc.py
  profile   where the time of drawing with WMGM goes, in one draw, by --config, by default the
            paper's
  pytorch   passes, drawing and steps against the PyTorch networks of WMGM's authors and of
            https://github.com/openai/improved-diffusion, imported from checkouts, with our
            parameters in them; "difference" is that of the results. Needs `pip install torch`

FLOPs are those that XLA counts before it optimises; "share of peak" is their rate over that of a
large matrix product of the same type, as in the first line. Memory is what XLA plans for. What else
the machine does falls on all contenders alike, but not on a share of peak. At the paper's sizes a
CPU takes long: --config=configs/colon_ihc.py --systems=wmgm is small.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from benchmarks import haar, profile, scaling, systems, timing, training
from benchmarks.programs import Row
from configs import afhq_cat, colon_ihc
from wmgm_jax import cli
from wmgm_jax.config import registry
from wmgm_jax.core.errors import UserError
from wmgm_jax.evaluation.report.figures import write_figure
from wmgm_jax.evaluation.report.tables import aligned, write_table

cli.define_config()
_IMAGES = flags.DEFINE_integer(
    "images", None, "Images drawn at once; by default 2 on a CPU, else 100.", lower_bound=1
)
_BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 8, "Images of a training step or a network's pass.", lower_bound=1
)
_REPEATS = flags.DEFINE_integer(
    "repeats", None, "Timings of each contender; by default 30 of haar, else 5.", lower_bound=1
)
_SYSTEMS = flags.DEFINE_multi_enum(
    "systems",
    list(registry.names()),
    list(registry.names()),
    "systems: which to draw with beside WMGM.",
)
_SHAPE = flags.DEFINE_list("shape", "64,128,128,3", "haar: float32 images, B,H,W,C.")
_LEVELS = flags.DEFINE_integer("levels", 2, "haar: levels of the transform.", lower_bound=1)
_VARIED = {
    "batch": flags.DEFINE_list("batches", "1,2,4,8,16,32,64", "scaling: images at once."),
    "side": flags.DEFINE_list("sides", "64,128,256,512", "scaling: pixels of a side."),
    "levels": flags.DEFINE_list("scales", "1,2,3,4", "scaling: levels S of WMGM."),
    "devices": flags.DEFINE_list(
        "devices", None, "scaling: devices; by default 1, 2, 4 and so on, as many as there are."
    ),
}
_WMGM = flags.DEFINE_string("wmgm", None, "pytorch: checkout of the repository of WMGM's authors.")
_IMPROVED_DIFFUSION = flags.DEFINE_string(
    "improved_diffusion", None, "pytorch: checkout of improved diffusion."
)
_WORKS = ("passes", "drawing", "training")
_WORK = flags.DEFINE_multi_enum("work", _WORKS, _WORKS, "pytorch: what to compare.")
_OUT = flags.DEFINE_string("out", None, "Folder of the tables and the figure; None for no files.")


def main(*names: str) -> None:
    suites = {name: SUITES[name] for name in names or SUITES if names or name != "pytorch"}
    print(timing.machine(), flush=True)
    for name, suite in suites.items():
        rows = suite()
        print(f"\n{name}\n{aligned(rows)}", end="", flush=True)
        if _OUT.value is not None:
            write_table(Path(_OUT.value) / name, rows)
            if name == "scaling":
                write_figure(Path(_OUT.value) / "scaling.png", scaling.draw(rows))


def _haar() -> list[Row]:
    shape = _integers("shape", _SHAPE.value)
    if len(shape) != 4:
        raise UserError(f"--shape is B,H,W,C, not {','.join(_SHAPE.value)}")
    if any(side % 2**_LEVELS.value for side in shape[1:3]):
        raise UserError(
            f"--levels={_LEVELS.value} does not divide --shape={','.join(_SHAPE.value)}: "
            f"H and W must be divisible by {2**_LEVELS.value}"
        )
    return haar.measure(shape, _LEVELS.value, _REPEATS.value or 30)


def _systems() -> list[Row]:
    config = _config(afhq_cat)
    overrides = {} if flags.FLAGS.config is None else cli.config_overrides()
    path = cli.config_path()
    return systems.measure(config, _SYSTEMS.value, _images(), _repeats(), path, overrides)


def _training() -> list[Row]:
    return training.measure(_config(afhq_cat), _BATCH_SIZE.value, _repeats())


def _scaling() -> list[Row]:
    doubled = [str(2**i) for i in range(jax.local_device_count().bit_length())]
    values = {axis: _integers(flag.name, flag.value or doubled) for axis, flag in _VARIED.items()}
    return scaling.measure(_config(colon_ihc), _images(), values, _repeats())


def _profile() -> list[Row]:
    return profile.measure(_config(afhq_cat), _images())


def _pytorch() -> list[Row]:
    try:
        from benchmarks import pytorch  # It alone needs PyTorch.
        from benchmarks.pytorch import checkouts
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise UserError("the suite pytorch needs PyTorch: pip install torch") from error
    code = checkouts.imported(_WMGM.value, _IMPROVED_DIFFUSION.value)
    return pytorch.measure(
        _config(afhq_cat), code, _WORK.value, _BATCH_SIZE.value, _images(), _repeats()
    )


SUITES: Mapping[str, Callable[[], list[Row]]] = {
    "haar": _haar,
    "systems": _systems,
    "training": _training,
    "scaling": _scaling,
    "profile": _profile,
    "pytorch": _pytorch,
}


def _config(default) -> ConfigDict:
    return default.get_config() if flags.FLAGS.config is None else cli.given_config()


def _images() -> int:
    return _IMAGES.value or (2 if jax.default_backend() == "cpu" else 100)


def _repeats() -> int:
    return _REPEATS.value or 5


def _integers(name: str, values: list[str]) -> list[int]:
    if not values or not all(value.isdecimal() and int(value) > 0 for value in values):
        raise UserError(f"--{name} is a list of whole numbers, not {','.join(values)!r}")
    return [int(value) for value in values]


if __name__ == "__main__":
    cli.run(main, SUITES)
