"""What the figures share: their look, and how they reach the disk."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from wmgm_jax import files

matplotlib.rcParams.update(
    {
        "font.size": 9,
        "axes.titlesize": 9,
        "legend.fontsize": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "savefig.dpi": 200,
    }
)


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a PNG, whole or not at all, the same to the byte on every run."""
    with files.atomic_writer(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
