"""The trials of a study against each other: how far each has come, who waits for a verdict, what a policy says.

It knows trials by their ids and scores, nothing of slots: the loop asks it between blocks, and `stats/stopping.py`
on curves of the past. No jax here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from jaxft.policies import GO, WAIT, Policy, Standing


@dataclass
class _Entrant:
    """One trial."""

    rungs: list[int]
    curve: list[float] = field(default_factory=list)
    passed: int = 0
    """The rungs that it has a verdict for."""
    over: bool = False
    dropped: bool = False

    @property
    def waits(self) -> bool:
        return not self.over and self.passed < len(self.rungs) and len(self.curve) == self.rungs[self.passed]


class Contest:
    """Who has come how far, and whom the policy lets go on."""

    def __init__(self, policy: Policy, evaluations: Mapping[str, int]):
        """Nobody has been evaluated yet.

        Args:
            policy: that judges.
            evaluations: by trial, in the study's order, how many there are of a whole one.
        """
        self._policy = policy
        rungs = {count: [at for at in policy.rungs(count) if at < count] for count in set(evaluations.values())}
        self._entrants = {name: _Entrant(rungs[count]) for name, count in evaluations.items()}
        names, size = list(self._entrants), policy.cohort or len(evaluations)
        self._cohorts = [names[at : at + size] for at in range(0, len(names), size or 1)]

    def observe(self, trial: str, score: float) -> None:
        """The next evaluation of a trial. One that was waiting has gone on."""
        entrant = self._entrants[trial]
        entrant.passed += entrant.waits
        entrant.curve.append(float(score))

    def over(self, trial: str, *, dropped: bool) -> None:
        """A trial has ended. `dropped`: by a rule of its own, not at its end or by this policy."""
        self._entrants[trial].over, self._entrants[trial].dropped = True, dropped

    def waits(self, trial: str) -> bool:
        """Whether it may not go on without a verdict."""
        return self._entrants[trial].waits

    def verdicts(self) -> dict[str, bool]:
        """Of the trials that were waiting, those judged now: whether they go on. Those that do not are over."""
        found: dict[str, bool] = {}
        for cohort in self._cohorts:
            entrants = [self._entrants[name] for name in cohort]
            # From the first rung on: who is stopped there no longer comes to the next.
            for rung in range(max((len(entrant.rungs) for entrant in entrants), default=0)):
                waiting = [i for i, entrant in enumerate(entrants) if entrant.waits and entrant.passed == rung]
                if waiting:
                    standing = _standing(entrants, rung)
                    said = self._policy.judge(rung, standing)
                    if not standing.coming.any() and any(said[i] == WAIT for i in waiting):
                        raise RuntimeError("the policy lets trials wait for nobody")
                    for i in (i for i in waiting if said[i] != WAIT):
                        entrants[i].passed += 1
                        entrants[i].over = said[i] != GO
                        found[cohort[i]] = bool(said[i] == GO)
        return found


def _standing(entrants: Iterable[_Entrant], rung: int) -> Standing:
    curves, arrived, coming = [], [], []
    for entrant in entrants:
        at = entrant.rungs[rung] if rung < len(entrant.rungs) else None
        curves.append(np.array(entrant.curve[:at] if at else [], np.float64))
        come = at is not None and len(entrant.curve) >= at
        arrived.append(come and not (entrant.dropped and len(entrant.curve) == at))
        coming.append(at is not None and not come and not entrant.over)
    return Standing(curves, np.array(arrived, bool), np.array(coming, bool))
