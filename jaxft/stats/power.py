"""How many seeds it takes to see a difference between two ways to fine-tune.

No jax here.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from statsmodels.stats.power import TTestIndPower, TTestPower

from jaxft.errors import BadInput
from jaxft.stats import pairs
from jaxft.stats.scores import Scores

MOST = 1_000_000
POINTS = (0.0025, 0.005, 0.01, 0.02, 0.03, 0.05)


def seeds_needed(
    sd: float | Scores,
    difference: float,
    power: float = 0.8,
    alpha: float = 0.05,
    paired: bool = False,
    correlation: float = 0.0,
) -> int:
    """The least number of seeds of each study at which a difference of means is found with the given power.

    By the two-sided t test at level alpha (statsmodels' power of it, from the noncentral t), which takes scores to be
    about normal: studies of which some trials fail need more. A crossed grid counts fewer than its trials.

    Args:
        sd: the standard deviation of scores over seeds, the same in both studies; or a study to take it from.
        difference: of the means, in units of the metric (0.01 is one point of accuracy).
        power: the probability to find it, above alpha and below 1.
        alpha: the probability to find one where there is none.
        paired: both studies use the same seeds.
        correlation: of the pairs; only where paired. 0: the same seed in both studies means nothing.

    Raises:
        BadInput: a number out of its range, scores that are all equal, or more than a million seeds needed.
    """
    effect = abs(_effect(_sd(sd), difference, paired, correlation))
    _check(power, alpha)
    if effect == 0:
        raise BadInput("difference: 0 is found by no number of seeds; give one that matters to you")
    most = 2
    while _power(effect, most, alpha, paired) < power:
        most *= 2
        if most > MOST:
            raise BadInput(f"difference: {difference} needs more than {MOST:,} seeds; give a larger one")
    least = most // 2  # too few, or 1, which is never enough
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (least, middle) if _power(effect, middle, alpha, paired) >= power else (middle, most)
    return most


def power_of(
    sd: float | Scores,
    difference: float,
    seeds: int,
    alpha: float = 0.05,
    paired: bool = False,
    correlation: float = 0.0,
) -> float:
    """The probability that so many seeds of each study find a difference of means; arguments as in `seeds_needed`."""
    _check(0.5, alpha)
    if seeds < 2:
        raise BadInput(f"seeds: {seeds} is too few; at least 2 are needed")
    return _power(abs(_effect(_sd(sd), difference, paired, correlation)), seeds, alpha, paired)


def needed(
    sd: float | Scores,
    differences: Sequence[float] = POINTS,
    power: float = 0.8,
    alpha: float = 0.05,
    correlation: float = 0.0,
) -> pd.DataFrame:
    """`seeds_needed` over differences.

    Returns:
        A row per difference: difference, effect (in standard deviations), seeds and seeds_paired, of each study.
        Seeds are missing (pd.NA) where more than a million are needed.
    """
    sd = _sd(sd)
    _check(power, alpha)
    rows = []
    for difference in differences:
        effect = abs(_effect(sd, difference, False, 0.0))
        if effect == 0:
            raise BadInput("differences: 0 is found by no number of seeds; give ones that matter to you")
        counts = []
        for paired in (False, True):
            within = abs(_effect(sd, difference, paired, correlation if paired else 0.0))
            enough = _power(within, MOST, alpha, paired) >= power
            counts.append(seeds_needed(sd, difference, power, alpha, paired, correlation * paired) if enough else pd.NA)
        rows.append((difference, effect, *counts))
    columns = ["difference", "effect", "seeds", "seeds_paired"]
    return pd.DataFrame(rows, columns=columns).astype({"seeds": "Int64", "seeds_paired": "Int64"})


def _sd(sd: float | Scores) -> float:
    if isinstance(sd, Scores):
        x = pairs.scored(sd)["score"].to_numpy(np.float64)
        if pairs.constant(x):
            raise BadInput(f"{sd.name}: all scores are equal; a standard deviation above 0 is needed")
        return float(x.std(ddof=1))
    if not (np.isfinite(sd) and sd > 0):
        raise BadInput(f"sd: {sd} is not a number above 0")
    return float(sd)


def _effect(sd: float, difference: float, paired: bool, correlation: float) -> float:
    """The difference in standard deviations: of scores, or of the pairs' differences."""
    if not np.isfinite(difference):
        raise BadInput(f"difference: {difference} is not a number")
    if not -1 <= correlation < 1:
        raise BadInput(f"correlation: {correlation} is not between -1 and 1")
    if correlation and not paired:
        raise BadInput(f"correlation: {correlation} is between pairs, so paired=True is needed")
    return difference / (sd * np.sqrt(2 * (1 - correlation)) if paired else sd)


def _check(power: float, alpha: float) -> None:
    if not 0 < alpha < power < 1:
        raise BadInput(f"alpha: {alpha} and power: {power} must be between 0 and 1, and power above alpha")


def _power(effect: float, seeds: int, alpha: float, paired: bool) -> float:
    # The noncentral t of scipy is NaN far out, where there is nothing to find: an effect of ten on two seeds is seen.
    with np.errstate(all="ignore"):
        found = float((TTestPower() if paired else TTestIndPower()).power(effect, seeds, alpha))
    return found if np.isfinite(found) else 1.0
