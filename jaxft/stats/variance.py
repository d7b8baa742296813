"""Where does the variance come from: which seeds matter, and how much?"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxft.errors import BadInput
from jaxft.stats import dealt
from jaxft.stats.design import Design, best_and_worst, design, missing
from jaxft.stats.scores import Scores

RESIDUAL = "Residual"
_DRAWS = 10_000
"""Of the pivots that intervals of components are quantiles of."""


def anova(scores: Scores, factors: Sequence[str] | None = None, interactions: bool = False) -> pd.DataFrame:
    """Analysis of variance with fixed effects, by statsmodels (`anova_lm`, type II; all types agree on a full grid).

    Args:
        scores: a study; its grid may have gaps, as long as the effects can be told apart.
        factors: columns of seeds; all that vary when not given. Those left out count as noise.
        interactions: also those of any two factors, which needs more trials than main effects and interactions have.

    Returns:
        factor ("init_seed", "init_seed:order_seed", ..., "Residual"), sum_sq, df, f, p (NaN for the residual), type
        ("II"). `attrs["balanced"]` says whether every combination of seeds is there equally often.

    Raises:
        BadInput: a factor with one seed only, all scores equal, a score that is NaN, effects that cannot be told apart,
            or nothing left for the residual.
    """
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    found = design(scores, factors)
    terms = [(i,) for i in range(len(found.factors))]
    terms += list(combinations(range(len(found.factors)), 2)) if interactions else []
    _refuse_confounded(found, terms)
    frame: Any = pd.DataFrame(found.codes, columns=[f"f{i}" for i in range(len(found.factors))])
    # Around the mean, in units of the spread: the sums of squares of scores near 1 would lose digits.
    scale = float(found.scores.std())
    frame["y"] = (found.scores - found.scores.mean()) / scale
    formula = "y ~ " + " + ".join(":".join(f"C(f{i})" for i in term) for term in terms)
    table: Any = anova_lm(ols(formula, frame).fit(), typ=2)
    made = pd.DataFrame(
        {
            "factor": [*(":".join(found.factors[i] for i in term) for term in terms), RESIDUAL],
            "sum_sq": table["sum_sq"].to_numpy() * scale**2,
            "df": table["df"].to_numpy().round().astype(int),
            "f": table["F"].to_numpy(),
            "p": table["PR(>F)"].to_numpy(),
            "type": "II",
        }
    )
    made.attrs["balanced"] = found.balanced
    return made


def components(
    scores: Scores, factors: Sequence[str] | None = None, confidence: float = 0.95, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Variance components: each factor's seeds as draws from many, their effects and the residual normal and additive.

    Expected mean squares; where the grid has gaps Henderson's method 3 (1953), which equals them where it has none. An
    estimate below 0 counts as 0. What the factors do together, and every other cause, is in the residual.

    The intervals are equal-tailed generalised confidence intervals (Weerahandi 1993): quantiles of 10,000 draws of a
    pivot, of each factor by itself as exact as the normal model is (that of the residual is the usual one of
    chi-squared), and approximate for shares, more so where the grid has gaps. They are not of a model in which trials
    collapse: scores with two peaks have wider ones.

    Args:
        scores: a study.
        factors: columns of seeds; all that vary when not given.
        confidence: between 0 and 1.
        seed: of the draws.

    Returns:
        factor (and "Residual"), variance, share (of their sum), low, high (of the variance), share_low, share_high.
        `attrs["balanced"]`, `attrs["interval"]`.

    Raises:
        BadInput: as `anova`.
    """
    found = design(scores, factors)
    if not 0 < confidence < 1:
        raise BadInput(f"confidence: expected a number between 0 and 1, such as 0.95, found {confidence}")
    _refuse_confounded(found, [(i,) for i in range(len(found.factors))])
    scale = float(found.scores.std())
    y = (found.scores - found.scores.mean()) / scale
    rng = np.random.default_rng(seed)
    basis = _basis(_dummies(found, range(len(found.factors))))
    df = len(y) - basis.shape[1]
    left = float(((y - basis @ (basis.T @ y)) ** 2).sum())
    residual = left / df
    pivots = [left / rng.chisquare(df, _DRAWS)]
    estimates = []
    for i in range(len(found.factors)):
        rest = _basis(_dummies(found, [j for j in range(len(found.factors)) if j != i]))
        own = _dummies(found, [i])[:, 1:]  # without the constant
        own = own - rest @ (rest.T @ own)
        vectors, values, _ = np.linalg.svd(own, full_matrices=False)
        kept = values > 1e-9 * values.max()
        z, weights = (vectors[:, kept].T @ y) ** 2, values[kept] ** 2
        # E[z_j] = weight_j variance + residual, and each z_j is chi-squared by itself.
        estimates.append(max(0.0, float((z.sum() - len(z) * residual) / weights.sum())))
        pivots.append(_pivot(z, weights, pivots[0], rng.chisquare(len(z), _DRAWS)))
    found_variances = np.array([*estimates, residual])
    draws = np.stack([*pivots[1:], pivots[0]])
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(draws, tails, axis=1)
    share_low, share_high = np.quantile(draws / draws.sum(axis=0), tails, axis=1)
    made = pd.DataFrame(
        {
            "factor": [*found.factors, RESIDUAL],
            "variance": found_variances * scale**2,
            "share": found_variances / found_variances.sum(),
            "low": low * scale**2,
            "high": high * scale**2,
            "share_low": share_low,
            "share_high": share_high,
        }
    )
    said = f"{confidence:.4g} generalised confidence interval, equal-tailed"
    made.attrs |= {"balanced": found.balanced, "interval": said}
    return made


