"""How the time of drawing with WMGM grows with images, their size, levels and devices."""

import logging
from collections.abc import Mapping, Sequence

import jax
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from benchmarks.programs import Row
from benchmarks.systems import PAPER, drawing
from benchmarks.timing import paired_medians
from wmgm_jax.config.validation import validate
from wmgm_jax.core.errors import UserError
from wmgm_jax.runs import untrained

_log = logging.getLogger("wmgm_jax.benchmarks")

AXES = {
    "batch": "images at once",
    "side": "pixels of an image's side",
    "levels": "levels S",
    "devices": "devices",
}


def measure(
    config: ConfigDict, images: int, values: Mapping[str, Sequence[int]], repeats: int
) -> list[Row]:
    """A row for every value of every quantity, the others as the config has them.

    Args:
        config: of WMGM.
        images: to draw at once, where their number is not what varies; on several devices as many
            more as make the devices' shares equal.
        values: of each key of `AXES`.
        repeats: timings of each.

    Raises:
        UserError: a config of another system, sizes that cannot work, or more devices than there
            are.
    """
    if config.system != "wmgm":
        raise UserError("--config must be of WMGM, of which the suite scaling draws: see --help")
    there_are = jax.local_device_count()
    if max(values["devices"]) > there_are:
        raise UserError(
            f"--devices={max(values['devices'])}: there are {there_are}; a CPU counts as several "
            "with --cpu_devices=N"
        )
    rows: list[Row] = []
    for axis, some in values.items():
        programs = {}
        for value in some:
            other = config.copy_and_resolve_references()
            if axis == "side":
                other.data.image_size = (value, value)
            if axis == "levels":
                other.wavelet.levels = value
            validate(other)
            devices = value if axis == "devices" else 1
            count = value if axis == "batch" else devices * -(-images // devices)
            programs[value] = drawing(
                untrained.model(other), count, PAPER, jax.local_devices()[:devices]
            )
            _log.info("%s %d: compiled in %.0f s", axis, value, programs[value].compiling)
        contenders = {f"{axis} {value}": program.call for value, program in programs.items()}
        seconds = paired_medians(contenders, repeats).values()
        rows += [
            {
                "varied": AXES[axis],
                "value": value,
                "devices": program.devices,
                **program.columns(time),
            }
            for (value, program), time in zip(programs.items(), seconds, strict=True)
        ]
    return rows


def draw(rows: Sequence[Row]) -> Figure:
    """Seconds of a draw against what varies, and what time in proportion to the work would be."""
    figure = Figure(figsize=(11, 3), layout="constrained")
    panels = figure.subplots(1, len(AXES), sharey=True)
    for axes, label in zip(panels, AXES.values(), strict=True):
        of_axis = [row for row in rows if row["varied"] == label]
        x, seconds = ([row[key] for row in of_axis] for key in ("value", "s"))
        work = [row["images"] * row["GFLOP an image"] / row["devices"] for row in of_axis]
        axes.loglog(x, seconds, "o-", label="measured")
        if of_axis:
            proportional = [seconds[0] * amount / work[0] for amount in work]
            axes.loglog(x, proportional, "--", color="0.65", label="as the FLOPs of a device grow")
        axes.set_xticks(x, x)
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.set_xlabel(label)
    panels[0].set_ylabel("seconds a draw")
    panels[0].legend()
    return figure
