"""Figures of what `jaxft.stats` finds, as matplotlib Figures without pyplot: for the report, and for notebooks.

In a notebook: `from jaxft.report import figures`, then `figures.heat_map(scores)`.
"""

from jaxft.report.figures.seeds import (
    densities,
    expected_maximum,
    grid,
    heat_map,
    schedules,
    spread,
    variance_shares,
)
from jaxft.report.figures.sizes import by_compute, gaps, learning_curves
from jaxft.report.figures.studies import across_tasks, differences, distributions, maxima
from jaxft.report.figures.svg import inline
from jaxft.report.figures.training import correlation, curves, early_stopping, ensembles, failures, gradients

__all__ = [
    "across_tasks",
    "by_compute",
    "correlation",
    "curves",
    "densities",
    "differences",
    "distributions",
    "early_stopping",
    "ensembles",
    "expected_maximum",
    "failures",
    "gaps",
    "gradients",
    "grid",
    "heat_map",
    "inline",
    "learning_curves",
    "maxima",
    "schedules",
    "spread",
    "variance_shares",
]
