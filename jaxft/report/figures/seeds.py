"""Figures about seeds: the grid of scores, the best of n, where variance comes from, good seeds and bad ones."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from jaxft.errors import BadInput
from jaxft.report.figures.style import (
    BLACK,
    BLUE,
    GREY,
    HEIGHT,
    LINES,
    MAP,
    ORANGE,
    SERIES,
    WIDTH,
    factor,
    panel,
    panels,
    short,
    styled,
)  # fmt: skip
from jaxft.stats.scores import Scores

_NUMBERED = 10
"""A grid with as many rows and columns at most has its scores written into it."""
_NAMED = 30


def grid(scores: Scores) -> pd.DataFrame:
    """The scores of a heat map: a row per seed of the first factor, a column per seed of the second, best means first.

    Over further factors it is the mean of what there is; NaN where there is nothing.

    Raises:
        BadInput: fewer than two factors.
    """
    if len(scores.factors) < 2:
        varied = scores.factors[0] if scores.factors else "no seed"
        raise BadInput(f"{scores.name}: a heat map needs two seeds that vary; found {varied}")
    rows, columns = scores.factors[:2]
    table = scores.trials.pivot_table(index=rows, columns=columns, values="score", aggfunc="mean", dropna=False)
    by_row = table.mean(axis=1).sort_values(ascending=False, kind="stable").index
    by_column = table.mean(axis=0).sort_values(ascending=False, kind="stable").index
    return table.loc[by_row, by_column]


@styled
def heat_map(scores: Scores) -> Figure:
    """The score of every trial, by its first two seeds; seeds are sorted by their mean, best first.

    Raises:
        BadInput: fewer than two factors.
    """
    table = grid(scores)
    values = table.to_numpy()
    height = min(6.5, max(1.6, 1.0 + (WIDTH - 1.4) * len(table) / table.shape[1]))
    figure, axes = panel(height)
    shown = axes.imshow(values, cmap=MAP, interpolation="none", aspect="auto")
    for row, column in np.argwhere(np.isnan(values)):
        axes.text(column, row, "\N{MULTIPLICATION SIGN}", ha="center", va="center", color=GREY, fontsize=8)
    if max(values.shape) <= _NUMBERED:
        middle = (np.nanmin(values) + np.nanmax(values)) / 2
        for (row, column), value in np.ndenumerate(values):
            if not np.isnan(value):
                colour = "white" if value < middle else "black"
                axes.text(
                    column,
                    row,
                    f"{value:.3f}",
                    ha="center",
                    va="center",
                    color=colour,
                    fontsize=9 if max(values.shape) <= 6 else 7,
                )
    _seed_ticks(axes, "y", table.index.tolist())
    _seed_ticks(axes, "x", table.columns.tolist())
    axes.set_ylabel(f"{factor(scores.factors[0])}, best mean on top")
    axes.set_xlabel(f"{factor(scores.factors[1])}, best mean on the left")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    figure.colorbar(shown, ax=axes, label=short(scores.metric), pad=0.02, fraction=0.05)
    return figure


def _seed_ticks(axes: Axes, which: Literal["x", "y"], seeds: list[int]) -> None:
    size = 8 if len(seeds) <= _NUMBERED else 6
    labels = seeds if len(seeds) <= _NAMED else [""] * len(seeds)
    crowded = which == "x" and max((len(str(seed)) for seed in labels), default=0) * len(seeds) > 60
    (axes.set_yticks if which == "y" else axes.set_xticks)(range(len(seeds)), [str(seed) for seed in labels])
    axes.tick_params(axis=which, labelsize=size, length=0, rotation=90 if crowded else 0)


@styled
def expected_maximum(table: pd.DataFrame, bands: pd.DataFrame | None, metric: str) -> Figure:
    """The expected best of n trials.

    Args:
        table: from `stats.maximum.expected_maximum`.
        bands: from `stats.maximum.bands`; None: without.
        metric: for the axis.
    """
    figure, axes = panel()
    axes.fill_between(table["n"], table["low"], table["high"], color=BLUE, alpha=0.16, lw=0, label="90 % of draws")
    if bands is not None:
        axes.plot(bands["n"], bands["low"], color=ORANGE, ls="--", lw=1.1, label="95 % band")
        axes.plot(bands["n"], bands["high"], color=ORANGE, ls="--", lw=1.1)
    axes.plot(table["n"], table["mean"], color=BLUE, label="expected", marker="o" if len(table) <= 12 else "")
    _count_axis(axes, table["n"].to_numpy())
    axes.set_xlabel("trials n")
    axes.set_ylabel(f"best {short(metric)} of n")
    axes.legend(loc="lower right")
    return figure


def _count_axis(axes: Axes, ns: np.ndarray) -> None:
    """Counts on a logarithmic axis, written out."""
    axes.set_xscale("log")
    ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000) if ns.min() <= n <= ns.max()]
    axes.set_xticks(ticks, [str(n) for n in ticks])
    axes.minorticks_off()


@styled
def schedules(table: pd.DataFrame, metric: str) -> Figure:
    """The expected best of n trials, by how often each was evaluated: from `stats.maximum.by_schedule`."""
    figure, axes = panel(2.8)
    names = {"end": "at the end only", "epoch": "after every epoch", "all": "every evaluation"}
    for (name, rows), colour, line in zip(table.groupby("schedule", sort=False), SERIES, LINES, strict=False):
        axes.plot(rows["n"], rows["mean"], color=colour, ls=line, label=names.get(str(name), str(name)))
    _count_axis(axes, table["n"].to_numpy())
    axes.set_xlabel("trials n")
    axes.set_ylabel(f"best {short(metric)} of n")
    axes.legend(loc="lower right")
    return figure


@styled
def variance_shares(table: pd.DataFrame) -> Figure:
    """The share of each factor in the variance, with its interval: from `stats.variance.components`."""
    table = table.iloc[::-1]
    figure, axes = panel(0.9 + 0.42 * len(table))
    places = np.arange(len(table))
    residual = table["factor"].str.lower().eq("residual")
    axes.barh(places, table["share"], height=0.6, color=np.where(residual, "#c4c4c4", BLUE))
    share = table["share"].to_numpy()
    reach = np.stack([share - table["share_low"].to_numpy(), table["share_high"].to_numpy() - share])
    known = ~np.isnan(reach).any(axis=0)
    axes.errorbar(share[known], places[known], xerr=np.maximum(reach[:, known], 0), fmt="none", ecolor=BLACK,
                  elinewidth=1.2, capsize=3)  # fmt: skip
    axes.set_yticks(places, [factor(name) for name in table["factor"]])
    axes.set_xlim(min(0.0, float(share.min())), 1.02)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of the variance")
    axes.grid(visible=False, axis="y")
    return figure


@styled
def densities(tables: Sequence[pd.DataFrame], metric: str, limits: tuple[float, float] | None = None) -> Figure:
    """Where the scores of the best and of the worst seed lie, a panel per factor.

    Args:
        tables: from `stats.seeds.densities`.
        metric: for the axis.
        limits: of the axis. Kernels go beyond the scores, and even beyond what a score can be.
    """
    figure, all_axes = panels(len(tables), 0.5 + 1.65 * len(tables), sharex=True)
    for axes, table in zip(all_axes, tables, strict=True):
        for which, colour, line in (("best", BLUE, "-"), ("worst", ORANGE, "--")):
            rows: Any = table[table["which"] == which]
            axes.fill_between(rows["x"], rows["density"], color=colour, alpha=0.18, lw=0)
            axes.plot(rows["x"], rows["density"], color=colour, ls=line, label=f"{which}: {rows['seed'].iloc[0]}")
        axes.set_ylim(bottom=0)
        axes.set_ylabel("density")
        axes.legend(title=factor(str(table["factor"].iloc[0])), loc="upper left", alignment="left")
    all_axes[-1].set_xlabel(short(metric))
    if limits is not None:
        all_axes[-1].set_xlim(*limits)
    return figure


@styled
def spread(scores: Scores) -> Figure:
    """All scores as a histogram, with the mean and the majority's score."""
    figure, axes = panel(2.4)
    values = scores.trials["score"].dropna().to_numpy()
    bins = int(np.clip(np.sqrt(len(values)) * 1.6, 5, 50))
    axes.hist(values, bins=bins, color=BLUE, alpha=0.75, edgecolor="white", linewidth=0.5)
    axes.axvline(float(values.mean()), color=BLACK, lw=1.2, label="mean")
    majority = scores.trials["majority_score"].dropna()
    if len(majority):
        axes.axvline(float(majority.iloc[0]), color=ORANGE, ls="--", lw=1.2, label="majority")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value == int(value) else ""))
    axes.set_ylabel("trials")
    axes.set_xlabel(short(scores.metric))
    axes.legend()
    return figure


__all__ = ["HEIGHT", "densities", "expected_maximum", "grid", "heat_map", "schedules", "spread", "variance_shares"]
