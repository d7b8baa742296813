"""The scores that every analysis begins with: of a run folder, of a CSV file, of a matrix, or of the paper's release.

No jax here.
"""

from typing import Any, NamedTuple

import pandas as pd

from jaxft.store import Run


class Scores(NamedTuple):
    """The trials of one study on one task with one setting: they differ in seeds alone."""

    name: str
    """For titles and messages: "runs/mrpc", "scores.csv, task rte", "runs/rates, hp.train.lr 2e-05"."""
    task: str
    metric: str
    setting: dict[str, Any]
    """By column, what tells these trials from others of the same source: {"hp.train.lr": 2e-5}."""
    trials: pd.DataFrame
    """A row per trial: `trial` (its id, text), `score` (its best of training; NaN: never evaluated), `final_score` (NaN
    where not known), `status` (completed, diverged or stopped; completed where not known), `reason`, `steps`,
    `majority_score` (NaN where not known), and a column of integers per factor.
    """
    factors: tuple[str, ...]
    """Columns of seeds that vary, `init_seed` and `order_seed` first; of streams that follow another, only that one."""
    evals: pd.DataFrame
    """A row per trial and evaluation on dev, in order: trial, step, score, loss (NaN where not known), and columns
    `grad_norm.*` where they were recorded. Empty where the source has no curves.
    """
    run: Run | None = None
    """The run folder that they are from, for losses, predictions and examples."""
