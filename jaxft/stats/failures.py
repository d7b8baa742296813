"""Which trials failed, by several definitions, and what sets them apart. No jax here."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from jaxft.errors import BadInput
from jaxft.stats.curves import by_policy
from jaxft.stats.scores import Scores


class _Known(NamedTuple):
    """What is known of a task of Dodge et al. 2020."""

    metrics: tuple[str, ...]
    """By its names here and in the paper's release."""
    threshold: float
    """Their code counts a run whose best score is above as a success."""
    majority: float
    """The score of the dev set's majority, of 408, 277, 1043 and 872 examples."""


_MRPC = 279 / 408
_PAPER = {
    "mrpc": _Known(("accuracy_f1", "acc_and_f1"), 0.75, (_MRPC + 2 * _MRPC / (1 + _MRPC)) / 2),
    "rte": _Known(("accuracy", "acc"), 0.5, 146 / 277),
    "cola": _Known(("mcc",), 0.1, 0.0),
    "sst2": _Known(("accuracy", "acc"), 0.0, 444 / 872),
}
MARGIN = 1e-4
"""A score may be this much above the majority's and still be no better: scores in files are rounded. On a dev set of
less than 10,000 examples it is less than one of them.
"""


def majority(scores: Scores) -> np.ndarray:
    """[trials] float64: what the best constant prediction scores; NaN where neither source nor task tells."""
    known, found = _paper(scores), _numbers(scores.trials, "majority_score")
    return np.where(np.isnan(found), known.majority, found) if known else found


def rates(scores: Scores, margin: float = MARGIN, confidence: float = 0.95) -> pd.DataFrame:
    """How many trials failed, by each definition that the source can tell.

    - "majority at the best", "majority at the end": the best, the last score is no better than the majority's. The best
      hides a late collapse. Where the source lacks the majority's score, a task of the paper has that of its dev set.
    - "constant prediction": one class for all dev examples after the last step, or dropped for that.
    - "non-finite": a loss, gradient or score that is not a number.
    - "dropped by a rule": by one about the trial alone.
    - "Dodge et al. 2020": the best score is not above their threshold for this task.

    A trial without a score failed. One that a policy stopped is left out: how it would have ended is not known.

    Args:
        scores: the trials.
        margin: what a score may be above the majority's and still be no better.
        confidence: of the intervals.

    Returns:
        A row per definition: definition, failed, trials, rate, low, high (Wilson's interval).

    Raises:
        BadInput: no trial is left, the source can tell none of these, or a confidence that is none.

    Source:
        Dodge et al. 2020, section 3, and their code; no better than the majority at the end: Mosbach et al. 2021.
    """
    if not 0 < confidence < 1:
        raise BadInput(f"confidence: expected a number between 0 and 1, found {confidence}")
    trials = _ended(scores)
    rows = []
    definitions = list(_definitions(scores, trials, margin))
    if not definitions:
        raise BadInput(
            f"{scores.name}: nothing says which trials failed; give the majority's score in a column majority_score"
        )
    for definition, failed in definitions:
        test = stats.binomtest(int(failed.sum()), len(failed))
        interval = test.proportion_ci(confidence, method="wilson")
        rows.append((definition, test.k, test.n, test.k / test.n, interval.low, interval.high))
    return pd.DataFrame(rows, columns=["definition", "failed", "trials", "rate", "low", "high"])


def outcomes(scores: Scores, margin: float = MARGIN) -> pd.Series:
    """What became of each trial: "converged", "failed", "diverged" or "stopped".

    Stopped: by a policy. Failed: by a rule about the trial alone (one class, the majority), or the last score, or the
    best where that is not known, is no better than the majority's, as in `rates`.

    Returns:
        Texts by trial, in the order of `scores.trials`.

    Raises:
        BadInput: the majority's score is not known, nor is it a task of the paper.
    """
    trials = scores.trials
    score, final = _numbers(trials, "score"), _numbers(trials, "final_score")
    last = score if np.isnan(final).all() else final
    status, reason = _texts(trials, "status"), _texts(trials, "reason")
    bound = majority(scores)
    if np.isnan(bound).any() and "completed" in status:
        raise BadInput(f"{scores.name}: the majority's score is not known; give it in a column majority_score")
    found = [_became(*each) for each in zip(status, reason, ~(last > bound + margin), strict=True)]
    return pd.Series(found, pd.Index(trials["trial"], name="trial"), name="outcome", dtype=object)


