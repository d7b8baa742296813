"""The training curves that questions about early stopping begin with: each trial's scores, evaluation by evaluation.

No jax here.
"""

from typing import NamedTuple

import numpy as np

from jaxft.errors import BadInput
from jaxft.stats.scores import Scores

OWN_RULES = ("one_class", "majority")
"""Reasons of trials that are `stopped` by a rule about them alone; others were stopped by a policy."""
IN_STEP = ("non_finite_loss", "non_finite_gradient", "loss_above")
"""Reasons of trials that were dropped in a step, not at an evaluation."""


class Curves(NamedTuple):
    """The curves of n trials with K evaluations each, in the study's order."""

    trials: list[str]
    steps: np.ndarray
    """[K] int: the steps of the evaluations; 1 to K where they are not known."""
    scores: np.ndarray
    """[n, K] float64, higher is better. NaN where an evaluation gave none, and from where a trial was dropped on."""
    lengths: np.ndarray
    """[n] int: the evaluations that a trial has; fewer than K only where it was dropped."""
    dropped: np.ndarray
    """[n] bool: whether a rule of its own has ended it."""
    late: np.ndarray
    """[n] bool: whether in the first step after its last evaluation, not at it: a policy has judged it there."""

    @property
    def best(self) -> np.ndarray:
        """[n, K] float64: the best score up to each evaluation, also of a dropped trial; -inf before its first."""
        return np.maximum.accumulate(np.where(np.isnan(self.scores), -np.inf, self.scores), axis=1)


def of(source: "Scores | Curves | np.ndarray") -> Curves:
    """The curves of scores, or of a matrix with a row per trial and a column per evaluation.

    The last scores of a matrix's row may be NaN: then the trial was dropped after those before.

    Raises:
        BadInput: no curves, or trials whose full length is not known: completed ones of unequal length, or ones that
            were stopped by a policy.
    """
    if isinstance(source, Curves):
        return source
    if isinstance(source, Scores):
        return _of_scores(source)
    scores = np.asarray(source)
    if scores.ndim != 2 or not scores.size or scores.dtype.kind not in "fiu":
        raise BadInput(
            f"curves: expected a matrix of numbers, rows trials and columns evaluations; "
            f"found {scores.dtype} of shape {scores.shape}"
        )
    scores = scores.astype(np.float64)
    if np.isinf(scores).any():
        raise BadInput("curves: expected finite scores, or NaN where there is none; found an infinite one")
    count, whole = scores.shape
    known = ~np.isnan(scores)
    lengths = np.where(known.any(axis=1), whole - known[:, ::-1].argmax(axis=1), 0)
    names = [str(i) for i in range(count)]
    return Curves(names, np.arange(1, whole + 1), scores, lengths, lengths < whole, np.zeros(count, bool))


def scored(source: "Scores | Curves | np.ndarray") -> Curves:
    """As `of`, of at least two trials with two evaluations, each with a score, and not all with the same.

    Raises:
        BadInput: as `of`, or they are something else.
    """
    name = source.name if isinstance(source, Scores) else "curves"
    curves = of(source)
    final = curves.best[:, -1]
    if (none := int(np.isneginf(final).sum())) > 0:
        raise BadInput(f"{name}: {none} of {len(final)} trials have no score at any evaluation; leave them out")
    if len(final) < 2 or curves.scores.shape[1] < 2:
        found = f"{len(final)} with {curves.scores.shape[1]}"
        raise BadInput(f"{name}: expected at least two trials with two evaluations, found {found}")
    if np.ptp(final) == 0:
        raise BadInput(
            f"{name}: all {len(final)} trials have the same best score, {final[0]:g}: nothing to choose from"
        )
    return curves


def _of_scores(source: Scores) -> Curves:
    table = source.trials
    names = [str(name) for name in table["trial"]]
    if source.evals.empty:
        raise BadInput(f"{source.name}: no training curves, which this needs: a score per trial and evaluation")
    stopped = np.array([by_policy(*row) for row in zip(table["status"], table["reason"], strict=True)], bool)
    if stopped.any():
        raise BadInput(
            f"{source.name}: {stopped.sum()} of {len(names)} trials were stopped by a policy, so how they would "
            "have gone on is not known; this needs a study that was run without one"
        )
    dropped = (table["status"] != "completed").to_numpy()
    # Of trials that were dropped older versions have the last evaluation twice.
    evals = source.evals.drop_duplicates(["trial", "step"])
    rows = evals.groupby("trial", sort=False).indices
    at = [rows.get(name, np.zeros(0, int)) for name in names]
    lengths = np.array([len(each) for each in at])
    every, scored = evals["step"].to_numpy(), evals["score"].to_numpy(np.float64)
    steps = _steps(source.name, names, [every[each] for each in at], dropped)
    scores = np.full((len(names), len(steps)), np.nan)
    for i, each in enumerate(at):
        scores[i, : lengths[i]] = scored[each]
    # Dropped in a step further on, it is evaluated there too, between the steps of the others.
    last = np.array([every[each[-1]] if len(each) else -1 for each in at])
    at_grid = last == steps[np.maximum(lengths - 1, 0)]
    late = dropped & at_grid & table["reason"].isin(IN_STEP).to_numpy()
    return Curves(names, steps, scores, lengths, dropped, late)


def by_policy(status: str, reason: str) -> bool:
    """Whether a trial was stopped by a policy."""
    return status == "stopped" and reason not in OWN_RULES


def _steps(name: str, trials: list[str], steps: list[np.ndarray], dropped: np.ndarray) -> np.ndarray:
    """Those of all trials that were completed, which must be the same."""
    whole = [i for i, out in enumerate(dropped) if not out]
    if not whole:
        raise BadInput(f"{name}: no trial was completed, so how long a whole one is is not known")
    first = whole[0]
    for i in whole:
        if not len(steps[i]):
            raise BadInput(
                f"{name}: trial {trials[i]} has no evaluation, trial {trials[first]} has {len(steps[first])}"
            )
        if not np.array_equal(steps[i], steps[first]):
            raise BadInput(
                f"{name}: trial {trials[first]} has {_said(steps[first])}, trial {trials[i]} {_said(steps[i])}; "
                "expected the same of all"
            )
    longest = max(map(len, steps))
    if longest > len(steps[first]):
        raise BadInput(f"{name}: a trial that was dropped has {longest} evaluations, a whole one {len(steps[first])}")
    return steps[first]


def _said(steps: np.ndarray) -> str:
    return f"{len(steps)} evaluations to step {steps[-1]}"
