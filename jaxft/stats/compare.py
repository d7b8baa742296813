"""Is one way to fine-tune better than another: two studies, measure by measure, and many against one.

No jax here.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.proportion import proportion_confint

from jaxft.errors import BadInput
from jaxft.stats import failures, measures, pairs
from jaxft.stats.measures import NAN, Row
from jaxft.stats.scores import Scores


def compare(
    a: Scores,
    b: Scores,
    paired: bool | None = None,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    *,
    best_of: int | None = None,
    failed_below: float | None = None,
    drop: bool = False,
) -> pd.DataFrame:
    """How `a` differs from `b` (always a - b), by several measures; each answers a question of its own.

    The p values are not corrected for there being several: say beforehand which one counts. `mean` is the usual
    choice; where some trials fail, `failures`, `shift` and `spread` tell more than it does.

    Args:
        a: one study.
        b: another, on the same task and metric.
        paired: compare seed by seed; None: where both studies have the same seeds. The column `paired` says what was
            done. Pairs are no gain unless the same seed is good in both.
        confidence: of the intervals.
        draws: of the bootstrap for `spread` and `best_of_N`.
        seed: of the bootstrap.
        best_of: N, of how many trials one would take the best; None: 5, or as many as the smaller study has.
        failed_below: a trial failed if it diverged or its best score is at most this; None: the majority's score, which
            the four tasks of Dodge et al. 2020 need not bring along.
        drop: leave out trials without a score instead of refusing them; they count as failed in `failures`, unpaired.

    Returns:
        A row per measure: measure, test, estimate, low, high, statistic, df, p, paired, n_a, n_b (trials that it is
        about), left_out (those without a score, or without a partner). NaN where a measure has no such number.
        `mean`; `mean_crossed`, for two crossed factors only: the same over new seeds, which `mean` overstates as it
        takes trials that share a seed for independent; `shift` (ranks); `superiority` (the probability to be better);
        `spread` (standard deviations); `failures` (rates); `best_of_N` (expected maxima); `cohen_d`; `hedges_g`.

    Raises:
        BadInput: different tasks or metrics, scores that are missing, fewer than two trials or pairs, or scores that
            are all equal.
    """
    if not 0 < confidence < 1:
        raise BadInput(f"confidence: {confidence} is not between 0 and 1")
    if draws < 2:
        raise BadInput(f"draws: {draws} is too few; at least 2 are needed")
    both = pairs.sides(a, b, paired, drop)
    x, y = (side["score"].to_numpy(np.float64) for side in (both.a, both.b))
    _refuse_constant(a, b, x, y, both.paired)
    n = min(5, len(x), len(y)) if best_of is None else best_of
    if n < 1:
        raise BadInput(f"best_of: {n} is not a number of trials")
    alpha, rng = 1 - confidence, np.random.default_rng(seed)
    rows = [measures.mean(x, y, both.paired, alpha)]
    if pairs.crossed(a) or pairs.crossed(b):
        rows.append(_crossed(a, b, both, alpha))
    rows += [
        measures.shift(x, y, both.paired, alpha),
        measures.superiority(x, y, both.paired, alpha),
        measures.spread(x, y, both.paired, draws, alpha, rng),
    ]
    sizes = [(len(x), len(y))] * len(rows)
    row, size = _failures(a, b, both, failed_below, alpha)
    rows, sizes = [*rows, row], [*sizes, size]
    rows += [measures.best_of(n, x, y, both.paired, draws, alpha, rng), *measures.effects(x, y, both.paired, alpha)]
    sizes += [(len(x), len(y))] * 3
    total = len(a.trials) + len(b.trials)
    ends = [{"paired": both.paired, "n_a": n_a, "n_b": n_b, "left_out": total - n_a - n_b} for n_a, n_b in sizes]
    return pd.DataFrame([row._asdict() | end for row, end in zip(rows, ends, strict=True)])


def table(
    studies: Sequence[Scores],
    against: int | None = 0,
    *,
    paired: bool | None = None,
    confidence: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
    best_of: int | None = None,
    failed_below: float | None = None,
    drop: bool = False,
) -> pd.DataFrame:
    """The table of a paper: each study by itself, and tested against one of them, with Holm's correction.

    Args:
        studies: on one task and metric.
        against: the number of the study that all others are compared with (`compare`: study - that one); None: none.
        paired: as in `compare`, as are the arguments after it.
        confidence: of the intervals; of the intervals of differences, each by itself.
        draws: of the bootstrap.
        seed: of the bootstrap.
        best_of: N of the expected best; None: 5, or as many as the smallest study has.
        failed_below: as in `compare`.
        drop: leave out trials without a score, which count as failed, instead of refusing them.

    Returns:
        A row per study: study, task, metric, trials, left_out (no score), mean, sd, median, best, expected_best,
        best_of (its N), failed, failure_rate, failure_low, failure_high (Wilson), and against the other: against,
        paired, difference, low, high, hedges_g, then for the tests of the mean, shift, spread and failures p and
        p_holm (`mean_p`, `mean_p_holm`, ...). Holm's correction is over the studies, for each test by itself. `note`
        says why a study could not be tested.

    Raises:
        BadInput: no study, different tasks or metrics, a trial without score, or `against` names none of them.
    """
    if not studies:
        raise BadInput("no studies; at least one is needed")
    if against is not None and not -len(studies) <= against < len(studies):
        raise BadInput(f"against: {against} is none of the {len(studies)} studies, counted from 0")
    pairs.comparable(list(studies))
    usable = [pairs.scored(study, drop, least=1)["score"].to_numpy(np.float64) for study in studies]
    n = min(5, *map(len, usable)) if best_of is None else best_of
    if n < 1:
        raise BadInput(f"best_of: {n} is not a number of trials")
    rows = [_alone(study, x, n, failed_below, confidence) for study, x in zip(studies, usable, strict=True)]
    if against is not None:
        other = studies[against]
        for number, (study, row) in enumerate(zip(studies, rows, strict=True)):
            if number != against % len(studies):
                row |= _tested(study, other, paired=paired, confidence=confidence, draws=draws, seed=seed, best_of=n,
                               failed_below=failed_below, drop=drop)  # fmt: skip
    rows = [{"note": ""} | row for row in rows]
    columns = [*(name for name in rows[0] if name not in _AGAINST), *_AGAINST]
    found = pd.DataFrame(rows, columns=columns).astype({"paired": "boolean"})
    for test in TESTS:
        found[f"{test}_p_holm"] = holm(found[f"{test}_p"].to_numpy(np.float64))
    return found


TESTS = ("mean", "shift", "spread", "failures")
_AGAINST = [
    *("against", "paired", "difference", "low", "high", "hedges_g"),
    *(f"{test}_{p}" for test in TESTS for p in ("p", "p_holm")),
    "note",
]


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's (1979) correction of p values [K]; NaN stays, and does not count as a test."""
    # Not by statsmodels' `multipletests`: it collects the process's garbage at every call, which takes longer than all
    # the rest of a table.
    p = np.asarray(p, np.float64)
    corrected = np.full(len(p), NAN)
    order = np.argsort(p, kind="stable")[: np.sum(~np.isnan(p))]  # NaN is sorted to the end
    each = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(each), 1)
    return corrected


