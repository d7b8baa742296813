"""Start many, stop early, continue some."""

import math

import numpy as np

from jaxft.policies import GO, STOP, WAIT, Policy, Standing, at_fraction, between


def start_many(start: int = 0, fraction: float = 0.3, keep: int = 1) -> Policy:
    """Trains `start` trials to a fraction of their evaluations and the best `keep` of them to the end.

    Ranked by the best score so far. Costs start * fraction + keep * (1 - fraction) whole trials. Every `start` trials
    that follow each other in the study are a cohort with a decision of its own.

    Args:
        start: trials of a cohort; 0 for all of the study.
        fraction: of a trial's evaluations, after which it waits for the others; above 0 and below 1.
        keep: how many of a cohort go on.

    Raises:
        BadInput: an argument is out of its range.

    Source:
        Dodge et al. 2020 (arXiv 2002.06305), section 5.
    """
    between(0, "start", start, math.inf)
    between(0.001, "fraction", fraction, 0.999)
    between(1, "keep", keep, start or math.inf)

    def judge(rung: int, standing: Standing) -> np.ndarray:
        if standing.coming.any():
            return np.full(len(standing.curves), WAIT)
        return np.where(standing.top(keep), GO, STOP)

    return Policy(lambda evaluations: [at_fraction(fraction, evaluations)], judge, start)
