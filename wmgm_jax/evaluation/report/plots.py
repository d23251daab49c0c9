"""The curves of the report, as matplotlib figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from wmgm_jax.core.codec import Codec
from wmgm_jax.evaluation.measures.marginals import histograms
from wmgm_jax.evaluation.measures.power_spectrum import power_spectrum

# Okabe and Ito 2008, https://jfly.uni-koeln.de/color/: distinct for all kinds of colour vision.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
# In the order of the legends.
COLOURS = {"reference": BLUE, "generated": VERMILION, "training": "#999999"}
_CYCLE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)


_DISTANCES = ("sliced_wasserstein", "spectrum_error")


def training_curves(records: Sequence[Mapping[str, Any]], stage: str) -> Figure:
    """The losses of a stage, and its measures if there are any.

    Args:
        records: of `metrics.jsonl`.
        stage: the name of the stage.
    """
    records = [record for record in records if record["stage"] == stage]
    names = list(dict.fromkeys(name for record in records for name in record))
    losses = [name for name in names if name.endswith("loss")]
    measures = [
        name
        for name in ("sliced_wasserstein", "spectrum_error", "psnr", "ssim")
        if sum(name in record for record in records) > 1
    ]
    panels = [losses, *([name] for name in measures)]
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.5 * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in places[len(panels) :]:
        axes.axis("off")
    for axes, panel in zip(places, panels, strict=False):
        for name, colour in zip(panel, _CYCLE, strict=False):
            points = [(r["step"], r[name]) for r in records if name in r]
            marker = "o" if len(points) < 12 else None
            label = name.replace("_", " ")
            axes.plot(*zip(*points, strict=True), color=colour, label=label, marker=marker, ms=3)
        axes.ticklabel_format(axis="y", useOffset=False)
        if panel[0] in _DISTANCES:
            axes.set_ylim(0, 1.1 * axes.dataLim.ymax)  # From 0, so that a small change looks small.
        _finish(axes, "step", "")
        axes.legend(frameon=False, fontsize=8)
    return figure


def spectra(sets: Mapping[str, np.ndarray], codec: Codec) -> Figure:
    """Radially averaged power spectra.

    Args:
        sets: encoded `[N, H, W, C]` by name, a key of `COLOURS`.
        codec: of the sets.
    """
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    for name in filter(sets.__contains__, COLOURS):
        frequencies, power = power_spectrum(codec.to_unit_range(sets[name]))
        axes.loglog(frequencies, power, color=COLOURS[name], label=name)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _finish(axes, "cycles per pixel", "power")
    axes.legend(frameon=False, fontsize=8)
    return figure


def band_marginals(
    generated: np.ndarray, reference: np.ndarray, codec: Codec, levels: int
) -> Figure:
    """Densities of the coefficients of each band, on a logarithmic scale.

    Args:
        generated, reference: encoded `[N, H, W, C]`.
        codec: of both.
        levels: the number of scales S.
    """
    tree = histograms(codec.to_unit_range(generated), codec.to_unit_range(reference), levels)
    width = max(len(bands) for bands in tree.values())
    figure = Figure(figsize=(2.5 * width, 2.1 * len(tree)), layout="constrained")
    panels = figure.subplots(len(tree), width, squeeze=False, sharey=True)
    for row, (scale, bands) in zip(panels, reversed(tree.items()), strict=True):
        for axes in row[len(bands) :]:
            axes.axis("off")
        for axes, (band, facts) in zip(row, bands.items(), strict=False):
            centres = (facts["edges"][1:] + facts["edges"][:-1]) / 2
            for name, key in (("reference", "density_reference"), ("generated", "density")):
                density = np.where(facts[key] > 0, facts[key], np.nan)
                axes.semilogy(centres, density, color=COLOURS[name], label=name, lw=1.2)
            axes.set_title(f"{band}, {scale.replace('_', ' ')}", fontsize=9)
            _finish(axes, "standard deviations" if scale == "scale_1" else "", "")
    panels[0][0].legend(frameon=False, fontsize=8)
    return figure


def sparsities(bands: Mapping[str, Mapping[str, Any]]) -> Figure:
    """The share of detail coefficients below a threshold (Eq. 62), at each scale.

    Args:
        bands: by name, a key of `COLOURS`, with the entry `sparsity`.
    """
    scales = len(next(iter(bands.values()))["sparsity"]["by_scale"])
    figure = Figure(figsize=(3.2 * scales, 2.6), layout="constrained")
    panels = figure.subplots(1, scales, squeeze=False)[0]
    for k, axes in enumerate(panels, 1):
        for name in filter(bands.__contains__, COLOURS):
            facts = bands[name]
            thresholds = facts["sparsity"]["thresholds"]
            shares = facts["sparsity"]["by_scale"][k - 1]
            axes.plot(thresholds, shares, color=COLOURS[name], label=name, marker="o", ms=3)
        axes.set_xscale("symlog", linthresh=0.01)
        axes.set_ylim(0, 1.02)
        axes.set_title(f"scale {k}", fontsize=9)
        _finish(axes, "threshold", "share" if k == 1 else "")
    panels[-1].legend(frameon=False, fontsize=8)
    return figure


def _finish(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel(y_label, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
