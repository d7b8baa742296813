"""Figures about several studies."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from jaxft.report.figures.style import BLACK, BLUE, GREY, HEIGHT, LINES, ORANGE, SERIES, factor, panel, short, styled
from jaxft.stats.scores import Scores


@styled
def distributions(studies: Sequence[Scores], names: Sequence[str]) -> Figure:
    """All scores of each study, as dots with the median and the quartiles, in the order given.

    Args:
        studies: with the same metric.
        names: of the rows.
    """
    figure, axes = panel(0.9 + 0.5 * len(studies))
    for place, study in enumerate(reversed(studies)):
        values = np.sort(study.trials["score"].dropna().to_numpy())
        # The height within a row only keeps dots apart: by rank, so that the figure is the same each time.
        apart = (np.arange(len(values)) * 0.618034 % 1 - 0.5) * 0.5
        axes.plot(values, place + apart, ls="", marker="o", ms=2.6, mew=0, alpha=0.5, color=BLUE,
                  rasterized=len(values) > 100)  # fmt: skip
        low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
        axes.plot([low, high], [place, place], color=BLACK, lw=2.2, solid_capstyle="butt")
        axes.plot([middle], [place], marker="D", ms=5, color=ORANGE, mec=BLACK, mew=0.7)
    axes.set_yticks(range(len(studies)), [short(name, 26) for name in reversed(names)])
    axes.set_ylim(-0.5, len(studies) - 0.5)
    axes.set_xlabel(short(studies[0].metric))
    return figure


@styled
def differences(table: pd.DataFrame, metric: str) -> Figure:
    """Differences of means with their intervals, one row per comparison: columns label, estimate, low, high."""
    table = table.iloc[::-1]
    figure, axes = panel(0.9 + 0.4 * len(table))
    places = np.arange(len(table))
    middle = table["estimate"].to_numpy(float)
    reach = np.stack([middle - table["low"].to_numpy(float), table["high"].to_numpy(float) - middle])
    axes.errorbar(
        middle, places, xerr=np.maximum(reach, 0), fmt="o", color=BLUE, ecolor=GREY, elinewidth=1.6, capsize=3
    )
    axes.axvline(0, color=BLACK, lw=0.9)
    axes.set_yticks(places, [short(label, 26) for label in table["label"]])
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.set_xlabel(f"difference of the mean {short(metric)}")
    return figure


@styled
def maxima(tables: Sequence[pd.DataFrame], names: Sequence[str], metric: str) -> Figure:
    """The expected best of n trials of several studies with one metric: from `stats.maximum.expected_maximum`."""
    columns, most = (1, 48) if max(map(len, names)) > 20 else (2, 20)
    figure, axes = panel(HEIGHT + 0.2 * max(0, -(-len(names) // columns) - 3))  # a legend of three rows has room
    for i, (table, name) in enumerate(zip(tables, names, strict=True)):
        line = {"color": SERIES[i % len(SERIES)], "ls": LINES[i % len(LINES)]}
        axes.plot(table["n"], table["mean"], label=short(name, most), **line)
    axes.set_xscale("log")
    largest = max(int(np.max(table["n"])) for table in tables)
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if n <= largest]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()
    axes.set_xlabel("trials n")
    axes.set_ylabel(f"best {short(metric)} of n")
    figure.legend(loc="outside upper left", ncols=columns)
    return figure


@styled
def across_tasks(table: pd.DataFrame, name: str) -> Figure:
    """Rank correlations of seeds' means, one row per pair of tasks: from `stats.seeds.across_tasks`."""
    table = table.iloc[::-1]
    figure, axes = panel(0.9 + 0.36 * len(table))
    places = np.arange(len(table))
    sure = (table["corrected_p"] < 0.05).to_numpy()
    axes.barh(places, table["rho"], height=0.55, color=np.where(sure, BLUE, "#b9cfdd"))
    axes.axvline(0, color=BLACK, lw=0.9)
    labels = [
        f"{short(a, 14)} \N{EN DASH} {short(b, 14)}" for a, b in zip(table["task_a"], table["task_b"], strict=True)
    ]
    axes.set_yticks(places, labels)
    axes.set_xlim(-1, 1)
    axes.set_xlabel(f"rank correlation of {factor(name)}s")
    return figure
