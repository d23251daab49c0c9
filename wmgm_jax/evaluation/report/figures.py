"""The look of figures, and how they are written."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from wmgm_jax.core import files
from wmgm_jax.core.pictures import enlarge, image_grid

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


def rows_of_images(rows: Mapping[str, np.ndarray]) -> Figure:
    """Images in rows, with the name of each row on its left, enlarged without smoothing.

    Args:
        rows: uint8 `[N, H, W, C]` by name, all of the same shape.
    """
    images = enlarge(np.concatenate(list(rows.values())))
    picture = image_grid(images, columns=len(images) // len(rows))
    (height, width, channels), dpi = picture.shape, matplotlib.rcParams["savefig.dpi"]
    size = matplotlib.rcParams["font.size"]
    widths = [TextPath((0, 0), name, size=size).get_extents().width for name in rows]
    # A point is 1/72 of an inch; there is one letter's width of space on each side.
    margin = round((max(widths) + 2 * size) * dpi / 72)
    figure = Figure(figsize=((margin + width) / dpi, height / dpi))
    # One pixel of the picture is one pixel of the file.
    axes = figure.add_axes((margin / (margin + width), 0, width / (margin + width), 1))
    axes.imshow(picture.repeat(3 // channels, axis=2), interpolation="nearest")
    axes.set_yticks((np.arange(len(rows)) + 0.5) * height / len(rows), list(rows))
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def write_figure(path: Path, figure: Figure) -> None:
    """Writes a PNG, whole or not at all. The same figure gives the same bytes."""
    with files.atomic_writer(path) as file:
        figure.savefig(file, format="png", metadata={"Software": None})
