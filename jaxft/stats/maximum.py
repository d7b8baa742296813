"""How good is the best of n trials?"""

import numbers
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from opda.nonparametric import EmpiricalDistribution

from jaxft.errors import BadInput
from jaxft.stats.cells import Frame
from jaxft.stats.design import values
from jaxft.stats.scores import Scores

LOW, HIGH = 0.05, 0.95
"""The quantiles of the maximum that are given beside its mean."""
_METHODS = ("dkw", "ks", "ld_equal_tailed", "ld_highest_density")
_SUPPORTS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 100.0), (-100.0, 100.0))


def expected_maximum(scores: Scores | Sequence[float] | np.ndarray, ns: Iterable[int] | None = None) -> pd.DataFrame:
    """The best of n trials, drawn with replacement from those that were run.

    The plug-in estimator of Dodge et al. (2019, "Show Your Work", equation 4): with F the share of scores up to x,
    the best of n has the distribution F(x)^n. Mean, median and quantiles are opda's.

    Args:
        scores: a study, or its scores [N].
        ns: numbers of trials; 1 to N when not given.

    Returns:
        n, mean, std (of the maximum, not of its estimate), median, and low and high, its 5 % and 95 % quantiles.

    Raises:
        BadInput: fewer than two trials, a score that is not finite, or an n below 1.
    """
    found = values(scores)
    counts = _counts(ns, len(found))
    dist = EmpiricalDistribution(found)
    mean = dist.average_tuning_curve(counts)
    # From the centre: the difference of two squares near 1 would lose the digits.
    x = np.sort(found)
    steps = np.arange(len(x) + 1) / len(x)
    chance = np.diff(steps[None, :] ** counts[:, None], axis=1)
    std = np.sqrt((chance * (x[None, :] - mean[:, None]) ** 2).sum(axis=1))
    median, low, high = (dist.quantile_tuning_curve(counts, q=q) for q in (0.5, LOW, HIGH))
    return pd.DataFrame({"n": counts, "mean": mean, "std": std, "median": median, "low": low, "high": high})


