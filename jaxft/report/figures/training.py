"""Figures about training: curves by outcome, failures, early stopping, norms of gradients, ensembles."""

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from jaxft.report.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    MAP,
    ORANGE,
    OUTCOMES,
    PINK,
    panel,
    panels,
    short,
    styled,
)  # fmt: skip
from jaxft.stats.scores import Scores

_VECTORS = 60
"""More curves than this are drawn as an image: as paths they would be most of the page."""


@styled
def curves(scores: Scores, outcomes: pd.Series) -> Figure:
    """The score of every trial over training, coloured by what became of it; a cross is where one was stopped.

    Args:
        scores: with evaluations.
        outcomes: from `stats.failures.outcomes`, in the order of the trials.
    """
    figure, axes = panel()
    by_trial = pd.Series(outcomes.to_numpy(), scores.trials["trial"])
    kinds = by_trial.loc[scores.evals["trial"]].to_numpy()
    points = scores.evals[["step", "score"]].to_numpy(float)
    rows = scores.evals.groupby("trial", sort=False).indices
    count = outcomes.value_counts()
    alpha = float(np.clip(12 / max(1, len(outcomes)), 0.12, 0.8))
    early = set(scores.trials.loc[scores.trials["status"] != "completed", "trial"])
    handles = []
    for kind in [*OUTCOMES, *sorted({*outcomes} - {*OUTCOMES})]:
        if kind not in count:
            continue
        mine = {trial: points[at] for trial, at in rows.items() if kinds[at[0]] == kind}
        colour = OUTCOMES.get(kind, GREY)
        style = "--" if kind in ("stopped", "diverged") else "-"
        drawn = LineCollection(list(mine.values()), colors=colour, alpha=alpha, linewidths=1.0, linestyles=style)
        drawn.set_rasterized(len(outcomes) > _VECTORS)
        axes.add_collection(drawn)
        ends = [line[-1] for trial, line in mine.items() if trial in early]
        if ends:
            axes.plot(*np.array(ends).T, ls="", marker="x", ms=4, color=colour, rasterized=len(outcomes) > _VECTORS)
        handles.append(Line2D([], [], color=colour, ls=style, label=f"{kind} ({count[kind]})"))
    axes.autoscale_view()
    majority = scores.trials["majority_score"].dropna()
    if len(majority):
        axes.axhline(float(majority.iloc[0]), color=GREY, ls=":", lw=1.2)
        handles.append(Line2D([], [], color=GREY, ls=":", label="majority"))
    axes.set_xlabel("step")
    axes.set_ylabel(f"{short(scores.metric)} on dev")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


@styled
def failures(table: pd.DataFrame) -> Figure:
    """How many trials failed, by definition, with intervals: from `stats.failures.rates`."""
    table = table.iloc[::-1]
    figure, axes = panel(0.9 + 0.36 * len(table))
    places = np.arange(len(table))
    rate = table["rate"].to_numpy(float)
    reach = np.stack([rate - table["low"], table["high"] - rate])
    axes.errorbar(
        rate, places, xerr=np.maximum(reach, 0), fmt="o", color=ORANGE, ecolor=GREY, elinewidth=1.4, capsize=3
    )
    axes.set_yticks(places, [short(name, 40) for name in table["definition"]])
    axes.set_ylim(-0.6, len(table) - 0.4)
    axes.set_xlim(-0.02, max(0.1, min(1.02, float(np.max(table["high"])) * 1.08)))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of the trials")
    return figure


@styled
def early_stopping(optimum: pd.DataFrame, halving: pd.DataFrame | None, metric: str) -> Figure:
    """What stopping early gains at each budget.

    Args:
        optimum: from `stats.stopping.optimum`.
        halving: budget, gain of the best setting of successive halving; None: without.
        metric: for the axis.
    """
    figure, axes = panel(2.9)
    axes.plot(optimum["budget"], optimum["gain"], color=BLUE, marker="o", ms=3.5, label="start many, stop early")
    if halving is not None:
        axes.plot(
            halving["budget"], halving["gain"], color=ORANGE, ls="--", marker="s", ms=3, label="successive halving"
        )
    axes.axhline(0, color=BLACK, lw=0.8)
    axes.set_xlabel("budget, in whole trainings")
    axes.set_ylabel(f"gain in {short(metric)}")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    if halving is not None:
        axes.legend()
    return figure


@styled
def correlation(table: pd.DataFrame) -> Figure:
    """How well scores on the way tell the final ones: from `stats.stopping.correlation`."""
    figure, axes = panel(2.6)
    for column, colour, line in (("spearman", BLUE, "-"), ("pearson", ORANGE, "--")):
        if column in table:
            axes.plot(table["fraction"], table[column], color=colour, ls=line, label=column.capitalize())
    axes.set_ylim(min(0.0, float(np.nanmin([*table["spearman"], *table["pearson"], 0])) - 0.05), 1.03)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of training done")
    axes.set_ylabel("correlation with the end")
    axes.legend(loc="lower right")
    return figure


@styled
def gradients(table: pd.DataFrame) -> Figure:
    """The median norm of the gradient, layer by layer over training, a panel per outcome.

    Args:
        table: from `stats.failures.gradients`; its first layer is drawn at the bottom.
    """
    kinds = list(dict.fromkeys(table["outcome"]))
    layers = list(dict.fromkeys(table["layer"]))
    figure, all_axes = panels(1, min(7.0, 1.3 + 0.2 * len(layers)), columns=len(kinds), sharey=True)
    positive = table["median"].to_numpy(float)
    positive = positive[positive > 0]
    norm = LogNorm(float(positive.min()), float(positive.max())) if len(positive) else None
    shown = None
    for axes, kind in zip(all_axes, kinds, strict=True):
        wide = (
            table[table["outcome"] == kind].pivot_table(index="layer", columns="step", values="median").reindex(layers)
        )
        shown = axes.imshow(wide.to_numpy(), cmap=MAP, norm=norm, aspect="auto", interpolation="none", origin="lower")
        steps = wide.columns.tolist()
        at = sorted({0, len(steps) - 1})
        axes.set_xticks(at, [str(steps[i]) for i in at])
        named = range(0, len(layers), 1 + len(layers) // 40)
        axes.set_yticks(named, [short(layers[i], 16) for i in named], fontsize=8)
        axes.set_title(short(kind))
        axes.set_xlabel("step")
        axes.grid(visible=False)
    if shown is not None:
        bar = figure.colorbar(shown, ax=all_axes, label="norm of the gradient", pad=0.02, fraction=0.06)
        bar.formatter = FuncFormatter(lambda value, _: f"{value:g}")
    return figure


@styled
def ensembles(table: pd.DataFrame, metric: str) -> Figure:
    """The score of ensembles by their size: from `stats.ensembles.ensemble`."""
    figure, axes = panel(2.6)
    axes.fill_between(table["size"], table["low"], table["high"], color=GREEN, alpha=0.18, lw=0)
    axes.plot(table["size"], table["mean"], color=GREEN, marker="o", ms=3.5, label="ensemble")
    axes.plot(table["size"], table["single"], color=PINK, ls="--", label="one of its members")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("trials in the ensemble")
    axes.set_ylabel(short(metric))
    axes.legend(loc="lower right")
    return figure
