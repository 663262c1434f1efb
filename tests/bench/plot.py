"""Plots as SVG, by matplotlib: one function a shape."""

import pathlib

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({
    "svg.hashsalt": "leakguard", "svg.fonttype": "none",
    "font.family": "sans-serif", "font.size": 9,
    "axes.spines.top": False, "axes.spines.right": False})
from matplotlib import pyplot  # noqa: E402  the back end comes first


def _save(figure, path):
    figure.tight_layout()
    figure.savefig(pathlib.Path(path), metadata={"Date": None})
    pyplot.close(figure)


def bars(path, title, label, groups, series, form="%.2f", log=False):
    """Horizontal bars: series {name: {group: (middle, low, high)}}; a single
    series has its figures beside them, and our own in colour."""
    figure, axes = pyplot.subplots(
        figsize=(7, 0.8 + 0.16 * len(groups) * (len(series) + 1)))
    height = 0.8 / len(series)
    for n, (name, values) in enumerate(series.items()):
        here = [(groups.index(group) + n * height, value)
                for group, value in values.items()]
        drawn = axes.barh([y for y, _ in here], [value[0] for _, value in here],
                          height, label=name,
                          xerr=[[max(value[0] - value[1], 0)
                                 for _, value in here],
                                [max(value[2] - value[0], 0)
                                 for _, value in here]],
                          error_kw={"elinewidth": 0.8})
    if len(series) == 1:
        axes.bar_label(drawn, fmt=form, padding=4)
        for (group, _), bar in zip(values.items(), drawn, strict=True):
            bar.set_color("C0" if group.startswith("leakguard") else "0.65")
    else:
        axes.legend(frameon=False, fontsize=8)
    if log:
        axes.set_xscale("symlog", linthresh=1)  # from 0 on
    axes.set_yticks([n + 0.4 - height / 2 for n in range(len(groups))], groups)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.set_title(title, loc="left")
    _save(figure, path)


def lines(path, title, across, up, series):
    """Both axes logarithmic: series {name: {x: (middle, low, high)}}."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, values in series.items():
        if values:
            xs = sorted(values)
            axes.errorbar(xs, [values[x][0] for x in xs],
                          yerr=[[max(values[x][0] - values[x][1], 0)
                                 for x in xs],
                                [max(values[x][2] - values[x][0], 0)
                                 for x in xs]],
                          marker="o", markersize=3, linewidth=1, capsize=2,
                          label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_title(title, loc="left")
    axes.legend(frameon=False, fontsize=8)
    _save(figure, path)