def threshold(scores: Scores, failed_below: float | None = None) -> np.ndarray:
    """[trials]: the score at which each failed, see `compare`; NaN where it is not known."""
    if failed_below is not None:
        return np.full(len(scores.trials), float(failed_below))
    return failures.majority(scores) + failures.MARGIN


def failed(scores: Scores, failed_below: float | None = None) -> np.ndarray:
    """[trials] bool: which failed: diverged, never evaluated, or scored no more than `threshold`.

    Raises:
        BadInput: no threshold is known.
    """
    below = threshold(scores, failed_below)
    if np.isnan(below).any():
        raise BadInput(f"{scores.name}: no majority score is known for {scores.task or 'its task'}; give failed_below")
    score = scores.trials["score"].to_numpy(np.float64)
    return ~np.isfinite(score) | (score <= below) | (scores.trials["status"] == "diverged").to_numpy(bool)


def _refuse_constant(a: Scores, b: Scores, x: np.ndarray, y: np.ndarray, paired: bool) -> None:
    if pairs.constant(x) and pairs.constant(y):
        raise BadInput(
            f"{a.name} and {b.name}: all scores of each are equal ({x[0]:.4g} and {y[0]:.4g}); without variation over "
            "seeds nothing can be tested"
        )
    if paired and pairs.constant(x - y):
        raise BadInput(
            f"{a.name} and {b.name}: all pairs differ by the same {x[0] - y[0]:.4g}; pairs need to vary, "
            "or paired=False"
        )