class Permutation(NamedTuple):
    """A permutation test."""

    statistic: float
    """The range of the seeds' means."""
    p: float
    draws: int


def permutation(
    scores: Scores, factor: str, draws: int = 10_000, seed: int = 0, within: bool = False,
) -> Permutation:  # fmt: skip
    """Whether the seeds of a factor differ: the range of their means, against that of scores dealt out at random.

    All scores are dealt out anew over the whole grid: the hypothesis is that no seed matters. With `within` they are
    dealt out among the trials that share all other seeds: the hypothesis is that this factor does not matter, whatever
    the others do. The two are close where the others explain little. p = (1 + as large) / (1 + draws), and is never 0.

    Raises:
        BadInput: as `anova`; with `within`, no trials that differ in this factor alone.
    """
    found = design(scores, [factor])
    groups = _others(scores, factor) if within else np.zeros(len(found.scores), int)
    if within and all(len(np.unique(found.codes[groups == group])) < 2 for group in np.unique(groups)):
        raise BadInput(
            f"{scores.name}: no two trials differ in {factor} alone, so nothing can be dealt out within the rest"
        )
    ranges = dealt.simulated(found, draws, seed, dealt.ranges, groups)
    return Permutation(float(ranges[0] * found.scores.std()), dealt.share(ranges), draws)


class BestWorst(NamedTuple):
    """The best seed against the worst."""

    best: int
    worst: int
    f: float
    p: float
    """As the paper has it: as if the two had been named before anybody looked. Far too small."""
    corrected_p: float
    """Against the best and the worst of scores dealt out at random."""
    draws: int


def best_against_worst(scores: Scores, factor: str, draws: int = 10_000, seed: int = 0) -> BestWorst:
    """The test of Dodge et al. (2020, section 4), as a replication: one-way ANOVA of the best seed and the worst.

    Best and worst are those with the highest and lowest mean, so they were chosen after looking: on the paper's RTE
    scores, shuffled, the test gives p < .05 in 95 % of cases. `corrected_p` chooses in the same way among shuffled
    scores, and is the share of them with such an F, as in `permutation`. The main results are `anova` and
    `permutation`.

    Raises:
        BadInput: as `anova`; fewer than two trials of the best or the worst seed, or no variance within both.
    """
    from scipy.stats import f_oneway

    found = design(scores, [factor])
    codes, counts = found.codes[:, 0], np.bincount(found.codes[:, 0])
    best, worst = best_and_worst(found)
    if min(counts) < 2:
        raise BadInput(
            f"{scores.name}: {factor} {found.seeds[0][np.argmin(counts)]} has one trial only; expected at least two of "
            "each seed"
        )
    groups = found.scores[codes == best], found.scores[codes == worst]
    if max(map(np.ptp, groups)) == 0:
        raise BadInput(
            f"{scores.name}: the scores of {factor} {found.seeds[0][best]}, the best, are all equal, and so are those "
            f"of {found.seeds[0][worst]}, the worst: no variance to test against"
        )
    f, p = f_oneway(*groups)
    ratios = dealt.simulated(found, draws, seed, dealt.best_worst_f, np.zeros(len(codes), int))
    names = [int(found.seeds[0][place]) for place in (best, worst)]
    return BestWorst(names[0], names[1], float(f), float(p), dealt.share(ratios), draws)


