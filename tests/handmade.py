"""Scores that nobody ran, for tests of comparisons: numbers in, a study out."""

from pathlib import Path

import numpy as np
import pandas as pd
from endings import study

from jaxft.folder.store import Run
from jaxft.stats.scores import Scores

NAN = float("nan")


def scores(values, name: str = "a", first: int = 1, **columns) -> Scores:
    """One trial per value, of its own init seed; [I, J]: a grid of init and order seeds."""
    values = np.asarray(values, np.float64)
    grid = np.indices(values.shape).reshape(values.ndim, -1) + first
    seeds = dict(zip(("init_seed", "order_seed"), grid, strict=False))
    flat = values.ravel()
    trials = pd.DataFrame(
        {"trial": [f"t{number}" for number in range(flat.size)], "score": flat, "final_score": flat,
         "status": "completed", "reason": "", "steps": 8, "majority_score": NAN, **seeds} | columns
    )  # fmt: skip
    return Scores(name, "", "accuracy", {}, trials, tuple(seeds), pd.DataFrame())


def predicting(logits, labels, name: str = "a", metric: str = "accuracy", first: int = 1) -> Scores:
    """A study of a run folder that holds these predictions [S, N, C] (at best, on dev) in memory."""
    logits, labels = np.asarray(logits, np.float32), np.asarray(labels, np.float64)
    made = scores(np.zeros(len(logits)), name, first)
    return made._replace(metric=metric, run=_Memory(logits, labels))  # pyright: ignore[reportArgumentType]


class _Memory(Run):
    """Only what is asked of a run for its predictions."""

    def __new__(cls, logits, labels):
        run = super().__new__(cls, Path("nowhere"), study(), {}, pd.DataFrame(), pd.DataFrame())
        run.held = logits, labels
        return run

    @property
    def predictions(self) -> pd.DataFrame:
        logits = self.held[0]
        names = [f"t{number}" for number in range(len(logits))]
        return pd.DataFrame({"trial": names, "split": "dev", "at": "best", "logits": list(logits)})

    @property
    def examples(self) -> pd.DataFrame:
        labels = self.held[1]
        return pd.DataFrame({"task": "", "split": "dev", "index": range(len(labels)), "label": labels})
