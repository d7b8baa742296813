"""What should be stopped, and when: start many trials, stop early, continue some; and successive halving beside it.

Both are simulated on the curves of whole trials, as if studies were drawn from them with replacement. A budget is
counted in whole trainings, a stop in evaluations. No jax here.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from jaxft.errors import BadInput
from jaxft.policies.successive_halving import successive_halving
from jaxft.stats import curves
from jaxft.stats.curves import Curves
from jaxft.stats.draws import Sums, baselines, chunks
from jaxft.stats.scores import Scores

Source = Scores | Curves | np.ndarray
"""What `curves.of` takes: scores with curves, or a matrix [trials, evaluations]."""


def simulate(
    source: Source, budgets: Iterable[int] = range(1, 31), most: int = 200, draws: int = 4_000, seed: int = 0
) -> pd.DataFrame:
    """The expected best score of "start many, stop early, continue some", for every setting that meets a budget.

    `start` trials are drawn from the curves with replacement; after evaluation `stop` the best `keep` of them, by the
    best score so far, are trained to the end and the others are stopped. Of equal ones, those drawn first. A setting
    meets a budget exactly: start * stop + keep * (evaluations - stop) = budget * evaluations. The score is the best of
    all, also of the stopped trials' evaluations. A trial that a rule of its own had dropped keeps its best score to the
    end here, and is counted in full.

    Only the best `keep` of the drawn are needed, so only they are drawn: the ranks of the best of `start` draws are the
    smallest of so many uniform numbers, which sums of exponential ones give one after the other (Renyi 1953).

    Args:
        source: the curves.
        budgets: in whole trainings.
        most: the largest `start`.
        draws: studies that are drawn; the paper takes 50,000.
        seed: of the draws.

    Returns:
        A row per setting, by budget, stop and keep: budget, start, keep, stop (an evaluation, from 1), fraction (stop
        / evaluations), score (the mean over draws), error (its standard error), baseline (the expected best of
        `budget` whole trials, exactly), gain (score - baseline). The first of a budget trains all to the end: start =
        keep = budget, stop = evaluations.

    Raises:
        BadInput: no curves or no usable ones (see `curves.scored`), or an argument that is out of its range.

    Source:
        Dodge et al. 2020 (arXiv 2002.06305), section 5.
    """
    budgets = _budgets(budgets, most)
    _at_least(2, draws=draws)
    past = curves.scored(source)
    best, final = past.best, past.best[:, -1]
    whole = best.shape[1]
    table = pd.DataFrame(
        [(b, *setting) for b in budgets for setting in _settings(b, whole, most)],
        columns=["budget", "start", "keep", "stop"],
    )
    starts, keeps, stops = (table[name].to_numpy() for name in ("start", "keep", "stop"))
    early = np.flatnonzero(stops < whole)
    ranked = {int(stop): _ranked(best[:, stop - 1]) for stop in np.unique(stops[early])}
    groups = _groups(starts, stops, early)
    deepest = int(keeps[early].max(initial=0))
    sums = Sums(len(table), final[0])
    rng = np.random.default_rng(seed)
    for count in chunks(draws):
        exponentials = rng.exponential(size=(deepest, count))
        among_equal = rng.random((deepest, count))
        for start, by_stop in groups.items():
            deep = max(int(keeps[rows].max()) for rows in by_stop.values())
            uniforms = -np.expm1(-np.cumsum(exponentials[:deep] / (start - np.arange(deep))[:, None], axis=0))
            ranks = np.minimum((uniforms * len(final)).astype(np.intp), len(final) - 1)
            for stop, rows in by_stop.items():
                keep, (trial, first, equal) = keeps[rows], ranked[stop]
                at = ranks[: keep.max()]
                at = first[at] + (equal[at] * among_equal[: keep.max()]).astype(np.intp)
                sums.add(rows, np.maximum.accumulate(final[trial][at], axis=0)[keep - 1])
    mean, error = sums.mean_and_error(draws)
    baseline = baselines(table["budget"].to_numpy(), final)
    return table.assign(
        fraction=stops / whole,
        score=np.where(stops < whole, mean, baseline),
        error=np.where(stops < whole, error, 0),
        baseline=baseline,
        gain=np.where(stops < whole, mean - baseline, 0),
    )


def optimum(table: pd.DataFrame) -> pd.DataFrame:
    """The best setting of each budget, of what `simulate` or `halving` gave.

    It is the best of many that are each known up to `error`, so its gain is a little too large; more draws help.

    Returns:
        A row per budget: the table's, and error_reduction, gain / (1 - baseline): the share of what the baseline
        leaves to a score of 1 that is gained. NaN where it leaves nothing.
    """
    found = table.loc[table.groupby("budget")["score"].idxmax()].reset_index(drop=True)
    left = 1 - found["baseline"]
    return found.assign(error_reduction=(found["gain"] / left.where(left > 0)))


def correlation(source: Source) -> pd.DataFrame:
    """How well a partial score tells the final one: the correlation over trials, evaluation by evaluation.

    The final score is the best of training.

    Returns:
        A row per evaluation: evaluation (from 1), step, fraction, pearson and spearman of the best score so far, trials
        (those with a score at this evaluation), current_pearson and current_spearman of that score. NaN where fewer
        than three trials have one, or all have the same.

    Raises:
        BadInput: as `simulate`.
    """
    past = curves.scored(source)
    best, final = past.best, past.best[:, -1]
    rows = []
    for i, step in enumerate(past.steps):
        so_far, current = np.where(np.isneginf(best[:, i]), np.nan, best[:, i]), past.scores[:, i]
        row = {"evaluation": i + 1, "step": int(step), "fraction": (i + 1) / best.shape[1]}
        row |= dict(zip(("pearson", "spearman"), _correlations(so_far, final), strict=True))
        row["trials"] = int((~np.isnan(current)).sum())
        row |= dict(zip(("current_pearson", "current_spearman"), _correlations(current, final), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def halving(
    source: Source,
    budgets: Iterable[int] = range(1, 31),
    factor: int = 2,
    most: int = 200,
    draws: int = 1_000,
    seed: int = 0,
) -> pd.DataFrame:
    """The expected best score of successive halving, as the policy `successive_halving` does it, within each budget.

    For each first rung as many trials are started as the budget pays for; what is left over is not spent, so `cost` may
    be less than the budget, and the gain is what remains in spite of that. Drawn, ranked and counted as in `simulate`.

    Args:
        source: the curves.
        budgets: in whole trainings.
        factor: one in so many goes on at each rung, rounded up.
        most: the largest `start`.
        draws: studies that are drawn.
        seed: of the draws.

    Returns:
        A row per budget and first rung: budget, start, first (an evaluation, from 1), rungs (how many), keep (how many
        come to the end), cost (in whole trainings), score, error, baseline, gain.

    Raises:
        BadInput: as `simulate`, or too few evaluations for two rungs.
    """
    budgets = _budgets(budgets, most)
    _at_least(2, draws=draws, factor=factor)
    past = curves.scored(source)
    best, final = past.best, past.best[:, -1]
    whole = best.shape[1]
    ladders = {k: successive_halving(factor=factor, first=k / whole).rungs(whole) for k in range(1, whole)}
    ladders = {first: rungs for first, rungs in ladders.items() if len(rungs) > 1}
    if not ladders:
        raise BadInput(f"halving: {whole} evaluations are too few for two rungs with factor {factor}")
    rows = []
    for budget in budgets:
        for first, rungs in ladders.items():
            start = max(t for t in range(1, most + 1) if _ladder(t, rungs, factor, whole)[1] <= budget * whole)
            counts, spent = _ladder(start, rungs, factor, whole)
            rows.append((budget, start, first, len(rungs), counts[-1], spent / whole))
    table = pd.DataFrame(rows, columns=["budget", "start", "first", "rungs", "keep", "cost"])
    ranks = np.stack([np.unique(-column, return_inverse=True)[1] for column in best.T], axis=1)
    groups = _groups(table["start"].to_numpy(), table["first"].to_numpy(), np.arange(len(table)))
    sums = Sums(len(table), final[0])
    rng = np.random.default_rng(seed)
    for count in chunks(draws):
        drawn = rng.integers(len(final), size=(count, most))
        for start, by_first in groups.items():
            for first, at in by_first.items():
                rungs = ladders[first]
                alive = survivors(ranks, drawn[:, :start], rungs, _ladder(start, rungs, factor, whole)[0])
                sums.add(at, final[alive].max(axis=1)[None])
    mean, error = sums.mean_and_error(draws)
    baseline = baselines(table["budget"].to_numpy(), final)
    return table.assign(score=mean, error=error, baseline=baseline, gain=mean - baseline)


def survivors(ranks: np.ndarray, drawn: np.ndarray, rungs: Sequence[int], counts: Sequence[int]) -> np.ndarray:
    """Who comes to the end of successive halving.

    Args:
        ranks: [n, K] int: of each trial by its best score so far, from 0 for the best; equal ones share one.
        drawn: [draws, start] int: trials of each study, by their row in `ranks`.
        rungs: evaluations, from 1.
        counts: how many go on at each rung.

    Returns:
        [draws, counts[-1]] int: trials, in no order. Of equal ones at a rung those that were drawn first went on.
    """
    start = drawn.shape[1]
    place = np.broadcast_to(np.arange(start), drawn.shape)
    alive = drawn
    for rung, count in zip(rungs, counts, strict=True):
        key = ranks[alive, rung - 1] * start + place  # its remainder says who it was
        place = np.partition(key, count - 1, axis=1)[:, :count] % start
        alive = np.take_along_axis(drawn, place, axis=1)
    return alive


def _groups(starts: np.ndarray, stops: np.ndarray, rows: np.ndarray) -> dict[int, dict[int, np.ndarray]]:
    """These rows by start, then by stop."""
    found: dict[int, dict[int, list[int]]] = {}
    for row in rows:
        found.setdefault(int(starts[row]), {}).setdefault(int(stops[row]), []).append(int(row))
    return {start: {stop: np.array(at) for stop, at in group.items()} for start, group in found.items()}


def _settings(budget: int, whole: int, most: int) -> list[tuple[int, int, int]]:
    """(start, keep, stop) of all that cost exactly so much; the first is the baseline."""
    found = [(budget, budget, whole)]
    for stop in range(1, whole):
        for keep in range(1, budget):
            start, rest = divmod(budget * whole - keep * (whole - stop), stop)
            if rest == 0 and start <= most:
                found.append((start, keep, stop))
    return found


def _ranked(best: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Trials from the best on; and at each rank, the first rank with the same score and how many have it."""
    order = np.argsort(-best, kind="stable")
    _, first, group, size = np.unique(-best[order], return_index=True, return_inverse=True, return_counts=True)
    return order, first[group], size[group]


