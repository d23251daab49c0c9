"""The figures of `experiments/gaussian.py`, each from the rows of a table."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, ScalarFormatter

from wmgm_jax.evaluation.report.plots import BLUE, GREEN, ORANGE, PURPLE, SKY, VERMILION

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY)
_LINES = ("-", "--", ":", "-.")
_POINTS = {"marker": "o", "markersize": 3}

Rows = list[dict]


def plot_theorem(rows: Rows) -> Figure:
    """The exact divergence, its expansion and the printed terms, against the step and T."""
    figure, panels = _panels(rows)
    for (upper, lower), eta in zip(panels.T, _each(rows, "eta"), strict=True):
        for axes, x in ((upper, "dt"), (lower, "T")):
            sweep = _select(rows, eta=eta, sweep=x)
            printed = [row["Psi_T (Eq. 5)"] + row["Psi_dt (Eq. 6)"] for row in sweep]
            exact, expansion = ([row[name] for row in sweep] for name in ("KL", "expansion"))
            for label, values, colour, line in (
                ("exact", exact, BLUE, "-"),
                ("expansion (Eq. 26)", expansion, ORANGE, "--"),
                ("as printed (Eq. 5 and 6)", printed, GREEN, ":"),
            ):
                at = [row[x] for row in sweep]
                axes.plot(at, values, color=colour, linestyle=line, label=label, **_POINTS)
            axes.set_yscale("log")
        upper.set_xscale("log")
        T, dt = _select(rows, sweep="dt")[0]["T"], _select(rows, sweep="T")[0]["dt"]
        upper.set_title(f"$\\eta = {eta:g}$, $T = {T:g}$")
        lower.set_title(f"$\\eta = {eta:g}$, $\\Delta t = 1/{1 / dt:g}$")
        upper.set_xlabel(r"step $\Delta t$")
        lower.set_xlabel("$T$")
        lower.set_xticks(range(0, 11, 2))
    for axes in panels[:, 0]:
        axes.set_ylabel("KL in nats")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def plot_steps(errors: Rows, steps: Rows, epsilon: float) -> Figure:
    """WSGM's Figure 2, one row for every eta."""
    samplers = [x.removeprefix("relative, ") for x in steps[0] if x.startswith("relative, ")]
    wavelets = dict(zip(samplers[1:], _LINES, strict=False))
    etas = _each(steps, "eta")
    figure = Figure(figsize=(8, 0.4 + 2.3 * len(etas)), layout="constrained")
    panels = figure.subplots(len(etas), 3, squeeze=False)
    for (left, middle, right), eta in zip(panels, etas, strict=True):
        for size, colour in zip(_each(steps, "L"), _COLOURS, strict=False):
            rows = _select(errors, eta=eta, L=size)
            for axes, looks in ((left, {"SGM": "-"}), (middle, wavelets)):
                for name, line in looks.items():
                    x, y = zip(*((row["N"], row[f"relative, {name}"]) for row in rows), strict=True)
                    label = f"L = {size}" if axes is left else None
                    axes.loglog(x, y, color=colour, linestyle=line, label=label)
        for name, colour in zip(samplers, _COLOURS, strict=False):
            rows = _select(steps, eta=eta)
            x, y = zip(*((row["L"], row[f"relative, {name}"]) for row in rows), strict=True)
            right.loglog(x, y, color=colour, label=name, **_POINTS)
        middle.sharey(left)
        _label_sizes(right, _each(steps, "L"))
        low, high = np.log10(right.get_ylim())
        right.set_ylim(10 ** np.floor(low), 10 ** np.ceil(high))
        right.yaxis.set_minor_formatter(NullFormatter())
        left.set_title(f"SGM, $\\eta = {eta:g}$")
        middle.set_title(f"WSGM, $\\eta = {eta:g}$")
        right.set_title(f"$N(\\epsilon = {epsilon:g})$, $\\eta = {eta:g}$")
        left.set_ylabel(r"sup $|\hat{P} - P| / P$")
        for axes in (left, middle):
            axes.axhline(epsilon, color="0.7", linewidth=0.8)
            axes.set_xlabel("steps $N$")
    for name, line in wavelets.items():
        panels[0, 1].plot([], [], color="0.3", linestyle=line, label=name.removeprefix("WSGM "))
    for axes in panels[0]:
        axes.legend()
    return figure


def plot_conditions(conditions: Rows, coarsest: Rows) -> Figure:
    """The field, the worst scale of its details, and what is left to WMGM's diffusion."""
    figure, panels = _panels(conditions)
    for (upper, lower), eta in zip(panels.T, _each(conditions, "eta"), strict=True):
        rows = _select(conditions, eta=eta)
        field = {row["L"]: row["field"] for row in rows}
        upper.loglog(field.keys(), field.values(), color=BLUE, label="field", **_POINTS)
        for wavelet, colour in zip(_each(rows, "wavelet"), _COLOURS[1:], strict=False):
            for law, line in zip(_each(rows, "law"), (":", "-"), strict=True):
                worst = {
                    row["L"]: max(_numbers(row, "scale "))
                    for row in _select(rows, wavelet=wavelet, law=law)
                }
                look = {"color": colour, "linestyle": line, **_POINTS}
                upper.loglog(worst.keys(), worst.values(), label=f"{wavelet}, {law}", **look)
        _label_sizes(upper, list(field))
        upper.set_title(f"field and worst scale, $\\eta = {eta:g}$")
        for row, colour in zip(_select(coarsest, eta=eta), _COLOURS, strict=False):
            values = _numbers(row, "S = ")
            label = f"L = {row['L']}"
            lower.semilogy(range(len(values)), values, color=colour, label=label, **_POINTS)
        lower.set_title(f"coarsest Haar band, $\\eta = {eta:g}$")
        lower.set_xlabel("scales $S$")
    for axes in panels[:, 0]:
        axes.set_ylabel("condition number")
    panels[1, 0].legend()
    figure.legend(*upper.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def plot_fit(
    frequencies: np.ndarray, power: np.ndarray, laws: dict[str, tuple[np.ndarray, np.ndarray]]
) -> Figure:
    """A radial power spectrum, and by name the frequencies and power of laws fitted to it."""
    figure = Figure(figsize=(4.5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.loglog(frequencies, power, color="0.2", linestyle="", label="images", **_POINTS)
    for (name, law), colour in zip(laws.items(), _COLOURS, strict=False):
        line = "-" if "fitted" in name else "--"
        axes.loglog(*law, color=colour, linestyle=line, label=name)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("cycles per pixel")
    axes.set_ylabel("power")
    axes.legend()
    return figure


def _panels(rows: Rows) -> tuple[Figure, np.ndarray]:
    """Two rows of panels, a column for every eta."""
    columns = len(_each(rows, "eta"))
    figure = Figure(figsize=(max(2.7 * columns, 5), 5), layout="constrained")
    return figure, figure.subplots(2, columns, squeeze=False)


def _each(rows: Rows, name: str) -> list:
    """The different values of a column, in their order."""
    return list(dict.fromkeys(row[name] for row in rows))


def _select(rows: Rows, **values: object) -> Rows:
    return [row for row in rows if all(row[name] == value for name, value in values.items())]


def _numbers(row: dict, prefix: str) -> list[float]:
    return [value for name, value in row.items() if name.startswith(prefix) and value != ""]


def _label_sizes(axes: Axes, sizes: list[int]) -> None:
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("L")
