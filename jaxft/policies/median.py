"""The median stopping rule."""

import math

import numpy as np

from jaxft.policies import GO, STOP, Policy, Standing, at_fraction, between


def median(grace: float = 0.2, least: int = 3) -> Policy:
    """Stops a trial whose best score so far is below the median of the others' mean scores up to the same evaluation.

    Nobody waits: a trial is held against those that have come as far, so the decisions depend on the order in which
    trials run: on slots, and kills.

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
        known = ~np.isnan(standing.curves) & standing.arrived[:, None]
        count = known.sum(axis=1)
        means = np.sum(standing.curves, axis=1, where=known) / np.maximum(count, 1)
        below = standing.best < _medians_of_others(means, count > 0)
        enough = (count > 0).sum() - (count > 0) >= least
        return np.where(below & enough, STOP, GO)

    return Policy(rungs, judge)


def _medians_of_others(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """[n]: for each the median of the known values but its own; NaN where there is none."""
    ranked = np.sort(values[known])
    # Where its own value stands among them; without it all behind move up by one.
    own = np.where(known, np.searchsorted(ranked, values), len(ranked))
    others = len(ranked) - known
    low, high = (np.maximum(others - 1, 0) // 2, others // 2)
    picked = [ranked.take(at + (at >= own), mode="clip") if len(ranked) else values for at in (low, high)]
    return np.where(others > 0, (picked[0] + picked[1]) / 2, np.nan)
