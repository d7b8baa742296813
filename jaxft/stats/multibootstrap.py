"""How sure a score is, or a difference of two, over new seeds and new examples at once: the multi-bootstrap.

No jax here.
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from jaxft import metrics
from jaxft.errors import BadInput
from jaxft.stats import pairs, predictions
from jaxft.stats.scores import Scores

Statistic = Callable[[np.ndarray, np.ndarray], float]
"""(logits [N, C], labels [N]) -> a score."""

_CHUNK = 4_000_000
"""Numbers of weights at a time: 32 MB."""


class MultiBootstrap(NamedTuple):
    """A mean score over trials, or a difference of two (a - b), with what new seeds and new examples may do to it."""

    statistic: str
    estimate: float
    """On the trials and examples as they are."""
    low: float
    high: float
    """The percentile interval."""
    p: float
    """Two-sided, that the difference is 0; NaN for one study alone."""
    error: float
    """The standard deviation over the draws: a standard error."""
    error_of_seeds: float
    """The same where only trials are drawn anew..."""
    error_of_examples: float
    """...and where only examples are: what a larger study, or a larger test set, would help."""
    corrected_error: float
    """The standard error without what the bootstrap counts too often or too little, see `multibootstrap`..."""
    corrected_low: float
    corrected_high: float
    """...with its t interval..."""
    corrected_p: float
    """...and its p. NaN where seeds are drawn by their levels."""
    draws: int
    trials: int
    """Of `a`, or pairs."""
    examples: int
    paired: bool


def multibootstrap(
    a: Scores,
    b: Scores | None = None,
    statistic: str | Statistic | None = None,
    draws: int | None = None,
    seed: int = 0,
    *,
    paired: bool | None = None,
    split: str = "dev",
    at: str = "best",
    resample: Literal["trials", "seeds"] = "trials",
    confidence: float = 0.95,
    drop: bool = False,
) -> MultiBootstrap:
    """The multi-bootstrap over seeds and examples (Sellam et al. 2022, section 3), from stored predictions.

    Each draw takes as many trials and as many examples as there are, both with replacement; its value is the trials'
    mean of the metric on those examples. Examples are the same ones on both sides, and trials where seeds are paired.

    What to know of it: variance between seeds is underestimated by the factor 1 - 1/S with S trials, so that
    intervals from a few may be too narrow; what is particular to one trial on one example counts threefold, which
    makes them wide where that is most of the variance (Owen 2007), as it often is where studies are paired and close to
    each other: then p < .05 is rare where nothing differs (1 % in our tests). The corrected numbers mend both: with A
    the variance over new trials, B over new examples and C over both, 2 (A + B) - C counts all parts once; it is at
    least A and B, as is the truth. Degrees of freedom by Satterthwaite from A and B.

    On "dev" at "best", the examples also chose the evaluation, which no bootstrap undoes: prefer a test split, or
    "final", where the level of a score is what matters.

    Args:
        a: trials of a run folder, on one task.
        b: another study on the same examples, to be subtracted; None: the mean of `a` alone.
        statistic: one of `metrics.NAMES`; None: the studies' own metric; or any function of logits [N, C] and labels
            [N], which is called once per trial and draw.
        draws: 1000 by default, 200 for a function of yours.
        seed: of the draws.
        paired: pair trials by their seeds; None: where both have the same, see `pairs.sides`.
        split: "dev" or "test".
        at: "best" or "final".
        resample: "trials" draws trials as if they were independent. "seeds" draws the levels of every factor by
            themselves (all trials of a seed come together), which is for crossed grids: it is right, on the wide side,
            where trials that share a seed are alike.
        confidence: of the interval.
        drop: leave out trials without predictions, instead of refusing them.

    Raises:
        BadInput: no predictions, examples that differ, fewer than two trials, a metric that does not fit.
    """
    _check(draws, confidence)
    if resample not in ("trials", "seeds"):
        raise BadInput(f"resample: {resample!r} is unknown; accepted are 'trials' and 'seeds'")
    read = [predictions.read(study, split, at, drop) for study in ((a,) if b is None else (a, b))]
    if len(read) == 2 and not np.array_equal(read[0].labels, read[1].labels):
        raise BadInput(
            f"{a.name} and {b.name if b else ''}: their labels on {split} differ ({len(read[0].labels)} and "
            f"{len(read[1].labels)} examples); both must be about the same examples"
        )
    factors = [a.factors, b.factors if b else ()]
    paired = False if b is None else _match(a, b, read, paired, drop)
    for study, each in zip((a, b), read, strict=False):
        if study and len(each.trials) < 2:
            raise BadInput(f"{study.name}: {len(each.trials)} trial(s) with predictions; at least 2 are needed")
    name, function = _function(statistic or a.metric, read[0])
    draws = draws or (200 if callable(statistic) else 1000)

    draw = np.random.default_rng(seed)
    seeds: list[np.ndarray] = []
    for each, columns in zip(read, factors, strict=False):
        drawn = seeds[0] if paired and seeds else _seed_weights(each.trials, columns, resample, draws, draw)
        seeds.append(drawn)
    truth = read[0].labels
    ones = np.ones((1, len(truth)))
    whole = [function(each, ones)[0] for each in read]
    if not all(np.isfinite(scores).all() for scores in whole):
        raise BadInput(f"{a.name}: {name} of some trial is not a finite number; it cannot be averaged")
    sign = (1, -1)
    values, of_examples = np.zeros((2, draws))
    for rows, weights in _example_weights(len(truth), draws, draw):
        for each, drawn, by in zip(read, seeds, sign, strict=False):
            scores = function(each, weights)
            values[rows] += by * (scores * drawn[rows]).sum(axis=1)
            of_examples[rows] += by * scores.mean(axis=1)
    of_seeds = sum(by * (drawn @ scores) for by, drawn, scores in zip(sign, seeds, whole, strict=False))
    estimate = sum(by * scores.mean() for by, scores in zip(sign, whole, strict=False))
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    # A draw at 0 speaks for neither side; the one added is the sample itself (Davison and Hinkley 1997, 4.11).
    beyond = min(np.sum(values <= 0), np.sum(values >= 0))
    p = min(1.0, 2 * (1 + beyond) / (draws + 1)) if b else np.nan
    errors = [float(np.std(each, ddof=1)) for each in (values, of_seeds, of_examples)]
    corrected = [np.nan] * 4
    if resample == "trials":
        parts = [whole[0] - whole[1]] if paired else whole
        corrected = _corrected(float(estimate), parts, errors, len(truth), confidence, b is not None)
    return MultiBootstrap(
        statistic=name,
        estimate=float(estimate),
        low=float(low),
        high=float(high),
        p=float(p),
        error=errors[0],
        error_of_seeds=errors[1],
        error_of_examples=errors[2],
        corrected_error=corrected[0],
        corrected_low=corrected[1],
        corrected_high=corrected[2],
        corrected_p=corrected[3],
        draws=draws,
        trials=len(read[0].trials),
        examples=len(truth),
        paired=paired,
    )


def _corrected(
    estimate: float, parts: list[np.ndarray], errors: list[float], examples: int, confidence: float, tested: bool
) -> list[float]:
    """Error, interval and p from variances that count once; `parts` are the scores [S] of independent trials."""
    means = np.array([each.var(ddof=1) / len(each) for each in parts])  # exact: these need no draws
    # The draws' own variance over both has the seeds' part too small by 1 - 1/S; put that right before the difference.
    drawn = sum(variance * (1 - 1 / len(each)) for variance, each in zip(means, parts, strict=True))
    of_seeds, of_examples, of_both = means.sum(), errors[2] ** 2, errors[0] ** 2 + means.sum() - drawn
    variance = max(2 * (of_seeds + of_examples) - of_both, of_seeds, of_examples)
    if variance == 0:
        return [0.0, estimate, estimate, 1.0 if estimate == 0 and tested else np.nan]
    squares = sum(mean**2 / (len(each) - 1) for mean, each in zip(means, parts, strict=True))
    df = variance**2 / (squares + of_examples**2 / (examples - 1 or 1))
    error = float(np.sqrt(variance))
    reach = error * float(stats.t.isf((1 - confidence) / 2, df))
    p = 2 * float(stats.t.sf(abs(estimate) / error, df)) if tested else np.nan
    return [error, estimate - reach, estimate + reach, p]


def _check(draws: int | None, confidence: float) -> None:
    if draws is not None and draws < 2:
        raise BadInput(f"draws: {draws} is too few; at least 2 are needed")
    if not 0 < confidence < 1:
        raise BadInput(f"confidence: {confidence} is not between 0 and 1")


def _match(a: Scores, b: Scores, read: list[predictions.Predictions], paired: bool | None, drop: bool) -> bool:
    """Whether trials are paired; if so, puts them into the order of the pairs."""
    kept = [each.trials.assign(row=np.arange(len(each.trials))) for each in read]
    if paired is None and drop:  # which seeds a study has is not for its failures to say
        paired = pairs.sides(a, b, None, drop).paired
    found = pairs.sides(a._replace(trials=kept[0]), b._replace(trials=kept[1]), paired, drop)
    for side, trials in enumerate((found.a, found.b)):
        each, rows = read[side], trials["row"].to_numpy()
        read[side] = each._replace(trials=trials, logits=each.logits[rows])
    return found.paired


def _function(statistic: str | Statistic, like: predictions.Predictions):
    """Its name, and (predictions, weights [D, N]) -> [D, S]."""
    if isinstance(statistic, str):
        classes = like.logits.shape[2]
        metrics.check(statistic, 0 if classes == 1 else classes)

        def fast(each: predictions.Predictions, weights: np.ndarray) -> np.ndarray:
            return predictions.weighted(statistic, each.said, each.labels, weights)

        return statistic, fast

    def slow(each: predictions.Predictions, weights: np.ndarray) -> np.ndarray:
        found = np.empty((len(weights), len(each.logits)))
        for row, counts in enumerate(weights):
            index = np.repeat(np.arange(len(counts)), counts.astype(int))
            found[row] = [statistic(logits[index], each.labels[index]) for logits in each.logits]
        return found

    return getattr(statistic, "__name__", "statistic"), slow


def _seed_weights(
    trials: pd.DataFrame, factors: tuple[str, ...], resample: str, draws: int, draw: np.random.Generator
) -> np.ndarray:
    """[D, S]: the share of each trial in each draw; rows sum to 1."""
    if resample == "trials":
        count = len(trials)
        return draw.multinomial(count, np.full(count, 1 / count), size=draws) / count
    if not factors:
        raise BadInput("resample='seeds' needs a column of seeds that vary; there is none, use resample='trials'")
    weights = np.ones((draws, len(trials)))
    for name in factors:
        levels, place = np.unique(trials[name].to_numpy(), return_inverse=True)
        times = draw.multinomial(len(levels), np.full(len(levels), 1 / len(levels)), size=draws)
        weights *= times[:, place]
    total = weights.sum(axis=1, keepdims=True)
    if not total.all():  # seeds were drawn that never met
        raise BadInput("resample='seeds' needs a full grid of seeds; this one has holes, use resample='trials'")
    return weights / total


def _example_weights(count: int, draws: int, draw: np.random.Generator) -> Iterator[tuple[slice, np.ndarray]]:
    """[D, N] in pieces: how often each example is drawn."""
    step = max(1, _CHUNK // count)
    for start in range(0, draws, step):
        rows = slice(start, min(start + step, draws))
        yield rows, draw.multinomial(count, np.full(count, 1 / count), size=rows.stop - rows.start).astype(np.float64)
