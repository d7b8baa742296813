"""Which trials of two studies can be compared, and which of them belong together.

No jax here.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxft.errors import BadInput
from jaxft.stats.scores import Scores

TINY = 1e-12
"""Scores are of order one: numbers that differ by less differ by rounding alone."""


class Sides(NamedTuple):
    """The trials of two studies; where they are paired, row by row the same seeds."""

    a: pd.DataFrame
    b: pd.DataFrame
    paired: bool


def scored(scores: Scores, drop: bool = False, least: int = 2) -> pd.DataFrame:
    """The trials that have a score, in order; all of them unless `drop`.

    Raises:
        BadInput: a trial has no finite score and `drop` is not set, or fewer than `least` have one.
    """
    good = np.isfinite(scores.trials["score"].to_numpy(np.float64))
    if not good.all() and not drop:
        raise BadInput(
            f"{scores.name}: {np.sum(~good)} of {len(good)} trials have no score (never evaluated, or not a number); "
            "every trial needs one, or leave these out with drop=True"
        )
    if good.sum() < least:
        raise BadInput(f"{scores.name}: {good.sum()} trial(s) with a score; at least {least} are needed")
    return scores.trials.loc[good].reset_index(drop=True)


def sides(a: Scores, b: Scores, paired: bool | None = None, drop: bool = False) -> Sides:
    """The scored trials of both, paired by their seeds where that is asked for or possible.

    Args:
        a: one study.
        b: the other; on the same task and metric.
        paired: True pairs the seeds that both have and leaves out the others; False pairs nothing; None pairs where
            both studies have exactly the same seeds (before any is dropped for want of a score), else nothing.
        drop: leave out trials without a score (of a pair: both), instead of refusing them.

    Raises:
        BadInput: two metrics or tasks, a trial without score, fewer than two trials or pairs, or seeds that do not say
            which trials belong together.
    """
    comparable([a, b])
    left, right = scored(a, drop), scored(b, drop)
    if paired is None:
        paired = _same_seeds(a, b)
    if not paired:
        return Sides(left, right, False)
    by = [name for name in a.factors if name in b.factors]
    for study, trials in ((a, left), (b, right)):
        if not by or trials.duplicated(by).any():
            what = f"{', '.join(by)} alone do not tell its trials apart" if by else "no column of seeds is in both"
            raise BadInput(f"{study.name}: {what}; pairs need one trial per seeds in each study, or paired=False")
    keys = left[by].merge(right[by], on=by)
    if len(keys) < 2:
        raise BadInput(
            f"{a.name} and {b.name}: {len(keys)} pair(s) of the same {', '.join(by)}; at least 2 are needed, "
            "or paired=False"
        )
    return Sides(keys.merge(left, on=by), keys.merge(right, on=by), True)


def comparable(studies: list[Scores]) -> None:
    """Raises BadInput where two studies have different metrics or tasks."""
    for what in ("metric", "task"):
        found = {getattr(study, what): study.name for study in studies}
        if len(found) > 1:
            each = ", ".join(f"{value!r} ({name})" for value, name in found.items())
            raise BadInput(f"different {what}s: {each}; only studies of one {what} can be compared")


def constant(values: np.ndarray) -> bool:
    """Whether all are equal, but for rounding."""
    return bool(np.ptp(values) <= TINY * max(1.0, float(np.abs(values).max())))


def crossed(scores: Scores) -> bool:
    """Whether seeds come back in several trials, each with several others: trials are then not independent."""
    return len(scores.factors) > 1 and all(scores.trials.duplicated(name).any() for name in scores.factors)


def _same_seeds(a: Scores, b: Scores) -> bool:
    if not a.factors or set(a.factors) != set(b.factors):
        return False
    by = list(a.factors)
    left, right = (study.trials[by].to_numpy(np.int64) for study in (a, b))
    return len(left) == len(right) == len(np.unique(left, axis=0)) and {*map(tuple, left)} == {*map(tuple, right)}
