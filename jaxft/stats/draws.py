"""Means over studies that are drawn with replacement, in chunks, and the baseline they are held against."""

from collections.abc import Iterator

import numpy as np

_CHUNK = 2_000
"""Draws at a time: their arrays stay in the processor's cache."""


def chunks(draws: int) -> Iterator[int]:
    """How many draws at a time."""
    return (min(_CHUNK, draws - at) for at in range(0, draws, _CHUNK))


class Sums:
    """Means over draws that come in chunks, and their standard errors; `near` is a value near them, for the digits."""

    def __init__(self, rows: int, near: float):
        """No draw yet."""
        self._near, self._total, self._squares = near, np.zeros(rows), np.zeros(rows)

    def add(self, rows: np.ndarray, values: np.ndarray) -> None:
        """[rows, draws], or [1, draws] for all of these rows."""
        apart = values - self._near
        self._total[rows] += apart.sum(axis=1)
        self._squares[rows] += np.square(apart).sum(axis=1)

    def mean_and_error(self, draws: int) -> tuple[np.ndarray, np.ndarray]:
        """[rows] each, of so many draws."""
        mean = self._total / draws
        return self._near + mean, np.sqrt(np.maximum(self._squares / draws - mean**2, 0) / (draws - 1))


def baselines(budgets: np.ndarray, final: np.ndarray) -> np.ndarray:
    """[rows]: the expected best of so many whole trials, exactly."""
    known = {budget: expected_maximum(final, budget) for budget in np.unique(budgets).tolist()}
    return np.array([known[budget] for budget in budgets.tolist()])


def expected_maximum(values: np.ndarray, count: int) -> float:
    """Of so many draws with replacement, exactly (Dodge et al. 2019)."""
    share = np.arange(len(values) + 1) / len(values)
    return float(np.sum(np.sort(values) * np.diff(share**count)))
