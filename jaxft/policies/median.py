"""The median stopping rule."""

import math

import numpy as np

from jaxft.policies import GO, STOP, Policy, Standing, at_fraction, between


def median(grace: float = 0.2, least: int = 3) -> Policy:
    """Stops a trial whose best score so far is below the median of the others' mean scores up to the same evaluation.

    Nobody waits: a trial is held against those that have come as far, so the decisions depend on the order in which
    trials run, that is on the number of slots.

    Args:
        grace: a fraction of a trial's evaluations before which it is not judged.
        least: as long as fewer others have come so far, a trial goes on.

    Raises:
        BadInput: an argument is out of its range.

    Source:
        Golovin et al. 2017, "Google Vizier", section 3.2.2.
    """
    between(0, "grace", grace, 0.999)
    between(1, "least", least, math.inf)

    def rungs(evaluations: int) -> list[int]:
        return list(range(at_fraction(grace, evaluations), evaluations))

    def judge(rung: int, standing: Standing) -> np.ndarray:
        means = np.array([_mean(curve) if there else np.nan for curve, there in _zip(standing)])
        verdicts = np.full(len(means), GO)
        for i, best in enumerate(standing.best):
            others = np.delete(means, i)
            others = others[~np.isnan(others)]
            if standing.arrived[i] and len(others) >= least and best < np.median(others):
                verdicts[i] = STOP
        return verdicts

    return Policy(rungs, judge)


def _zip(standing: Standing):
    return zip(standing.curves, standing.arrived, strict=True)


def _mean(curve: np.ndarray) -> float:
    there = curve[~np.isnan(curve)]
    return float(there.mean()) if there.size else np.nan