def _became(status: str, reason: str, poor: np.bool) -> str:
    if by_policy(status, reason):
        return "stopped"
    if status == "diverged":
        return "diverged"
    return "failed" if poor or status != "completed" else "converged"


class Modes(NamedTuple):
    """Whether scores fall into two groups."""

    trials: int
    """With a score, without those that a policy stopped."""
    coefficient: float
    """Of bimodality: (skewness^2 + 1) / kurtosis, corrected for n. 5/9 for a uniform, 1/3 for a normal distribution."""
    threshold: float
    """The middle between the two groups with the least variance within."""
    below: int
    """Trials of the lower group."""
    low: float
    """The mean of the lower group."""
    high: float
    separation: float
    """Of the groups' means: sqrt(2) |difference| / sqrt(sum of variances) (Ashman's D); infinite without spread."""
    bimodal: bool
    """Both: coefficient above 5/9, and separation above 2."""


def bimodality(scores: Scores) -> Modes:
    """Whether the scores fall into two groups, as failed and converged trials do. A description, not a test.

    Raises:
        BadInput: fewer than four trials with a score, or all of them equal.

    Source:
        The coefficient of SAS as in Pfister et al. 2013; the split of Otsu 1979; the separation of Ashman et al. 1994.
    """
    values = _numbers(_ended(scores), "score")
    values = np.sort(values[~np.isnan(values)])
    count = len(values)
    if count < 4:
        raise BadInput(f"{scores.name}: bimodality needs at least four trials with a score, found {count}")
    if values[0] == values[-1]:
        raise BadInput(f"{scores.name}: all {count} trials have the same score, {values[0]:g}: there is no shape")
    scaled = (values - values.mean()) / np.ptp(values)  # of no effect but on the digits
    skewness, excess = stats.skew(scaled, bias=False), stats.kurtosis(scaled, bias=False)
    coefficient = (skewness**2 + 1) / (excess + 3 * (count - 1) ** 2 / ((count - 2) * (count - 3)))
    at = 1 + np.flatnonzero(np.diff(values))  # only between different values
    below = np.cumsum(scaled)[at - 1]
    split = int(at[np.argmax(below**2 / at + below**2 / (count - at))])  # they sum to 0: the variance between groups
    low, high = values[:split], values[split:]
    spread = np.ptp(low) + np.ptp(high) > 0  # the variance of equal values may be a little above 0
    separation = np.sqrt(2 / (low.var() + high.var())) * (high.mean() - low.mean()) if spread else np.inf
    return Modes(
        trials=count,
        coefficient=float(coefficient),
        threshold=float((low[-1] + high[0]) / 2),
        below=split,
        low=float(low.mean()),
        high=float(high.mean()),
        separation=float(separation),
        bimodal=bool(coefficient > 5 / 9 and separation > 2),
    )


