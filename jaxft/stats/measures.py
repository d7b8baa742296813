"""One way each to measure how two groups of scores differ: numbers in, a row of numbers out.

What scipy and statsmodels have is theirs; the intervals that they lack are ours, each with its source. No jax here.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, stats
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from jaxft.stats.pairs import constant

NAN = float("nan")


class Row(NamedTuple):
    """A measure of a - b, with its interval and test; NaN where it has none."""

    measure: str
    test: str
    """The names of the test and of what the interval is."""
    estimate: float = NAN
    low: float = NAN
    high: float = NAN
    statistic: float = NAN
    df: float = NAN
    p: float = NAN


def _row(measure: str, test: str, *numbers: Any) -> Row:
    """With numpy's and statsmodels' kinds of numbers as plain ones."""
    return Row(measure, test, *[float(number) for number in numbers])


def mean(a: np.ndarray, b: np.ndarray, paired: bool, alpha: float) -> Row:
    """The difference of means: Welch's t, or the paired t, and the interval that belongs to it."""
    if paired:
        found = DescrStatsW(a - b)
        low, high = found.tconfint_mean(alpha)
        return _row("mean", "paired t", found.mean, low, high, *_tdp(found.ttest_mean(0)))
    found = CompareMeans(DescrStatsW(a), DescrStatsW(b))
    low, high = found.tconfint_diff(alpha, usevar="unequal")
    return _row("mean", "Welch's t", a.mean() - b.mean(), low, high, *_tdp(found.ttest_ind(usevar="unequal")))


def _tdp(found: Any) -> Any:
    statistic, p, df = found
    return statistic, df, p


def crossed_mean(a: np.ndarray, b: np.ndarray, paired: bool, alpha: float) -> Row:
    """The difference of means over new seeds of both factors, for crossed grids: a and b are [I, J], a row per level.

    Trials that share a seed are not independent, which Welch's t and the paired t take them to be. Two-way random
    effects with one trial per cell: Var(mean) = (MS_row + MS_column - MS_rest) / IJ, where a mean square below MS_rest
    (a variance below 0) counts as MS_rest; degrees of freedom by Satterthwaite (1946).
    """
    parts = [_grid_error(a - b)] if paired else [_grid_error(a), _grid_error(b)]
    variance = sum(variance for variance, _ in parts)
    df = variance**2 / sum(variance**2 / df for variance, df in parts if variance > 0)
    estimate, error = a.mean() - b.mean(), np.sqrt(variance)
    t, reach = estimate / error, error * stats.t.isf(alpha / 2, df)
    text = f"{'paired' if paired else 'unpaired'} t, seeds crossed"
    return _row("mean_crossed", text, estimate, estimate - reach, estimate + reach, t, df, 2 * stats.t.sf(abs(t), df))


def _grid_error(grid: np.ndarray) -> tuple[float, float]:
    """Of the mean of a [I, J] grid: its variance, and the degrees of freedom of that."""
    rows, columns = grid.mean(axis=1, keepdims=True), grid.mean(axis=0, keepdims=True)
    rest = grid - rows - columns + grid.mean()
    dfs = np.array([len(grid) - 1, grid.shape[1] - 1, (len(grid) - 1) * (grid.shape[1] - 1)])
    squares = np.array([grid.shape[1] * rows.var() * len(grid), len(grid) * columns.var() * grid.shape[1], 0.0])
    squares[2] = np.sum(rest**2)
    ms = squares / dfs
    more = ms[:2] > ms[2]
    used = np.array([*more, not more.any() or more.all()])
    variance = np.sum(ms[used] * np.array([1, 1, -1 if more.all() else 1])[used]) / grid.size
    return variance, (variance * grid.size) ** 2 / max(np.sum(ms[used] ** 2 / dfs[used]), np.finfo(float).tiny)


