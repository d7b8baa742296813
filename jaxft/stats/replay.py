"""What a policy would have done: a contest over curves of the past, with slots as in the live loop.

No jax here.
"""

from collections import deque

import numpy as np
import pandas as pd

from jaxft.contest import Contest
from jaxft.errors import BadInput
from jaxft.policies import Policy
from jaxft.stats import curves as past
from jaxft.stats.curves import Curves
from jaxft.stats.scores import Scores


def replay(policy: Policy, source: Scores | Curves | np.ndarray, slots: int | None = None) -> pd.DataFrame:
    """Lets a policy judge curves of the past, trial by trial, as it would have judged them while they were trained.

    Slots are filled in the study's order and take one evaluation each at a time. A trial that has to wait frees its
    slot; one that is let go on while it still holds its slot keeps it, the others come first when slots are free, in
    the order of the verdicts. A trial that was dropped by a rule of its own is dropped again where it was.

    Args:
        policy: such as `policies.load("start_many(start=12, keep=3)")`.
        source: the curves, as `curves.of` takes them. Cohorts are formed of them alone: give a whole study's.
        slots: how many trials are in training at the same time; all by default. It only matters for policies that do
            not wait for everybody.

    Returns:
        A row per trial, in the study's order: trial, evaluations (how many of its own it was given), stopped (by
        the policy), score (the best up to there; NaN where it has none), cost (in whole trainings). The sum of cost
        is that of the study.

    Raises:
        BadInput: there are no curves, or `slots` is below 1.
        RuntimeError: the policy lets trials wait though nobody is coming.
    """
    curves = past.of(source)
    if slots is not None and slots < 1:
        raise BadInput(f"slots: expected at least 1, found {slots}")
    names, length = curves.trials, curves.lengths
    whole: int = curves.scores.shape[1]
    index = {name: i for i, name in enumerate(names)}
    contest = Contest(policy, dict.fromkeys(names, whole))
    blocks = np.maximum(length + curves.late, 1)  # the intervals between evaluations in which it takes a slot
    taken, done, stopped = (np.zeros(len(names), kind) for kind in (int, int, bool))
    queue, ready, running, parked = deque(names), deque[str](), list[str](), set[str]()
    while queue or ready or running:
        while (queue or ready) and len(running) < (slots or len(names)):
            running.append((ready or queue).popleft())
        here, running = running, []
        for name in here:
            i = index[name]
            taken[i] += 1
            if done[i] < length[i]:
                contest.observe(name, curves.scores[i, done[i]])
                done[i] += 1
            if taken[i] < blocks[i]:
                running.append(name)
            else:
                contest.over(name, dropped=bool(curves.dropped[i]))
        verdicts = contest.verdicts()
        for name, goes in verdicts.items():
            stopped[index[name]] = not goes
        ready.extend(name for name, goes in verdicts.items() if goes and name in parked)
        parked -= verdicts.keys()
        parked |= {name for name in running if contest.waits(name)}
        running = [name for name in running if name not in parked and verdicts.get(name, True)]
    best = curves.best[np.arange(len(names)), np.maximum(done - 1, 0)]
    score = np.where(np.isneginf(best), np.nan, best)
    table = {"trial": names, "evaluations": done, "stopped": stopped, "score": score, "cost": done / whole}
    return pd.DataFrame(table)