def _others(scores: Scores, factor: str) -> np.ndarray:
    """By trial, a number for its seeds of all other factors."""
    others: Any = scores.trials[[name for name in scores.factors if name != factor]].to_numpy()
    return (
        np.unique(others, axis=0, return_inverse=True)[1].reshape(-1) if others.shape[1] else np.zeros(len(others), int)
    )


def _dummies(found: Design, factors: Sequence[int]) -> np.ndarray:
    """A constant and a column per seed of these factors: [N, 1 + their seeds]."""
    own = [np.eye(found.levels[i])[found.codes[:, i]] for i in factors]
    return np.hstack([np.ones((len(found.scores), 1)), *own])


def _basis(columns: np.ndarray) -> np.ndarray:
    """An orthonormal basis of what the columns span."""
    vectors, values, _ = np.linalg.svd(columns, full_matrices=False)
    return vectors[:, values > 1e-9 * values[0]]


def _pivot(z: np.ndarray, weights: np.ndarray, residual: np.ndarray, chi2: np.ndarray) -> np.ndarray:
    """The variance v from 0 for which sum of z / (v weights + residual) is chi2, by draw; 0 where there is none."""
    if np.ptp(weights) <= 1e-9 * weights.max():  # a grid without gaps
        return np.maximum(0, (z.sum() / chi2 - residual) / weights.mean())
    low, high = np.zeros_like(chi2), z.sum() / (weights.min() * chi2)  # beyond which the sum is less
    for _ in range(60):
        middle = (low + high) / 2
        more = (z / (middle[:, None] * weights + residual[:, None])).sum(axis=1) > chi2
        low, high = np.where(more, middle, low), np.where(more, high, middle)
    return np.where((z / residual[:, None]).sum(axis=1) > chi2, high, 0.0)


def _refuse_confounded(found: Design, terms: Sequence[tuple[int, ...]]) -> None:
    """Each term must have all its degrees of freedom beside the others, and the residual some."""
    columns, wanted = [np.ones((len(found.scores), 1))], 1
    for term in terms:
        flat = np.ravel_multi_index(tuple(found.codes[:, list(term)].T), tuple(found.levels[i] for i in term))
        columns.append(np.eye(int(np.prod([found.levels[i] for i in term])))[flat])
        wanted += int(np.prod([found.levels[i] - 1 for i in term]))
    names = ", ".join(":".join(found.factors[i] for i in term) for term in terms)
    basis = _basis(np.hstack(columns))
    if basis.shape[1] < wanted:
        gaps = missing(found)
        why = f", since {gaps}" if gaps else ""
        raise BadInput(
            f"{found.name}: the effects of {names} cannot be told apart{why}; expected a grid in which every seed of "
            "one meets several of the others"
        )
    if len(found.scores) <= wanted:
        raise BadInput(
            f"{found.name}: {len(found.scores)} trials are as many as the effects of {names} ({wanted} with the mean), "
            "so nothing is left for the residual; expected more trials, or fewer effects"
        )
    y = found.scores - found.scores.mean()
    if float(((y - basis @ (basis.T @ y)) ** 2).sum()) < 1e-20 * float((y**2).sum()):
        raise BadInput(
            f"{found.name}: {names} explain the scores without rest, so there is no residual to compare with"
        )