def shift(a: np.ndarray, b: np.ndarray, paired: bool, alpha: float) -> Row:
    """How far the scores lie apart by ranks: Hodges and Lehmann's estimate, with Mann and Whitney's test or Wilcoxon's.

    The interval inverts the test (normal approximation; Hollander and Wolfe 1999, sections 3.3 and 4.3).
    """
    z = stats.norm.isf(alpha / 2)
    if paired:
        each = a - b
        found: Any = stats.wilcoxon(each)
        n = len(each)
        first, second = np.triu_indices(n)
        all_of_them = np.sort((each[first] + each[second]) / 2)
        cut = n * (n + 1) / 4 - z * np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
    else:
        found = stats.mannwhitneyu(a, b)
        all_of_them = np.sort(np.subtract.outer(a, b).ravel())
        cut = len(a) * len(b) / 2 - z * np.sqrt(len(a) * len(b) * (len(a) + len(b) + 1) / 12)
    cut = max(int(np.floor(cut)), 0)
    low, high = all_of_them[cut], all_of_them[-1 - cut]
    name = "Wilcoxon" if paired else "Mann-Whitney"
    return _row("shift", name, float(np.median(all_of_them)), low, high, found.statistic, NAN, found.pvalue)


def superiority(a: np.ndarray, b: np.ndarray, paired: bool, alpha: float) -> Row:
    """The probability that a trial of `a` beats one of `b` (of the same seeds, where paired); a tie counts half.

    Unpaired, the interval is method 5 of Newcombe (2006, "Confidence intervals for an effect size measure based on the
    Mann-Whitney statistic, part 2"), and the test that of Mann and Whitney is in `shift`. Paired, it is Wilson's, and
    the test is the sign test, which leaves ties out.
    """
    if paired:
        n, wins, ties = len(a), int(np.sum(a > b)), int(np.sum(a == b))
        share = (wins + ties / 2) / n
        low, high = proportion_confint(wins + ties / 2, n, alpha, method="wilson")
        found = stats.binomtest(wins, n - ties) if ties < n else None
        p = found.pvalue if found else 1.0
        return _row("superiority", "sign test; Wilson's interval", share, low, high, wins, NAN, p)
    share = float(np.mean((np.subtract.outer(a, b) > 0) + (np.subtract.outer(a, b) == 0) / 2))
    z, half = stats.norm.isf(alpha / 2), (len(a) + len(b)) / 2 - 1

    def beyond(true: float) -> float:
        spread = 1 + half * (1 - true) / (2 - true) + half * true / (1 + true)
        return float((share - true) ** 2 * len(a) * len(b) - z**2 * true * (1 - true) * spread)

    low = optimize.brentq(beyond, 0, share) if share > 0 else 0.0
    high = optimize.brentq(beyond, share, 1) if share < 1 else 1.0
    return _row("superiority", "Newcombe's interval", share, low, high)


def spread(a: np.ndarray, b: np.ndarray, paired: bool, draws: int, alpha: float, rng: np.random.Generator) -> Row:
    """The difference of standard deviations: the test of Brown and Forsythe (1974), and a percentile bootstrap.

    Brown and Forsythe's test is the t test on absolute deviations from the medians; paired, it is the paired t on them.
    """
    parts = [np.abs(x - np.median(x)) for x in (a, b)]
    df, statistic, p = NAN, NAN, NAN
    if paired and not constant(parts[0] - parts[1]):
        statistic, df, p = _tdp(DescrStatsW(parts[0] - parts[1]).ttest_mean(0))
    if not paired and not all(map(constant, parts)):
        found = stats.levene(a, b, center="median")
        statistic, df, p = found.statistic, len(a) + len(b) - 2, found.pvalue
    low, high = _bootstrap(a, b, paired, lambda x: x.std(axis=1, ddof=1), draws, alpha, rng)
    name = f"{'paired t of deviations' if paired else 'Brown-Forsythe'}; bootstrap"
    return _row("spread", name, a.std(ddof=1) - b.std(ddof=1), low, high, statistic, df, p)


