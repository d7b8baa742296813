"""Figures about the size of the training set."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jaxft.report.figures.style import BLACK, BLUE, LINES, SERIES, panel, short, styled
from jaxft.stats.cells import Frame


@styled
def learning_curves(table: Frame, metric: str) -> Figure:
    """Mean scores by training examples, a line for each model with the band of its mean: from `stats.sizes.curve`."""
    arms = list(table["arm"].unique())
    figure, axes = panel(3.1 + 0.2 * len(arms))
    for i, arm in enumerate(arms):
        own = table[table["arm"] == arm]
        sizes, color = own["n_train"].to_numpy(float), SERIES[i % len(SERIES)]
        line = {"color": color, "ls": LINES[i % len(LINES)], "marker": "o", "ms": 3.5}
        axes.plot(sizes, own["mean"], label=short(arm, 48), **line)
        low, high = (own[name].fillna(own["mean"]).to_numpy(float) for name in ("low", "high"))
        axes.fill_between(sizes, low, high, color=color, alpha=0.13, lw=0)
    _sizes(axes, table["n_train"].unique())
    axes.set_ylabel(f"mean {short(metric)}")
    figure.legend(loc="outside upper left", ncols=1)
    return figure


@styled
def gaps(table: Frame, metric: str) -> Figure:
    """By how much one model is ahead, by training examples, with its interval: from `stats.sizes.gap`."""
    figure, axes = panel(2.6)
    sizes, middle = table["n_train"].to_numpy(float), table["difference"].to_numpy(float)
    axes.axhline(0, color=BLACK, lw=0.9)
    axes.plot(sizes, middle, color=BLUE, marker="o", ms=3.5)
    axes.fill_between(sizes, table["low"].to_numpy(float), table["high"].to_numpy(float), color=BLUE, alpha=0.15, lw=0)
    _sizes(axes, table["n_train"].unique())
    axes.set_ylabel(f"gap in mean {short(metric)}")
    return figure


@styled
def by_compute(table: Frame, metric: str) -> Figure:
    """Mean scores by the FLOPs of training, a line for each model: from `stats.sizes.costs`."""
    arms = list(table["arm"].unique())
    figure, axes = panel(3.1 + 0.2 * len(arms))
    for i, arm in enumerate(arms):
        own = table[table["arm"] == arm]
        line = {"color": SERIES[i % len(SERIES)], "ls": LINES[i % len(LINES)], "marker": "o", "ms": 3.5}
        axes.plot(own["train_flops"], own["mean"], label=short(arm, 48), **line)
    axes.set_xscale("log")
    axes.set_xlabel("FLOPs of a trial's training")
    axes.set_ylabel(f"mean {short(metric)}")
    figure.legend(loc="outside upper left", ncols=1)
    return figure


def _sizes(axes: Axes, sizes: Frame) -> None:
    """A logarithmic axis that names the sizes that were measured."""
    axes.set_xscale("log")
    shown = sorted(int(size) for size in sizes)
    if len(shown) <= 7:
        axes.set_xticks(shown, [f"{size:,}" for size in shown])
        axes.minorticks_off()
    axes.set_xlabel("training examples")
