"""Which seeds are good, and are they so on every task?"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from jaxft.errors import BadInput
from jaxft.stats.design import best_and_worst, design, missing
from jaxft.stats.scores import Scores

_FEWEST = 4
"""Seeds that a rank correlation needs: of three, no order has a small p."""
_SORTED = 5
"""Places whose means are sorted by chance in less than 2 of 100 matrices."""


def densities(scores: Scores, factor: str, points: int = 200) -> pd.DataFrame:
    """Kernel densities of the scores of the best and the worst seed (Dodge et al. 2020, figure 3).

    Best and worst have the highest and lowest mean; they were chosen after looking, so that their distance proves
    nothing: see `variance.best_against_worst`. Gaussian kernels, bandwidth by Scott's rule (scipy's gaussian_kde), on
    one grid for both, which goes three bandwidths beyond the scores.

    Args:
        scores: a study.
        factor: the column of seeds.
        points: of the grid.

    Returns:
        factor, seed, which ("best" or "worst"), x, density (per unit of score): two times `points` rows.

    Raises:
        BadInput: a factor with one seed only, a score that is NaN, or a best or worst seed with fewer than two trials
            or with scores that are all equal.
    """
    from scipy.stats import gaussian_kde

    found = design(scores, [factor])
    if points < 2:
        raise BadInput(f"points: expected at least 2, found {points!r}")
    codes, seeds = found.codes[:, 0], found.seeds[0]
    ends = dict(zip(("best", "worst"), best_and_worst(found), strict=True))
    kernels = {}
    for which, place in ends.items():
        own = found.scores[codes == place]
        if len(own) < 2 or np.ptp(own) <= 1e-12 * np.abs(own).max():
            why = "has one trial only" if len(own) < 2 else f"has {len(own)} equal scores ({own[0]:g})"
            raise BadInput(
                f"{scores.name}: {factor} {seeds[place]}, the {which}, {why}; a density needs scores that differ"
            )
        kernels[which] = gaussian_kde(own)
    margin = 3 * max(float(np.sqrt(kernel.covariance[0, 0])) for kernel in kernels.values())
    both = np.concatenate([kernel.dataset[0] for kernel in kernels.values()])
    x = np.linspace(both.min() - margin, both.max() + margin, points)
    made = [
        pd.DataFrame({"factor": factor, "seed": seeds[ends[which]], "which": which, "x": x, "density": kernel(x)})
        for which, kernel in kernels.items()
    ]
    return pd.concat(made, ignore_index=True)


def across_tasks(studies: Sequence[Scores], factor: str) -> pd.DataFrame:
    """Whether the seeds that are good on one task are good on another: Spearman's correlation of the seeds' means.

    For every two studies, over the seeds that both have; scipy's p, and Holm's correction over all pairs.

    Args:
        studies: two or more, which are complete grids, so that no mean is that of easier companions.
        factor: the column of seeds.

    Returns:
        task_a, task_b (the studies' names where two have the same task), seeds (how many both have), rho, p,
        corrected_p.

    Raises:
        BadInput: fewer than two studies; a factor that does not vary in one of them; a grid with gaps; fewer than four
            seeds in common; seeds that all have the same mean; or a matrix whose rows or columns are sorted by their
            means, which are ranks and not seeds.
    """
    from scipy.stats import spearmanr
    from statsmodels.stats.multitest import multipletests

    if len(studies) < 2:
        raise BadInput(f"expected at least two studies to compare {factor} over, found {len(studies)}")
    means = [_means(scores, factor) for scores in studies]
    tasks = [scores.task for scores in studies]
    names = tasks if len({*tasks}) == len(tasks) else [scores.name for scores in studies]
    rows = []
    for a, b in combinations(range(len(studies)), 2):
        shared = sorted(means[a].keys() & means[b].keys())
        both = f"{studies[a].name} and {studies[b].name}"
        if len(shared) < _FEWEST:
            raise BadInput(f"{both}: {len(shared)} values of {factor} in common, expected at least {_FEWEST}")
        sides = [np.array([means[i][seed] for seed in shared]) for i in (a, b)]
        for i, side in zip((a, b), sides, strict=True):
            if np.ptp(side) <= 1e-12 * np.abs(side).max():
                raise BadInput(
                    f"{studies[i].name}: all {len(shared)} values of {factor} have the mean {side[0]:g}, so there is "
                    "no order among them"
                )
        x, y = (np.round(side, 12) for side in sides)  # equal means may differ in their last bit
        found: Any = spearmanr(x, y)
        pair = {"task_a": names[a], "task_b": names[b], "seeds": len(shared)}
        rows.append({**pair, "rho": float(found.statistic), "p": float(found.pvalue)})
    made = pd.DataFrame(rows)
    return made.assign(corrected_p=multipletests(made["p"].to_numpy(), method="holm")[1])


def _means(scores: Scores, factor: str) -> dict[int, float]:
    """By seed."""
    found = design(scores, [factor, *(name for name in scores.factors if name != factor)])
    gaps = missing(found)
    if gaps:
        raise BadInput(f"{scores.name}: {gaps}; the means of seeds can be compared over tasks on complete grids only")
    codes = found.codes[:, 0]
    means = np.bincount(codes, found.scores) / np.bincount(codes)
    steps = np.diff(means)
    if factor in scores.places and len(means) >= _SORTED and ((steps >= 0).all() or (steps <= 0).all()):
        raise BadInput(
            f"{scores.name}: the matrix is sorted by the means of its {len(means)} values of {factor}, so its places "
            "are ranks and not seeds; give a CSV with the seeds, in columns init_seed, order_seed, score"
        )
    return dict(zip(found.seeds[0].tolist(), means.tolist(), strict=True))
