"""What the trials of a run folder predicted, and their metrics under weights on the examples, many at once.

No jax here.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxft.errors import BadInput
from jaxft.stats.scores import Scores


class Predictions(NamedTuple):
    """Of S trials on the N examples of a split whose label is known."""

    trials: pd.DataFrame
    """S rows of `Scores.trials`."""
    labels: np.ndarray
    """[N]: class numbers (int64), or numbers to be predicted (float64)."""
    logits: np.ndarray
    """[S, N, C] float32; C is 1 for numbers."""

    @property
    def said(self) -> np.ndarray:
        """[S, N]: the classes that were predicted, or the numbers."""
        return said(self.logits)


def said(logits: np.ndarray) -> np.ndarray:
    """[..., C] -> [...]: the classes that logits predict, or for C = 1 the numbers (float64)."""
    return logits[..., 0].astype(np.float64) if logits.shape[-1] == 1 else logits.argmax(axis=-1)


def read(scores: Scores, split: str = "dev", at: str = "best", drop: bool = False) -> Predictions:
    """The stored predictions of a study.

    Args:
        scores: trials of a run folder.
        split: of the run folder: "dev", "test".
        at: "best", at each trial's best evaluation on dev; or "final", at its last.
        drop: leave out trials that have none (never evaluated), instead of refusing them.

    Raises:
        BadInput: no run folder, no such predictions, a trial without them, or examples that do not fit them.
    """
    if scores.run is None:
        raise BadInput(f"{scores.name}: it has scores alone; predictions of the examples are in run folders")
    names = scores.trials["trial"].to_list()
    found = scores.run.predictions.query("trial in @names")
    chosen = {
        row["trial"]: row["logits"] for row in found.to_dict("records") if row["split"] == split and row["at"] == at
    }
    if not chosen:
        kinds = sorted({f"{of} at {when}" for of, when in zip(found["split"], found["at"], strict=True)})
        raise BadInput(f"{scores.name}: no predictions on {split} at {at}; there are {', '.join(kinds) or 'none'}")
    has = np.array([name in chosen for name in names])
    if not has.all() and not drop:
        raise BadInput(
            f"{scores.name}: {np.sum(~has)} of {len(has)} trials have no predictions (never evaluated); "
            "every trial needs them, or leave these out with drop=True"
        )
    trials = scores.trials.loc[has].reset_index(drop=True)
    each = [chosen[name] for name in trials["trial"]]
    labels = _labels(scores, split)
    shapes = {logits.shape for logits in each}
    if len(shapes) > 1 or len(each[0]) != len(labels):
        sizes = ", ".join(" x ".join(map(str, shape)) for shape in sorted(shapes))
        raise BadInput(f"{scores.name}: logits are {sizes} and {split} has {len(labels)} examples; they must agree")
    logits = np.stack(each)
    known = ~np.isnan(labels) if logits.shape[2] == 1 else labels >= 0
    if not known.any():
        raise BadInput(f"{scores.name}: no example of {split} has a label; choose another split")
    kept = labels[known]
    return Predictions(trials, kept if logits.shape[2] == 1 else kept.astype(np.int64), logits[:, known])


def _labels(scores: Scores, split: str) -> np.ndarray:
    assert scores.run is not None
    table = scores.run.examples
    if table.empty:
        raise BadInput(f"{scores.name}: the run folder has no examples, whose labels are needed")
    if len(set(table["task"])) > 1:
        table = table.query("task == @scores.task")
    # One file for each way that the task was tokenised: the labels must be the same in all.
    table = table.query("split == @split").drop_duplicates(["index", "label"]).sort_values(by="index")
    if len(set(table["index"])) < len(table):
        raise BadInput(f"{scores.name}: the run folder has two sets of labels for {split} of {scores.task}")
    return table["label"].to_numpy(np.float64)


def weighted(metric: str, said: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """A metric of every trial under every draw of examples; as `metrics.score` on the examples repeated so often.

    Args:
        metric: one of `metrics.NAMES`.
        said: [S, N] class numbers, or numbers.
        true: [N] the labels.
        weights: [D, N]: how often each example counts.

    Returns:
        [D, S] float64.
    """
    weights = np.asarray(weights, np.float64)
    if metric in ("accuracy_f1", "pearson_spearman"):
        first, second = metric.split("_")
        return (weighted(first, said, true, weights) + weighted(second, said, true, weights)) / 2
    return {"accuracy": _accuracy, "f1": _f1, "mcc": _mcc, "pearson": _pearson, "spearman": _spearman}[metric](
        said, true, weights
    )


def _accuracy(said: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _counts(said == true, weights) / weights.sum(axis=1, keepdims=True)


def _f1(said: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    hits = _counts((said == 1) & (true == 1), weights)
    either = _counts(said == 1, weights) + _counts((true == 1)[None], weights)
    return _ratio(2 * hits, either)


def _mcc(said: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    n = weights.sum(axis=1, keepdims=True)
    pt, pp, tt = np.zeros((3, len(weights), len(said)))
    for k in range(int(max(said.max(), true.max())) + 1):
        p, t = _counts(said == k, weights), _counts((true == k)[None], weights)
        pt, pp, tt = pt + p * t, pp + p * p, tt + t * t
    # Counts are integers below 2^53, so a constant side gives exactly zero.
    return _ratio(_counts(said == true, weights) * n - pt, np.sqrt((n * n - pp) * (n * n - tt)))


def _pearson(said: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    x, y = said - said.mean(axis=1, keepdims=True), (true - true.mean())[None]
    n = weights.sum(axis=1, keepdims=True)
    mean_x, mean_y = _counts(x, weights) / n, _counts(y, weights) / n
    spread_x, spread_y = (_counts(v * v, weights) / n - m * m for v, m in ((x, mean_x), (y, mean_y)))
    for v, spread in ((x, spread_x), (y, spread_y)):  # a draw of equal numbers, but for rounding
        spread[spread <= 1e-12 * np.maximum((v * v).mean(axis=1), np.finfo(float).tiny)] = 0
    together = _counts(x * y, weights) / n - mean_x * mean_y
    return np.clip(_ratio(together, np.sqrt(spread_x) * np.sqrt(spread_y)), -1, 1)


def _spearman(said: np.ndarray, true: np.ndarray, weights: np.ndarray) -> np.ndarray:
    n = weights.sum(axis=1, keepdims=True)
    wanted = _ranks(true, weights) - (n + 1) / 2  # the mean of ranks is known
    size = np.sum(weights * wanted**2, axis=1)
    found = np.empty((len(weights), len(said)))
    for trial, row in enumerate(said):
        ranks = _ranks(row, weights) - (n + 1) / 2
        both = np.sqrt(np.sum(weights * ranks**2, axis=1)) * np.sqrt(size)
        found[:, trial] = _ratio(np.sum(weights * ranks * wanted, axis=1), both)
    return np.clip(found, -1, 1)


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[N] and [D, N] -> [D, N]: ranks from 1 among the examples repeated; equal values share the mean of theirs."""
    order = np.argsort(values, kind="stable")
    _, starts, counts = np.unique(values[order], return_index=True, return_counts=True)
    groups = np.add.reduceat(weights[:, order], starts, axis=1)
    ranks = np.empty(weights.shape)
    ranks[:, order] = np.repeat(np.cumsum(groups, axis=1) - (groups - 1) / 2, counts, axis=1)
    return ranks


def _counts(what: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[S, N] and [D, N] -> [D, S]."""
    return weights @ what.T.astype(np.float64)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """0 where it is not defined, as in `metrics`."""
    return np.divide(above, below, out=np.zeros_like(above), where=below != 0)
