"""How scores grow with the training set, for several models: the curves, the gap, where one overtakes another.

After Wang, Khabsa and Ma 2020, "To Pretrain or Not to Pretrain" (arXiv 2006.08671): the gap between a pretrained
encoder and a model from scratch closes as examples are added. No jax here.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from jaxft.errors import BadInput
from jaxft.stats import named, pairs
from jaxft.stats.cells import Frame
from jaxft.stats.scores import Scores

SIZE = "n_train"
COSTS = ("train_flops", "infer_per_second")
"""Columns of trials/ that a study with `eval.costs: true` has."""


class Point(NamedTuple):
    """A model at one size of the training set, with the setting that is best on dev there."""

    arm: str
    size: int
    scores: Scores
    """Those it is judged by."""
    setting: str
    """What was chosen, such as "hp.train.lr 0.0001"; empty where there was no choice."""
    held: bool
    """Whether it is judged on the test set, at the step that is best on dev; else on dev, its best of training."""


def points(studies: Sequence[Scores]) -> list[Point]:
    """All models at all sizes, ascending within a model.

    A model is what differs in the columns `model` and `method`. Where it has several settings at a size, the one with
    the best mean on dev is taken. All are judged on the test set if each trial has a score there, else on dev.

    Args:
        studies: of one task, as `scores.read` parts a source; sizes are their setting `n_train`.

    Raises:
        BadInput: tasks or metrics differ, fewer than two sizes, or a setting without a score.
    """
    pairs.comparable(list(studies))
    called = named.models(str(study.setting.get("model", "")) for study in studies)
    tried: dict[tuple[str, int], list[Scores]] = {}
    for study in studies:
        if SIZE not in study.setting:
            raise BadInput(f"{study.name}: {SIZE} does not vary: a learning curve needs two sizes of the training set")
        tried.setdefault((_arm(study, called), int(study.setting[SIZE])), []).append(study)
    if len({size for _, size in tried}) < 2:
        raise BadInput(f"{studies[0].source}: one size of the training set; a learning curve needs two")
    best = {key: max(several, key=_mean) for key, several in tried.items()}
    tests = {key: test for key, study in best.items() if (test := _on_test(study)) is not None}
    held = len(tests) == len(best)
    order = list(dict.fromkeys(arm for arm, _ in best))
    return [
        Point(arm, size, (tests if held else best)[arm, size], _said(best[arm, size], tried[arm, size]), held)
        for arm, size in sorted(best, key=lambda key: (order.index(key[0]), key[1]))
    ]


def curve(studies: Sequence[Scores], confidence: float = 0.95) -> Frame:
    """A row per model and size: arm, n_train, setting, judged_on, trials, mean, sd, low, high, median, best; and the
    means of train_flops and infer_per_second (NaN where the study has not kept them).

    low and high bound the mean by Student's t over trials (NaN for a single one).

    Args:
        studies: as for `points`.
        confidence: of the interval.

    Raises:
        BadInput: as `points`.
    """
    return pd.DataFrame([_row(point, confidence) for point in points(studies)])


def gap(studies: Sequence[Scores], one: str, other: str, confidence: float = 0.95) -> Frame:
    """By how much one model is ahead, a row per size that both have: n_train, difference (one - other), low, high,
    paired, and error_reduction, the share of the other's distance from 1 that the difference makes up for.

    Paired by seeds where both have the same, else by Welch's t.

    Args:
        studies: as for `points`.
        one: an `arm` of `curve`.
        other: another.
        confidence: of the interval.

    Raises:
        BadInput: as `points`; an unknown model, or no size in common.
    """
    rows = []
    for size, a, b in _both(studies, one, other):
        x, y, paired = _sides(a, b)
        difference = x.mean() - y.mean()
        low, high = _interval(x, y, paired, confidence)
        reduction = difference / (1 - y.mean()) if y.mean() < 1 else np.nan
        rows.append(
            {
                SIZE: size,
                "difference": difference,
                "low": low,
                "high": high,
                "paired": paired,
                "error_reduction": reduction,
            }
        )
    return pd.DataFrame(rows)


def crossing(
    studies: Sequence[Scores], one: str, other: str, *, draws: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Frame:
    """Where the sign of the gap changes, a row each time: ahead (who leads beyond), n_train, low, high, share.

    Between two measured sizes the gap is taken as linear in log n. low and high bound the first change in bootstrap
    samples of the trials (of pairs, where seeds are paired), among those in which there is one: `share` of all. No row
    where the gap has one sign at all sizes.

    Args:
        studies: as for `points`.
        one: an `arm` of `curve`.
        other: another.
        draws: bootstrap samples.
        seed: of the samples.
        confidence: of the interval.

    Raises:
        BadInput: as `gap`.
    """
    both = [(size, *_sides(a, b)) for size, a, b in _both(studies, one, other)]
    sizes = np.array([size for size, *_ in both], float)
    gaps = np.array([x.mean() - y.mean() for _, x, y, _ in both])
    rng = np.random.default_rng(seed)
    drawn = np.stack([_resampled(x, y, paired, draws, rng) for _, x, y, paired in both], axis=1)
    firsts = np.array([next(_changes(sizes, each), (np.nan, 0))[0] for each in drawn])
    known = firsts[np.isfinite(firsts)]
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(known, [tail, 100 - tail]) if len(known) else (np.nan, np.nan)
    rows = [
        {"ahead": one if sign > 0 else other, SIZE: at, "low": low, "high": high, "share": len(known) / draws}
        for at, sign in _changes(sizes, gaps)
    ]
    return pd.DataFrame(rows, columns=["ahead", SIZE, "low", "high", "share"])


def needed(curve: Frame, one: str, other: str) -> Frame:
    """How many examples one model needs for the mean that the other has: other_n_train, mean, n_train, times.

    n_train is where the straight line between measured means, in log n, first comes to it; NaN where it does not within
    the sizes measured, and where it is there with the smallest already.

    Args:
        curve: of `curve`.
        one: an `arm` of it.
        other: another.

    Raises:
        BadInput: an unknown model.
    """
    mine, theirs = (_of(curve, arm) for arm in (one, other))
    rows = []
    for size, mean in zip(theirs[SIZE], theirs["mean"], strict=True):
        sizes, means = mine[SIZE].to_numpy(float), mine["mean"].to_numpy(float)
        found = next(_changes(sizes, means - mean), (np.nan, 0))[0] if means[0] < mean else np.nan
        rows.append({f"other_{SIZE}": size, "mean": mean, SIZE: found, "times": found / size})
    return pd.DataFrame(rows)


def costs(curve: Frame) -> Frame:
    """What a score costs, a row per model and size: arm, n_train, mean, train_flops, infer_seconds (of an example on a
    device), faster (inference against the slowest model), and front: no other has a better mean for less training.

    Args:
        curve: of `curve`.

    Raises:
        BadInput: the study has not kept what trials cost.
    """
    known = curve.dropna(subset=list(COSTS))
    if known.empty:
        raise BadInput("what trials cost was not kept; a study with eval.costs: true has it")
    seconds = 1 / known["infer_per_second"].to_numpy(float)
    flops, mean = (known[name].to_numpy(float) for name in ("train_flops", "mean"))
    better = ((flops[:, None] < flops) & (mean[:, None] >= mean)) | ((flops[:, None] <= flops) & (mean[:, None] > mean))
    found = known[["arm", SIZE, "mean", "train_flops"]].reset_index(drop=True)
    return found.assign(infer_seconds=seconds, faster=seconds.max() / seconds, front=~better.any(axis=0))


def _arm(study: Scores, called: Mapping[str, str]) -> str:
    """A model with its method."""
    parts = [called[str(study.setting.get("model", ""))], str(study.setting.get("method", ""))]
    return " | ".join(filter(None, parts)) or "all"


def _said(study: Scores, among: Sequence[Scores]) -> str:
    said = {k: v for k, v in study.setting.items() if k not in ("model", "method", SIZE)}
    return ", ".join(f"{name} {value}" for name, value in said.items()) if len(among) > 1 else ""


def _mean(study: Scores) -> float:
    return float(pairs.scored(study, drop=True, least=1)["score"].to_numpy(float).mean())


def _on_test(study: Scores) -> Scores | None:
    """The same trials with their scores on the test set; None where not all have one."""
    if study.run is None or "test_at_best" not in study.run.trials:
        return None
    trials: Frame = study.run.trials
    test = trials.set_index("trial")["test_at_best"].reindex(study.trials["trial"]).to_numpy(float)
    return study._replace(trials=study.trials.assign(score=test)) if np.isfinite(test).all() else None


def _row(point: Point, confidence: float) -> dict[str, Any]:
    trials: Frame = pairs.scored(point.scores, drop=True, least=1)
    score = trials["score"].to_numpy(float)
    n, mean, sd = len(score), score.mean(), score.std(ddof=1) if len(score) > 1 else np.nan
    half = stats.t.ppf(0.5 + confidence / 2, n - 1) * sd / np.sqrt(n) if n > 1 else np.nan
    run = point.scores.run
    spent: Frame = run.trials.set_index("trial").reindex(trials["trial"]) if run is not None else pd.DataFrame()
    return {
        "arm": point.arm,
        SIZE: point.size,
        "setting": point.setting,
        "judged_on": "test" if point.held else "dev",
        "trials": n,
        "mean": mean,
        "sd": sd,
        "low": mean - half,
        "high": mean + half,
        "median": np.median(score),
        "best": score.max(),
        **{name: float(spent[name].mean()) if name in spent else np.nan for name in COSTS},
    }


def _both(studies: Sequence[Scores], one: str, other: str) -> list[tuple[int, Scores, Scores]]:
    """The sizes that two models have in common, ascending."""
    found: dict[str, dict[int, Scores]] = {}
    for point in points(studies):
        found.setdefault(point.arm, {})[point.size] = point.scores
    for arm in (one, other):
        if arm not in found:
            raise BadInput(f"no model {arm!r}; there are: {', '.join(found)}")
    sizes = sorted(found[one].keys() & found[other].keys())
    if not sizes:
        raise BadInput(f"{one} and {other}: no size of the training set in common")
    return [(size, found[one][size], found[other][size]) for size in sizes]


def _sides(a: Scores, b: Scores) -> tuple[np.ndarray, np.ndarray, bool]:
    found = pairs.sides(a, b, drop=True)
    return found.a["score"].to_numpy(float), found.b["score"].to_numpy(float), found.paired


def _interval(x: np.ndarray, y: np.ndarray, paired: bool, confidence: float) -> tuple[float, float]:
    if paired:
        found: Any = stats.ttest_rel(x, y) if np.ptp(x - y) > pairs.TINY else None
    else:
        found = stats.ttest_ind(x, y, equal_var=False) if np.ptp(x) + np.ptp(y) > pairs.TINY else None
    if found is None:  # all differ by the same
        return float(x.mean() - y.mean()), float(x.mean() - y.mean())
    bounds: Any = found.confidence_interval(confidence)
    return float(bounds.low), float(bounds.high)


def _resampled(x: np.ndarray, y: np.ndarray, paired: bool, draws: int, rng: np.random.Generator) -> np.ndarray:
    """[draws]: the gap between means of bootstrap samples."""
    mine = rng.integers(len(x), size=(draws, len(x)))
    theirs = mine if paired else rng.integers(len(y), size=(draws, len(y)))
    return x[mine].mean(axis=1) - y[theirs].mean(axis=1)


def _changes(sizes: np.ndarray, gaps: np.ndarray) -> Iterator[tuple[float, int]]:
    """Where a gap that is linear in log n between sizes changes its sign, and the sign that it has then.

    A gap of 0 has no sign: a change is from one sign to the other, at the first size that is 0 if there is one.
    """
    before = 0
    for i, gap in enumerate(gaps):
        sign = int(np.sign(gap))
        if before and sign and sign != before:
            last = max(j for j in range(i) if np.sign(gaps[j]) == before)
            zero = [j for j in range(last + 1, i) if gaps[j] == 0]
            share = gaps[last] / (gaps[last] - gap)
            at = np.log(sizes[last]) + share * (np.log(sizes[i]) - np.log(sizes[last]))
            yield (float(sizes[zero[0]]) if zero else float(np.exp(at))), sign
        before = sign or before


def _of(curve: Frame, arm: str) -> Frame:
    found = curve[curve["arm"] == arm]
    if found.empty:
        raise BadInput(f"no model {arm!r}; there are: {', '.join(curve['arm'].unique())}")
    return found