def bands(
    scores: Scores | Sequence[float] | np.ndarray, ns: Iterable[int] | None = None, confidence: float = 0.95,
    curve: str = "mean", support: tuple[float, float] | None = None, method: str | None = None, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """A simultaneous confidence band for the best of n trials, as a function of n (Lourie et al. 2024, opda).

    With the given confidence the true curve lies within the band for all n at once, if the trials are independent: see
    `caveat`. The upper band of the scores' distribution is the lower curve. Where all scores differ the band is opda's
    `ks`, which is exact for continuous scores; where some are equal, as accuracies are, it is `dkw`, which
    holds for any distribution. `attrs["method"]` says which.

    Args:
        scores: a study, or its scores [N].
        ns: numbers of trials; 1 to N when not given.
        confidence: between 0 and 1.
        curve: "mean", the expected maximum, or "median".
        support: the least and the greatest score that there can be. When not given, the narrowest of (0, 1), (-1, 1),
            (0, 100) and (-100, 100) that has all scores in it; correlations (mcc, pearson, spearman) begin with -1.
        method: another of opda's: ld_equal_tailed or ld_highest_density, for scores that all differ; tighter at the
            ends, and simulated, which takes minutes for hundreds of trials.
        seed: of that simulation; the others have none.

    Returns:
        n, estimate, low, high.

    Raises:
        BadInput: as `expected_maximum`, another curve or method, a confidence that is none, or scores outside of the
            support.
    """
    found = values(scores)
    counts = _counts(ns, len(found))
    if not 0 < confidence < 1:
        raise BadInput(f"confidence: expected a number between 0 and 1, such as 0.95, found {confidence}")
    if curve not in ("mean", "median"):
        raise BadInput(f"curve: expected 'mean' or 'median', found {curve!r}")
    least, most = support or _support(found, scores.metric if isinstance(scores, Scores) else "")
    if not least <= found.min() <= found.max() <= most:
        raise BadInput(
            f"support: scores from {found.min():g} to {found.max():g} are not within {least:g} and {most:g}; "
            "give the least and the greatest score that there can be"
        )
    tied = len(np.unique(found)) < len(found)
    if method not in (None, *_METHODS):
        raise BadInput(f"method: expected one of {', '.join(_METHODS)}, found {method!r}")
    if tied and method not in (None, "dkw"):
        raise BadInput(f"method: {method} is for scores that all differ, and some of these are equal: expected dkw")
    method = method or ("dkw" if tied else "ks")
    rng = np.random.default_rng(seed)
    dists = EmpiricalDistribution.confidence_bands(
        found, confidence, least, most, method=method, generator=rng, n_jobs=1
    )
    above, estimate, below = (
        d.average_tuning_curve(counts) if curve == "mean" else d.quantile_tuning_curve(counts) for d in dists
    )
    made = pd.DataFrame({"n": counts, "estimate": estimate, "low": below, "high": above})
    made.attrs |= {"method": method, "curve": curve, "confidence": confidence, "support": (least, most)}
    return made


def by_schedule(scores: Scores, ns: Iterable[int] | None = None, epochs: int | None = None) -> pd.DataFrame:
    """The expected maximum where a trial is evaluated once at its end, at the end of each epoch, or as often as it was.

    A trial's score is the best of the evaluations that the schedule has. A trial that was dropped or stopped
    ended where it did.

    Args:
        scores: a study with curves.
        ns: numbers of trials; 1 to N when not given.
        epochs: how many epochs the longest trial has, for sources that do not say where epochs end.

    Returns:
        schedule ("end", "epoch", "all"), n, mean. Without "epoch" where neither the source nor `epochs` tells epochs.

    Raises:
        BadInput: no curves, a trial without any evaluation, or one whose last evaluation has no score.
    """
    evals: Frame = scores.evals.sort_values("step", kind="stable")
    if evals.empty:
        raise BadInput(
            f"{scores.name}: no curves in it, which schedules of evaluation need: give a run folder, or `step`"
        )
    without = set(scores.trials["trial"]) - set(evals["trial"])
    if without:
        raise BadInput(f"{scores.name}: {len(without)} of {len(scores.trials)} trials were never evaluated; leave them "
                       "out (jaxft.stats.design.evaluated)")  # fmt: skip
    if epochs is not None:
        length = max(evals["step"].max(), np.nan_to_num(scores.trials["steps"].to_numpy(np.float64)).max())
        evals = evals.assign(epoch=evals["step"] * (epochs / length))
    picked: dict[str, Frame] = {"end": evals.groupby("trial").tail(1)}
    if evals["epoch"].notna().all():
        ending = np.ceil(evals["epoch"].to_numpy(np.float64) - 1e-9)
        picked["epoch"] = evals.assign(ending=ending).groupby(["trial", "ending"]).tail(1)
    picked["all"] = evals
    found = []
    for schedule, rows in picked.items():
        best = rows.groupby("trial")["score"].max().to_numpy()
        bad = int(np.isnan(best).sum())
        if bad:
            raise BadInput(f"{scores.name}: {bad} trials have no score where the schedule {schedule!r} evaluates them")
        curve = expected_maximum(best, ns)[["n", "mean"]]
        found.append(curve.assign(schedule=schedule)[["schedule", "n", "mean"]])
    return pd.concat(found, ignore_index=True)


def by_budget(scores: Scores, ns: Iterable[int] | None = None) -> pd.DataFrame:
    """The expected maximum against what was spent, in full trainings.

    A trial costs its steps, as a share of those of a completed one: who was dropped or stopped cost less. `budget` is
    what n trials cost on average, n times the mean cost.

    Returns:
        budget, n, mean, std, median, low, high; the latter as of `expected_maximum`.

    Raises:
        BadInput: as `expected_maximum`; steps that are not known; no completed trial, or completed
            ones of unequal length.
    """
    steps = scores.trials["steps"].to_numpy(np.float64)
    full = np.unique(steps[np.asarray(scores.trials["status"] == "completed")])
    if np.isnan(steps).any() or (steps < 0).any():
        raise BadInput(
            f"{scores.name}: it does not say how many steps each trial took; expected a column steps, or step"
        )
    if len(full) != 1 or full[0] <= 0:
        which = f"of {', '.join(f'{n:g}' for n in full[:4])} steps" if len(full) else "that was completed"
        need = "completed trials of equal length" if len(full) > 1 else "at least one completed trial"
        raise BadInput(f"{scores.name}: {need} needed, found {'trials' if len(full) else 'none'} {which}")
    table = expected_maximum(scores, ns)
    table.insert(0, "budget", table["n"] * float(np.mean(steps / full[0])))
    return table


def caveat(scores: Scores) -> str:
    """What to say beside these curves of trials that share seeds; "" where no two of them do."""
    counts = {factor: len(np.unique(scores.trials[factor])) for factor in scores.factors}
    shared = [factor for factor, count in counts.items() if count < len(scores.trials)]
    if not shared:
        return ""
    said = " with ".join(f"{count} values of {factor}" for factor, count in counts.items())
    return (
        f"These {len(scores.trials)} trials combine {said}: trials that share a seed are not independent, so the curve "
        "is that of the best of n draws from these trials, and a band that takes them as independent is too narrow for "
        "what new seeds would give."
    )


def _counts(ns: Iterable[int] | None, trials: int) -> np.ndarray:
    found = list(range(1, trials + 1) if ns is None else ns)
    for n in found:
        if not isinstance(n, numbers.Real) or isinstance(n, bool) or float(n) < 1 or n != int(float(n)):
            raise BadInput(f"ns: expected whole numbers of trials from 1, found {n!r}")
    if not found:
        raise BadInput("ns: expected at least one number of trials, found none")
    return np.array([int(n) for n in found])


def _support(found: np.ndarray, metric: str) -> tuple[float, float]:
    signed = any(word in metric.lower() for word in ("mcc", "matthews", "pearson", "spearman"))
    for least, most in _SUPPORTS:
        if bool(least <= found.min() and found.max() <= most) and (least < 0 or not signed):
            return least, most
    raise BadInput(
        f"support: scores from {found.min():g} to {found.max():g} are neither shares nor per cent; give the least and "
        "the greatest score that there can be"
    )
