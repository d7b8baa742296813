"""The trials of a study against each other: how far each has come, who waits for a verdict, what a policy says.

It knows trials by their ids and scores, nothing of slots: the loop asks it between blocks, and `stats/replay.py`
on curves of the past. No jax here.
"""

from collections.abc import Mapping

import numpy as np

from jaxft.policies import GO, WAIT, Policy, Standing


class Contest:
    """Who has come how far, and whom the policy lets go on."""

    def __init__(self, policy: Policy, evaluations: Mapping[str, int]):
        """Nobody has been evaluated yet.

        Args:
            policy: that judges.
            evaluations: by trial, in the study's order, how many there are of a whole one.
        """
        self._policy = policy
        self._names = list(evaluations)
        self._index = {name: i for i, name in enumerate(self._names)}
        count, longest = len(self._names), max(evaluations.values(), default=0)
        rungs = {whole: [at for at in policy.rungs(whole) if at < whole] for whole in set(evaluations.values())}
        # [n, rungs + 1]: after which evaluation each lies; 0 where a trial has none, and behind the last.
        self._rungs = np.zeros((count, max(map(len, rungs.values()), default=0) + 1), int)
        for i, whole in enumerate(evaluations.values()):
            self._rungs[i, : len(rungs[whole])] = rungs[whole]
        self._curves = np.full((count, longest), np.nan)
        self._come = np.zeros(count, int)
        self._passed = np.zeros(count, int)
        """The rungs that a trial has a verdict for."""
        self._over = np.zeros(count, bool)
        self._dropped = np.zeros(count, bool)
        size = policy.cohort or count
        self._cohorts = [slice(at, at + size) for at in range(0, count, size or 1)]

    def observe(self, trial: str, score: float) -> None:
        """The next evaluation of a trial. One that was waiting has gone on.

        Raises:
            ValueError: it was whole already.
        """
        i = self._index[trial]
        if self._come[i] == self._curves.shape[1]:
            raise ValueError(f"trial {trial} has more than its {self._come[i]} evaluations")
        self._passed[i] += self.waits(trial)
        self._curves[i, self._come[i]] = score
        self._come[i] += 1

    def over(self, trial: str, *, dropped: bool) -> None:
        """A trial has ended. `dropped`: by a rule of its own, not at its end or by this policy."""
        i = self._index[trial]
        self._over[i], self._dropped[i] = True, dropped

    def waits(self, trial: str) -> bool:
        """Whether it may not go on without a verdict."""
        i = self._index[trial]
        return bool(not self._over[i] and self._come[i] and self._rungs[i, self._passed[i]] == self._come[i])

    def verdicts(self) -> dict[str, bool]:
        """Of the trials that were waiting, those judged now: whether they go on. Those that do not are over.

        Raises:
            RuntimeError: the policy lets trials wait though nobody is coming.
        """
        waiting = (
            ~self._over & (self._come > 0) & (self._rungs[np.arange(len(self._names)), self._passed] == self._come)
        )
        found: dict[str, bool] = {}
        for cohort in self._cohorts:
            here = np.flatnonzero(waiting[cohort]) + cohort.start
            at = self._passed[here]
            # From the first rung on: who is stopped there no longer comes to the next.
            for rung in np.unique(at):
                standing = self._standing(cohort, rung)
                said = self._policy.judge(int(rung), standing)
                if not standing.coming.any() and (said[here[at == rung] - cohort.start] == WAIT).any():
                    raise RuntimeError("the policy lets trials wait though nobody is coming")
                for i in here[at == rung]:
                    verdict = said[i - cohort.start]
                    if verdict != WAIT:
                        self._passed[i] += 1
                        self._over[i] = verdict != GO
                        found[self._names[i]] = bool(verdict == GO)
        return found

    def _standing(self, cohort: slice, rung: int) -> Standing:
        at, come = self._rungs[cohort, rung], self._come[cohort]
        there = (at > 0) & (come >= at)
        upto = np.arange(at.max(initial=0)) < at[:, None]
        curves = np.where(upto, self._curves[cohort, : upto.shape[1]], np.nan)
        coming = (at > 0) & ~there & ~self._over[cohort]
        # One that a rule drops right after it has gone on had arrived all the same.
        unfit = self._dropped[cohort] & (come == at) & (self._passed[cohort] <= rung)
        return Standing(curves, there & ~unfit, coming)