def best_of(
    n: int, a: np.ndarray, b: np.ndarray, paired: bool, draws: int, alpha: float, rng: np.random.Generator
) -> Row:
    """The difference of the expected best of n trials (Dodge et al. 2019), with a percentile bootstrap and no test."""
    low, high = _bootstrap(a, b, paired, lambda x: expected_best(x, n), draws, alpha, rng)
    estimate = float(expected_best(a[None], n)[0] - expected_best(b[None], n)[0])
    return _row(f"best_of_{n}", "bootstrap", estimate, low, high)


def expected_best(scores: np.ndarray, n: int) -> np.ndarray:
    """[D, N] -> [D]: the expected maximum of n draws, with replacement, from each row (Dodge et al. 2019)."""
    steps = (np.arange(scores.shape[1] + 1) / scores.shape[1]) ** n
    return np.sort(scores, axis=1) @ np.diff(steps)


def _bootstrap(a, b, paired, statistic, draws: int, alpha: float, rng: np.random.Generator) -> tuple[float, float]:
    """The percentile interval of statistic(a) - statistic(b)."""
    first = rng.integers(len(a), size=(draws, len(a)))
    second = first if paired else rng.integers(len(b), size=(draws, len(b)))
    low, high = np.quantile(statistic(a[first]) - statistic(b[second]), [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def failures(a: np.ndarray, b: np.ndarray, paired: bool, alpha: float) -> Row:
    """The difference of the shares of failed trials; a and b are booleans.

    Unpaired: Fisher's exact test and Newcombe's interval. Paired: McNemar's exact test and the interval of Bonett and
    Price (2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on paired data").
    """
    estimate = float(a.mean() - b.mean())
    if paired:
        only_a, only_b, n = int(np.sum(a & ~b)), int(np.sum(b & ~a)), len(a)
        p = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
        first, second = (only_a + 1) / (n + 2), (only_b + 1) / (n + 2)
        reach = stats.norm.isf(alpha / 2) * np.sqrt((first + second - (first - second) ** 2) / (n + 2))
        low, high = max(first - second - reach, -1), min(first - second + reach, 1)
        return _row("failures", "McNemar; Bonett and Price's interval", estimate, low, high, only_a, NAN, p)
    counts = int(a.sum()), len(a), int(b.sum()), len(b)
    low, high = confint_proportions_2indep(*counts, method="newcomb", alpha=alpha)
    table = [[counts[0], counts[1] - counts[0]], [counts[2], counts[3] - counts[2]]]
    p = stats.fisher_exact(table)[1]
    return _row("failures", "Fisher; Newcombe's interval", estimate, low, high, NAN, NAN, p)


def effects(a: np.ndarray, b: np.ndarray, paired: bool, alpha: float) -> list[Row]:
    """Cohen's d, the difference of means in pooled standard deviations, and Hedges's g, d without its bias.

    The interval of g is the normal one: unpaired by statsmodels' `effectsize_smd`; paired with the variance
    (1/n + d^2/2n) 2 (1 - r), where r is the pairs' correlation (Borenstein et al. 2009, chapter 4).
    """
    pooled = np.sqrt(((len(a) - 1) * a.var(ddof=1) + (len(b) - 1) * b.var(ddof=1)) / (len(a) + len(b) - 2))
    d, z = (a.mean() - b.mean()) / pooled, stats.norm.isf(alpha / 2)
    if paired:
        n = len(a)
        alike = 0.0 if constant(a) or constant(b) else float(np.corrcoef(a, b)[0, 1])
        shrink = 1 - 3 / (4 * (n - 1) - 1)
        g, variance = shrink * d, shrink**2 * (1 / n + d**2 / (2 * n)) * 2 * (1 - alike)
    else:
        g, variance = effectsize_smd(a.mean(), a.std(ddof=1), len(a), b.mean(), b.std(ddof=1), len(b))
    reach = z * np.sqrt(max(variance, 0))
    return [_row("cohen_d", "", d), _row("hedges_g", "normal interval", g, g - reach, g + reach)]
