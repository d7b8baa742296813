"""A statistic of scores that are dealt out at random over the seeds, beside that of the scores as they are."""

from collections.abc import Callable

import numpy as np

from jaxft.errors import BadInput
from jaxft.stats.design import Design

_CHUNK = 1_000_000
"""Scores that are dealt out at once: 8 MB."""

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Of scores [draws, N], and whose they are: [N, L], 1 where the trial has the seed."""


def ranges(dealt: np.ndarray, member: np.ndarray) -> np.ndarray:
    """The range of the seeds' means [draws]."""
    return np.ptp(dealt @ member / member.sum(axis=0), axis=1)


def best_worst_f(dealt: np.ndarray, member: np.ndarray) -> np.ndarray:
    """F of the best seed against the worst [draws]."""
    counts = member.sum(axis=0)
    means, squares = dealt @ member / counts, dealt**2 @ member
    ends = np.stack([means.argmax(axis=1), means.argmin(axis=1)], axis=1)
    mean, square, n = np.take_along_axis(means, ends, axis=1), np.take_along_axis(squares, ends, axis=1), counts[ends]
    within = (square - n * mean**2).sum(axis=1) / (n.sum(axis=1) - 2)
    between = (mean[:, 0] - mean[:, 1]) ** 2 / (1 / n).sum(axis=1)
    # Two seeds with equal scores each could not be further apart.
    none = within <= 1e-12
    return np.where(none, np.inf, between / np.where(none, 1, within))


def simulated(found: Design, draws: int, seed: int, statistic: Statistic, groups: np.ndarray) -> np.ndarray:
    """The statistic [1 + draws] of the standardised scores as they are, then as they are dealt out within groups [N].

    Raises:
        BadInput: `draws` is no number from 1.
    """
    if not isinstance(draws, int | np.integer) or draws < 1:
        raise BadInput(f"draws: expected a whole number from 1, found {draws!r}")
    rng = np.random.default_rng(seed)
    order, ends = np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))
    y = ((found.scores - found.scores.mean()) / found.scores.std())[order]
    member = np.eye(found.levels[0])[found.codes[order, 0]]
    results = [statistic(y[None], member)]
    chunk = max(1, _CHUNK // len(y))
    for at in range(0, draws, chunk):
        dealt = np.tile(y, (min(chunk, draws - at), 1))
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            rng.permuted(dealt[:, begin:end], axis=1, out=dealt[:, begin:end])
        results.append(statistic(dealt, member))
    return np.concatenate(results)


def share(values: np.ndarray) -> float:
    """Of all, the first among them, that are as large as the first; sums in another order differ in the last bits."""
    return float((values >= values[0] * (1 - 1e-9)).sum() / len(values))
