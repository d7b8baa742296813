"""What the replicas are worth together: the scores of ensembles of trials, from their stored logits.

No jax here.
"""

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Literal

import numpy as np
import pandas as pd

from jaxft import metrics
from jaxft.errors import BadInput
from jaxft.stats import predictions
from jaxft.stats.scores import Scores

SIZES = (1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200, 500, 1000)


def ensemble(
    scores: Scores,
    sizes: Sequence[int] | None = None,
    draws: int = 200,
    seed: int = 0,
    *,
    average: Literal["logits", "probabilities"] = "logits",
    metric: str | None = None,
    split: str = "dev",
    at: str = "best",
    drop: bool = False,
) -> pd.DataFrame:
    """The score of trials that predict together, by how many they are.

    Random subsets of the trials (each trial at most once in a subset); where there are no more subsets of a size than
    `draws`, all of them. On "dev" at "best", each member was picked at its best evaluation on these very examples:
    every column is optimistic; a test split, or "final", is not.

    Args:
        scores: trials of a run folder.
        sizes: how many trials are in an ensemble; None: 1, 2, 3, 4, 5, 7, 10, ... and all.
        draws: how many subsets of each size.
        seed: of the subsets.
        average: "logits", or "probabilities" (softmax first); numbers to be predicted are averaged as they are.
        metric: one of `metrics.NAMES`; None: the study's own.
        split: "dev" or "test".
        at: "best" or "final".
        drop: leave out trials without predictions, or whose logits are not finite, instead of refusing them.

    Returns:
        A row per size: size, subsets (how many were scored), mean, low and high (5 and 95 % of subsets: how much it
        matters which trials are in it, no confidence interval), single (the mean of trials alone, the same in each
        row), best_single (the mean over the subsets of the best of its trials alone: what the same number of trials
        gives where one is picked).

    Raises:
        BadInput: no predictions, fewer than two trials, a size that the study does not have.
    """
    if average not in ("logits", "probabilities"):
        raise BadInput(f"average: {average!r} is unknown; accepted are 'logits' and 'probabilities'")
    if draws < 1:
        raise BadInput(f"draws: {draws} is too few; at least 1 is needed")
    found = predictions.read(scores, split, at, drop)
    metric = metric or scores.metric
    classes = found.logits.shape[2]
    metrics.check(metric, 0 if classes == 1 else classes)
    logits = _finite(scores, found.logits, drop).astype(np.float64)
    count = len(logits)
    if count < 2:
        raise BadInput(f"{scores.name}: {count} trial(s) with predictions; an ensemble needs at least 2")
    sizes = [*(size for size in SIZES if size < count), count] if sizes is None else list(sizes)
    for size in sizes:
        if not 1 <= size <= count:
            raise BadInput(f"sizes: {size} is not between 1 and the {count} trials of {scores.name}")
    outputs = _probabilities(logits) if average == "probabilities" and classes > 1 else logits

    def scored(outputs: np.ndarray) -> np.ndarray:
        weights = np.ones((1, outputs.shape[1]))
        return predictions.weighted(metric, predictions.said(outputs), found.labels, weights)[0]

    alone, rows = scored(logits), []
    for size in sizes:
        members = _subsets(count, size, draws, np.random.default_rng([seed, size]))
        values = scored(np.stack([outputs[each].mean(axis=0) for each in members]))
        low, high = np.quantile(values, [0.05, 0.95])
        best = alone[members].max(axis=1).mean()
        rows.append((size, len(members), values.mean(), low, high, alone.mean(), best))
    return pd.DataFrame(rows, columns=["size", "subsets", "mean", "low", "high", "single", "best_single"])


def _finite(scores: Scores, logits: np.ndarray, drop: bool) -> np.ndarray:
    good = np.atleast_1d(np.isfinite(logits).all(axis=(1, 2)))
    if not good.all() and not drop:
        raise BadInput(
            f"{scores.name}: {np.sum(~good)} of {len(good)} trials have logits that are not finite, which would be the "
            "mean of any ensemble; leave these out with drop=True"
        )
    return logits[good]


def _probabilities(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=2, keepdims=True))
    return shares / shares.sum(axis=2, keepdims=True)


def _subsets(count: int, size: int, draws: int, draw: np.random.Generator) -> np.ndarray:
    """[subsets, size]: all of them, or `draws` at random."""
    if comb(count, size) <= draws:
        return np.array(list(combinations(range(count), size)))
    return np.stack([draw.choice(count, size, replace=False) for _ in range(draws)])
