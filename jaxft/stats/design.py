"""Which scores there are for which seeds: what an analysis asks of them, and what it says where they lack it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxft.errors import BadInput
from jaxft.stats.scores import Scores


class Design(NamedTuple):
    """Scores by the seeds of some factors."""

    name: str
    """Of the study, for messages."""
    scores: np.ndarray
    """[N] float64, finite, not all equal."""
    factors: tuple[str, ...]
    seeds: tuple[np.ndarray, ...]
    """By factor, its seeds [L], sorted."""
    codes: np.ndarray
    """[N, F]: each trial's place in `seeds`."""

    @property
    def levels(self) -> tuple[int, ...]:
        """How many seeds each factor has."""
        return tuple(len(seeds) for seeds in self.seeds)

    @property
    def cells(self) -> np.ndarray:
        """How many trials each combination of seeds has: an axis per factor."""
        flat = np.ravel_multi_index(tuple(self.codes.T), self.levels)
        return np.bincount(flat, minlength=int(np.prod(self.levels))).reshape(self.levels)

    @property
    def balanced(self) -> bool:
        """Whether every combination of seeds is there equally often."""
        return bool(np.ptp(self.cells) == 0)


def evaluated(scores: Scores) -> Scores:
    """The same without the trials that were never evaluated, which analyses refuse: you leave them out, not they."""
    trials = scores.trials[scores.trials["score"].notna()].reset_index(drop=True)
    kept = scores.evals[scores.evals["trial"].isin(trials["trial"].tolist())].reset_index(drop=True)
    return scores._replace(trials=trials, evals=kept)


def values(scores: Scores | Sequence[float] | np.ndarray, least: int = 2) -> np.ndarray:
    """The scores [N] float64.

    Raises:
        BadInput: fewer than `least`, or one that is NaN or infinite.
    """
    name = scores.name if isinstance(scores, Scores) else "scores"
    found = np.asarray(scores.trials["score"] if isinstance(scores, Scores) else scores, np.float64)
    if found.ndim != 1:
        raise BadInput(f"{name}: expected one score per trial, found an array of shape {found.shape}")
    bad = int((~np.isfinite(found)).sum())
    if bad:
        raise BadInput(
            f"{name}: {bad} of {len(found)} trials have no finite score (never evaluated); leave them out "
            "(jaxft.stats.design.evaluated), or give them one, such as the majority's"
        )
    if len(found) < least:
        raise BadInput(f"{name}: expected at least {least} trials, found {len(found)}")
    return found


def design(scores: Scores, factors: Sequence[str] | None = None) -> Design:
    """The scores by the seeds of these factors; by all that vary when none are given.

    Raises:
        BadInput: a factor that is not there or does not vary, no factor at all, a score that is not finite, or all
            scores equal.
    """
    chosen = scores.factors if factors is None else (factors,) if isinstance(factors, str) else tuple(factors)
    there = ", ".join(scores.factors) or "none"
    if not chosen:
        raise BadInput(f"{scores.name}: no seed varies, so there is nothing to compare; expected at least two seeds")
    if len({*chosen}) < len(chosen):
        raise BadInput(f"{scores.name}: a factor is there twice: {', '.join(chosen)}")
    seeds, codes = [], []
    for factor in chosen:
        if factor not in scores.trials or not factor.endswith("_seed"):
            raise BadInput(f"{scores.name}: no factor {factor!r}; those that vary: {there}")
        found, places = np.unique(np.asarray(scores.trials[factor]), return_inverse=True)
        if len(found) < 2:
            only = f"is {found[0]} in all {len(places)} trials" if len(found) else "has no trial"
            raise BadInput(f"{scores.name}: {factor} {only}, expected at least two seeds; those that vary: {there}")
        seeds.append(found)
        codes.append(places)
    response = values(scores)
    if np.ptp(response) == 0:
        raise BadInput(
            f"{scores.name}: all {len(response)} scores are {response[0]:g}, so there is no variance to explain"
        )
    return Design(scores.name, response, chosen, tuple(seeds), np.column_stack(codes))


def best_and_worst(design: Design) -> tuple[int, int]:
    """The places of the seeds with the highest and the lowest mean, of a design of one factor.

    Raises:
        BadInput: all have the same mean.
    """
    means = np.bincount(design.codes[:, 0], design.scores) / np.bincount(design.codes[:, 0])
    if np.ptp(means) <= 1e-12 * np.ptp(design.scores):
        factor = design.factors[0]
        raise BadInput(
            f"{design.name}: all {len(means)} values of {factor} have the mean {means[0]:g}, so none is best"
        )
    return int(means.argmax()), int(means.argmin())


def missing(design: Design) -> str:
    """What of the grid is not there as often as the rest, for messages; "" where it is balanced."""
    cells = design.cells
    if design.balanced:
        return ""
    absent = int((cells == 0).sum())
    where = np.unravel_index(int(np.argmin(cells)), cells.shape)
    seeds = zip(design.factors, design.seeds, where, strict=True)
    first = ", ".join(f"{factor} {found[at]}" for factor, found, at in seeds)
    if absent:
        return f"{absent} of {cells.size} combinations of seeds have no trial (the first: {first})"
    return f"combinations of seeds have from {cells.min()} to {cells.max()} trials (fewest: {first})"