def _crossed(a: Scores, b: Scores, both: pairs.Sides, alpha: float) -> Row:
    grids = []
    for study, trials in ((a, both.a), (b, both.b)):
        if len(study.factors) != 2:
            return Row("mean_crossed", f"not for {len(study.factors)} factor(s) of seeds; it needs two, crossed")
        grid = trials.pivot_table(index=study.factors[0], columns=study.factors[1], values="score", aggfunc="mean")
        if grid.isna().to_numpy().any() or grid.size != len(trials) or min(grid.shape) < 2:
            return Row("mean_crossed", "not for an incomplete grid of seeds; it needs one trial in each cell")
        grids.append(grid.to_numpy(np.float64))
    first, second = grids
    if both.paired and a.factors != b.factors:
        second = second.T
    return measures.crossed_mean(first, second, both.paired, alpha)


def _failures(
    a: Scores, b: Scores, both: pairs.Sides, failed_below: float | None, alpha: float
) -> tuple[Row, tuple[int, int]]:
    """The row, and how many trials it is about: unpaired, also those without a score."""
    if both.paired:
        a, b = a._replace(trials=both.a), b._replace(trials=both.b)
    size = len(a.trials), len(b.trials)
    try:
        return measures.failures(failed(a, failed_below), failed(b, failed_below), both.paired, alpha), size
    except BadInput:
        return Row("failures", "no majority score is known; give failed_below"), size


def _alone(study: Scores, x: np.ndarray, n: int, failed_below: float | None, confidence: float) -> dict[str, object]:
    row = {
        "study": study.name,
        "task": study.task,
        "metric": study.metric,
        "trials": len(study.trials),
        "left_out": len(study.trials) - len(x),
        "mean": x.mean(),
        "sd": x.std(ddof=1) if len(x) > 1 else NAN,
        "median": np.median(x),
        "best": x.max(),
        "expected_best": measures.expected_best(x[None], n)[0],
        "best_of": n,
        "failed": NAN,
        "failure_rate": NAN,
        "failure_low": NAN,
        "failure_high": NAN,
    }
    if not np.isnan(threshold(study, failed_below)).any():
        bad, count = int(failed(study, failed_below).sum()), len(study.trials)
        low, high = proportion_confint(bad, count, 1 - confidence, method="wilson")
        low, high = (low if bad else 0.0), (high if bad < count else 1.0)  # but for rounding
        row |= {"failed": bad, "failure_rate": bad / count, "failure_low": low, "failure_high": high}
    return row


def _tested(study: Scores, other: Scores, **how) -> dict[str, object]:
    try:
        found = compare(study, other, **how).set_index("measure")
    except BadInput as reason:
        return {"against": other.name, "note": str(reason)}
    return {
        "against": other.name,
        "paired": bool(found["paired"].iloc[0]),
        "difference": found.at["mean", "estimate"],
        "low": found.at["mean", "low"],
        "high": found.at["mean", "high"],
        "hedges_g": found.at["hedges_g", "estimate"],
        **{f"{test}_p": found.at[test, "p"] for test in TESTS},
    }
