"""Who of many trials goes on, one file each: the file's name is the policy's name in a study. No jax here.

A policy is a function `median(grace: float = 0.2) -> Policy` with a type and a default for every argument. It ranks
trials against each other, so it is asked between blocks, on the host; rules about one replica alone are in
`engine/stop.py`. A study asks its policy, and `stats/replay.py` any, by way of `contest.py`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxft import members
from jaxft.errors import BadInput
from jaxft.members import spec

STOP, WAIT, GO = -1, 0, 1
"""Verdicts on a trial that has come to a rung."""


class Standing(NamedTuple):
    """What is known of a cohort at one of its rungs; n trials, in the study's order."""

    curves: np.ndarray
    """[n, E] float64: of each trial its scores, higher is better, from its first evaluation to this rung. NaN where an
    evaluation gave none, and where it has not come so far.
    """
    arrived: np.ndarray
    """[n] bool: it has come to this rung, and no rule of its own has dropped it there. It may have gone on long ago."""
    coming: np.ndarray
    """[n] bool: it has not come to this rung, but may."""

    @property
    def best(self) -> np.ndarray:
        """[n] float64: the best score of each trial so far; -inf where it has none."""
        return np.max(self.curves, axis=1, initial=-np.inf, where=~np.isnan(self.curves))

    def top(self, count: int) -> np.ndarray:
        """[n] bool: the `count` best of those that have arrived; of equal ones those that stand first."""
        there = np.flatnonzero(self.arrived)
        found = np.zeros(len(self.arrived), bool)
        found[there[np.argsort(-self.best[there], kind="stable")[:count]]] = True
        return found


class Policy(NamedTuple):
    """Who goes on. A rung is an evaluation after which a trial needs a verdict."""

    rungs: Callable[[int], Sequence[int]]
    """Evaluations of a whole trial -> after which of them it is judged, ascending, counted from 1."""
    judge: Callable[[int, Standing], np.ndarray]
    """`(rung, standing) -> [n] of STOP, WAIT or GO`, for the rung of this number, from 0. Asked whenever the standing
    has changed; only what it says of trials that wait at this rung counts. Once nobody is coming, nobody may wait.
    """
    cohort: int = 0
    """Trials that are ranked together, as they follow each other in the study; 0 for all of them."""


def load(text: str | None) -> Policy:
    """The policy that a spec such as "start_many(start=12, keep=3)" describes; without one, all go on unasked.

    Raises:
        BadInput: an unknown policy or argument, a value of the wrong type or out of its range, or more than one.
    """
    if text is None:
        return Policy(lambda evaluations: (), lambda rung, standing: np.zeros(0))
    calls = spec.bind(spec.parse(text, "policy"), "policy")
    if len(calls) != 1:
        raise BadInput(f"policy: expected one, found {text!r}")
    ((name, args),) = calls
    return members.member(name, "policy")(**args)


def reason(text: str) -> str:
    """What the rows of trials say that the policy of this spec has stopped: its name."""
    return text.partition("(")[0].strip()


def between(low: float, name: str, value: float, high: float) -> None:
    """Says that an argument is out of its range.

    Raises:
        BadInput: it is.
    """
    if not low <= value <= high:
        most = f" to {high:g}" if high < np.inf else " on"
        raise BadInput(f"policy: {name}: expected a number from {low:g}{most}, found {value!r}")


def at_fraction(fraction: float, evaluations: int) -> int:
    """The evaluation nearest to a fraction of all; at least the first, and before the last where there are several."""
    return max(1, min(evaluations - 1, round(fraction * evaluations)))
