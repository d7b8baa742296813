"""Successive halving, in rounds or without waiting for them."""

import math

import numpy as np

from jaxft.policies import GO, STOP, WAIT, Policy, Standing, at_fraction, between


def successive_halving(start: int = 0, factor: int = 2, first: float = 0.125, asynchronous: bool = False) -> Policy:
    """Keeps one in `factor` of the trials at each of several rungs, by the best score so far.

    The rungs lie at `first`, `first` * factor, `first` * factor^2, ... of a trial's evaluations; of trials of unequal
    length those of the same number are compared.

    Args:
        start: trials of a cohort; 0 for all of the study.
        factor: of those that come to a rung, one in so many goes on (rounded up).
        first: the first rung, as a fraction of a trial's evaluations.
        asynchronous: a trial goes on as soon as it is among the best 1 / factor of those that have come so far
            (rounded down), and waits as long as it is not. Then the decisions depend on who comes when: on slots,
            processes, and kills. Without it a rung is decided once all have come.

    Raises:
        BadInput: an argument is out of its range.

    Source:
        Jamieson and Talwalkar 2016 (arXiv 1502.07943); asynchronous: ASHA, Li et al. 2020 (arXiv 1810.05934).
    """
    between(0, "start", start, math.inf)
    between(2, "factor", factor, 1000)
    between(0.001, "first", first, 0.999)

    def rungs(evaluations: int) -> list[int]:
        fractions = [first * factor**k for k in range(64) if first * factor**k < 1]
        return sorted({at_fraction(fraction, evaluations) for fraction in fractions})

    def judge(rung: int, standing: Standing) -> np.ndarray:
        come = int(standing.arrived.sum())
        if not standing.coming.any():
            return np.where(standing.top(math.ceil(come / factor)), GO, STOP)
        return np.where(standing.top(come // factor if asynchronous else 0), GO, WAIT)

    return Policy(rungs, judge, start)
