"""The main numbers of one study, in words."""

from collections.abc import Mapping
from typing import Any

from jaxft.report.part import Part
from jaxft.report.words import GLUE, TIMES, count, factor, listed, number, percent
from jaxft.stats.scores import Scores

_FAILED = ("failed", "diverged")


def summary(scores: Scores, at: str, unscored: int, facts: Mapping[str, Any]) -> Part:
    """The part that opens a study's chapter.

    Args:
        scores: of trials that have a score.
        at: the chapter's anchor.
        unscored: how many trials have none.
        facts: of the other parts.
    """
    part = Part(f"{at}-summary", "In short", scores.name)
    score, metric = scores.trials["score"], scores.metric
    unit = f" in {metric}" if metric != "score" else ""
    total = len(score) + unscored
    seeds = f" {TIMES} ".join(f"{scores.trials[name].nunique()} {factor(name)}s" for name in scores.factors)
    part.tiles.append((f"trials{f': {seeds}' if seeds else ''}", f"{total:,}"))
    if unscored:
        part.warned.append(
            f"{count(unscored, 'trial')} of {total:,} {'was' if unscored == 1 else 'were'} never evaluated and "
            f"{'has' if unscored == 1 else 'have'} no score: they count among the failures, and are left out of "
            "everything else."
        )
    if not len(score):
        part.refused.append(("Statistics", "no trial has a score"))
        return part
    part.tiles.append((f"best {metric} of all", number(score.max())))
    sd = f"{GLUE}±{GLUE}{number(score.std(), 3)}" if len(score) > 1 else ""
    part.tiles.append(("mean ± standard deviation", f"{number(score.mean(), 3)}{sd}"))
    said = [f"The best of {count(len(score), 'trial')} scores {number(score.max())}{unit}"]
    expected = facts.get("expected", {})
    if 5 in expected:
        part.tiles.append(("expected best of 5 trials", number(expected[5])))
        said.append(
            f"a single one {number(score.mean())} on average; the best of 5 is expected to score {number(expected[5])}"
        )
    part.said.append(", ".join(said) + ".")
    _failures(part, facts)
    _shares(part, facts)
    return part


def _failures(part: Part, facts: Mapping[str, Any]) -> None:
    outcomes = facts.get("outcomes")
    if not outcomes:
        return
    total, bad = sum(outcomes.values()), {kind: outcomes[kind] for kind in _FAILED if outcomes.get(kind)}
    lost = sum(bad.values())
    part.tiles.append(("did not converge", percent(lost / total)))
    if bad:
        kinds = listed([f"{n} {kind}" for kind, n in bad.items()])
        part.said.append(f"{lost} of {count(total, 'trial')} did not converge ({kinds}).")
    elif outcomes.get("converged") == total:
        part.said.append(f"All {count(total, 'trial')} converged.")
    if outcomes.get("stopped"):
        part.said.append(f"A policy stopped {outcomes['stopped']} of {count(total, 'trial')} before their end.")


def _shares(part: Part, facts: Mapping[str, Any]) -> None:
    shares = facts.get("shares")
    if not shares:
        return
    first = max(shares, key=lambda name: shares[name])
    part.tiles.append((f"of the variance from the {factor(first)}", percent(shares[first])))
    part.said.append(
        f"Of the variance {listed([f'{percent(share)} comes from the {factor(n)}' for n, share in shares.items()])}."
    )