def gradients(scores: Scores) -> pd.DataFrame:
    """The norm of each layer's gradient along training, by outcome: vanishing gradients in trials that failed.

    An evaluation that a dropped trial has between those of the others is left out, as are norms that are not finite.

    Returns:
        A row per outcome, layer and step, layers as they lie from the embeddings on: outcome, layer, step, trials
        (how many have a norm there), median, low and high (the quartiles).

    Raises:
        BadInput: norms were not recorded, or as `outcomes`.

    Source:
        Mosbach et al. 2021 (arXiv 2006.04884), section 5.1.
    """
    columns = [name for name in scores.evals if str(name).startswith("grad_norm.")]
    norms = scores.evals[columns].astype(np.float64)
    norms = norms.where(np.isfinite(norms))
    if np.isnan(norms.to_numpy()).all():
        raise BadInput(
            f"{scores.name}: no norms of gradients in it; a study records them with `eval.gradient_norms: true`"
        )
    evals = pd.concat([scores.evals[["trial", "step"]], norms.set_axis([c[10:] for c in columns], axis=1)], axis=1)
    became = outcomes(scores).to_dict()
    evals["outcome"] = [became[name] for name in evals["trial"]]
    completed = {
        name for name, kind in zip(scores.trials["trial"], scores.trials["status"], strict=True) if kind == "completed"
    }
    grid = {step for name, step in zip(evals["trial"], evals["step"], strict=True) if name in completed}
    if grid:
        evals = evals[[step in grid for step in evals["step"]]]
    layers = [name[10:] for name in columns]
    long = evals.melt(["outcome", "step"], layers, var_name="layer", value_name="norm").dropna(subset="norm")
    found = long.groupby(["outcome", "layer", "step"])["norm"]
    table = pd.DataFrame({
        "trials": found.size(),
        "median": found.median(),
        "low": found.quantile(0.25),
        "high": found.quantile(0.75),
    }).reset_index()  # fmt: skip
    place = {layer: i for i, layer in enumerate(layers)}
    return table.sort_values(
        ["outcome", "layer", "step"], key=lambda column: column.map(place) if column.name == "layer" else column,
        ignore_index=True,
    )  # fmt: skip


def _texts(trials: pd.DataFrame, name: str) -> list[str]:
    return [str(value) for value in trials[name]]


def _numbers(trials: pd.DataFrame, name: str) -> np.ndarray:
    return np.array(trials[name], np.float64)


def _ended(scores: Scores) -> pd.DataFrame:
    """The trials whose end is known."""
    trials = scores.trials
    known = [not by_policy(*each) for each in zip(_texts(trials, "status"), _texts(trials, "reason"), strict=True)]
    if not any(known):
        raise BadInput(f"{scores.name}: all {len(trials)} trials were stopped by a policy; expected some that were not")
    return trials.loc[np.array(known)]


def _paper(scores: Scores) -> _Known | None:
    known = _PAPER.get(scores.task.lower().replace("-", ""))
    named = scores.metric not in ("", "score")  # a bare matrix does not say
    return None if known and named and scores.metric not in known.metrics else known


def _definitions(scores: Scores, trials: pd.DataFrame, margin: float) -> Iterator[tuple[str, np.ndarray]]:
    """Names, and which trials failed [n]."""
    bound, paper = majority(scores._replace(trials=trials)), _paper(scores)
    score, final = _numbers(trials, "score"), _numbers(trials, "final_score")
    names, reason = [str(name) for name in trials["trial"]], _texts(trials, "reason")
    if not np.isnan(bound).any():
        yield "majority at the best", ~(score > bound + margin)
        if not np.isnan(final).all():
            yield "majority at the end", ~(final > bound + margin)
    dropped = np.array(_texts(trials, "status")) != "completed"
    if scores.run is not None:
        said = scores.run.predictions.query("split == 'dev' and at == 'final'")
        constant = {name for name, logits in zip(said["trial"], said["logits"], strict=True) if _is_constant(logits)}
        yield "constant prediction", _each(name in constant or why == "one_class" for name, why in _zip(names, reason))
    if scores.run is not None or dropped.any():
        none = {str(name) for name, x in _zip(scores.evals["trial"], scores.evals["score"]) if np.isnan(x)}
        yield "non-finite", _each(why.startswith("non_finite") or name in none for name, why in _zip(names, reason))
        yield "dropped by a rule", dropped
    if paper is not None:
        yield "Dodge et al. 2020", ~(score > paper.threshold)


def _zip(a: Iterable, b: Iterable) -> Iterator[tuple]:
    return zip(a, b, strict=True)


def _each(values: Iterable[bool]) -> np.ndarray:
    return np.array(list(values), bool)


def _is_constant(logits: np.ndarray) -> bool:
    said = logits[:, 0] if logits.shape[1] == 1 else logits.argmax(axis=1)
    return bool((said == said[0]).all())