def _ladder(start: int, rungs: Sequence[int], factor: int, whole: int) -> tuple[list[int], int]:
    """How many go on at each rung, and what it costs in evaluations."""
    counts, spent, at, alive = [], 0, 0, start
    for rung in rungs:
        spent += alive * (rung - at)
        at, alive = rung, math.ceil(alive / factor)
        counts.append(alive)
    return counts, spent + alive * (whole - at)


def _correlations(partial: np.ndarray, final: np.ndarray) -> tuple[float, float]:
    x, y = (pd.Series(values[~np.isnan(partial)]) for values in (partial, final))
    if len(x) < 3 or x.nunique() == 1 or y.nunique() == 1:
        return math.nan, math.nan
    return x.corr(y), x.corr(y, method="spearman")


def _budgets(budgets: Iterable[int], most: int) -> list[int]:
    found = sorted(set(budgets))
    if not found or found[0] < 1 or any(budget != int(budget) for budget in found):
        raise BadInput(f"budgets: expected whole trainings, integers from 1 on, found {found or 'none'}")
    if found[-1] > most:
        raise BadInput(f"budgets: expected at most {most}, the most trials of a study (`most`), found {found[-1]}")
    return [int(budget) for budget in found]


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise BadInput(f"{name}: expected at least {least}, found {value}")
